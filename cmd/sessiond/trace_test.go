package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Traffic of all kinds is traced, the log tells the traces' ids, and what is a
// secret or names a session or a person stays here.
func TestTracing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var raw strings.Builder
	traces := make(map[string]string) // route by trace id
	otlp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil {
			t.Errorf("not OTLP: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		raw.Write(body)
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, span := range ss.Spans {
					for _, a := range span.Attributes {
						if a.Key == "http.route" {
							traces[fmt.Sprintf("%x", span.TraceId)] = a.Value.GetStringValue()
						}
					}
				}
			}
		}
	}))
	defer otlp.Close()
	dir := t.TempDir()
	s := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir,
		"--otlp-endpoint", otlp.URL)
	s.waitReady()
	secrets := s.traffic(devToken(t, dir, "--permissions", strings.Join(permissionNames(), ",")))
	if code := s.end(); code != 0 { // flushes
		t.Fatalf("exit code %d", code)
	}

	lines := 0
	for line := range strings.Lines(s.stderr.String()) {
		var l struct {
			Msg     string `json:"msg"`
			Op      string `json:"op"`
			TraceID string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if l.Msg != "operation" {
			continue
		}
		lines++
		if _, traced := traces[l.TraceID]; len(l.TraceID) != 32 || l.Op != "" && !traced {
			t.Errorf("no trace of %s", line)
		}
	}
	if lines < 20 {
		t.Errorf("%d operations logged", lines)
	}
	for _, secret := range append(secrets, canary, "alice", "s1", "Bearer") {
		if strings.Contains(raw.String(), secret) {
			t.Errorf("spans hold %q", secret)
		}
	}
	for _, name := range []string{"auth verify", "manager create", "store create", "store get", "GET /events"} {
		if !strings.Contains(raw.String(), name) {
			t.Errorf("no span %q", name)
		}
	}
}

// With a collector that is away everything works but the traces.
func TestTracingWithoutCollector(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir,
		"--otlp-endpoint", "http://"+freeAddress(t))
	s.waitReady()
	token := devToken(t, dir, "--permissions", "sessions:create")
	for range 10 {
		s.do("POST", "/sessions/", token, `{}`).want(t, 201)
	}
	start := time.Now()
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("the end took %v", took)
	}
	if n := strings.Count(s.stderr.String(), "spans were not exported"); n != 1 {
		t.Errorf("%d lines about lost spans, want 1:\n%s", n, &s.stderr)
	}
}

func TestPprof(t *testing.T) {
	t.Parallel()
	off := startDev(t, t.TempDir())
	on := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", t.TempDir(), "--pprof")
	for _, path := range []string{
		"", "heap", "goroutine?debug=1", "cmdline", "symbol", "profile?seconds=1", "trace?seconds=0.1",
	} {
		path = "/debug/pprof/" + path
		if status := off.status(off.ops + path); status != http.StatusNotFound {
			t.Errorf("GET %s without --pprof: status %d", path, status)
		}
		if status := on.status(on.ops + path); status != http.StatusOK {
			t.Errorf("GET %s with --pprof: status %d", path, status)
		}
		if status := on.status(on.api + path); status != http.StatusUnauthorized {
			t.Errorf("GET %s on the API: status %d", path, status)
		}
	}
}
