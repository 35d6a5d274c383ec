package server_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/pebblestore"
	"sessiond.example/sessiond/server"
	"sessiond.example/sessiond/telemetry"
)

// A wired service is put together as the program does it: sealed data, metrics, a log line for every request. Requests
// are handed to the handler without the network.
type wired struct {
	server  *server.Server
	manager *sessiond.Manager
}

// knownVerifier accepts everybody as one principal.
type knownVerifier struct{ principal *auth.Principal }

func (v knownVerifier) Verify(context.Context, string) (*auth.Principal, error) {
	return v.principal, nil
}

func newWired(tb testing.TB, store sessiond.Store) *wired {
	tb.Helper()
	keys, err := keyset.Create()
	if err != nil {
		tb.Fatal(err)
	}
	metrics := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.MetricsOptions{})
	log := telemetry.NewLog(io.Discard, nil)
	manager, err := sessiond.New(sessiond.Config{Store: metrics.Store(store), Sealer: metrics.Sealer(keys)})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := server.New(server.Config{
		Manager: manager,
		Verifier: knownVerifier{&auth.Principal{
			Issuer: "https://id.example", Subject: "system:serviceaccount:shop:cart", Client: "shop", Tenant: "default",
			Permissions: auth.Create | auth.Read | auth.Inspect | auth.Verify,
		}},
		Observe: func(op server.Operation) {
			metrics.Observe(telemetry.Operation(op))
			log.Operation(telemetry.Operation(op))
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &wired{server: s, manager: manager}
}

// usual is a session as many are.
const usual = `{"subject":"user-4711","data":{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB",` +
	`"csrf":"6f1c9f2e5b7d4a3c8e0f1a2b3c4d5e6f"},"labels":{"device":"phone","client":"web"}}`

func (s *wired) create(tb testing.TB) (*sessiond.Session, sessiond.Token) {
	tb.Helper()
	session, token, err := s.manager.Create(tb.Context(), sessiond.CreateParams{
		Subject: "user-4711", Labels: map[string]string{"device": "phone", "client": "web"},
		Data: []byte(`{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB"}`),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return session, token
}

// A discard is a ResponseWriter that keeps nothing but the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// A replay is a body that can be read again.
type replay struct{ bytes.Reader }

func (*replay) Close() error { return nil }

// repeat makes one request that can be served over and over.
func (s *wired) repeat(tb testing.TB, method, path, body string, want int) func() {
	tb.Helper()
	req, err := http.NewRequest(method, "http://x"+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer something")
	in := &replay{}
	req.Body = in
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		req.ContentLength = int64(len(body))
	}
	w := &discard{header: make(http.Header)}
	text := []byte(body)
	return func() {
		clear(w.header)
		in.Reset(text)
		s.server.ServeHTTP(w, req)
		if w.status != want {
			tb.Fatalf("%s %s: %d", method, path, w.status)
		}
	}
}

// The handlers alone, over the memory store and over Pebble.

func BenchmarkGet(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, s *wired) func() {
		session, _ := s.create(b)
		return s.repeat(b, http.MethodGet, "/sessions/"+string(session.ID), "", http.StatusOK)
	})
}

func BenchmarkVerify(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, s *wired) func() {
		_, token := s.create(b)
		return s.repeat(b, http.MethodPost, "/verify", `{"token":"`+string(token)+`"}`, http.StatusOK)
	})
}

// BenchmarkCreate is most of all the store: sessions pile up in one, and the other syncs its log for each.
func BenchmarkCreate(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, s *wired) func() {
		return s.repeat(b, http.MethodPost, "/sessions/", usual, http.StatusCreated)
	})
}

func benchmarkStores(b *testing.B, prepare func(*testing.B, *wired) func()) {
	run := func(b *testing.B, store sessiond.Store) {
		serve := prepare(b, newWired(b, store))
		b.ReportAllocs()
		for b.Loop() {
			serve()
		}
	}
	b.Run("memory", func(b *testing.B) { run(b, memstore.New(memstore.Options{})) })
	b.Run("pebble", func(b *testing.B) {
		store, err := pebblestore.Open(b.Context(), filepath.Join(b.TempDir(), "data"), nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := store.Close(); err != nil {
				b.Error(err)
			}
		})
		run(b, store)
	})
}
