package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/telemetry"
)

// A sink is a writer that can be held, fail, and be read while it is written to.
type sink struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	writes  int
	failure func(p []byte) (int, error) // nil: none
	hold    chan struct{}               // if not nil, each write waits to receive from it
}

func (s *sink) Write(p []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.failure != nil {
		n, err := s.failure(p)
		s.buf.Write(p[:n])
		return n, err
	}
	return s.buf.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *sink) fail(f func(p []byte) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = f
}

func (s *sink) lines(t *testing.T) []map[string]any {
	t.Helper()
	return parseLines(t, s.String())
}

func parseLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(text) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("not a whole line of JSON: %q: %v", line, err)
		}
		lines = append(lines, v)
	}
	return lines
}

// run runs l until the returned function is called, which waits for the end.
func run(t *testing.T, l *telemetry.Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want context.Canceled", err)
		}
	}
}

func TestOperationLine(t *testing.T) {
	t.Parallel()
	full := telemetry.Operation{
		Op: "delete", Route: "/sessions/{id}", Method: "DELETE", Status: 204, Duration: 1234567 * time.Nanosecond,
		SessionID: "session-001", Tenant: "default", Principal: "cart", RequestID: "req-1",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", Reason: sessiond.EndLogout, AuthFailure: "expired",
	}
	const head = `{"time":"2000-01-01T00:00:00.000Z","level":`
	tests := []struct {
		name string
		op   telemetry.Operation
		want string
	}{
		{"everything", full, head + `"info","msg":"operation","op":"delete","session_id":"session-001",` +
			`"tenant":"default","principal":"cart","status":204,"duration_ms":1.235,"request_id":"req-1",` +
			`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","reason":"logout","auth_failure":"expired"}` + "\n"},
		{"nothing", telemetry.Operation{}, head + `"info","msg":"operation","op":"","tenant":"","principal":"",` +
			`"status":0,"duration_ms":0.000,"request_id":""}` + "\n"},
		{"client error", telemetry.Operation{Op: "get", Status: 499, Duration: 2 * time.Hour}, head +
			`"info","msg":"operation","op":"get","tenant":"","principal":"","status":499,` +
			`"duration_ms":7200000.000,"request_id":""}` + "\n"},
		{"our bug", telemetry.Operation{Op: "get", Status: 500, Duration: -1}, head +
			`"error","msg":"operation","op":"get","tenant":"","principal":"","status":500,` +
			`"duration_ms":0.000,"request_id":""}` + "\n"},
		{"behind us", telemetry.Operation{Op: "get", Status: 503, Duration: 999}, head +
			`"warn","msg":"operation","op":"get","tenant":"","principal":"","status":503,` +
			`"duration_ms":0.001,"request_id":""}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out sink
				telemetry.NewLog(&out, nil).Operation(tt.op)
				if diff := cmp.Diff(tt.want, out.String()); diff != "" {
					t.Errorf("line (-want +got):\n%s", diff)
				}
				parseLines(t, out.String())
			})
		})
	}
}

func TestOperationTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out sink
		l := telemetry.NewLog(&out, nil)
		for range 500 {
			time.Sleep(987654321 * time.Microsecond) // visits every digit of a year and a half
			l.Operation(telemetry.Operation{})
			line := parseLines(t, out.String())[0]
			if want := time.Now().UTC().Format("2006-01-02T15:04:05.000Z"); line["time"] != want {
				t.Fatalf("time = %v, want %s", line["time"], want)
			}
			out.buf.Reset()
		}
	})
}

func TestLevels(t *testing.T) {
	t.Parallel()
	var out sink
	var level slog.LevelVar
	l := telemetry.NewLog(&out, &level)
	logger := l.Logger()
	all := func() string {
		out.buf.Reset()
		for _, status := range []int{200, 503, 500} {
			l.Operation(telemetry.Operation{Status: status})
		}
		logger.Debug("d")
		logger.Info("i")
		logger.Warn("w")
		logger.Error("e")
		logger.Log(t.Context(), slog.LevelError+1, "x")
		var levels []string
		for _, line := range out.lines(t) {
			levels = append(levels, line["level"].(string))
		}
		return strings.Join(levels, " ")
	}
	for _, tt := range []struct {
		level slog.Level
		want  string
	}{
		{slog.LevelDebug, "info warn error debug info warn error error+1"},
		{slog.LevelInfo, "info warn error info warn error error+1"},
		{slog.LevelWarn, "warn error warn error error+1"},
		{slog.LevelError, "error error error+1"},
	} {
		level.Set(tt.level)
		if got := all(); got != tt.want {
			t.Errorf("at %v: %s, want %s", tt.level, got, tt.want)
		}
	}
}

// Without Run a line is out when the call returns.
func TestWriteThrough(t *testing.T) {
	t.Parallel()
	var out sink
	l := telemetry.NewLog(&out, nil)
	l.Logger().Error("early")
	if n := len(out.lines(t)); n != 1 {
		t.Fatalf("%d lines before Run, want 1", n)
	}
	stop := run(t, l)
	l.Operation(telemetry.Operation{Op: "get"})
	stop()
	if n := len(out.lines(t)); n != 2 {
		t.Fatalf("%d lines after Run, want 2", n)
	}
	l.Logger().Info("late")
	if n := len(out.lines(t)); n != 3 {
		t.Fatalf("%d lines in the end, want 3", n)
	}
}

func TestWriteTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out sink
		l := telemetry.NewLog(&out, nil)
		stop := run(t, l)
		synctest.Wait()
		if err := l.Run(t.Context()); err == nil {
			t.Error("a second Run is accepted")
		}

		l.Operation(telemetry.Operation{Op: "get"})
		synctest.Wait()
		if out.String() != "" {
			t.Error("a line was not buffered")
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if n := len(out.lines(t)); n != 1 {
			t.Errorf("%d lines after 50 ms, want 1", n)
		}

		l.Operation(telemetry.Operation{Op: "get"})
		l.Flush()
		if n := len(out.lines(t)); n != 2 {
			t.Errorf("%d lines after Flush, want 2", n)
		}

		// Half a buffer is written without waiting for the tick.
		before := time.Now()
		for range 600 {
			l.Operation(telemetry.Operation{Principal: strings.Repeat("p", 1000)})
		}
		synctest.Wait()
		written := len(out.lines(t))
		line := out.String()[strings.LastIndexByte(strings.TrimSuffix(out.String(), "\n"), '\n')+1:]
		if waiting := (602 - written) * len(line); waiting >= 1<<19 || !time.Now().Equal(before) {
			t.Errorf("%d bytes still wait after %v, want less than half a buffer at once", waiting, time.Since(before))
		}
		stop()
		if n := len(out.lines(t)); n != 602 {
			t.Errorf("%d lines in the end, want 602", n)
		}
	})
}

// With a writer that hangs, callers wait, memory is bounded, and nothing is lost.
func TestFullBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callers, each, size = 8, 500, 1000
		out := sink{hold: make(chan struct{})}
		l := telemetry.NewLog(&out, nil)
		stop := run(t, l)
		synctest.Wait() // until it runs
		var (
			wg       sync.WaitGroup
			mu       sync.Mutex
			accepted int
		)
		for c := range callers {
			wg.Go(func() {
				for i := range each {
					l.Operation(telemetry.Operation{
						Op: "get", Status: c, Duration: time.Duration(i) * time.Millisecond,
						Principal: strings.Repeat("p", size),
					})
					mu.Lock()
					accepted++
					mu.Unlock()
				}
			})
		}
		synctest.Wait() // everyone hangs
		mu.Lock()
		if kept := accepted * size; kept < 1<<20 || kept > 2<<20 {
			t.Errorf("%d bytes accepted while the writer hangs, want 1 to 2 MiB", kept)
		}
		mu.Unlock()
		time.Sleep(time.Hour)
		close(out.hold)
		wg.Wait()
		stop()
		checkSequences(t, out.lines(t), callers, each)
		if out.writes > 40 {
			t.Errorf("%d writes for 4 MB, want few", out.writes)
		}
	})
}

// checkSequences checks that each caller (status) has written each number
// (duration) once and in order.
func checkSequences(t *testing.T, lines []map[string]any, callers, each int) {
	t.Helper()
	next := make([]int, callers)
	for _, line := range lines {
		c, i := int(line["status"].(float64)), int(line["duration_ms"].(float64))
		if next[c] != i {
			t.Fatalf("caller %d: line %d where %d was due", c, i, next[c])
		}
		next[c]++
	}
	for c, n := range next {
		if n != each {
			t.Errorf("caller %d: %d lines, want %d", c, n, each)
		}
	}
}

// Nothing is lost or torn while Run comes and goes and the writer is slow.
func TestConcurrentLines(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 400
	var out sink
	slow := writerFunc(func(p []byte) (int, error) {
		time.Sleep(100 * time.Microsecond)
		return out.Write(p)
	})
	l := telemetry.NewLog(slow, nil)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			logger := l.Logger()
			for i := range each {
				if i%2 == 0 {
					l.Operation(telemetry.Operation{Status: c, Duration: time.Duration(i) * time.Millisecond})
				} else {
					logger.Info("operation", "status", c, "duration_ms", i)
				}
			}
		})
	}
	for range 5 {
		stop := run(t, l)
		time.Sleep(2 * time.Millisecond)
		stop()
	}
	wg.Wait()
	checkSequences(t, out.lines(t), callers, each)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestWriterFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe\u202e")
	tests := []struct {
		name string
		fail func(p []byte) (int, error)
		err  string
		torn string // what the first failure leaves behind
	}{
		{"nothing written", func([]byte) (int, error) { return 0, broken }, broken.Error(), ""},
		{"torn", func([]byte) (int, error) { return 5, broken }, broken.Error(), `{"tim`},
		{"short without error", func([]byte) (int, error) { return 5, nil }, io.ErrShortWrite.Error(), `{"tim`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out sink
			l := telemetry.NewLog(&out, nil)
			out.fail(tt.fail)
			l.Operation(telemetry.Operation{Op: "a"})
			out.fail(func([]byte) (int, error) { return 0, broken })
			l.Operation(telemetry.Operation{Op: "b"})
			l.Operation(telemetry.Operation{Op: "c"})
			if l.Errors() != 3 {
				t.Errorf("Errors = %d, want 3", l.Errors())
			}
			out.fail(nil)
			l.Operation(telemetry.Operation{Op: "d"})
			l.Operation(telemetry.Operation{Op: "e"})
			if l.Errors() != 3 {
				t.Errorf("Errors = %d in the end, want 3", l.Errors())
			}

			text, ok := strings.CutPrefix(out.String(), tt.torn)
			if !ok || tt.torn != "" && text[0] != '\n' {
				t.Fatalf("the torn line is not set apart: %q", out.String())
			}
			lines := parseLines(t, strings.TrimPrefix(text, "\n"))
			if len(lines) != 3 {
				t.Fatalf("%d lines, want 3: %s", len(lines), text)
			}
			want := map[string]any{
				"time": lines[0]["time"], "level": "error", "msg": "log lines lost", "lines": 3.0, "err": broken.Error(),
			}
			if diff := cmp.Diff(want, lines[0]); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if lines[1]["op"] != "d" || lines[2]["op"] != "e" {
				t.Errorf("lines after the failure: %v", lines[1:])
			}
		})
	}
}

// A line larger than the whole buffer still gets through, in order.
func TestHugeLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out sink
		l := telemetry.NewLog(&out, nil)
		stop := run(t, l)
		for i := range 6 {
			l.Operation(telemetry.Operation{Op: fmt.Sprint(i), Principal: strings.Repeat("p", i%2*5<<18)})
		}
		stop()
		var ops string
		for _, line := range out.lines(t) {
			ops += line["op"].(string)
		}
		if ops != "012345" {
			t.Errorf("order of lines: %s", ops)
		}
	})
}
