package server

import (
	"net/http"
	"slices"
	"strings"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// A gateway is a configured one with the manager of its tenant.
type gateway struct {
	Gateway
	manager *sessiond.Manager
}

// forwardAuth tells a gateway whether a request that reached it belongs to a live session. Only the token is looked at:
// not the method, the body, the query or the rest of the path.
func (c *call) forwardAuth() error {
	name, _ := gatewayName(c.r.URL)
	g := c.gateways[name]
	token, found, good := g.token(c.r.Header)
	if !found {
		return refuse(api.CodeUnauthenticated, "the token of a session is required").with("Www-Authenticate", "Bearer")
	}
	if !good {
		return errInvalidToken()
	}
	v, err := c.check(g.manager, token, sessiond.VerifyParams{NoTouch: g.NoTouch})
	if err != nil {
		return err
	}
	if !v.Active {
		return errInvalidToken()
	}
	s := v.Session
	c.op.Tenant = s.Tenant
	c.set(api.HeaderSessionID, string(s.ID))
	c.set(api.HeaderSessionSubject, encodeSubject(s.Subject))
	c.set(api.HeaderSessionTenant, s.Tenant)
	c.set(api.HeaderSessionExpiresAt, string(api.AppendTime(nil, s.Deadline())))
	c.writeEmpty(http.StatusOK)
	return nil
}

// token is the token in the gateway's cookie and in Authorization or, when there is none of ours in either, in the
// cookies of other systems. good is false when there are several that differ, since which of them is the holder's is not
// ours to guess, and when one is not of the kind that its place is for: our tokens never come from another system's
// cookie, which may be easier to set, nor other systems' from ours.
func (g *gateway) token(h http.Header) (t sessiond.Token, found, good bool) {
	var ours, foreign presented
	for _, value := range h["Authorization"] {
		if bearer, ok := cutBearer(value); ok && strings.HasPrefix(bearer, sessiond.TokenPrefix) {
			ours.add(bearer)
		}
	}
	if g.CookieName == "" && len(g.ForeignCookies) == 0 {
		return ours.result(true)
	}
	// RFC 6265 section 4.2.1. Names are compared as they are; quotes would be part of the value.
	for _, line := range h["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(pair, "=")
			name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
			other := slices.Contains(g.ForeignCookies, name)
			switch {
			case name == g.CookieName && g.CookieName != "" && !(other && !strings.HasPrefix(value, sessiond.TokenPrefix)):
				ours.add(value)
			case other:
				foreign.add(value)
			}
		}
	}
	if ours.found {
		return ours.result(true)
	}
	return foreign.result(false)
}

// presented is what a request presents as token, in one or more places.
type presented struct {
	value         string
	found, differ bool
}

func (p *presented) add(value string) {
	p.differ = p.differ || p.found && p.value != value
	p.value, p.found = value, true
}

// result is the token, which must be one of ours, or must not.
func (p *presented) result(ours bool) (t sessiond.Token, found, good bool) {
	good = !p.differ && strings.HasPrefix(p.value, sessiond.TokenPrefix) == ours
	return sessiond.Token(p.value), p.found, good || !p.found
}

// encodeSubject makes a subject fit for a header: percent-encoded except for unreserved characters (RFC 3986 section
// 2.3) and @. It never is empty.
func encodeSubject(s string) string {
	const hexDigits = "0123456789ABCDEF"
	switch s {
	case "":
		return "-"
	case "-":
		return "%2D"
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '@':
			b = append(b, c)
		default:
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}
