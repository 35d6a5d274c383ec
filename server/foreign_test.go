package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/server"
)

// foreign brings sessions of other systems' tokens into a tenant.
func (s *service) foreign(tenant string, tokens ...string) {
	s.t.Helper()
	var lines strings.Builder
	for _, token := range tokens {
		sum := sha256.Sum256([]byte(token))
		fmt.Fprintf(&lines, `{"token_sha256":%q,"subject":"anna","data":{"a":1}}`+"\n", hex.EncodeToString(sum[:]))
	}
	res, err := s.manager.As(tenant, sessiond.Actor{}).
		ImportForeign(s.t.Context(), strings.NewReader(lines.String()), sessiond.ImportParams{})
	if err != nil || res.Created != int64(len(tokens)) {
		s.t.Fatalf("%+v, %v", res, err)
	}
}

func withForeignCookies(o *options) {
	o.config.Gateways["moving"] = server.Gateway{
		Tenant: "default", CookieName: "__Host-session", ForeignCookies: []string{"connect.sid", "old"},
	}
	o.config.Gateways["same"] = server.Gateway{Tenant: "default", CookieName: "sid", ForeignCookies: []string{"sid"}}
}

const foreignToken = "s%3Aq.dS/x+y=="

// TestForeignTokens: tokens of another system are taken wherever a caller hands
// one in, until they are rotated away.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.foreign("default", foreignToken, "second", "third")
	cred, inOther := s.credential(auth.Verify), s.credentialIn("other", "x", auth.Verify)
	verify := func(cred, token string) answer {
		return s.do("POST", "/verify", cred, `{"token":"`+token+`"}`).must(200)
	}
	form := func(token string) string { return url.Values{"token": {token}}.Encode() }
	a := verify(cred, foreignToken)
	id := a.text("session", "id")
	if a.json("active") != true || a.text("session", "subject") != "anna" || !strings.Contains(a.body, `"data":{"a":1}`) {
		t.Errorf("verify: %s", a.body)
	}
	if a := verify(inOther, foreignToken); a.json("active") != false {
		t.Errorf("another tenant: %s", a.body)
	}
	for _, bad := range []string{id, "unknown", "sst_" + foreignToken, strings.Repeat("x", 5000), foreignToken + " "} {
		if a := verify(cred, bad); a.body != `{"active":false}`+"\n" {
			t.Errorf("%s: %s", bad, a.body)
		}
	}
	if a := s.form("/introspect", cred, form(foreignToken)).must(200); a.json("active") != true || a.text("sid") != id {
		t.Errorf("introspect: %s", a.body)
	}
	if a := s.form("/introspect", inOther, form(foreignToken)).must(200); a.json("active") != false {
		t.Errorf("introspect in another tenant: %s", a.body)
	}
	s.form("/revoke", inOther, form(foreignToken)).must(200)
	s.do("GET", "/sessions/second", s.credential(all), "").want(404, "session-not-found") // a token is no id

	path := "/sessions/" + id + "/rotate"
	s.do("POST", path, cred, `{"token":"second"}`).want(403, "permission-denied")
	s.do("POST", path, cred, `{"token":"`+id+`"}`).want(403, "permission-denied")
	token := s.do("POST", path, cred, `{"token":"`+foreignToken+`"}`).must(200).text("token")
	if !strings.HasPrefix(token, "sst_") || verify(cred, token).text("session", "id") != id {
		t.Errorf("rotated to %.8s", token)
	}
	if a := verify(cred, foreignToken); a.body != `{"active":false}`+"\n" {
		t.Errorf("after the rotation: %s", a.body)
	}
	s.do("POST", path, cred, `{"token":"`+foreignToken+`"}`).want(403, "permission-denied")
	s.form("/revoke", cred, form(foreignToken)).must(200)
	if verify(cred, token).json("active") != true {
		t.Error("the dead token ended the session")
	}
	s.form("/revoke", cred, form("second")).must(200)
	if a := verify(cred, "second"); a.body != `{"active":false,"reason":"logout"}`+"\n" {
		t.Errorf("after the logout: %s", a.body)
	}
	s.noSecrets(foreignToken, "s%253Aq", "dS/x")
}

// noSecrets looks for texts in what was logged and told of operations.
func (s *service) noSecrets(secrets ...string) {
	s.t.Helper()
	s.mu.Lock()
	told := fmt.Sprintf("%+v %s", s.ops, s.log)
	s.mu.Unlock()
	for _, secret := range secrets {
		if strings.Contains(told, secret) {
			s.t.Errorf("%q is in the log or in an operation", secret)
		}
	}
}

