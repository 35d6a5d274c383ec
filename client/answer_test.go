package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/client"
)

const oneSession = `{"id":"s","subject":"","data":{},"labels":{},"status":"active",` +
	`"created_at":"2026-01-02T03:04:05.678Z","updated_at":"2026-01-02T03:04:05.678Z",` +
	`"last_active_at":"2026-01-02T03:04:05.678Z","expires_at":"2027-01-02T03:04:05.678Z",` +
	`"idle_timeout":0,"version":1,"token":"sst_x"}`

// TestForeignAnswers: what does not come from a sessiond is never taken for a
// session, its absence, its end or a success.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	type answer struct {
		status      int
		media, body string
	}
	for name, a := range map[string]answer{
		"HTML page":            {200, "text/html; charset=utf-8", "<html>Sign in</html>"},
		"HTML that says JSON":  {200, "application/json", "<html>Sign in</html>"},
		"empty object":         {200, "application/json", "{}"},
		"health":               {200, "application/json", `{"status":"ok"}`},
		"array":                {200, "application/json", "[]"},
		"null":                 {200, "application/json", "null"},
		"false":                {200, "application/json", "false"},
		"empty":                {200, "application/json", ""},
		"accepted":             {202, "application/json", `{"message":"queued"}`},
		"cut JSON":             {200, "application/json", oneSession[:len(oneSession)/2]},
		"text":                 {200, "text/plain", oneSession},
		"no type":              {200, "", oneSession},
		"twice":                {200, "application/json", oneSession + oneSession},
		"duplicate member":     {200, "application/json", strings.Replace(oneSession, `{`, `{"id":"t",`, 1)},
		"mistyped":             {200, "application/json", strings.Replace(oneSession, `"version":1`, `"version":"1"`, 1)},
		"no version":           {200, "application/json", strings.Replace(oneSession, `"version":1`, `"version":0`, 1)},
		"too large":            {200, "application/json", strings.Replace(oneSession, "{}", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`, 1)},
		"active, no session":   {200, "application/json", `{"active":true}`},
		"mistyped active":      {200, "application/json", `{"active":"false","revoked":"1","sessions":"none"}`},
		"proxy's 404":          {404, "text/html", "<html>404</html>"},
		"other service's 404":  {404, "application/json", `{"message":"not found"}`},
		"other problem 404":    {404, "application/problem+json", `{"type":"about:blank","title":"Not Found","status":404}`},
		"our 404 as JSON":      {404, "application/json", `{"type":"urn:sessiond:problem:session-not-found","status":404}`},
		"unknown code of ours": {404, "application/problem+json", `{"type":"urn:sessiond:problem:session-lost","status":404}`},
		"proxy's 401":          {401, "text/html", "who are you?"},
		"proxy's 403":          {403, "text/plain", "no"},
		"proxy's 410":          {410, "text/plain", "gone"},
		"proxy's 412":          {412, "text/plain", ""},
		"proxy's 500":          {500, "text/plain", "oops"},
		"proxy's 502":          {502, "text/html", "bad gateway"},
		"proxy's 504":          {504, "", ""},
		"partial problem":      {404, "application/problem+json", `{"type":"urn:sessiond:problem:session-not-fou`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = []string{a.media}
				w.WriteHeader(a.status)
				_, _ = w.Write([]byte(a.body)) // the client may have gone
			})
			for _, call := range calls {
				unsure(t, call.name, call.call(t, t.Context(), c), call.write)
			}
		})
	}
}

