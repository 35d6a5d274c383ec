package server

import (
	"net/http"
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
	token, found, same := g.token(c.r.Header)
	if !found {
		return refuse(api.CodeUnauthenticated, "the token of a session is required").with("Www-Authenticate", "Bearer")
	}
	if !same {
		return errInvalidToken() // which of them is the holder's is not ours to guess
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

// token is the token in the gateway's cookie and in Authorization. same is false when they, or two cookies, differ.
func (g *gateway) token(h http.Header) (t sessiond.Token, found, same bool) {
	same = true
	add := func(value string) {
		if found && string(t) != value {
			same = false
		}
		t, found = sessiond.Token(value), true
	}
	for _, value := range h["Authorization"] {
		if bearer, ok := cutBearer(value); ok && strings.HasPrefix(bearer, sessiond.TokenPrefix) {
			add(bearer)
		}
	}
	if g.CookieName == "" {
		return t, found, same
	}
	// RFC 6265 section 4.2.1. Names are compared as they are; quotes would be part of the value.
	for _, line := range h["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(pair, "=")
			if strings.Trim(name, " \t") == g.CookieName {
				add(strings.Trim(value, " \t"))
			}
		}
	}
	return t, found, same
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
