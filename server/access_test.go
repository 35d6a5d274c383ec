package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/server"
)

// protected are the routes that a credential opens.
func protected() []server.RouteInfo {
	var routes []server.RouteInfo
	for _, r := range server.Routes() {
		if r.AnyOf != nil {
			routes = append(routes, r)
		}
	}
	return routes
}

func target(r server.RouteInfo) string { return strings.ReplaceAll(r.Pattern, "{id}", "some-id") }

func TestEveryRouteNeedsACredentialAndAPermission(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, r := range protected() {
		body := ""
		if r.HasBody {
			body = "{"
		}
		oauth := r.Op == "introspect" || r.Op == "revoke"
		check := func(a answer, header, oauthError string) {
			t.Helper()
			if got := a.header.Get("Www-Authenticate"); got != header {
				t.Errorf("%s: WWW-Authenticate %q, want %q", a.what, got, header)
			}
			if got := a.text("error"); oauth && got != oauthError || !oauth && got != "" {
				t.Errorf("%s: error %q", a.what, got)
			}
		}
		check(s.do(r.Method, target(r), "", body).want(401, "unauthenticated"), "Bearer", "invalid_client")
		check(s.do(r.Method, target(r), "bad", body).want(401, "unauthenticated"),
			`Bearer error="invalid_token"`, "invalid_token")
		check(s.do(r.Method, target(r), wordTenant, body).want(403, "permission-denied"), "", "access_denied")
		down := s.do(r.Method, target(r), wordDown, body).want(503, "issuer-unavailable")
		check(down, "", "temporarily_unavailable")
		if retry := down.header.Get("Retry-After"); len(retry) != 1 || retry < "1" || retry > "3" {
			t.Errorf("%s: Retry-After %q", down.what, retry)
		}
		s.do(r.Method, target(r), wordBroken, body).want(503, "issuer-unavailable")

		var enough auth.Permissions
		for _, p := range r.AnyOf {
			enough |= p
		}
		without := (all | auth.AnyTenant) &^ enough
		if enough.Has(auth.Inspect) || enough.Has(auth.Verify) {
			without &^= auth.Read
		}
		check(s.do(r.Method, target(r), s.credential(without), body).want(403, "permission-denied"),
			`Bearer error="insufficient_scope", scope="`+r.AnyOf[0].String()+`"`, "insufficient_scope")
		for _, p := range r.AnyOf {
			// Permission comes before input: what is wrong now is only the body, or nothing.
			a := s.do("OPTIONS", target(r), s.credential(p), "").want(405, "method-not-allowed")
			if !strings.Contains(a.header.Get("Allow"), r.Method) {
				t.Errorf("%s: Allow %q", a.what, a.header.Get("Allow"))
			}
			if r.HasBody {
				a := s.do(r.Method, target(r), s.credential(p), body)
				if a.status != 400 && a.status != 415 {
					t.Errorf("%s with %v: %d", a.what, p, a.status)
				}
			}
		}
	}
	log := s.log.String()
	for _, secret := range []string{"bad", wordTenant, "secret text"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q: %s", secret, log)
		}
	}
}

func TestAppliedTellsOfWritesOnly(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, r := range protected() {
		write := r.Method != "GET" && r.Op != "verify" && r.Op != "introspect"
		a := s.do(r.Method, target(r), wordDown, "").want(503, "issuer-unavailable")
		if got := a.text("applied"); write != (got == "no") {
			t.Errorf("%s: applied %q", a.what, got)
		}
	}
}

