package server_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/server"
)

// Which class of requests a route belongs to decides what is refused first.
func TestClasses(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"delete": "revoke", "revoke": "revoke", "revoke_matching": "revoke_many", "backchannel_logout": "revoke_many",
		"get": "check", "verify": "check", "introspect": "check", "auth": "check",
		"create": "write", "update": "write", "patch": "write", "touch": "write", "rotate": "write",
		"list": "list", "events": "",
	}
	for _, r := range server.Routes() {
		if class, ok := want[r.Op]; !ok || r.Class != class {
			t.Errorf("%s is of class %q, want %q", r.Op, r.Class, class)
		}
	}
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a request was read before it was admitted")
	return 0, errors.New("not to be read")
}

func (unread) Close() error { return nil }

// full starts a service that has room for 64 requests, and fills the room of one class with requests that hang in the
// store until release is called.
func full(t *testing.T, op faultstore.Op, n int, method, target, body string) (s *service, cred string, release func()) {
	t.Helper()
	s = start(t, func(o *options) { o.config.MaxInFlight = 64 })
	cred = s.credential(all)
	s.create(`{"id":"x","subject":"anna"}`)
	var wg sync.WaitGroup
	held := make([]*faultstore.Held, n)
	for i := range held {
		held[i] = s.store.Hold(op)
		wg.Go(func() { s.do(method, target, cred, body) })
		<-held[i].Arrived()
	}
	return s, cred, func() {
		for _, h := range held {
			h.Release()
		}
		wg.Wait()
	}
}

func TestOverload(t *testing.T) {
	t.Parallel()
	s, cred, release := full(t, faultstore.Create, 48, "POST", "/sessions/", `{}`)
	defer release()

	for _, target := range []struct{ method, path string }{{"POST", "/sessions/"}, {"PUT", "/sessions/x"}, {"POST", "/sessions/x/rotate"}} {
		req := httptest.NewRequestWithContext(t.Context(), target.method, target.path, unread{t})
		req.ContentLength = 10
		req.Header.Set("Authorization", "Bearer "+cred)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, req)
		a := answer{t, target.path, w.Code, w.Header(), w.Body.String()}
		a.want(503, "overloaded")
		if a.text("applied") != "no" || a.text("request_id") == "" {
			t.Errorf("%s: %s", target.path, a.body)
		}
		if retry := a.header.Get("Retry-After"); len(retry) != 1 || retry < "1" || retry > "3" {
			t.Errorf("%s: Retry-After %q", target.path, retry)
		}
		if a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", target.path, a.header)
		}
	}
	if op := s.lastOp("rotate"); op.Status != 503 || op.SessionID != "x" {
		t.Errorf("operation: %+v", op)
	}
	// The same through the network, held to the document.
	s.do("PATCH", "/sessions/x", cred, `{"data":{"a":1}}`).want(503, "overloaded")

	// Lists stand below writes, checks and revocations above them.
	s.do("GET", "/sessions/", cred, "").want(503, "overloaded")
	s.do("HEAD", "/sessions/", cred, "").must(503)
	s.do("GET", "/sessions/x", cred, "").must(200)
	s.do("DELETE", "/sessions/x", cred, "").must(204)
	// What is wrong with a request is said all the same.
	s.do("POST", "/sessions/", "unknown", `{}`).want(401, "unauthenticated")
	s.do("GET", "/sessions/x/touch", cred, "").want(405, "method-not-allowed")

	var refused uint64
	for _, c := range s.server.Admissions() {
		switch {
		case c.Class == "write" && (c.InFlight != 48 || c.Refused != 4), c.Class == "check" && c.Refused != 0:
			t.Errorf("%+v", c)
		}
		refused += c.Refused
	}
	if refused != 6 {
		t.Errorf("%d were refused, want 6", refused)
	}
	release()
	s.do("POST", "/sessions/", cred, `{}`).must(201)
	s.do("GET", "/sessions/", cred, "").must(200)
}

