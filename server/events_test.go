package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/internal/faultstore"
)

// A message is one server-sent event.
type message struct{ Event, ID, Data string }

// A stream reads an event stream.
type stream struct {
	t      testing.TB
	header http.Header
	body   io.ReadCloser
	lines  *bufio.Scanner
}

func (s *service) stream(target, credential string, header ...string) *stream {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		s.read(target, resp).must(200)
	}
	st := &stream{s.t, resp.Header, resp.Body, bufio.NewScanner(resp.Body)}
	s.t.Cleanup(st.close)
	return st
}

func (st *stream) close() { st.body.Close() }

// next is the next message; ok is false at the end of the stream.
func (st *stream) next() (m message, ok bool) {
	for st.lines.Scan() {
		name, value, _ := strings.Cut(st.lines.Text(), ": ")
		switch name {
		case "event":
			m.Event = value
		case "id":
			m.ID = value
		case "data":
			m.Data = value
		case "":
			return m, true
		default:
			st.t.Errorf("line %q", st.lines.Text())
		}
	}
	return m, false
}

// want checks that the next messages are these events.
func (st *stream) want(events ...string) (last message) {
	st.t.Helper()
	for _, want := range events {
		m, ok := st.next()
		if !ok || m.Event != want || m.Data == "" {
			st.t.Fatalf("got %+v %v, want %s", m, ok, want)
		}
		if (want == "heartbeat" || want == "reset") && m.Data != "{}" || want == "heartbeat" && m.ID == "" ||
			want == "reset" && m.ID != "" {
			st.t.Errorf("message %+v", m)
		}
		last = m
	}
	return last
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	s := start(t)
	st := s.stream("/events", s.credential(auth.Inspect))
	if st.header.Get("Content-Type") != "text/event-stream" || st.header.Get("Cache-Control") != "no-store" ||
		st.header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("header: %v", st.header)
	}
	begin := st.want("heartbeat")
	if s.server.EventStreams() != 1 {
		t.Errorf("%d streams", s.server.EventStreams())
	}
	cred := s.credential(all)
	s.do("POST", "/sessions/", cred, `{"id":"e","subject":"anna","data":{"secret":1}}`, "X-Request-Id", "r1").must(201)
	m := st.want("session.created")
	want := `"type":"session.created",`
	for _, part := range []string{want, `"session_id":"e"`, `"subject":"anna"`, `"version":1`, `"request_id":"r1"`,
		`"actor":{"sub":"tester","client":"tests"}`} {
		if !strings.Contains(m.Data, part) {
			t.Errorf("%s lacks %s", m.Data, part)
		}
	}
	if m.ID == "" || strings.Contains(m.Data, "secret") || strings.Contains(m.Data, "sst_") {
		t.Errorf("message: %+v", m)
	}
	s.do("PUT", "/sessions/e", cred, `{"labels":{"a":"b"}}`).must(200)
	updated := st.want("session.updated")
	s.do("POST", "/sessions/e/rotate", cred, "").must(200)
	s.do("DELETE", "/sessions/e?reason=logout&note=n", cred, "").must(204)
	s.do("DELETE", "/sessions/e?erase=true", cred, "").must(204)
	st.want("session.rotated", "session.revoked", "session.erased")
	s.do("POST", "/sessions/", s.credentialIn("other", "x", all), `{}`).must(201)
	s.create(`{"id":"after"}`)
	if m := st.want("session.created"); !strings.Contains(m.Data, `"after"`) {
		t.Errorf("an event of another tenant: %+v", m)
	}

	// Only the end of a batch has a position.
	again := s.stream("/events", cred, "Last-Event-ID", begin.ID)
	var got []string
	for range 6 {
		m, _ := again.next()
		if m.ID == "" != (len(got) < 5) {
			t.Errorf("message %d: %+v", len(got), m)
		}
		got = append(got, strings.TrimPrefix(m.Event, "session."))
	}
	if diff := cmp.Diff([]string{"created", "updated", "rotated", "revoked", "erased", "created"}, got); diff != "" {
		t.Error(diff)
	}
	s.stream("/events", cred, "Last-Event-ID", updated.ID).want("session.rotated", "session.revoked", "session.erased")
	for _, bad := range []string{"x", updated.ID + "0", strings.Repeat("9", 5000), "é"} {
		s.stream("/events", cred, "Last-Event-ID", bad).want("reset", "session.created", "session.updated")
	}
	s.stream("/events?type=session.revoked,session.erased", cred, "Last-Event-ID", begin.ID).
		want("session.revoked", "session.erased")
	s.stream("/events?subject=nobody", cred, "Last-Event-ID", begin.ID).want("heartbeat")
	s.stream("/events?subject=anna&type=session.created", cred, "Last-Event-ID", begin.ID).want("session.created")
	for _, q := range []string{
		"subject=", "type=", "type=created", "type=session.created,", "type=session.created&type=session.revoked",
		"x=1", "subject=%00",
	} {
		s.do("GET", "/events?"+q, cred, "").want(400, "malformed-request")
	}
	s.do("GET", "/events", cred, "", "Last-Event-ID", "a", "Last-Event-ID", "a").want(400, "malformed-request")
	head := s.do("HEAD", "/events", cred, "").must(200)
	if head.header.Get("Content-Type") != "text/event-stream" || head.body != "" {
		t.Errorf("head: %v %q", head.header, head.body)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	var opened, closed int
	s := start(t, func(o *options) {
		o.config.MaxStreams = 1
		o.config.StreamOpened, o.config.StreamClosed = func() { opened++ }, func() { closed++ }
	})
	cred := s.credential(all)
	st := s.stream("/events", cred)
	st.want("heartbeat")
	s.do("GET", "/events", cred, "").want(503, "overloaded")
	s.server.Shutdown()
	if m, ok := st.next(); ok {
		t.Errorf("after Shutdown: %+v", m)
	}
	s.lastOp("events")
	a := s.do("GET", "/events", cred, "").want(503, "overloaded")
	if a.header.Get("Retry-After") == "" || a.text("applied") != "" {
		t.Errorf("%v %s", a.header, a.body)
	}
	s.do("GET", "/sessions/", cred, "").must(200)
	if opened != 1 || closed != 1 || s.server.EventStreams() != 0 {
		t.Errorf("%d opened, %d closed, %d open", opened, closed, s.server.EventStreams())
	}
}

