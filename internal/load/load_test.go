package load_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/internal/load"
)

// A server answers on pipes, one request at a time on each, in the time of a
// bubble.
type server struct {
	mu      sync.Mutex
	began   time.Time
	busy    int // requests under way
	most    int // of them
	service time.Duration
	stall   [2]time.Duration // from and until when, since the beginning, nothing is answered
	answer  func(n int) string
	n       int // requests so far
	dials   int
	refused error // of dials
	done    chan struct{}
}

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

func newServer(t *testing.T, service time.Duration) *server {
	s := &server{
		began: time.Now(), service: service, answer: func(int) string { return okay }, done: make(chan struct{}),
	}
	t.Cleanup(func() { close(s.done) })
	return s
}

func (s *server) dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	if s.refused != nil {
		return nil, s.refused
	}
	ours, theirs := net.Pipe()
	go s.serve(ours)
	return theirs, nil
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		s.mu.Lock()
		s.busy++
		s.most = max(s.most, s.busy)
		text := s.answer(s.n)
		s.n++
		s.mu.Unlock()
		pause := s.service
		if at := time.Since(s.began); at >= s.stall[0] && at < s.stall[1] {
			pause += s.stall[1] - at
		}
		select {
		case <-time.After(pause):
		case <-s.done:
			return
		}
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
		if _, err := io.WriteString(conn, text); err != nil || strings.Contains(text, "close") {
			return
		}
	}
}

func (s *server) load() load.Load {
	request := load.Request("GET", "x", "/", "", "")
	return load.Load{
		Dial: s.dial, Next: func(_ int, buf []byte) []byte { return append(buf, request...) },
		Connections: 4, Duration: 10 * time.Second,
	}
}

func run(t *testing.T, l load.Load) *load.Result {
	t.Helper()
	res, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// within fails unless a latency in microseconds is in the bounds, and what a
// histogram of three digits makes of them.
func within(t *testing.T, what string, got int64, low, high time.Duration) {
	t.Helper()
	if d := time.Duration(got) * time.Microsecond; d < low*999/1000 || d > high*1001/1000 {
		t.Errorf("%s is %v, want %v to %v", what, d, low, high)
	}
}

// stalled is a server that is fast, but for half a second in ten.
func stalled(t *testing.T) *server {
	s := newServer(t, time.Millisecond)
	s.stall = [2]time.Duration{3 * time.Second, 3500 * time.Millisecond}
	return s
}

func TestClosedLoopDoesNotSeeAStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		res := run(t, stalled(t).load())
		// Four connections, each 9.5 s of 10 s at 1,000 a second.
		if rate := res.Rate(); rate < 3790 || rate > 3810 {
			t.Errorf("rate %v", rate)
		}
		l := res.Latency()
		within(t, "p99", l.ValueAtQuantile(99), time.Millisecond, time.Millisecond)
		within(t, "p99.9", l.ValueAtQuantile(99.9), time.Millisecond, time.Millisecond)
		within(t, "max", l.Max(), 500*time.Millisecond, 501*time.Millisecond)
		if res.Unsent != 0 || res.Failed != 0 || res.Total != res.Count(200) {
			t.Errorf("%+v", res)
		}
	})
}

func TestOpenLoopSeesAStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := stalled(t)
		l := s.load()
		l.Rate = 1000
		res := run(t, l)
		if s.n != 10_000 || res.Count(200) != 10_000 || res.Unsent != 0 {
			t.Errorf("%d requests, %d answers, %d unsent", s.n, res.Count(200), res.Unsent)
		}
		// 500 requests come while nothing is answered. The last of them waits for those
		// before it, which four connections answer at 4,000 a second.
		h := res.Latency()
		within(t, "p50", h.ValueAtQuantile(50), time.Millisecond, time.Millisecond)
		within(t, "p95", h.ValueAtQuantile(95), 50*time.Millisecond, 170*time.Millisecond)
		within(t, "p99", h.ValueAtQuantile(99), 370*time.Millisecond, 430*time.Millisecond)
		within(t, "max", h.Max(), 500*time.Millisecond, 502*time.Millisecond)
		if res.Backlog < 480 || res.Backlog > 500 {
			t.Errorf("a backlog of %d", res.Backlog)
		}
		// The time in which the server had the request is another matter.
		within(t, "p99 of the service", res.Statuses[200].Service.ValueAtQuantile(99), time.Millisecond, time.Millisecond)
	})
}

func TestBacklogIsBoundedAndTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 10*time.Millisecond)
		l := s.load()
		l.Rate, l.Backlog = 2000, 100 // of which the server does 400
		res := run(t, l)
		if all := res.Count(200) + res.Unsent; all != 20_000 {
			t.Errorf("%d answered and %d unsent are %d", res.Count(200), res.Unsent, all)
		}
		if rate := res.Rate(); rate < 395 || rate > 401 {
			t.Errorf("rate %v", rate)
		}
		// 100 that wait at 2,000 a second are 50 ms.
		within(t, "max", res.Latency().Max(), 55*time.Millisecond, 62*time.Millisecond)
		if s.most > 4 {
			t.Errorf("%d requests at once on 4 connections", s.most)
		}
	})
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, time.Millisecond)
		s.answer = func(n int) string {
			switch n % 4 {
			case 0:
				return "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\ncontent-length: 3\r\n\r\nno\n"
			case 1:
				return "HTTP/1.1 204 No Content\r\n\r\n"
			case 2:
				return "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;x=y\r\n\r\n\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"
			default:
				return okay
			}
		}
		l := s.load()
		l.Connections, l.Duration = 1, 4*time.Second
		res := run(t, l)
		if res.Count(503) != 1000 || res.Count(204) != 1000 || res.Count(200) != 2000 || res.Failed != 0 {
			t.Errorf("%d, %d, %d and %d failed: %v", res.Count(503), res.Count(204), res.Count(200), res.Failed, res.Failure)
		}
		if s.dials != 1001 && s.dials != 1000 {
			t.Errorf("%d connections", s.dials)
		}
		if n := res.Latency().TotalCount(); n != 3000 || res.Succeeded != 3000 {
			t.Errorf("%d latencies of successes, %d successes", n, res.Succeeded)
		}
	})
}

func TestFailuresAreCounted(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"not HTTP": "hello, is it me you are looking for?\r\n\r\n", "cut off": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 0)
				s.answer = func(int) string { return answer }
				res := run(t, s.load())
				// Each of four connections pauses for 10 ms after a failure.
				if res.Failed != 4000 || res.Failure == nil || res.Total != 0 {
					t.Errorf("%d failures, %v, %d answers", res.Failed, res.Failure, res.Total)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 0)
		s.refused = errors.New("nobody there")
		if res := run(t, s.load()); res.Failed != 4000 || !errors.Is(res.Failure, s.refused) {
			t.Errorf("%d failures, %v", res.Failed, res.Failure)
		}
	})
}

func TestWarmupAndWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := stalled(t)
		l := s.load()
		l.Rate, l.Warmup, l.Window = 100, time.Second, time.Second
		res := run(t, l)
		if res.Total != 1100 || res.Count(200) != 1000 || len(res.Windows) != 10 {
			t.Fatalf("%d answers, %d measured, %d windows", res.Total, res.Count(200), len(res.Windows))
		}
		// The stall begins with the third second of the measurement.
		for i, w := range res.Windows {
			if w.Latency.TotalCount() != 100 || (w.Latency.Max() > 2000) != (i == 2) {
				t.Errorf("window %d: %d requests, longest %d us", i, w.Latency.TotalCount(), w.Latency.Max())
			}
		}
		if n := load.Merge(res.Windows[1:3]).Latency.TotalCount(); n != 200 {
			t.Errorf("two windows have %d", n)
		}
	})
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, time.Millisecond)
			s.stall = [2]time.Duration{time.Second, time.Hour} // an answer that is waited for does not delay the end
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			began := time.Now()
			l := s.load()
			l.Rate = rate
			res, err := l.Run(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if res == nil || res.Elapsed != 2*time.Second || res.Count(200) < 90 || res.Failed != 0 {
				t.Errorf("what there is until then: %+v", res)
			}
		})
	}
}

func TestAnAnswerThatNeverComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, time.Hour)
		res := run(t, s.load())
		if at := time.Since(s.began); at != 20*time.Second+10*time.Millisecond {
			t.Errorf("waited until %v", at)
		}
		if res.Failed != 4 || res.Total != 0 {
			t.Errorf("%d failures, %d answers", res.Failed, res.Total)
		}
	})
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*load.Load){
		"dial": func(l *load.Load) { l.Dial = nil }, "next": func(l *load.Load) { l.Next = nil },
		"connections": func(l *load.Load) { l.Connections = 0 }, "duration": func(l *load.Load) { l.Duration = 0 },
		"rate": func(l *load.Load) { l.Rate = -1 }, "window": func(l *load.Load) { l.Window = -1 },
	} {
		l := newServer(t, 0).load()
		change(&l)
		if _, err := l.Run(t.Context()); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}
