package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/internal/apitest"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Everything a credential can have, without another tenant.
const all = auth.Create | auth.Read | auth.Inspect | auth.Update | auth.Delete | auth.Verify | auth.Admin

// A verifier knows credentials by heart. In place of a credential it takes the words below.
type verifier struct {
	mu         sync.Mutex
	principals map[string]*auth.Principal
}

const (
	wordTenant = "no-tenant" // auth.ErrTenant
	wordDown   = "down"      // auth.ErrUnavailable
	wordBroken = "broken"    // an error that is none of package auth's
	wordPanic  = "panic"
)

func (v *verifier) Verify(_ context.Context, raw string) (*auth.Principal, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p := v.principals[raw]; p != nil {
		return p, nil
	}
	switch raw {
	case wordTenant:
		return nil, &auth.Error{Kind: auth.Tenant, Reason: auth.ReasonTenant}
	case wordDown:
		return nil, &auth.Error{Kind: auth.Unavailable, Reason: auth.ReasonKeysNotLoaded}
	case wordBroken:
		return nil, fmt.Errorf("secret text of %q", raw)
	case wordPanic:
		panic("a panic with a secret in it")
	}
	return nil, &auth.Error{Kind: auth.Invalid, Reason: auth.ReasonSignature}
}

// A service is a server over a memory store, on the network or in memory.
type service struct {
	t        testing.TB
	server   *server.Server
	store    *faultstore.Store
	manager  *sessiond.Manager
	verifier *verifier
	url      string
	client   *http.Client      // checks against the OpenAPI document
	plain    http.RoundTripper // does not
	log      *buffer
	dialer   func(ctx context.Context, network, address string) (net.Conn, error)

	mu  sync.Mutex
	ops []server.Operation
}

type options struct {
	config server.Config
	policy sessiond.Policy
	store  sessiond.Store
	http2  bool
	memory bool // listen in memory, as inside of a bubble of package synctest
}

// start starts a service. Every exchange with it is held to the OpenAPI document.
func start(t testing.TB, change ...func(*options)) *service {
	t.Helper()
	o := options{
		policy: sessiond.DefaultPolicy(),
		config: server.Config{Gateways: map[string]server.Gateway{
			"web":   {Tenant: "default", CookieName: "__Host-session"},
			"quiet": {Tenant: "default", CookieName: "sid", NoTouch: true},
			"other": {Tenant: "other"},
		}},
	}
	for _, f := range change {
		f(&o)
	}
	if o.store == nil {
		o.store = memstore.New(memstore.Options{})
	}
	s := &service{t: t, store: faultstore.New(o.store), log: &buffer{}}
	s.verifier = &verifier{principals: make(map[string]*auth.Principal)}
	var err error
	s.manager, err = sessiond.New(sessiond.Config{Store: s.store, Sealer: sessiond.NoSealing{}, Policy: o.policy})
	if err != nil {
		t.Fatal(err)
	}
	o.config.Manager, o.config.Verifier = s.manager, s.verifier
	o.config.Logger = slog.New(slog.NewJSONHandler(s.log, nil))
	if o.config.Observe == nil {
		o.config.Observe = func(op server.Operation) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ops = append(s.ops, op)
		}
	}
	if s.server, err = server.New(o.config); err != nil {
		t.Fatal(err)
	}
	h := server.NewHTTPServer(s.server, slog.New(slog.NewJSONHandler(s.log, nil)))
	transport := &http.Transport{}
	if o.http2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	if o.memory {
		l := newPipeListener()
		transport.DialContext, s.dialer = l.dial, l.dial
		s.url = "http://memory"
		go h.Serve(l) //nolint:errcheck // ends with ErrServerClosed
	} else {
		ts := httptest.NewUnstartedServer(nil)
		s.url = "http://" + ts.Listener.Addr().String()
		go h.Serve(ts.Listener) //nolint:errcheck // ends with ErrServerClosed
	}
	t.Cleanup(func() {
		s.server.Shutdown()
		transport.CloseIdleConnections()
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.plain = undocumented{transport}
	s.client = &http.Client{
		Transport:     apitest.New(t, s.plain),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// undocumented takes off the headers that tell browsers how to treat an answer that one of them shows. They are no
// part of the API and not in its document.
type undocumented struct{ base http.RoundTripper }

func (u undocumented) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := u.base.RoundTrip(req)
	if err == nil {
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
		} {
			if got := resp.Header.Get(name); got != want {
				return nil, fmt.Errorf("header %s is %q", name, got)
			}
			resp.Header.Del(name)
		}
		resp.Header.Del("Accept-Patch")
	}
	return resp, err
}

// credential makes a credential with these permissions, in tenant default.
func (s *service) credential(p auth.Permissions) string {
	return s.credentialIn("default", "tester", p)
}

func (s *service) credentialIn(tenant, subject string, p auth.Permissions) string {
	if p.Has(auth.Read) {
		p |= auth.Inspect | auth.Verify
	}
	return s.register(&auth.Principal{
		Issuer: "https://id.example", Subject: subject, Client: "tests", Tenant: tenant, Permissions: p,
	})
}

func (s *service) register(p *auth.Principal) string {
	s.verifier.mu.Lock()
	defer s.verifier.mu.Unlock()
	name := fmt.Sprintf("credential-%d", len(s.verifier.principals))
	s.verifier.principals[name] = p
	return name
}

// An answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
}

// do sends a request. header is names and values; a body that comes without Content-Type is JSON, or a merge patch.
func (s *service) do(method, target, credential, body string, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		if method == http.MethodPatch {
			req.Header.Set("Content-Type", "application/merge-patch+json")
		}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Del(header[i])
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			req.Header.Add(header[i], header[i+1])
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	return s.read(method+" "+target, resp)
}

func (s *service) form(target, credential, body string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, target, credential, body, "Content-Type", "application/x-www-form-urlencoded")
}

func (s *service) read(what string, resp *http.Response) answer {
	s.t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return answer{s.t, what, resp.StatusCode, resp.Header, string(b)}
}

// want checks status and, for refusals, the code.
func (a answer) want(status int, code string) answer {
	a.t.Helper()
	if a.status != status || code != "" && a.text("type") != "urn:sessiond:problem:"+code {
		a.t.Errorf("%s: got %d %s, want %d %s", a.what, a.status, a.body, status, code)
	}
	return a
}

// must is want for what the rest of a test depends on.
func (a answer) must(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: got %d %s, want %d", a.what, a.status, a.body, status)
	}
	return a
}

// json is the value of a member of the body, nil if there is none.
func (a answer) json(path ...string) any {
	a.t.Helper()
	var v any
	if a.body == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: body %q: %v", a.what, a.body, err)
	}
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (a answer) text(path ...string) string {
	a.t.Helper()
	s, _ := a.json(path...).(string)
	return s
}

// create creates a session with this body.
func (s *service) create(body string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, "/sessions/", s.credential(all), body).must(http.StatusCreated)
}

// lastOp is the operation observed last for a request of op, after waiting for it.
func (s *service) lastOp(op string) server.Operation {
	s.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		for i := len(s.ops) - 1; i >= 0; i-- {
			if s.ops[i].Op == op {
				defer s.mu.Unlock()
				return s.ops[i]
			}
		}
		s.mu.Unlock()
	}
	s.t.Fatalf("no operation %q was observed", op)
	return server.Operation{}
}

// A buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A pipeListener hands out in-memory connections, whose deadlines follow the clock of package synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, srv := net.Pipe()
	select {
	case l.conns <- srv:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }
