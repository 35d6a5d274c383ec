package apitest_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/internal/apitest"
)

// spy is a test that notes its failures.
type spy struct {
	testing.TB
	mu     sync.Mutex
	errors []string
}

func (s *spy) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors = append(s.errors, fmt.Sprintf(format, args...))
}

func (s *spy) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.errors, "\n")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

const (
	session = `{"id":"a","subject":"s","data":{"n":1e999},"labels":{"device":"x"},"status":"active",` +
		`"created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z",` +
		`"last_active_at":"2026-01-01T00:00:00.000Z","expires_at":"2026-01-01T08:00:00.000Z",` +
		`"idle_timeout":0,"version":1,"created_by":{"sub":"x","client":""}}`
	token = "sst_AgdkZWZhdWx0AZrK8hYhc5uQ0tCkRkVv"
)

var (
	withToken = strings.TrimSuffix(session, "}") + `,"token":"` + token + `"}`
	common    = map[string]string{
		"X-Request-Id": "r1", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Date": "Thu, 01 Jan 2026 00:00:00 GMT",
	}
)

// with is common plus pairs of names and values; an empty value removes.
func with(pairs ...string) map[string]string {
	h := maps.Clone(common)
	for i := 0; i < len(pairs); i += 2 {
		if h[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(h, pairs[i])
		}
	}
	return h
}

func problem(code string, status int, more string) string {
	return fmt.Sprintf(`{"type":"urn:sessiond:problem:%s","title":"T","status":%d,"detail":"d","request_id":"r1"%s}`,
		code, status, more)
}

type row struct {
	name, method, target string
	request              string // body
	requestType          string
	status               int
	header               map[string]string
	body                 string
	want                 string // part of the failure; empty: none
}

var (
	inJSON  = with("Content-Type", "application/json")
	tagged  = with("Content-Type", "application/json", "Etag", `"x.1"`)
	created = with("Content-Type", "application/json", "Etag", `"x.1"`, "Location", "/sessions/a")
	asking  = with("Content-Type", "application/problem+json", "Www-Authenticate", "Bearer")
	saying  = with("Content-Type", "application/problem+json")
	waiting = with("Content-Type", "application/problem+json", "Retry-After", "1")
	allowed = with("Session-Id", "a", "Session-Subject", "-", "Session-Tenant", "default",
		"Session-Expires-At", "2026-01-01T08:00:00.000Z")
)

const (
	typeJSON  = "application/json"
	typeMerge = "application/merge-patch+json"
	typeForm  = "application/x-www-form-urlencoded"
)

var good = []row{
	{"create", "POST", "/sessions", `{"subject":"s"}`, typeJSON, 201, created, withToken, ""},
	{"get", "GET", "/sessions/a", "", "", 200, tagged, session, ""},
	{"head", "HEAD", "/sessions/a", "", "", 200, tagged, "", ""},
	{"put", "PUT", "/sessions/a", `{"data":{"n":1E+999}}`, typeJSON, 200, tagged, session, ""},
	{"patch", "PATCH", "/sessions/a", `{"data":null,"labels":{"x":null}}`, typeMerge, 200, tagged, session, ""},
	{"delete", "DELETE", "/sessions/a?reason=logout&note=bye&erase=true", "", "", 204, common, "", ""},
	{"list", "GET", "/sessions/?label.device=x&limit=2&created_after=2026-01-01T00:00:00Z", "", "", 200, inJSON,
		`{"sessions":[` + session + `],"next_cursor":"AbC"}`, ""},
	{"bulk", "DELETE", "/sessions/?subject=s&except=a&dry_run=true", "", "", 200, inJSON,
		`{"revoked":0,"complete":true}`, ""},
	{"touch", "POST", "/sessions/a/touch", "", "", 200, tagged, session, ""},
	{"rotate without body", "POST", "/sessions/a/rotate", "", "", 200, tagged, withToken, ""},
	{"verify", "POST", "/verify", `{"token":"sst_x","touch":false}`, typeJSON, 200, inJSON,
		`{"active":true,"session":` + session + `}`, ""},
	{"verify inactive", "POST", "/verify", `{"token":""}`, typeJSON, 200, inJSON,
		`{"active":false,"reason":"logout"}`, ""},
	{"introspect", "POST", "/introspect", "token=sst_x&touch=false&more=1", typeForm, 200, inJSON,
		`{"active":true,"sid":"a","exp":1,"iat":1}`, ""},
	{"revoke", "POST", "/revoke", "token=sst_x", typeForm, 200, common, "", ""},
	{"auth below", "PROPFIND", "/auth/web/a//b/%2e%2e?x=1&x=2", "anything", "", 200, allowed, "", ""},
	{"auth refused", "POST", "/auth/web", "", "", 401, asking, problem("unauthenticated", 401, ""), ""},
	{"events by type", "GET", "/events?type=session.created,session.revoked", "", "", 200,
		with("Content-Type", "text/event-stream"), "event: heartbeat\nid: 1\ndata:\n\n", ""},
	{"bad request refused", "POST", "/sessions/", `{"idd":`, typeJSON, 400, saying,
		problem("malformed-request", 400, ""), ""},
	{"out of bounds refused", "POST", "/sessions/", `{"expires_in":0}`, typeJSON, 422, saying,
		problem("invalid-session", 422, `,"errors":[{"pointer":"/expires_in","detail":"d"}]`), ""},
	{"unknown path", "GET", "/nowhere", "", "", 404, saying, problem("not-found", 404, ""), ""},
	{"unclean path", "GET", "/sessions//a", "", "", 404, saying, problem("not-found", 404, ""), ""},
	{"unknown path without credential", "GET", "/nowhere", "", "", 401, asking, problem("unauthenticated", 401, ""), ""},
	{"wrong method", "PATCH", "/verify", "", "", 405, with("Content-Type", "application/problem+json", "Allow", "POST"),
		problem("method-not-allowed", 405, ""), ""},
	{"ended", "GET", "/sessions/a", "", "", 410, saying,
		problem("session-expired", 410, `,"ended_at":"2026-01-01T08:00:00.000Z","end_reason":"idle"`), ""},
	{"down on write", "POST", "/sessions/a/touch", "", "", 503, waiting,
		problem("store-unavailable", 503, `,"applied":"unknown"`), ""},
	{"down on read", "GET", "/sessions/a", "", "", 503, waiting, problem("issuer-unavailable", 503, ""), ""},
}

