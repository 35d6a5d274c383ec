package auth

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxDepth        = 32
	maxIdentity     = 256              // bytes of sub and of client_id
	timeLeeway      = 30 * time.Second // for nbf and iat; exp has none
	maxNumericDate  = 253402300799     // the last second of the year 9999
	clientClaim     = "client_id"      // RFC 9068 section 2.2
	authorizedParty = "azp"            // OpenID Connect Core 1.0 section 2
)

// object is a JSON object whose members are not decoded yet.
type object map[string]jsontext.Value

// decodeObject reads strictly: one object, no repeated member at any depth, valid UTF-8, at most maxDepth deep.
func decodeObject(b []byte) (object, bool) {
	if depth(b) > maxDepth {
		return nil, false
	}
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, false
	}
	return o, o != nil // null leaves it nil
}

// depth returns how deep b nests if it is JSON.
func depth(b []byte) int {
	deepest, level, inString := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// at returns the value at the end of the path, or nil.
func (o object) at(path Path) jsontext.Value {
	for _, name := range path[:len(path)-1] {
		inner, ok := decodeObject(o[name])
		if !ok {
			return nil
		}
		o = inner
	}
	return o[path[len(path)-1]]
}

func asString(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// asStrings reads an array of strings.
func asStrings(v jsontext.Value) ([]string, bool) {
	if v.Kind() != '[' {
		return nil, false
	}
	var elements []jsontext.Value
	if err := json.Unmarshal(v, &elements); err != nil {
		return nil, false
	}
	list := make([]string, len(elements))
	for i, element := range elements {
		var ok bool
		if list[i], ok = asString(element); !ok {
			return nil, false
		}
	}
	return list, true
}

// asTime reads a NumericDate (RFC 7519 section 2) between 1970 and 9999.
func asTime(v jsontext.Value) (time.Time, bool) {
	if v.Kind() != '0' {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseFloat(string(v), 64)
	if err != nil || seconds < 0 || seconds > maxNumericDate {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
}

// isIdentity reports whether s may stand for somebody in records and logs.
func isIdentity(s string) bool {
	return s != "" && len(s) <= maxIdentity && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	})
}

// checkTimes returns from when and until when the claims hold, having checked that now is in between.
func checkTimes(claims object, now time.Time) (notBefore, expires time.Time, err error) {
	expires, ok := asTime(claims["exp"])
	if !ok {
		return notBefore, expires, invalid(ReasonClaims)
	}
	if !now.Before(expires) {
		return notBefore, expires, invalid(ReasonExpired)
	}
	for _, name := range []string{"nbf", "iat"} {
		v, present := claims[name]
		if !present {
			continue
		}
		t, ok := asTime(v)
		if !ok {
			return notBefore, expires, invalid(ReasonClaims)
		}
		if t = t.Add(-timeLeeway); t.After(notBefore) {
			notBefore = t
		}
	}
	if now.Before(notBefore) {
		return notBefore, expires, invalid(ReasonNotYetValid)
	}
	return notBefore, expires, nil
}

// hasAudience follows RFC 7519 section 4.1.3: one string or an array of strings, compared exactly.
func hasAudience(v jsontext.Value, want string) bool {
	if one, ok := asString(v); ok {
		return one == want
	}
	list, _ := asStrings(v)
	return slices.Contains(list, want)
}

// principal judges the claims of a token whose signature is verified.
func (i *issuer) principal(claims object, now time.Time) (*Principal, time.Time, error) {
	notBefore, expires, err := checkTimes(claims, now)
	if err != nil {
		return nil, notBefore, err
	}
	if !hasAudience(claims["aud"], i.audience) {
		return nil, notBefore, invalid(ReasonAudience)
	}
	subject, _ := asString(claims["sub"])
	if !isIdentity(subject) {
		return nil, notBefore, invalid(ReasonClaims)
	}
	client, ok := clientOf(claims)
	if !ok {
		return nil, notBefore, invalid(ReasonClaims)
	}
	tenant, ok := i.grants.tenantOf(claims)
	if !ok {
		return nil, notBefore, &Error{Kind: Tenant, Reason: ReasonTenant}
	}
	return &Principal{
		Issuer:      i.name,
		Subject:     subject,
		Client:      client,
		Tenant:      tenant,
		Permissions: i.grants.permissionsOf(claims, subject),
		Expires:     expires,
	}, notBefore, nil
}

// clientOf returns client_id, else azp, else nothing. It reports false if the one that counts is mistyped.
func clientOf(claims object) (string, bool) {
	v, present := claims[clientClaim]
	if !present {
		v, present = claims[authorizedParty]
	}
	if !present {
		return "", true
	}
	client, _ := asString(v)
	return client, isIdentity(client)
}

func (g *grants) tenantOf(claims object) (string, bool) {
	if g.tenantPath == nil {
		return g.tenant, true
	}
	tenant, ok := asString(claims.at(g.tenantPath))
	return tenant, ok && tenantName.MatchString(tenant) && (g.tenants == nil || g.tenants[tenant])
}

// permissionsOf collects permissions from every place where they may stand. A claim of the wrong type gives none.
func (g *grants) permissionsOf(claims object, subject string) Permissions {
	granted := g.bySubject[subject]
	add := func(name string) {
		p, _ := ParsePermission(name)
		granted |= p
	}
	addEach := func(v jsontext.Value) {
		list, _ := asStrings(v)
		for _, name := range list {
			add(name)
		}
	}
	addScope := func(v jsontext.Value) {
		scope, _ := asString(v)
		for name := range strings.SplitSeq(scope, " ") {
			add(name)
		}
	}
	addScope(claims["scope"])
	addScope(claims["scp"])
	addEach(claims["scp"])
	addEach(claims["permissions"])
	for _, path := range g.rolePaths {
		v := claims.at(path)
		roles, _ := asStrings(v)
		if one, ok := asString(v); ok {
			roles = []string{one}
		}
		for _, role := range roles {
			granted |= g.byRole[role]
		}
	}
	return granted.limitedTo(g.allowed)
}