// TestCutBody: an answer that breaks off before its end is no answer.
func TestCutBody(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 404} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", map[int]string{200: "application/json", 404: "application/problem+json"}[status])
			w.Header().Set("Content-Length", "100000")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"type":"urn:sessiond:problem:session-not-found","active":false}`))
		})
		for _, call := range calls {
			unsure(t, call.name, call.call(t, t.Context(), c), call.write)
		}
	}
}

// TestRedirects are not followed: the credential stays where it belongs.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var followed atomic.Int32
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				followed.Add(1)
				return
			}
			http.Redirect(w, r, "/elsewhere", status)
		})
		for _, call := range calls {
			unsure(t, call.name, call.call(t, t.Context(), c), call.write)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestLostReply(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		panic(http.ErrAbortHandler) // the connection goes without an answer
	})
	for _, call := range calls {
		unsure(t, call.name, call.call(t, t.Context(), c), call.write)
	}
}

func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "http://"+addr)
	for _, call := range calls {
		only(t, call.name, call.call(t, t.Context(), c), sessiond.ErrUnavailable)
	}
}

// TestCancelled: a context that has ended sends nothing; one that ends while
// the answer is awaited leaves a write's outcome unknown.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, call := range calls {
		arrived := make(chan struct{}, 1)
		release := make(chan struct{})
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-release
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		err := call.call(t, ctx, c)
		close(release)
		if !errors.Is(err, context.Canceled) || errors.Is(err, sessiond.ErrUnknown) != call.write {
			t.Errorf("%s cancelled while waiting: %v", call.name, err)
		}
		err = call.call(t, ctx, c)
		if !errors.Is(err, context.Canceled) || errors.Is(err, sessiond.ErrUnknown) ||
			errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("%s cancelled before: %v", call.name, err)
		}
		select {
		case <-arrived:
			t.Errorf("%s was sent under a context that had ended", call.name)
		default:
		}
	}
}

// TestProblems: each problem is the sentinel that it stands for, on every call.
func TestProblems(t *testing.T) {
	t.Parallel()
	end := &sessiond.EndedError{Session: &sessiond.Session{Status: sessiond.StatusRevoked, EndReason: sessiond.EndLogout}}
	for _, tt := range []struct {
		problem *api.Problem
		want    error // nil: none of the sentinels
	}{
		{api.FromError(sessiond.ErrNotFound), sessiond.ErrNotFound},
		{api.FromError(sessiond.ErrExists), sessiond.ErrExists},
		{api.FromError(sessiond.ErrLimit), sessiond.ErrLimit},
		{api.FromError(sessiond.ErrVersion), sessiond.ErrVersion},
		{api.FromError(end), sessiond.ErrEnded},
		{api.FromError(&sessiond.InvalidError{}), sessiond.ErrInvalid},
		{api.FromError(sessiond.ErrUnknown), sessiond.ErrUnknown},
		{api.FromError(sessiond.ErrUnavailable), sessiond.ErrUnavailable},
		{api.NewProblem(api.CodeIssuerUnavailable, ""), sessiond.ErrUnavailable},
		{api.NewProblem(api.CodeOverloaded, ""), sessiond.ErrUnavailable},
		{api.NewProblem(api.CodeUnauthenticated, ""), client.ErrUnauthenticated},
		{api.NewProblem(api.CodeDenied, ""), client.ErrDenied},
		{api.NewProblem(api.CodeNotFound, ""), nil},
		{api.NewProblem(api.CodeMethodNotAllowed, ""), nil},
		{api.NewProblem(api.CodeBodyTooLarge, ""), nil},
		{api.NewProblem(api.CodeMediaType, ""), nil},
		{api.NewProblem(api.CodeInternal, ""), nil},
	} {
		body, err := api.Marshal(tt.problem)
		if err != nil {
			t.Fatal(err)
		}
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			if tt.problem.Status == http.StatusForbidden {
				w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
			}
			w.WriteHeader(tt.problem.Status)
			_, _ = w.Write(body)
		})
		for _, call := range calls {
			err := call.call(t, t.Context(), c)
			what := call.name + " answered with " + tt.problem.Type
			var answer *client.Error
			if !errors.As(err, &answer) || answer.Problem.Type != tt.problem.Type {
				t.Errorf("%s: %v", what, err)
			}
			if tt.want == nil {
				only(t, what, err, err) // only itself
			} else {
				only(t, what, err, tt.want)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, server := range []string{
		"", "sessiond:8080", "ftp://host", "http://",
		"http://host?q=1", "http://host#f", "http://a b",
	} {
		if _, err := client.New(client.Config{Server: server, Token: client.StaticToken("x")}); err == nil {
			t.Errorf("server %q is accepted", server)
		}
	}
	if _, err := client.New(client.Config{Server: "http://host"}); err == nil {
		t.Error("no credential is accepted")
	}
	c, err := client.New(client.Config{Server: "http://127.0.0.1:1", Token: func(context.Context) (string, error) {
		return "", errors.New("no credential today")
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		if err := call.call(t, t.Context(), c); err == nil || !strings.Contains(err.Error(), "no credential today") {
			t.Errorf("%s: %v", call.name, err)
		}
	}
}
