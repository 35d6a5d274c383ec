package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/server"
	"sessiond.example/sessiond/telemetry"
)

// A tracedService is a server over a store in memory, with all seams of tracing.
type tracedService struct {
	t       *testing.T
	tracer  *telemetry.Tracer
	handler http.Handler
	manager *sessiond.Manager
	store   *failingStore
	ops     []server.Operation
}

// A failingStore fails while down is set.
type failingStore struct {
	sessiond.Store
	down error
}

func (s *failingStore) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	if s.down != nil {
		return sessiond.Result{}, s.down
	}
	return s.Store.Get(ctx, k)
}

// words judges credentials.
type words struct {
	step func(context.Context, string) (context.Context, func(error))
}

func (v words) Verify(ctx context.Context, raw string) (p *auth.Principal, err error) {
	_, done := v.step(ctx, "verify")
	defer func() { done(err) }()
	switch raw {
	case "good-" + canary:
		return &auth.Principal{
			Issuer: "https://id.example", Subject: canary, Tenant: "default",
			Permissions: auth.Create | auth.Read | auth.Update | auth.Delete | auth.Verify,
		}, nil
	case "later":
		return nil, &auth.Error{Kind: auth.Unavailable, Reason: auth.ReasonKeysStale}
	default:
		return nil, &auth.Error{Kind: auth.Invalid, Reason: auth.ReasonSignature}
	}
}

const canary = "c4n4ry"

