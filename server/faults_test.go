package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/server"
)

func TestStoreFailures(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	token := s.create(`{"id":"x","subject":"anna"}`).text("token")
	refused, lost := faultstore.Refused, faultstore.ReplyLost
	tests := []struct {
		op                   faultstore.Op
		fault                faultstore.Fault
		method, target, body string
		applied              string
	}{
		{faultstore.Get, refused, "GET", "/sessions/x", "", ""},
		{faultstore.List, refused, "GET", "/sessions/", "", ""},
		{faultstore.Get, refused, "POST", "/verify", `{"token":"` + token + `"}`, ""},
		{faultstore.Get, refused, "POST", "/introspect", "token=" + token, ""},
		{faultstore.Create, refused, "POST", "/sessions/", "{}", "no"},
		{faultstore.Create, lost, "POST", "/sessions/", "{}", "unknown"},
		{faultstore.Update, refused, "PUT", "/sessions/x", `{"data":{"a":1}}`, "no"},
		{faultstore.Update, lost, "PUT", "/sessions/x", `{"data":{"a":1}}`, "unknown"},
		{faultstore.Update, refused, "PATCH", "/sessions/x", `{"data":{"a":2}}`, "no"},
		{faultstore.Update, lost, "PATCH", "/sessions/x", `{"data":{"a":2}}`, "unknown"},
		{faultstore.Touch, refused, "POST", "/sessions/x/touch", "", "no"},
		{faultstore.Touch, lost, "POST", "/sessions/x/touch", "", "unknown"},
		{faultstore.List, refused, "DELETE", "/sessions/?subject=anna&dry_run=true", "", "no"},
		{faultstore.List, refused, "DELETE", "/sessions/?subject=anna", "", "unknown"},
		{faultstore.Update, refused, "DELETE", "/sessions/?subject=anna", "", "unknown"},
		{faultstore.Update, refused, "POST", "/sessions/x/rotate", "", "no"},
		{faultstore.Update, refused, "POST", "/revoke", "token=" + token, "no"},
		{faultstore.Update, lost, "POST", "/sessions/x/rotate", "", "unknown"},
		{faultstore.Update, refused, "DELETE", "/sessions/x", "", "no"},
		{faultstore.Update, lost, "DELETE", "/sessions/x", "", "unknown"},
		{faultstore.Erase, refused, "DELETE", "/sessions/x?erase=true", "", "no"},
		{faultstore.Erase, lost, "DELETE", "/sessions/x?erase=true", "", "unknown"},
	}
	for _, tt := range tests {
		s.store.FailNext(tt.op, tt.fault)
		var header []string
		form := strings.HasPrefix(tt.body, "token=")
		if form {
			header = []string{"Content-Type", "application/x-www-form-urlencoded"}
		}
		a := s.do(tt.method, tt.target, cred, tt.body, header...).want(503, "store-unavailable")
		if got := a.text("applied"); got != tt.applied {
			t.Errorf("%s: applied %q, want %q", a.what, got, tt.applied)
		}
		if retry := a.header.Get("Retry-After"); len(retry) != 1 || retry < "1" || retry > "3" {
			t.Errorf("%s: Retry-After %q", a.what, retry)
		}
		if form && a.text("error") != "temporarily_unavailable" {
			t.Errorf("%s: %s", a.what, a.body)
		}
		if strings.Contains(a.body, "injected") {
			t.Errorf("%s tells internal text: %s", a.what, a.body)
		}
		s.store.Heal()
	}
	if log := s.log.String(); !strings.Contains(log, "injected before get") || strings.Contains(log, token) {
		t.Errorf("log: %s", log)
	}
}

// A hostileStore panics, or fails in a way that no store should.
type hostileStore struct {
	sessiond.Store
	panicWith any
	err       error
}

func (h *hostileStore) Get(context.Context, sessiond.Key) (sessiond.Result, error) {
	if h.panicWith != nil {
		panic(h.panicWith)
	}
	return sessiond.Result{}, h.err
}

type secretError struct{ secret string }

func (e *secretError) Error() string { return "text of " + e.secret }

