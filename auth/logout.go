package auth

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	typLogoutToken = "logout+jwt"
	logoutEvent    = "http://schemas.openid.net/event/backchannel-logout"
)

// A Logout is what an issuer's logout token says: that somebody has signed out there (OpenID Connect Back-Channel
// Logout 1.0 section 2.4). At least one of Subject and SessionID is set.
type Logout struct {
	Issuer    string // iss
	Subject   string // sub, with the bounds of Principal.Subject
	SessionID string // sid, the issuer's own session, with the same bounds
	Tenant    string // the tenant that the issuer, or the token, stands for
}

// VerifyLogout returns what the logout token raw says. It takes tokens of issuers with LogoutAudiences only, one of
// which must be in aud; everything else is as in [Verifier.Verify], whose tokens are never logout tokens. A token may
// be presented again until it expires. Every error is an [*Error].
func (v *Verifier) VerifyLogout(ctx context.Context, raw string) (*Logout, error) {
	t, err := parseToken(raw)
	if err != nil {
		return nil, err
	}
	name, _ := asString(t.claims["iss"])
	i := v.issuers[name]
	switch {
	case i == nil:
		return nil, invalid(ReasonIssuer)
	case len(i.logoutAudiences) == 0:
		return nil, invalid(ReasonAudience)
	case t.typ == typAccessToken:
		return nil, invalid(ReasonType)
	}
	keys, err := i.keysFor(ctx, t)
	if err != nil {
		return nil, err
	}
	if t.signer(keys) == nil {
		return nil, invalid(ReasonSignature)
	}
	if _, _, err := checkTimes(t.claims, v.now()); err != nil {
		return nil, err
	}
	return i.logout(t.claims)
}

// logout judges the claims of a logout token whose signature and times are verified (section 2.6).
func (i *issuer) logout(claims object) (*Logout, error) {
	if !slices.ContainsFunc(i.logoutAudiences, func(want string) bool { return hasAudience(claims["aud"], want) }) {
		return nil, invalid(ReasonAudience)
	}
	if !isLogoutEvent(claims["events"]) {
		return nil, invalid(ReasonType)
	}
	if _, present := claims["nonce"]; present { // so that no ID token is taken for one
		return nil, invalid(ReasonType)
	}
	id, _ := asString(claims["jti"])
	if _, ok := asTime(claims["iat"]); !ok || id == "" {
		return nil, invalid(ReasonClaims)
	}
	l := &Logout{Issuer: i.name}
	for _, c := range []struct {
		claim string
		value *string
	}{{"sub", &l.Subject}, {"sid", &l.SessionID}} {
		v, present := claims[c.claim]
		if !present {
			continue
		}
		var ok bool
		if *c.value, ok = asString(v); !ok || !isIdentity(*c.value) {
			return nil, invalid(ReasonClaims)
		}
	}
	if l.Subject == "" && l.SessionID == "" {
		return nil, invalid(ReasonClaims)
	}
	var ok bool
	if l.Tenant, ok = i.grants.tenantOf(claims); !ok {
		return nil, &Error{Kind: Tenant, Reason: ReasonTenant}
	}
	return l, nil
}

// isLogoutEvent reports whether events tells of a logout: an object with a member of that name, an object too.
func isLogoutEvent(events jsontext.Value) bool {
	members, ok := decodeObject(events)
	return ok && members[logoutEvent].Kind() == '{'
}