var bad = []row{
	{"status", "GET", "/sessions/a", "", "", 409, saying, problem("session-exists", 409, ""), "status is not documented"},
	{"redirect", "GET", "/sessions/a", "", "", 301, common, "", "status is not documented"},
	{"success elsewhere", "GET", "/nowhere", "", "", 200, inJSON, `{}`, "operation is not documented"},
	{"success by another method", "PUT", "/verify", "", "", 200, inJSON, `{}`, "operation is not documented"},
	{"redirect elsewhere", "GET", "/nowhere", "", "", 301, common, "", "status is not documented"},
	{"wrong 404", "GET", "/sessions/a", "", "", 404, saying, problem("not-found", 404, ""), "doesn't match"},
	{"header", "GET", "/sessions/a", "", "", 200, with("Content-Type", typeJSON, "Etag", `"x"`, "Server", "x"), session,
		"header Server is not documented"},
	{"no etag", "GET", "/sessions/a", "", "", 200, inJSON, session, `"ETag" missing`},
	{"no etag on head", "HEAD", "/sessions/a", "", "", 200, inJSON, "", `"ETag" missing`},
	{"weak etag", "GET", "/sessions/a", "", "", 200, with("Content-Type", typeJSON, "Etag", `W/"x"`), session, "ETag"},
	{"no request id", "DELETE", "/sessions/a", "", "", 204, with("X-Request-Id", ""), "", `"X-Request-Id" missing`},
	{"no challenge", "GET", "/sessions/a", "", "", 401, saying, problem("unauthenticated", 401, ""), "WWW-Authenticate"},
	{"no retry-after", "GET", "/events", "", "", 503, saying, problem("overloaded", 503, ""), "Retry-After"},
	{"no applied", "DELETE", "/sessions/a", "", "", 503, waiting, problem("overloaded", 503, ""), "applied"},
	{"media type", "GET", "/sessions/a", "", "", 200, with("Content-Type", "text/plain", "Etag", `"x"`), session,
		`Content-Type "text/plain"`},
	{"body where none is", "DELETE", "/sessions/a", "", "", 204, inJSON, "{}", "must not have a body"},
	{"empty body", "GET", "/sessions/a", "", "", 200, tagged, "", "not one JSON value"},
	{"two values", "GET", "/sessions/a", "", "", 200, tagged, session + session, "not one JSON value"},
	{"duplicate member", "POST", "/verify", `{"token":"x"}`, typeJSON, 200, inJSON, `{"active":false,"active":false}`,
		"duplicate"},
	{"member", "POST", "/verify", `{"token":"x"}`, typeJSON, 200, inJSON, `{"active":false,"secret":1}`, "/secret"},
	{"member within", "GET", "/sessions/", "", "", 200, inJSON,
		`{"sessions":[` + strings.Replace(session, `"sub":"x"`, `"sub":"x","iss":"y"`, 1) + `]}`,
		"/sessions/0/created_by/iss"},
	{"token where none is", "GET", "/sessions/a", "", "", 200, tagged, withToken, "/token"},
	{"no token", "POST", "/sessions/", `{}`, typeJSON, 201, created, session, "token"},
	{"label key", "GET", "/sessions/a", "", "", 200, tagged, strings.Replace(session, "device", "DEVICE", 1), "labels"},
	{"time without milliseconds", "GET", "/sessions/a", "", "", 200, tagged,
		strings.Replace(session, "08:00:00.000Z", "08:00:00Z", 1), "expires_at"},
	{"problem type", "GET", "/sessions/a", "", "", 500, saying, problem("panic", 500, ""), "type"},
	{"status in problem", "GET", "/sessions/a", "", "", 500, saying, problem("internal", 503, ""), "status"},
	{"no errors", "POST", "/verify", `{}`, typeJSON, 422, saying, problem("invalid-session", 422, ""), "errors"},
	{"no oauth error", "POST", "/revoke", "", typeForm, 400, saying, problem("malformed-request", 400, ""), "error"},
	{"token in problem", "POST", "/verify", `{"token":"x"}`, typeJSON, 400, saying,
		strings.Replace(problem("malformed-request", 400, ""), `"d"`, `"`+token+`"`, 1), "repeats a token"},
	{"subject of a guest", "GET", "/auth/web", "", "", 200, with("Session-Id", "a", "Session-Subject", "",
		"Session-Tenant", "default", "Session-Expires-At", "2026-01-01T08:00:00.000Z"), "", "Session-Subject"},
	{"accepted unknown parameter", "GET", "/sessions/?x=1", "", "", 200, inJSON, `{"sessions":[]}`, `"x" is not doc`},
	{"accepted repeated parameter", "GET", "/sessions/?limit=1&limit=1", "", "", 200, inJSON, `{"sessions":[]}`,
		"repeated"},
	{"accepted empty filter", "GET", "/sessions/?subject=", "", "", 200, inJSON, `{"sessions":[]}`, "empty"},
	{"accepted limit", "GET", "/sessions/?limit=1001", "", "", 200, inJSON, `{"sessions":[]}`, "limit"},
	{"accepted member", "POST", "/sessions/", `{"x":1}`, typeJSON, 201, created, withToken, "does not allow"},
	{"accepted bound", "POST", "/sessions/", `{"expires_in":0}`, typeJSON, 201, created, withToken, "expires_in"},
	{"accepted label key", "POST", "/sessions/", `{"labels":{"X":"1"}}`, typeJSON, 201, created, withToken, "/labels"},
	{"accepted token as id", "GET", "/sessions/" + token, "", "", 200, tagged, session, "does not allow"},
	{"accepted media type", "PATCH", "/sessions/a", `{}`, typeJSON, 200, tagged, session, "Content-Type"},
	{"accepted null", "PATCH", "/sessions/a", `{"expires_in":null}`, typeMerge, 200, tagged, session, "expires_in"},
	{"accepted form without token", "POST", "/introspect", "x=y", typeForm, 200, inJSON, `{"active":false}`, "token"},
}

