package server_test

import (
	"net/url"
	"strings"
	"testing"

	"sessiond.example/sessiond/auth"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(auth.Verify)
	created := s.create(`{"id":"v","subject":"anna","data":{"a":1}}`)
	token := created.text("token")
	verify := func(token string) answer {
		t.Helper()
		return s.do("POST", "/verify", cred, `{"token":"`+token+`"}`).must(200)
	}
	if a := verify(token); a.json("active") != true || a.text("session", "id") != "v" ||
		a.text("session", "token") != "" ||
		a.header.Get("Etag") != "" {
		t.Errorf("verify: %v %s", a.header, a.body)
	}
	if op := s.lastOp("verify"); op.SessionID != "v" {
		t.Errorf("operation: %+v", op)
	}
	for _, bad := range []string{
		"v", "", "sst_", token + "x", token[:len(token)-1], strings.ToUpper(token), " " + token, "x.y.z",
		strings.Repeat("x", 1000), "é",
	} {
		if a := verify(bad); a.body != `{"active":false}`+"\n" {
			t.Errorf("%q: %s", bad, a.body)
		}
	}
	other := s.credentialIn("other", "x", auth.Verify)
	if a := s.do("POST", "/verify", other, `{"token":"`+token+`"}`).must(200); a.body != `{"active":false}`+"\n" {
		t.Errorf("another tenant: %s", a.body)
	}
	s.do("POST", "/verify", cred, `{}`).want(422, "invalid-session")
	s.do("POST", "/verify", cred, `{"token":1}`).want(422, "invalid-session")
	s.do("POST", "/verify", cred, `{"token":"x","touch":"no"}`).want(422, "invalid-session")
	s.do("POST", "/verify", cred, `{"token":"`+token+`","touch":false}`).must(200)
	// A token is no id.
	s.do("GET", "/sessions/"+token, s.credential(all), "").want(404, "session-not-found")

	s.do("DELETE", "/sessions/v?reason=security", s.credential(all), "").must(204)
	if a := verify(token); a.body != `{"active":false,"reason":"security"}`+"\n" {
		t.Errorf("ended: %s", a.body)
	}
	wrong := token[:20] + strings.Map(func(r rune) rune { return r ^ 1 }, token[20:21]) + token[21:]
	if a := verify(wrong); a.text("reason") != "" {
		t.Errorf("a wrong secret learns the reason: %s", a.body)
	}
}

func TestIntrospectAndRevoke(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(auth.Verify)
	created := s.create(`{"subject":"anna","labels":{"client_id":"shop","scope":"a b"},"data":{"secret":1}}`)
	token := created.text("token")
	a := s.form("/introspect", cred, "token_type_hint=access_token&token="+token+"&x=1&x=2&&").must(200)
	if a.json("active") != true || a.text("sub") != "anna" || a.text("sid") != created.text("id") ||
		a.text("client_id") != "shop" || a.text("scope") != "a b" || a.json("exp") == nil || a.json("iat") == nil ||
		strings.Contains(a.body, "secret") {
		t.Errorf("introspect: %s", a.body)
	}
	exp, _ := a.json("exp").(float64)
	iat, _ := a.json("iat").(float64)
	if exp-iat != 1800 {
		t.Errorf("exp is not the earlier deadline: %s", a.body)
	}
	s.form("/introspect", cred, "touch=false&token="+token).must(200)
	if a := s.form("/introspect", cred, "token=nonsense").must(200); a.body != `{"active":false}`+"\n" {
		t.Errorf("introspect: %s", a.body)
	}
	for _, path := range []string{"/introspect", "/revoke"} {
		for _, body := range []string{
			"x=1", "token=", "token", "token=a&token=a", "token=a&token=", "token=%zz", "token=a;b", "Token=a",
			"token=a&touch=maybe",
			"token=a&touch=true&touch=true",
		} {
			if a := s.form(path, cred, body).want(400, "malformed-request"); a.text("error") != "invalid_request" {
				t.Errorf("%s %s: %s", path, body, a.body)
			}
		}
		a := s.do("POST", path, cred, `{"token":"x"}`).want(415, "unsupported-media-type")
		if a.text("error") != "invalid_request" {
			t.Errorf("415: %s", a.body)
		}
		s.form(path, cred, "token="+strings.Repeat("x", 64<<10)).want(413, "body-too-large")
		s.form(path+"?token=x", cred, "token=x").want(400, "malformed-request")
	}
	if a := s.form("/revoke", cred, "token=nonsense").must(200); a.body != "" || a.header.Get("Content-Length") != "0" {
		t.Errorf("revoke: %v %q", a.header, a.body)
	}
	s.form("/revoke", s.credentialIn("other", "x", auth.Verify), "token="+token).must(200)
	s.do("GET", "/sessions/"+created.text("id"), s.credential(all), "").must(200)
	s.form("/revoke", cred, url.Values{"token": {token}, "token_type_hint": {"x"}}.Encode()).must(200)
	s.form("/revoke", cred, "token="+token).must(200)
	gone := s.do("GET", "/sessions/"+created.text("id"), s.credential(all), "").want(410, "session-revoked")
	if gone.text("end_reason") != "logout" {
		t.Errorf("revoked: %s", gone.body)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	s := start(t)
	guest := s.create(`{"id":"g"}`)
	token := guest.text("token")
	holder, creator := s.credential(auth.Verify), s.credential(auth.Create)
	scope := func(a answer, want string) {
		t.Helper()
		if got := a.header.Get("Www-Authenticate"); got != want {
			t.Errorf("%s: WWW-Authenticate %q, want %q", a.what, got, want)
		}
	}
	const needCreate = `Bearer error="insufficient_scope", scope="sessions:create"`
	const path = "/sessions/g/rotate"
	scope(s.do("POST", path, holder, "").want(403, "permission-denied"), needCreate)
	scope(s.do("POST", path, holder, "{}").want(403, "permission-denied"), needCreate)
	scope(s.do("POST", path, holder, `{"token":"`+token+`","subject":"anna"}`).want(403, "permission-denied"), needCreate)
	scope(s.do("POST", path, holder, `{"token":1}`).want(403, "permission-denied"), needCreate)
	scope(s.do("POST", path, holder, `{"token":"sst_wrong"}`).want(403, "permission-denied"), "")
	scope(s.do("POST", path, creator, `{"token":"`+s.create(`{}`).text("token")+`"}`).want(403, "permission-denied"), "")
	s.do("POST", path, holder, `{`).want(400, "malformed-request")
	s.do("POST", path, holder, `{"token":"`+token+`","x":1}`).want(422, "invalid-session")
	second := s.do("POST", path, holder, `{"token":"`+token+`"}`).must(200).text("token")
	scope(s.do("POST", path, holder, `{"token":"`+token+`"}`).want(403, "permission-denied"), "")
	signedIn := s.do("POST", path, creator, `{"token":"`+second+`","subject":"anna"}`).must(200)
	if signedIn.text("subject") != "anna" || signedIn.header.Get("Etag") == "" {
		t.Errorf("signed in: %s", signedIn.body)
	}
	s.do("POST", path, creator, `{"subject":"berta"}`).want(422, "invalid-session")
	s.do("POST", path, creator, `{"subject":"`+strings.Repeat("x", 257)+`"}`).want(422, "invalid-session")
}