func TestForeignCookies(t *testing.T) {
	t.Parallel()
	s := start(t, withForeignCookies)
	s.foreign("default", foreignToken, "second", `"quoted"`)
	s.foreign("other", "elsewhere")
	ours := s.create(`{"id":"ours"}`).text("token")
	const host, sid = "__Host-session=", "connect.sid="
	for name, tt := range map[string]struct {
		gateway, cookie string
		status          int
	}{
		"foreign":                     {"moving", sid + foreignToken, 200},
		"among others":                {"moving", "a=b;" + sid + foreignToken + " ; c=d", 200},
		"the second name":             {"moving", "old=second", 200},
		"the same in both":            {"moving", "old=second; " + sid + "second", 200},
		"two that differ":             {"moving", "old=second; " + sid + foreignToken, 401},
		"twice":                       {"moving", sid + "second; " + sid + "second", 200},
		"twice, one empty":            {"moving", sid + "; " + sid + "second", 401},
		"quoted":                      {"moving", `old="quoted"`, 200},
		"unknown":                     {"moving", sid + "unknown", 401},
		"empty":                       {"moving", sid, 401},
		"name in another case":        {"moving", "Connect.sid=" + foreignToken, 401},
		"another cookie":              {"moving", "sid=" + foreignToken, 401},
		"not configured":              {"web", sid + foreignToken, 401},
		"another tenant's":            {"moving", sid + "elsewhere", 401},
		"ours":                        {"moving", host + ours, 200},
		"ours and foreign":            {"moving", host + ours + "; " + sid + foreignToken, 200},
		"foreign and ours":            {"moving", sid + "unknown; " + host + ours, 200},
		"ours is bad, foreign good":   {"moving", host + ours + "x; " + sid + foreignToken, 401},
		"ours is empty, foreign good": {"moving", host + "; " + sid + foreignToken, 401},
		"foreign in our cookie":       {"moving", host + foreignToken, 401},
		"ours in a foreign cookie":    {"moving", sid + ours, 401},
		"the id":                      {"moving", sid + "ours", 401},
		"same name, foreign":          {"same", "sid=" + foreignToken, 200},
		"same name, ours":             {"same", "sid=" + ours, 200},
		"same name, both":             {"same", "sid=" + foreignToken + "; sid=" + ours, 200},
		"same name, not configured":   {"quiet", "sid=" + foreignToken, 401},
	} {
		a := s.do("GET", "/auth/"+tt.gateway+"/x", "", "", "Cookie", tt.cookie)
		if a.status != tt.status {
			t.Errorf("%s: %d, want %d", name, a.status, tt.status)
		}
		if foreign := !strings.Contains(tt.cookie, ours); a.status == 200 && foreign != (a.header.Get("Session-Id") != "ours") {
			t.Errorf("%s: session %s", name, a.header.Get("Session-Id"))
		}
	}
	// Authorization is for our tokens only, and comes before cookies of others.
	for name, tt := range map[string]struct {
		bearer, cookie string
		status         int
	}{
		"foreign bearer":            {"second", "", 401},
		"foreign bearer and cookie": {"second", sid + foreignToken, 200}, // someone else's header
		"our bearer and foreign":    {ours, sid + foreignToken, 200},
		"bad bearer and foreign":    {"sst_x", sid + foreignToken, 401},
	} {
		header := []string{"Authorization", "Bearer " + tt.bearer, "Cookie", tt.cookie}
		if a := s.do("GET", "/auth/moving", "", "", header...); a.status != tt.status {
			t.Errorf("%s: %d, want %d", name, a.status, tt.status)
		}
	}
	// What is refused by its form never reaches the store.
	calls := s.store.Calls(faultstore.Get)
	for _, cookie := range []string{
		sid, sid + "a b", sid + strings.Repeat("x", sessiond.MaxForeignToken+1), sid + ours, host + foreignToken,
		"old=a; " + sid + "b",
	} {
		for _, gateway := range []string{"moving", "web", "same"} {
			s.do("GET", "/auth/"+gateway, "", "", "Cookie", cookie).must(http.StatusUnauthorized)
		}
	}
	if n := s.store.Calls(faultstore.Get) - calls; n != 0 {
		t.Errorf("%d reads of the store", n)
	}
	s.noSecrets(foreignToken, "dS/x", "quoted")
	s.store.FailAlways(faultstore.Get, faultstore.Refused)
	s.do("GET", "/auth/moving", "", "", "Cookie", sid+foreignToken).want(503, "store-unavailable")
	s.noSecrets(foreignToken, "dS/x")
}