func TestPanics(t *testing.T) {
	t.Parallel()
	store := &hostileStore{Store: memstore.New(memstore.Options{})}
	s := start(t, func(o *options) { o.store = store })
	cred := s.credential(all)
	var empty []int
	index := func() (p any) {
		defer func() { p = recover() }()
		return empty[len(empty)]
	}
	for _, p := range []any{"sst_secret", &secretError{"sst_secret"}, index(), 17} {
		store.panicWith = p
		a := s.do("GET", "/sessions/x", cred, "", "X-Request-Id", "panicked").want(500, "internal")
		if strings.Contains(a.body, "secret") {
			t.Errorf("body: %s", a.body)
		}
	}
	log := s.log.String()
	if strings.Contains(log, "sst_secret") || !strings.Contains(log, `"request_id":"panicked"`) ||
		!strings.Contains(log, "index out of range") || !strings.Contains(log, "hostileStore") {
		t.Errorf("log: %s", log)
	}
	if op := s.lastOp("get"); op.Status != 500 {
		t.Errorf("operation: %+v", op)
	}
	if op := s.lastOp("get"); op.SessionID != "x" {
		t.Errorf("operation: %+v", op)
	}
	s.do("GET", "/sessions/x", wordPanic, "").want(500, "internal")
	s.do("GET", "/sessions/", cred, "").must(200)

	store.panicWith, store.err = nil, sessiond.ErrSealed
	s.do("GET", "/sessions/x", cred, "").want(500, "internal")
	if !strings.Contains(s.log.String(), sessiond.ErrSealed.Error()) {
		t.Errorf("log: %s", s.log)
	}
	store.err = context.DeadlineExceeded
	s.do("GET", "/sessions/x", cred, "").want(503, "store-unavailable")
	s.form("/introspect", cred, "token="+s.create("{}").text("token")).want(503, "store-unavailable")
	store.err = sessiond.ErrMalformed // of a read: a bug of the store
	s.do("GET", "/sessions/x", cred, "").want(400, "malformed-request")
}

// A panic after the answer has begun must not look like its end.
func TestPanicUnderAStream(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *options) {
		o.config.StreamClosed = func() { panic("late") }
	})
	st := s.stream("/events", s.credential(all))
	st.want("heartbeat")
	s.server.Shutdown()
	for {
		if _, ok := st.next(); !ok {
			break
		}
	}
	if st.lines.Err() == nil {
		t.Error("the stream ended as if nothing were wrong")
	}
}

func TestClientThatGoesAway(t *testing.T) {
	t.Parallel()
	s := start(t)
	held := s.store.Hold(faultstore.Get)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/sessions/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.credential(all))
	done := make(chan error)
	go func() {
		resp, err := s.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	<-held.Arrived()
	cancel()
	if err := <-done; err == nil {
		t.Error("an answer came")
	}
	if op := s.lastOp("get"); op.Status != 503 {
		t.Errorf("operation: %+v", op)
	}
	if log := s.log.String(); log != "" {
		t.Errorf("the log complains of a client that went: %s", log)
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	s.do("POST", "/sessions/", cred, `{"id":"op","data":{"s":"private"}}`, "X-Request-Id", "r1",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").must(201)
	op := s.lastOp("create")
	if op.Duration <= 0 || op.Duration > time.Minute {
		t.Errorf("duration %v", op.Duration)
	}
	op.Duration = 0
	want := server.Operation{
		Op: "create", Route: "/sessions", Method: "POST", Status: 201, SessionID: "op", Tenant: "default",
		Principal: "tester",
		RequestID: "r1", TraceID: "0af7651916cd43dd8448eb211c80319c",
	}
	if op != want {
		t.Errorf("got  %+v\nwant %+v", op, want)
	}
	failure := func(op, want string) {
		t.Helper()
		if got := s.lastOp(op).AuthFailure; got != want {
			t.Errorf("%s: auth failure %q, want %q", op, got, want)
		}
	}
	s.do("GET", "/sessions/op", "", "")
	failure("get", server.AuthMissing)
	s.do("PUT", "/sessions/op", "bad", "{}")
	failure("update", auth.ReasonSignature)
	s.do("PATCH", "/sessions/op", wordDown, "{}")
	failure("patch", auth.ReasonKeysNotLoaded)
	s.do("DELETE", "/sessions/op", s.credential(auth.Read), "")
	failure("delete", server.AuthScope)
	if op := s.lastOp("delete"); op.SessionID != "op" {
		t.Errorf("a refused delete does not tell of which session: %+v", op)
	}
	s.do("GET", "/sessions/", cred, "", "Sessiond-Tenant", "x")
	failure("list", server.AuthTenant)
	s.do("POST", "/sessions/op/touch", "", "", "Authorization", "Bearer a", "Authorization", "Bearer b")
	failure("touch", server.AuthMultiple)
	s.do("GET", "/nowhere/sst_x", cred, "")
	if op := s.lastOp(""); op.Status != 404 || op.Route != "" {
		t.Errorf("operation: %+v", op)
	}
	s.do("GET", "/sessions/sst_secret", cred, "")
	if op := s.lastOp("get"); op.SessionID != "" || op.Status != 404 {
		t.Errorf("operation: %+v", op)
	}
	for _, trace := range []string{
		"", "x", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
	} {
		s.do("POST", "/verify", cred, `{"token":"x"}`, "Traceparent", trace).must(200)
		if op := s.lastOp("verify"); op.TraceID != "" {
			t.Errorf("%q gave the trace %q", trace, op.TraceID)
		}
	}
	if log := s.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}