func TestCredentialForms(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.create(`{"id":"x"}`)
	cred := s.credential(all)
	for _, ok := range []string{"Bearer " + cred, "bearer " + cred, "BEARER " + cred, "Bearer   " + cred} {
		s.do("GET", "/sessions/x", "", "", "Authorization", ok).must(200)
	}
	tests := []struct {
		status int
		code   string
		header string
		values []string
	}{
		{401, "unauthenticated", "Bearer", []string{"Basic " + cred}},
		{401, "unauthenticated", "Bearer", []string{"Bearer" + cred}},
		{401, "unauthenticated", "Bearer", []string{cred}},
		{401, "unauthenticated", `Bearer error="invalid_token"`, []string{"Bearer"}},
		{401, "unauthenticated", `Bearer error="invalid_token"`, []string{"Bearer " + cred + " x"}},
		{401, "unauthenticated", `Bearer error="invalid_token"`, []string{"Bearer " + s.create(`{}`).text("token")}},
		{400, "malformed-request", "", []string{"Bearer " + cred, "Bearer " + cred}},
		{400, "malformed-request", "", []string{"Bearer " + cred, "Basic x"}},
		{400, "malformed-request", "", []string{"Bearer " + cred + ", Bearer " + cred}},
		{400, "malformed-request", "", []string{"Basic x, bearer " + cred}},
		{401, "unauthenticated", "Bearer", []string{`Digest username="a", realm="b"`}},
	}
	for _, tt := range tests {
		var header []string
		for _, v := range tt.values {
			header = append(header, "Authorization", v)
		}
		a := s.do("GET", "/sessions/x", "", "", header...).want(tt.status, tt.code)
		if got := a.header.Get("Www-Authenticate"); got != tt.header {
			t.Errorf("%q: WWW-Authenticate %q", tt.values, got)
		}
	}
	s.do("GET", "/sessions/x?access_token="+cred, "", "").want(401, "unauthenticated")
	s.do("GET", "/sessions/x?access_token="+cred, cred, "").want(400, "malformed-request")
}

func TestTenants(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.create(`{"id":"same","subject":"here"}`)
	other := s.credentialIn("other", "x", all)
	s.do("POST", "/sessions/", other, `{"id":"same","subject":"there"}`).must(201)
	s.do("POST", "/sessions/", other, `{"id":"foreign"}`).must(201)
	cred, any := s.credential(all), s.credential(all|auth.AnyTenant)

	strip := func(a answer) string { return strings.ReplaceAll(a.body, a.text("request_id"), "") }
	for _, r := range protected() {
		if !strings.Contains(r.Pattern, "{id}") {
			continue
		}
		at := func(id, credential string) answer {
			body := ""
			if r.HasBody {
				body = "{}"
			}
			return s.do(r.Method, strings.ReplaceAll(r.Pattern, "{id}", id), credential, body).want(404, "session-not-found")
		}
		foreign := at("foreign", cred)
		for _, id := range []string{
			"01890000-0000-7000-8000-000000000000", "sst_abc", "-", "a:b", strings.Repeat("x", 129), "...",
		} {
			random := at(id, cred)
			if strip(foreign) != strip(random) || len(foreign.header) != len(random.header) {
				t.Errorf("%s tells from %s: %v %s", foreign.what, random.what, foreign.header, foreign.body)
			}
		}
	}
	if a := s.do("GET", "/sessions/same", any, "", "Sessiond-Tenant", "other").must(200); a.text("subject") != "there" {
		t.Errorf("any-tenant: %s", a.body)
	}
	if op := s.lastOp("get"); op.Tenant != "other" || op.Principal != "tester" {
		t.Errorf("operation: %+v", op)
	}
	s.do("GET", "/sessions/same", cred, "", "Sessiond-Tenant", "default").must(200)
	for _, bad := range []string{"other", "DEFAULT", "nowhere"} {
		a := s.do("GET", "/sessions/same", cred, "", "Sessiond-Tenant", bad).want(403, "permission-denied")
		if a.header.Get("Www-Authenticate") != "" {
			t.Errorf("tenant %q: a scope is asked for", bad)
		}
	}
	for _, bad := range []string{"Other", "-a", "a b", "a/b", strings.Repeat("x", 64), "a,b"} {
		s.do("GET", "/sessions/same", any, "", "Sessiond-Tenant", bad).want(403, "permission-denied")
	}
	s.do("GET", "/sessions/same", any, "", "Sessiond-Tenant", "other", "Sessiond-Tenant", "other").
		want(400, "malformed-request")
	s.do("GET", "/sessions/same", any, "", "Sessiond-Tenant", "nowhere").want(404, "session-not-found")
}

func TestPathsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.client.Transport = s.plain // the document's router takes other spellings for the same path
	s.create(`{"id":"x"}`)
	cred := s.credential(all)
	s.do("GET", "/sessions/x", cred, "").must(200)
	s.do("GET", "/sessions", cred, "").must(200)
	for _, path := range []string{
		"/", "//", "/sessions/x/", "//sessions/x", "/sessions//x", "/sessions/./x", "/./sessions/x",
		"/sessions/../sessions/x",
		"/sessions/%78", "/%73essions/x", "/sessions%2Fx", "/sessions/x%2F", "/sessions/x/touch/", "/sessions/x/touch%2f",
		"/sessions/x/other", "/sessions/x/../x", "/sessions/..%2fsessions%2fx", "/sessions/%2e%2e", "/sessions/..",
		"/sessions/.",
		"/sessions/x/rotate/touch", "/sessions//touch", "/verify/", "/verify.", "/sessions.", "/Sessions/x", "/SESSIONS",
		"/events/", "/events/x", "/introspect/", "/auth", "/auth/", "/auth/unknown", "/auth/unknown/x",
		"/auth/%77eb", "/auth//web",
		"/healthz", "/metrics", "/openapi.json", "/.well-known/openid-configuration", "/sessions\\x",
		"/backchannel-logout/",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "PUT"} {
			if a := s.do(method, path, cred, ""); a.status != 404 || a.header.Get("Location") != "" {
				t.Errorf("%s: %d %v", a.what, a.status, a.header)
			}
			s.do(method, path, "", "").want(401, "unauthenticated")
			s.do(method, path, "bad", "").want(401, "unauthenticated")
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	for path, allow := range map[string]string{
		"/sessions": "DELETE, GET, HEAD, POST", "/sessions/": "DELETE, GET, HEAD, POST",
		"/sessions/x": "DELETE, GET, HEAD, PATCH, PUT", "/sessions/x/touch": "POST", "/sessions/x/rotate": "POST",
		"/verify": "POST", "/introspect": "POST", "/revoke": "POST", "/events": "GET, HEAD",
	} {
		for _, method := range []string{
			"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LIST", "get", "X",
		} {
			if strings.Contains(", "+allow+", ", ", "+method+", ") {
				continue
			}
			if a := s.do(method, path, cred, ""); a.status != 405 || a.header.Get("Allow") != allow {
				t.Errorf("%s: %d, Allow %q, want %q", a.what, a.status, a.header.Get("Allow"), allow)
			}
			if a := s.do(method, path, "", ""); a.status != 401 {
				t.Errorf("%s without credential: %d", a.what, a.status)
			}
		}
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	for _, id := range []string{"a", "A.b_c-9", strings.Repeat("x", 128)} {
		a := s.do("GET", "/sessions/none", cred, "", "X-Request-Id", id)
		if a.header.Get("X-Request-Id") != id || a.text("request_id") != id {
			t.Errorf("%q became %q and %q", id, a.header.Get("X-Request-Id"), a.text("request_id"))
		}
	}
	seen := map[string]bool{}
	for _, header := range [][]string{
		nil, {"X-Request-Id", "a b"}, {"X-Request-Id", strings.Repeat("x", 129)}, {"X-Request-Id", "é"},
		{"X-Request-Id", "a", "X-Request-Id", "a"}, {"X-Request-Id", "<script>"},
	} {
		a := s.do("GET", "/sessions/none", cred, "", header...)
		id := a.header.Get("X-Request-Id")
		if len(id) != 32 || seen[id] || a.text("request_id") != id {
			t.Errorf("%q: request id %q", header, id)
		}
		seen[id] = true
	}
}

func TestRoutesAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	type operation struct {
		ID          string   `yaml:"operationId"`
		Permissions []string `yaml:"x-permissions"`
	}
	documented := map[string]operation{}
	for path, item := range doc.Paths {
		for method, node := range item {
			if method == "parameters" || method == "description" || method == "summary" {
				continue
			}
			var op operation
			if err := node.Decode(&op); err != nil {
				t.Fatal(err)
			}
			documented[strings.ToUpper(method)+" "+strings.TrimSuffix(path, "/")] = op
		}
	}
	served := map[string]operation{}
	for _, r := range server.Routes() {
		method := r.Method
		if method == "" {
			method = http.MethodGet // standing for any
		}
		op := operation{ID: r.Op, Permissions: []string{}}
		for _, p := range r.AnyOf {
			op.Permissions = append(op.Permissions, p.String())
		}
		served[method+" "+r.Pattern] = op
	}
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Errorf("documented (-) and served (+):\n%s", diff)
	}
}