func TestOverloadOfChecks(t *testing.T) {
	t.Parallel()
	s, cred, release := full(t, faultstore.Get, 56, "GET", "/sessions/x", "")
	defer release()
	a := s.do("GET", "/sessions/x", cred, "").want(503, "overloaded")
	if a.json("applied") != nil {
		t.Errorf("%s", a.body)
	}
	if a := s.do("HEAD", "/sessions/x", cred, "").must(503); a.body != "" || a.header.Get("Retry-After") == "" {
		t.Errorf("%q %v", a.body, a.header)
	}
	a = s.form("/introspect", cred, "token=x").want(503, "overloaded")
	if a.text("error") != "temporarily_unavailable" {
		t.Error(a.body)
	}
	s.do("GET", "/auth/web", "", "", "Authorization", "Bearer sst_x").want(503, "overloaded")
	s.do("POST", "/sessions/", cred, `{}`).want(503, "overloaded")
	s.do("DELETE", "/sessions/x", cred, "").must(204)
	s.do("DELETE", "/sessions/?subject=anna", cred, "").must(200)
	s.do("GET", "/nothing", cred, "").want(404, "not-found")
}

// A client that goes away while it waits is not refused.
func TestClientThatDoesNotWait(t *testing.T) {
	t.Parallel()
	s, cred, release := full(t, faultstore.Get, 56, "GET", "/sessions/x", "")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", "/sessions/x", nil)
	req.Header.Set("Authorization", "Bearer "+cred)
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, req)
	answer{t, "GET", w.Code, w.Header(), w.Body.String()}.want(503, "store-unavailable")
	for _, c := range s.server.Admissions() {
		if c.Refused != 0 {
			t.Errorf("%+v", c)
		}
	}
}

// A place is given back also by a handler that panics.
func TestPanicGivesThePlaceBack(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *options) {
		o.config.MaxInFlight = 64
		o.store = &hostileStore{panicWith: "gone"}
	})
	cred := s.credential(all)
	for range 100 {
		s.do("GET", "/sessions/x", cred, "").want(500, "internal")
	}
	for _, c := range s.server.Admissions() {
		if c.InFlight != 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	hook := server.CloseBeyond(2)
	conns := make([]net.Conn, 4)
	for i := range conns {
		conns[i], _ = net.Pipe()
		hook(conns[i], http.StateNew)
	}
	closed := func(c net.Conn) bool { return c.SetDeadline(time.Time{}) != nil }
	for i, c := range conns {
		if closed(c) != (i >= 2) {
			t.Errorf("connection %d: closed is %t", i, closed(c))
		}
	}
	for _, c := range conns[1:] {
		hook(c, http.StateClosed)
	}
	next, _ := net.Pipe()
	hook(next, http.StateNew)
	if closed(next) {
		t.Error("a connection was closed although others had gone")
	}
}

// The wait for a place is short, also when the store hangs for good, and everything is as before when it comes back.
func TestStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(o *options) { o.memory, o.config.MaxInFlight = true, 64 })
		cred := s.credential(all)
		s.create(`{"id":"x","subject":"anna"}`)
		held := make([]*faultstore.Held, 56)
		for i := range held {
			held[i] = s.store.Hold(faultstore.Get)
		}
		statuses := make(chan int, 500)
		for range cap(statuses) {
			go func() {
				req := httptest.NewRequestWithContext(context.Background(), "GET", "/sessions/x", nil)
				req.Header.Set("Authorization", "Bearer "+cred)
				w := httptest.NewRecorder()
				s.server.ServeHTTP(w, req)
				statuses <- w.Code
			}()
		}
		time.Sleep(time.Second)
		if n := len(statuses); n != cap(statuses)-56 {
			t.Errorf("%d were refused within a second, want all but 56", n)
		}
		for _, h := range held {
			h.Release()
		}
		synctest.Wait()
		n := 0
		for len(statuses) > 0 {
			if <-statuses == 200 {
				n++
			}
		}
		if n != 56 {
			t.Errorf("%d were served in the end, want 56", n)
		}
		s.do("GET", "/sessions/x", cred, "").must(200)
	})
}
