package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/auth"
)

const logoutEvents = `{"http://schemas.openid.net/event/backchannel-logout":{}}`

// logoutClaims are those of a good logout token of f.
func logoutClaims(f *fakeIssuer) object {
	return object{
		"iss": f.url, "aud": []string{"other", "shop-web"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"jti": "1", "events": json.RawMessage(logoutEvents), "sub": "alice", "sid": "s-1",
	}
}

func logoutConfig(f *fakeIssuer) auth.Config {
	c := f.config()
	c.Issuers[0].LogoutAudiences = []string{"shop-app", "shop-web"}
	return c
}

func TestVerifyLogout(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	v := ready(t, logoutConfig(f))
	sign := func(typ string, changes object) string {
		return signRaw("ES256", p256(), fmt.Sprintf(`{"alg":"ES256","kid":"k"%s}`, typ),
			string(must(json.Marshal(with(logoutClaims(f), changes)))))
	}
	const logoutTyp = `,"typ":"logout+jwt"`
	for _, good := range []struct {
		raw  string
		want auth.Logout
	}{
		{sign(logoutTyp, nil), auth.Logout{Issuer: f.url, Subject: "alice", SessionID: "s-1", Tenant: "default"}},
		{sign(`,"typ":"application/Logout+JWT"`, object{"aud": "shop-app"}),
			auth.Logout{Issuer: f.url, Subject: "alice", SessionID: "s-1", Tenant: "default"}},
		{sign(`,"typ":"JWT"`, object{"sub": nil}), auth.Logout{Issuer: f.url, SessionID: "s-1", Tenant: "default"}},
		{sign("", object{"sid": nil}), auth.Logout{Issuer: f.url, Subject: "alice", Tenant: "default"}},
	} {
		for range 2 { // what it asks for has no further effect the second time
			got, err := v.VerifyLogout(t.Context(), good.raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&good.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		refuse(t, v, good.raw, auth.ErrInvalid, auth.ReasonType) // as a credential
	}

	raw := func(s string) object { return object{"events": json.RawMessage(s)} }
	access := must(json.Marshal(f.claims()))
	for reason, tokens := range map[string][]string{
		auth.ReasonMalformed: {"", "a.b.c", sign(logoutTyp, nil) + "x."},
		auth.ReasonTooLong:   {sign(logoutTyp, object{"x": make([]byte, auth.MaxTokenBytes)})},
		auth.ReasonType: {
			sign(`,"typ":"at+jwt"`, nil), sign(`,"typ":"id+jwt"`, nil), sign(logoutTyp, object{"events": nil}),
			sign(logoutTyp, raw(`{}`)), sign(logoutTyp, raw(`[]`)), sign(logoutTyp, raw(`"x"`)),
			sign(logoutTyp, raw(`{"http://schemas.openid.net/event/backchannel-logout":true}`)),
			sign(logoutTyp, raw(`{"http://schemas.openid.net/event/other":{}}`)),
			sign(logoutTyp, object{"nonce": "n"}), sign(logoutTyp, object{"nonce": ""}),
		},
		auth.ReasonIssuer: {sign(logoutTyp, object{"iss": "https://other.example"})},
		auth.ReasonAudience: {
			sign(logoutTyp, object{"aud": nil}), sign(logoutTyp, object{"aud": audience}), sign(logoutTyp, object{"aud": "shop"}),
			signRaw("ES256", p256(), `{"alg":"ES256","kid":"k"}`, string(access)),
		},
		auth.ReasonExpired:     {sign(logoutTyp, object{"exp": time.Now().Add(-time.Second).Unix()})},
		auth.ReasonNotYetValid: {sign(logoutTyp, object{"iat": time.Now().Add(time.Hour).Unix()})},
		auth.ReasonSignature: {signRaw("ES256", newP256(), `{"alg":"ES256","kid":"k"}`,
			string(must(json.Marshal(logoutClaims(f)))))},
		auth.ReasonUnknownKey: {signRaw("ES256", p256(), `{"alg":"ES256","kid":"z"}`,
			string(must(json.Marshal(logoutClaims(f)))))},
		auth.ReasonClaims: {
			sign(logoutTyp, object{"exp": nil}), sign(logoutTyp, object{"iat": nil}), sign(logoutTyp, object{"iat": "1"}),
			sign(logoutTyp, object{"jti": nil}), sign(logoutTyp, object{"jti": ""}), sign(logoutTyp, object{"jti": 1}),
			sign(logoutTyp, object{"sub": nil, "sid": nil}), sign(logoutTyp, object{"sub": ""}), sign(logoutTyp, object{"sid": 1}),
			sign(logoutTyp, object{"sid": "a\nb"}), sign(logoutTyp, object{"sub": []string{"alice"}}),
		},
	} {
		for _, token := range tokens {
			got, err := v.VerifyLogout(t.Context(), token)
			var refused *auth.Error
			if !errors.As(err, &refused) || refused.Reason != reason || !errors.Is(err, auth.ErrInvalid) {
				t.Errorf("%s: %+v, %v", reason, got, err)
			}
		}
	}
}

func TestVerifyLogoutNeedsAudience(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	v := ready(t, f.config())
	token := signRaw("ES256", p256(), `{"alg":"ES256","kid":"k"}`, string(must(json.Marshal(logoutClaims(f)))))
	if got, err := v.VerifyLogout(t.Context(), token); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("without logout audiences: %+v, %v", got, err)
	}
}

func TestVerifyLogoutTenant(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	c := logoutConfig(f)
	c.Issuers[0].TenantClaim, c.Issuers[0].Tenants = "org", []string{"shop"}
	v := ready(t, c)
	token := func(org any) string {
		return signRaw("ES256", p256(), `{"alg":"ES256","kid":"k"}`,
			string(must(json.Marshal(with(logoutClaims(f), object{"org": org})))))
	}
	if l, err := v.VerifyLogout(t.Context(), token("shop")); err != nil || l.Tenant != "shop" {
		t.Errorf("%+v, %v", l, err)
	}
	for _, org := range []any{nil, "other", 1} {
		if l, err := v.VerifyLogout(t.Context(), token(org)); !errors.Is(err, auth.ErrTenant) {
			t.Errorf("org %v: %+v, %v", org, l, err)
		}
	}
}
