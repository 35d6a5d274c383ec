package apitest_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/internal/apitest"
)

// answer sends a row's answer over real HTTP.
func (r *row) answer(w http.ResponseWriter) {
	for k, v := range r.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, r.body)
}

func TestEventStreamIsNotHeld(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for k, v := range common {
			w.Header().Set(k, v)
		}
		_, _ = io.WriteString(w, "event: heartbeat\n")
		w.(http.Flusher).Flush()
		select { // the stream stays open until the client has read from it
		case <-done:
		case <-req.Context().Done():
		}
	}))
	defer server.Close()
	client := http.Client{Transport: apitest.New(t, server.Client().Transport)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer x.y.z")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || line != "event: heartbeat\n" {
		t.Errorf("first line %q, %v", line, err)
	}
	close(done)
}

func TestConcurrentUse(t *testing.T) {
	create, refused := good[0], bad[0]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			if b, err := io.ReadAll(req.Body); err != nil || string(b) != create.request {
				t.Errorf("server got %q, %v", b, err)
			}
			create.answer(w)
			return
		}
		refused.answer(w)
	}))
	defer server.Close()
	s := &spy{TB: t}
	client := http.Client{Transport: apitest.New(s, server.Client().Transport)}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			method, target, body := http.MethodPost, "/sessions/", io.Reader(strings.NewReader(create.request))
			if i%4 == 0 {
				method, target, body = http.MethodGet, "/sessions/a", nil
			} else if i%4 == 1 {
				body = io.MultiReader(body) // of unknown length
			}
			req, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", typeJSON)
			req.Header.Set("Authorization", "Bearer x.y.z")
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	if n := strings.Count(s.text(), "status is not documented"); n != 10 || len(s.errors) != 10 {
		t.Errorf("%d failures, %d about the status, want 10: %s", len(s.errors), n, s.text())
	}
}

func TestCutOffBodyReachesTheCaller(t *testing.T) {
	cut := errors.New("cut off")
	tr := apitest.New(t, roundTripper(func(*http.Request) (*http.Response, error) {
		body := io.MultiReader(strings.NewReader("{"), failing{cut})
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(body)}, nil
	}))
	resp, err := tr.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/sessions/a", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "{" || !errors.Is(err, cut) {
		t.Errorf("read %q, %v", b, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestNothingFailsAfterTheTest(t *testing.T) {
	var tr http.RoundTripper
	s := &spy{}
	t.Run("inner", func(t *testing.T) {
		s.TB = t
		tr = apitest.New(s, roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusTeapot, Header: http.Header{}, Body: http.NoBody}, nil
		}))
	})
	resp, err := tr.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if s.text() != "" {
		t.Error(s.text())
	}
}

func TestOperations(t *testing.T) {
	ops, err := apitest.Operations()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, o := range ops {
		got[o.ID] = o.Method + " " + o.Path + " " + strings.Join(o.Permissions, "|")
		if o.AnyMethod != (o.ID == "auth") {
			t.Errorf("%s: AnyMethod %v", o.ID, o.AnyMethod)
		}
	}
	want := map[string]string{
		"create":             "POST /sessions/ sessions:create",
		"list":               "GET /sessions/ sessions:read|sessions:inspect",
		"revoke_matching":    "DELETE /sessions/ sessions:delete",
		"get":                "GET /sessions/{id} sessions:read|sessions:inspect",
		"update":             "PUT /sessions/{id} sessions:update",
		"patch":              "PATCH /sessions/{id} sessions:update",
		"delete":             "DELETE /sessions/{id} sessions:delete",
		"touch":              "POST /sessions/{id}/touch sessions:update",
		"rotate":             "POST /sessions/{id}/rotate sessions:create|sessions:verify",
		"verify":             "POST /verify sessions:verify",
		"introspect":         "POST /introspect sessions:verify",
		"revoke":             "POST /revoke sessions:verify",
		"auth":               "GET /auth/{gateway} ",
		"events":             "GET /events sessions:read|sessions:inspect",
		"backchannel_logout": "POST /backchannel-logout ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}
