package server_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
)

// logouts knows logout tokens by heart, as verifier does credentials.
type logouts map[string]*auth.Logout

func (l logouts) VerifyLogout(_ context.Context, raw string) (*auth.Logout, error) {
	if found := l[raw]; found != nil {
		return found, nil
	}
	switch raw {
	case wordDown:
		return nil, &auth.Error{Kind: auth.Unavailable, Reason: auth.ReasonKeysNotLoaded}
	case wordTenant:
		return nil, &auth.Error{Kind: auth.Tenant, Reason: auth.ReasonTenant}
	}
	return nil, &auth.Error{Kind: auth.Invalid, Reason: auth.ReasonSignature}
}

const idIssuer = "https://id.example"

func TestBackchannelLogout(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *options) {
		o.config.Logout = logouts{
			"both":    {Issuer: idIssuer, Subject: "alice", SessionID: "1", Tenant: "default"},
			"mapped":  {Issuer: idIssuer, Subject: "alice@id", SessionID: "2", Tenant: "default"},
			"sid":     {Issuer: idIssuer, SessionID: "3", Tenant: "default"},
			"sub":     {Issuer: idIssuer, Subject: "bob", Tenant: "default"},
			"nobody":  {Issuer: idIssuer, Subject: "carol", SessionID: "9", Tenant: "default"},
			"foreign": {Issuer: "https://other.example", Subject: "alice", SessionID: "4", Tenant: "default"},
			"other":   {Issuer: idIssuer, Subject: "alice", SessionID: "4", Tenant: "other"},
		}
	})
	for _, body := range []string{
		`{"id":"a1","subject":"alice","labels":{"oidc_iss":"https://id.example","oidc_sid":"1"}}`,
		`{"id":"a2","subject":"user-17","labels":{"oidc_iss":"https://id.example","oidc_sid":"2"}}`,
		`{"id":"a3","labels":{"oidc_iss":"https://id.example","oidc_sid":"3"}}`,
		`{"id":"a4","subject":"alice","labels":{"oidc_iss":"https://id.example","oidc_sid":"4"}}`,
		`{"id":"b1","subject":"bob","labels":{"oidc_iss":"https://id.example"}}`,
		`{"id":"b2","subject":"bob","labels":{"oidc_iss":"https://id.example","oidc_sid":"5"}}`,
		`{"id":"b3","subject":"bob","labels":{"oidc_iss":"https://other.example"}}`,
		`{"id":"b4","subject":"bob"}`,
	} {
		s.create(body)
	}
	cred := s.credential(all)
	live := func() (ids string) {
		t.Helper()
		page, err := s.manager.List(t.Context(), sessiond.ListParams{Filter: sessiond.Filter{ActiveOnly: true}, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range page.Sessions {
			ids = string(session.ID) + " " + ids
		}
		return strings.TrimSpace(ids)
	}
	form := func(fields string) answer {
		t.Helper()
		return s.do("POST", "/backchannel-logout", "", fields, "Content-Type", "application/x-www-form-urlencoded")
	}
	for _, step := range []struct{ token, live string }{
		{"nobody", "a1 a2 a3 a4 b1 b2 b3 b4"},
		{"foreign", "a1 a2 a3 a4 b1 b2 b3 b4"},
		{"other", "a1 a2 a3 a4 b1 b2 b3 b4"},
		{"both", "a2 a3 a4 b1 b2 b3 b4"},
		{"both", "a2 a3 a4 b1 b2 b3 b4"},
		{"mapped", "a3 a4 b1 b2 b3 b4"},
		{"sid", "a4 b1 b2 b3 b4"},
		{"sub", "a4 b3 b4"},
	} {
		a := form("ignored=1&logout_token=" + url.QueryEscape(step.token)).must(200)
		if len(a.body) != 0 || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q %v", step.token, a.body, a.header)
		}
		if got := live(); got != step.live {
			t.Errorf("after %s: live %s, want %s", step.token, got, step.live)
		}
	}
	gone := s.do("GET", "/sessions/a1", cred, "").want(410, "session-revoked")
	if gone.text("end_reason") != "logout" || gone.text("ended_by", "sub") != "alice" {
		t.Errorf("ended session: %s", gone.body)
	}

	for fields, code := range map[string]string{
		"": "malformed-request", "logout_token=": "malformed-request", "token=both": "malformed-request",
		"logout_token=both&logout_token=both": "malformed-request", "logout_token=forged": "malformed-request",
		"logout_token=" + wordTenant: "malformed-request",
	} {
		a := form(fields).want(400, code)
		if a.text("error") != "invalid_request" || strings.Contains(string(a.body), "forged") {
			t.Errorf("%q: %s", fields, a.body)
		}
	}
	down := form("logout_token="+wordDown).want(503, "issuer-unavailable")
	if down.text("applied") != "no" || down.header.Get("Retry-After") == "" {
		t.Errorf("503: %s", down.body)
	}
	s.do("POST", "/backchannel-logout", "", `{"logout_token":"both"}`, "Content-Type", "application/json").
		want(415, "unsupported-media-type")
	if a := s.do("GET", "/backchannel-logout", "", "").want(405, "method-not-allowed"); a.header.Get("Allow") != "POST" {
		t.Errorf("Allow %q", a.header.Get("Allow"))
	}
	form("logout_token=both&"+strings.Repeat("x", 70<<10)).want(413, "body-too-large")
}

func TestBackchannelLogoutWithoutVerifier(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", "/backchannel-logout", "", "logout_token=x", "Content-Type", "application/x-www-form-urlencoded").
		want(400, "malformed-request")
}