// bubble runs a test with a service in memory and virtual time, over HTTP/1.1 and over HTTP/2.
func bubble(t *testing.T, f func(*testing.T, *service)) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f(t, start(t, func(o *options) { o.memory, o.http2 = true, http2 }))
			})
		})
	}
}

func TestStreamsOutliveTheServersTimeouts(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *service) {
		st := s.stream("/events?type=session.revoked", s.credential(auth.Read))
		begin := time.Now()
		st.want("heartbeat", "heartbeat")
		if d := time.Since(begin); d < 15*time.Second || d > 16*time.Second {
			t.Errorf("heartbeat after %v", d)
		}
		for range 8 {
			st.want("heartbeat")
		}
		s.create(`{"id":"x"}`) // not asked for: no event
		time.Sleep(5 * time.Second)
		s.do("DELETE", "/sessions/x", s.credential(all), "").must(204)
		st.want("session.revoked", "heartbeat")
		st.close()
		synctest.Wait()
		if n := s.server.EventStreams(); n != 0 {
			t.Errorf("%d streams after the client has gone", n)
		}
	})
}

func TestStreamEndsWithItsCredential(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *service) {
		begin := time.Now()
		expires := begin.Add(20 * time.Second)
		cred := s.register(&auth.Principal{Tenant: "default", Permissions: auth.Inspect, Expires: expires})
		st := s.stream("/events", cred)
		st.want("heartbeat", "heartbeat")
		if m, ok := st.next(); ok {
			t.Errorf("after the end: %+v", m)
		}
		if d := time.Since(begin); d != 20*time.Second {
			t.Errorf("the stream ended after %v", d)
		}
		if err := st.lines.Err(); err != nil {
			t.Errorf("the stream did not end in order: %v", err)
		}
		synctest.Wait()
		if op := s.lastOp("events"); op.Duration != 20*time.Second || op.Status != 200 {
			t.Errorf("operation: %+v", op)
		}
	})
}

func TestExpiriesAreTold(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *service) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.manager.Run(ctx) }()
		st := s.stream("/events", s.credential(auth.Read))
		st.want("heartbeat")
		begin := time.Now()
		s.create(`{"expires_in":3}`)
		st.want("session.created")
		m := st.want("session.expired")
		if d := time.Since(begin); d < 3*time.Second || d > 5*time.Second ||
			!strings.Contains(m.Data, `"reason":"absolute"`) {
			t.Errorf("after %v: %+v", d, m)
		}
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestStoreFailsUnderAStream(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *service) {
		cred := s.credential(all)
		s.store.FailNext(faultstore.Events, faultstore.Refused)
		s.do("GET", "/events", cred, "").want(503, "store-unavailable")
		st := s.stream("/events", cred)
		st.want("heartbeat")
		s.store.FailAlways(faultstore.Events, faultstore.Refused)
		for {
			if _, ok := st.next(); !ok {
				break
			}
		}
		if !strings.Contains(s.log.String(), "event stream ended") {
			t.Errorf("log: %s", s.log)
		}
	})
}

// A client that does not read must not hold anything up, and is dropped.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(o *options) { o.memory = true })
		conn, err := s.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		request := "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.credential(all) + "\r\n\r\n"
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1)
		if _, err := conn.Read(buf); err != nil { // the answer has begun, and now nothing is read any more
			t.Fatal(err)
		}
		begin := time.Now()
		for range 10 {
			s.create(`{}`)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("writers waited for %v", d)
		}
		if n := s.server.EventStreams(); n != 1 {
			t.Errorf("%d streams", n)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := s.server.EventStreams(); n != 0 {
			t.Errorf("the slow reader is still there")
		}
	})
}

func (s *service) dial(ctx context.Context) (net.Conn, error) { return s.dialer(ctx, "tcp", "") }