func (r *row) run(t *testing.T, s *spy, credential bool) {
	t.Helper()
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			got, err := io.ReadAll(req.Body)
			if err != nil || string(got) != r.request {
				t.Errorf("the base got body %q, %v", got, err)
			}
		}
		resp := &http.Response{StatusCode: r.status, Header: http.Header{}, Request: req}
		for k, v := range r.header {
			resp.Header.Set(k, v)
		}
		resp.Body = io.NopCloser(strings.NewReader(r.body))
		return resp, nil
	})
	req := httptest.NewRequestWithContext(t.Context(), r.method, "http://x"+r.target, strings.NewReader(r.request))
	if r.requestType != "" {
		req.Header.Set("Content-Type", r.requestType)
	}
	if credential {
		req.Header.Set("Authorization", "Bearer x.y.z")
	}
	resp, err := apitest.New(s, base).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.body, string(got)); diff != "" {
		t.Errorf("body on the way (-want +got):\n%s", diff)
	}
}

func TestDocumentedExchangesPass(t *testing.T) {
	for _, r := range good {
		t.Run(r.name, func(t *testing.T) {
			s := &spy{TB: t}
			r.run(t, s, true)
			if s.text() != "" {
				t.Error(s.text())
			}
		})
	}
}

func TestContradictionsFail(t *testing.T) {
	for _, r := range bad {
		t.Run(r.name, func(t *testing.T) {
			s := &spy{TB: t}
			r.run(t, s, true)
			if !strings.Contains(s.text(), r.want) || s.text() == "" {
				t.Errorf("failures %q do not tell of %q", s.text(), r.want)
			}
		})
	}
}

func TestAcceptedWithoutCredentialFails(t *testing.T) {
	s := &spy{TB: t}
	good[1].run(t, s, false)
	if !strings.Contains(s.text(), "credential") {
		t.Errorf("failures: %q", s.text())
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	r := good[1]
	h := http.Header{}
	for k, v := range r.header {
		h.Set(k, v)
	}
	tr := apitest.New(b, roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: r.status, Header: h, Body: io.NopCloser(strings.NewReader(r.body))}, nil
	}))
	req := httptest.NewRequestWithContext(b.Context(), r.method, "http://x"+r.target, nil)
	req.Header.Set("Authorization", "Bearer x.y.z")
	for b.Loop() {
		resp, err := tr.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}