func newTraced(t *testing.T, endpoint string, logger *slog.Logger) *tracedService {
	t.Helper()
	tracer, err := telemetry.NewTracer(t.Context(), telemetry.TracerOptions{
		Endpoint: endpoint, Version: "1.2.3", Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &tracedService{t: t, tracer: tracer, store: &failingStore{Store: memstore.New(memstore.Options{})}}
	s.manager, err = sessiond.New(sessiond.Config{
		Store: tracer.Store(s.store), Sealer: sessiond.NoSealing{}, Trace: tracer.Steps("manager"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.handler, err = server.New(server.Config{
		Manager: s.manager, Verifier: words{tracer.Steps("auth")},
		Gateways: map[string]server.Gateway{"web": {Tenant: "default"}},
		Trace: func(r *http.Request) (context.Context, string, func(server.Operation)) {
			ctx, id, end := tracer.Request(r)
			return ctx, id, func(op server.Operation) { end(telemetry.Operation(op)) }
		},
		Observe: func(op server.Operation) { s.ops = append(s.ops, op) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// do sends a request and returns the answer's body.
func (s *tracedService) do(status int, method, path, credential, body string, headers ...string) string {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+credential)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != status {
		s.t.Fatalf("%s %s: status %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	return w.Body.String()
}

func (s *tracedService) shutdown() {
	s.t.Helper()
	if err := s.tracer.Shutdown(s.t.Context()); err != nil {
		s.t.Errorf("shutdown: %v", err)
	}
}

func TestTraces(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := newTraced(t, c.URL, nil)
	good := "good-" + canary

	made := s.do(201, "POST", "/sessions", good, `{"id":"`+canary+`","subject":"`+canary+`","data":{"a":"`+canary+`"}}`)
	_, token, _ := strings.Cut(made, `"token":"`)
	token, _, _ = strings.Cut(token, `"`)
	s.do(200, "POST", "/verify", good, `{"token":"`+token+`"}`)
	s.do(200, "GET", "/auth/web/"+canary, token, "")
	s.do(404, "GET", "/sessions/other-"+canary, good, "")
	s.do(412, "PUT", "/sessions/"+canary, good, `{"labels":{}}`, `If-Match: "other"`)
	s.do(204, "DELETE", "/sessions/"+canary, good, "")
	s.do(204, "DELETE", "/sessions/"+canary, good, "")
	s.do(200, "GET", "/sessions?subject="+canary, good, "")
	s.do(401, "GET", "/sessions", canary, "")
	s.do(503, "GET", "/sessions", "later", "")
	s.do(404, "GET", "/"+canary, good, "")
	s.do(405, canary, "/sessions", good, "")
	s.store.down = fmt.Errorf("%w: password %s", sessiond.ErrUnavailable, canary)
	s.do(503, "GET", "/sessions/"+canary, good, "")
	s.store.down = errors.New("new kind of " + canary)
	s.do(500, "GET", "/sessions/"+canary, good, "")
	s.shutdown()

	want := []string{
		"POST /sessions{http.response.status_code=201 sessiond.operation=create}[auth verify manager create[store create]]",
		"POST /verify{http.response.status_code=200 sessiond.operation=verify}[auth verify manager verify[store get]]",
		"GET /auth/{gateway}{http.response.status_code=200 sessiond.operation=auth}[manager verify[store get]]",
		"GET /sessions/{id}{http.response.status_code=404 sessiond.operation=get}" +
			"[auth verify manager get{error.type=not_found}[store get{error.type=not_found}]]",
		"PUT /sessions/{id}{http.response.status_code=412 sessiond.operation=update}" +
			"[auth verify manager update{error.type=version}[store update]]",
		"DELETE /sessions/{id}{http.response.status_code=204 sessiond.operation=delete}" +
			"[auth verify manager revoke[store update]]",
		"DELETE /sessions/{id}{http.response.status_code=204 sessiond.operation=delete}" +
			"[auth verify manager revoke[store update{error.type=ended}]]",
		"GET /sessions{http.response.status_code=200 sessiond.operation=list}[auth verify manager list[store list]]",
		"GET /sessions{http.response.status_code=401 sessiond.auth_failure=signature sessiond.operation=list}" +
			"[auth verify{error.type=signature}]",
		"GET /sessions{ERROR error.type=503 http.response.status_code=503 sessiond.auth_failure=keys_stale " +
			"sessiond.operation=list}[auth verify{ERROR keys_stale error.type=keys_stale}]",
		"GET{http.response.status_code=404}[auth verify]",
		"HTTP /sessions{http.response.status_code=405}[auth verify]",
		"GET /sessions/{id}{ERROR error.type=503 http.response.status_code=503 sessiond.operation=get}[auth verify " +
			"manager get{ERROR unavailable error.type=unavailable}[store get{ERROR unavailable error.type=unavailable}]]",
		"GET /sessions/{id}{ERROR error.type=500 http.response.status_code=500 sessiond.operation=get}[auth verify " +
			"manager get{ERROR _other error.type=_other}[store get{ERROR _other error.type=_other}]]",
	}
	if diff := cmp.Diff(want, c.trees()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, secret := range []string{canary, token, "Bearer"} {
		if strings.Contains(c.raw.String(), secret) {
			t.Errorf("spans hold %q", secret)
		}
	}
	if c.resource["service.name"] != "sessiond" || c.resource["service.version"] != "1.2.3" {
		t.Errorf("resource %v", c.resource)
	}
	get := c.spans[slices.IndexFunc(c.spans, func(s *otlp.Span) bool { return s.Name == "GET /sessions/{id}" })]
	wantAttributes := map[string]string{
		"http.request.method": "GET", "http.route": "/sessions/{id}", "http.response.status_code": "404",
		"url.scheme": "http", "sessiond.operation": "get",
	}
	if diff := cmp.Diff(wantAttributes, attributes(get.Attributes)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

const (
	givenTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	givenParent = "00f067aa0ba902b7"
)

func TestTraceContext(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := newTraced(t, c.URL+"/", nil)
	good := "good-" + canary
	given := "Traceparent: 00-" + givenTrace + "-" + givenParent + "-01"
	s.do(404, "GET", "/sessions/a", good, "", given, "Tracestate: vendor=x,other=y")
	s.do(404, "GET", "/sessions/b", good, "", "Traceparent: 00-"+givenTrace+"-"+givenParent+"-00") // not sampled
	s.do(404, "GET", "/sessions/c", good, "")
	s.do(404, "GET", "/sessions/d", good, "", "Traceparent: 00-"+strings.Repeat("0", 32)+"-"+givenParent+"-01")
	s.do(404, "GET", "/sessions/e", good, "", given, given)
	s.shutdown()

	var requests []*otlp.Span
	for _, span := range c.spans {
		if state := span.TraceState; state != "" && state != "vendor=x,other=y" {
			t.Errorf("span %s has tracestate %q", span.Name, state)
		}
		if span.Kind == otlp.Span_SPAN_KIND_SERVER {
			requests = append(requests, span)
		}
	}
	if len(requests) != 4 {
		t.Fatalf("%d requests traced, want all but the one that was not sampled", len(requests))
	}
	if first := requests[0]; fmt.Sprintf("%x %x", first.TraceId, first.ParentSpanId) != givenTrace+" "+givenParent ||
		first.TraceState != "vendor=x,other=y" {
		t.Errorf("trace %x, parent %x, state %q", first.TraceId, first.ParentSpanId, first.TraceState)
	}
	ids := []string{givenTrace, givenTrace}
	for _, span := range requests[1:] {
		if len(span.ParentSpanId) != 0 {
			t.Errorf("a request without valid context has the parent %x", span.ParentSpanId)
		}
		ids = append(ids, fmt.Sprintf("%x", span.TraceId))
	}
	var logged []string
	for _, op := range s.ops {
		logged = append(logged, op.TraceID)
	}
	if diff := cmp.Diff(ids, logged); diff != "" {
		t.Errorf("ids in the log (-traced +logged):\n%s", diff)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 4 {
		t.Errorf("trace ids %q, want four different ones", ids)
	}
}

// What belongs to no request has no spans.
func TestBackgroundIsNotTraced(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := newTraced(t, c.URL, nil)
	session, _, err := s.manager.Create(t.Context(), sessiond.CreateParams{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.manager.Revoke(t.Context(), session.ID, sessiond.RevokeParams{Erase: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.manager.Touch(t.Context(), session.ID); !errors.Is(err, sessiond.ErrNotFound) {
		t.Fatal(err)
	}
	s.shutdown()
	if len(c.spans) > 0 {
		t.Errorf("%d spans", len(c.spans))
	}
}

// lines counts what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A collector that refuses everything costs one line a minute and no request.
func TestCollectorRefuses(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, strings.Repeat("no ", 1000), http.StatusForbidden)
	}))
	defer refusing.Close()
	log := new(lines)
	s := newTraced(t, refusing.URL, slog.New(slog.NewTextHandler(log, nil)))
	for range 1000 { // more than one batch
		s.do(404, "GET", "/sessions/a", "good-"+canary, "")
	}
	s.shutdown()
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "spans were not exported") ||
		len(log.String()) > 600 {
		t.Errorf("%d lines logged, want one short one:\n%s", n, log)
	}
}

// A collector that hangs holds up neither requests nor, for long, the end.
func TestCollectorHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	log := new(lines)
	s := newTraced(t, hanging.URL, slog.New(slog.NewTextHandler(log, nil)))
	start := time.Now()
	for range 3000 { // more than the queue holds
		s.do(404, "GET", "/sessions/a", "good-"+canary, "")
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("requests took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // instead of waiting 5s
	defer cancel()
	if err := s.tracer.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v, want the deadline", err)
	}
	for !strings.Contains(log.String(), "spans were not exported") { // the export under way is aborted
		if time.Since(start) > 10*time.Second {
			t.Fatal("the export goes on after the shutdown")
		}
		time.Sleep(time.Millisecond)
	}
	s.do(404, "GET", "/sessions/a", "good-"+canary, "") // spans are dropped
}

func TestTracerRefusesEndpoints(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"", "localhost:4318", "grpc://a:4317", "http://", "http://u:p@a", "http://a\x00"} {
		_, err := telemetry.NewTracer(t.Context(), telemetry.TracerOptions{Endpoint: endpoint})
		if err == nil || !strings.Contains(err.Error(), "http or https URL") || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// Without tracing the seam of the manager costs no allocation; a request that is
// not sampled costs next to none in the store.
func TestTracingAllocations(t *testing.T) { // not parallel, as AllocsPerRun wants it
	store := memstore.New(memstore.Options{})
	manager := func(trace func(context.Context, string) (context.Context, func(error))) *sessiond.Manager {
		m, err := sessiond.New(sessiond.Config{Store: store, Sealer: sessiond.NoSealing{}, Trace: trace})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	plain := manager(nil)
	s, token, err := plain.Create(t.Context(), sessiond.CreateParams{})
	if err != nil {
		t.Fatal(err)
	}
	key := sessiond.Key{Tenant: s.Tenant, ID: s.ID}
	ctx := t.Context()
	allocs := func(f func() error) float64 {
		return testing.AllocsPerRun(1000, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
	}
	unknown := func() error { // allocates nothing of its own
		_, err := plain.Get(ctx, "unknown")
		if errors.Is(err, sessiond.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("got %w", err)
	}
	direct := func() error {
		_, err := store.Get(ctx, sessiond.Key{Tenant: "default", ID: "unknown"})
		if errors.Is(err, sessiond.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("got %w", err)
	}
	if got, want := allocs(unknown), allocs(direct); got > want {
		t.Errorf("Manager.Get without tracing: %v allocations, the store alone %v", got, want)
	}
	verify := func(m *sessiond.Manager) func() error {
		return func() error { _, err := m.Verify(ctx, token, sessiond.VerifyParams{}); return err }
	}
	noop := manager(func(ctx context.Context, _ string) (context.Context, func(error)) { return ctx, func(error) {} })
	if got, want := allocs(verify(noop)), allocs(verify(plain)); got != want {
		t.Errorf("Manager.Verify with a seam that does nothing: %v allocations, without %v", got, want)
	}

	c := newCollector(t)
	tracer, err := telemetry.NewTracer(ctx, telemetry.TracerOptions{Endpoint: c.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Shutdown(ctx)
	get := func(s sessiond.Store) func() error {
		return func() error { _, err := s.Get(ctx, key); return err }
	}
	if got, want := allocs(get(tracer.Store(store))), allocs(get(store)); got > want {
		t.Errorf("Store.Get outside of a trace: %v allocations, want %v", got, want)
	}
}
