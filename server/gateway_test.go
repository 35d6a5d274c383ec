package server_test

import (
	"net/http"
	"strings"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/server"
)

func TestForwardAuth(t *testing.T) {
	t.Parallel()
	s := start(t)
	created := s.create(`{"id":"f","subject":"anna maria@example/ü"}`)
	token := created.text("token")
	second := s.create(`{}`).text("token")
	const cookie = "__Host-session="
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	both := func(bearer, token string) []string {
		return []string{"Authorization", "Bearer " + bearer, "Cookie", cookie + token}
	}
	tests := map[string]struct {
		path      string
		header    []string
		status    int
		challenge string
	}{
		"cookie":                 {"/auth/web", []string{"Cookie", cookie + token}, 200, ""},
		"cookie among others":    {"/auth/web", []string{"Cookie", "a=b; " + cookie + token + ";c"}, 200, ""},
		"cookie in two lines":    {"/auth/web", []string{"Cookie", "a=b", "Cookie", cookie + token}, 200, ""},
		"the same twice":         {"/auth/web", []string{"Cookie", cookie + token + "; " + cookie + token}, 200, ""},
		"two cookies":            {"/auth/web", []string{"Cookie", cookie + token + "; " + cookie + second}, 401, "x"},
		"two cookies, one empty": {"/auth/web", []string{"Cookie", cookie + token + "; __Host-session="}, 401, "x"},
		"two cookies, good last": {"/auth/web", []string{"Cookie", "__Host-session=x; " + cookie + token}, 401, "x"},
		"name in another case":   {"/auth/web", []string{"Cookie", "__host-session=" + token}, 401, ""},
		"the other's cookie":     {"/auth/web", []string{"Cookie", "sid=" + token}, 401, ""},
		"quoted":                 {"/auth/web", []string{"Cookie", `__Host-session="` + token + `"`}, 401, "x"},
		"bearer":                 {"/auth/web", []string{"Authorization", "bearer " + token}, 200, ""},
		"bearer and cookie":      {"/auth/web", both(token, token), 200, ""},
		"they differ":            {"/auth/web", both(second, token), 401, "x"},
		"two bearers":            {"/auth/web", append(bearer(second), bearer(token)...), 401, "x"},
		"someone else's header":  {"/auth/web", []string{"Authorization", "Basic x", "Cookie", cookie + token}, 200, ""},
		"someone else's JWT":     {"/auth/web", both("a.b.c", token), 200, ""},
		"only a JWT":             {"/auth/web", bearer(s.credential(all)), 401, ""},
		"nothing":                {"/auth/web", nil, 401, ""},
		"garbage":                {"/auth/web", []string{"Authorization", "Bearer sst_x"}, 401, "x"},
		"an id":                  {"/auth/web", []string{"Cookie", "__Host-session=f"}, 401, "x"},
		"another tenant":         {"/auth/other", bearer(token), 401, "x"},
		"path below":             {"/auth/web/a//b/../%2e%2e/x%2fy?token=x;y&%zz", bearer(token), 200, ""},
		"slash":                  {"/auth/web/", bearer(token), 200, ""},
		"a longer name":          {"/auth/website", bearer(token), 401, "x"},
		"an escaped slash":       {"/auth/web%2Fx", bearer(token), 401, "x"},
	}
	for name, tt := range tests {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND"} {
			body := ""
			if method == "POST" {
				body = `{"not":"read"`
			}
			a := s.do(method, tt.path, "", body, append([]string{"Content-Encoding", "x"}, tt.header...)...)
			if a.status != tt.status {
				t.Errorf("%s, %s: %d, want %d", name, method, a.status, tt.status)
			}
			challenge := a.header.Get("Www-Authenticate")
			if want := strings.Replace(tt.challenge, "x", `Bearer error="invalid_token"`, 1); tt.status == 401 &&
				challenge != want && !(want == "" && challenge == "Bearer") {
				t.Errorf("%s: WWW-Authenticate %q", name, challenge)
			}
			if a.status != 200 {
				continue
			}
			want := map[string]string{
				"Session-Id": "f", "Session-Subject": "anna%20maria@example%2F%C3%BC", "Session-Tenant": "default",
				"Session-Expires-At": created.text("idle_expires_at"), "Content-Length": "0",
			}
			for k, v := range want {
				if a.header.Get(k) != v {
					t.Errorf("%s: %s is %q, want %q", name, k, a.header.Get(k), v)
				}
			}
		}
	}
	if op := s.lastOp("auth"); op.Route != "/auth/{gateway}" || op.AuthFailure != "" {
		t.Errorf("operation: %+v", op)
	}
	s.do("DELETE", "/sessions/f", s.credential(all), "").must(204)
	s.do("GET", "/auth/web", token, "").want(401, "unauthenticated")

	s.store.FailAlways(faultstore.Get, faultstore.Refused)
	a := s.do("GET", "/auth/web", second, "").want(503, "store-unavailable")
	if a.header.Get("Retry-After") == "" || a.text("applied") != "" {
		t.Errorf("unavailable: %v %s", a.header, a.body)
	}
}

func TestSubjectsInHeaders(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"": "-", "-": "%2D", "--": "--", "a@b.c~_-": "a@b.c~_-", "%": "%25", "a b": "a%20b", "é": "%C3%A9", "+": "%2B",
	} {
		if got := server.EncodeSubject(subject); got != want {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
}

func TestGatewayConfiguration(t *testing.T) {
	t.Parallel()
	manager, err := sessiond.New(sessiond.Config{Store: memstore.New(memstore.Options{}), Sealer: sessiond.NoSealing{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]server.Gateway{
		"":     {Tenant: "default"},
		"..":   {Tenant: "default"},
		"a/b":  {Tenant: "default"},
		"a%2f": {Tenant: "default"},
		"a":    {Tenant: "Default"},
		"b":    {},
		"c":    {Tenant: "default", CookieName: "a b"},
		"d":    {Tenant: "default", CookieName: "a;b"},
		"e":    {Tenant: "default", ForeignCookies: []string{""}},
		"f":    {Tenant: "default", ForeignCookies: []string{"a b"}},
		"g":    {Tenant: "default", ForeignCookies: []string{"a", "a"}},
		"h":    {Tenant: "default", ForeignCookies: strings.Split("abcdefghijklmnopq", "")},
	} {
		cfg := server.Config{Manager: manager, Verifier: &verifier{}, Gateways: map[string]server.Gateway{name: g}}
		if _, err := server.New(cfg); err == nil {
			t.Errorf("gateway %q %+v was accepted", name, g)
		}
	}
	for name, cfg := range map[string]server.Config{
		"no manager":  {Verifier: &verifier{}},
		"no verifier": {Manager: manager},
		"small body":  {Manager: manager, Verifier: &verifier{}, MaxBody: 1},
		"heartbeat":   {Manager: manager, Verifier: &verifier{}, Heartbeat: 1},
		"streams":     {Manager: manager, Verifier: &verifier{}, MaxStreams: -1},
	} {
		if _, err := server.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzGatewayToken(f *testing.F) {
	f.Add("sid=a; sid=b", "Bearer sst_x")
	f.Add(" sid = sst_x ;;=", "bearer  sst_x")
	f.Add("old=a; sid=sst_x", "")
	f.Add("old=sst_a", "Bearer a.b.c")
	f.Fuzz(func(t *testing.T, cookie, authorization string) {
		h := http.Header{"Cookie": {cookie}, "Authorization": {authorization}}
		for _, foreign := range [][]string{nil, {"old"}, {"old", "sid"}} {
			token, found, good := server.GatewayToken("sid", foreign, h)
			if !found && (token != "" || !good) {
				t.Errorf("not found: %q, %v", string(token), good)
			}
			if found && !strings.Contains(cookie+authorization, string(token)) {
				t.Errorf("a token from nowhere: %q", string(token))
			}
			ours := strings.HasPrefix(string(token), sessiond.TokenPrefix)
			if found && good && !ours && foreign == nil {
				t.Errorf("a foreign token: %q", string(token))
			}
		}
	})
}
