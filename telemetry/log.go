package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	logBuffer   = 1 << 20               // bytes waiting to be written before callers wait
	logInterval = 50 * time.Millisecond // longest stay of a line in the buffer
	usualLine   = 512                   // size that few lines exceed
	keptLine    = 16 << 10              // largest line buffer that is kept for the next line
)

// A Log writes lines of JSON, one object each, through a buffer. It is safe for
// concurrent use and its writer is never called by two goroutines at once.
//
// While [Log.Run] runs, a line is handed to the writer within 50 ms; a caller
// waits only while 1 MiB of lines is waiting before its own. Without Run each
// line is written before the call that made it returns.
type Log struct {
	level slog.Leveler
	lines sync.Pool // of *[]byte, to encode operations in

	mu      sync.Mutex
	buf     []byte // whole lines, waiting
	running bool
	room    sync.Cond     // buf was emptied, or Run has ended
	full    chan struct{} // buf is half full

	failed atomic.Uint64

	writing sync.Mutex // held during a write; guards the rest. Taken before mu
	w       io.Writer
	spare   []byte // the buffer that is not buf
	lost    int    // lines that the writer failed to take and nobody has been told of
	cause   error  // of the last failure
	torn    bool   // the last write ended within a line
}

// NewLog makes a log that writes lines of at least the given level to w. It
// starts nothing. A nil level is [slog.LevelInfo].
func NewLog(w io.Writer, level slog.Leveler) *Log {
	if level == nil {
		level = slog.LevelInfo
	}
	l := &Log{level: level, w: w, full: make(chan struct{}, 1)}
	l.room.L = &l.mu
	l.lines.New = func() any { return new(make([]byte, 0, usualLine)) }
	return l
}

// Operation writes the line of one operation: as info, as warn for a 503, as
// error for any other 5xx. Its members are time, level, msg ("operation"), op,
// session_id (if known), tenant, principal, status, duration_ms, request_id,
// trace_id (if there is a trace), reason (of ends) and auth_failure (of refused
// credentials).
func (l *Log) Operation(op Operation) {
	level := op.level()
	if level < l.level.Level() {
		return
	}
	line := l.lines.Get().(*[]byte)
	*line = appendOperation((*line)[:0], time.Now(), level, &op)
	l.append(*line)
	if cap(*line) <= keptLine {
		l.lines.Put(line)
	}
}

// Errors is the number of writes that have failed. The lines they held are
// lost; the log says how many as soon as it can write again.
func (l *Log) Errors() uint64 { return l.failed.Load() }

// Run writes out what the log collects until ctx ends, and then the rest. After
// it, as before it, lines are written at once. One Run at a time: a second
// returns an error. It returns the error of ctx.
func (l *Log) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.running {
		l.mu.Unlock()
		return errors.New("telemetry: log is running already")
	}
	l.running = true
	l.mu.Unlock()

	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-l.full:
		}
		l.Flush()
	}

	l.mu.Lock()
	l.running = false
	l.room.Broadcast()
	l.mu.Unlock()
	l.Flush()
	return ctx.Err()
}

// append adds a whole line, waiting while the buffer is full.
func (l *Log) append(line []byte) {
	l.mu.Lock()
	for len(l.buf) > 0 && len(l.buf)+len(line) > logBuffer {
		if l.running {
			l.room.Wait()
			continue
		}
		l.mu.Unlock()
		l.Flush()
		l.mu.Lock()
	}
	l.buf = append(l.buf, line...)
	running, half := l.running, len(l.buf) >= logBuffer/2
	l.mu.Unlock()
	switch {
	case !running:
		l.Flush()
	case half:
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

// Flush writes out every line whose call has returned, for a process that is
// about to exit without waiting for [Log.Run].
func (l *Log) Flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	lines := l.buf
	l.buf = l.spare[:0]
	l.room.Broadcast()
	l.mu.Unlock()
	if len(lines) > 0 {
		l.write(lines)
	}
	if cap(lines) > 2*logBuffer {
		lines = nil // grown by one huge line
	}
	l.spare = lines
}

// write hands lines to the writer, after a word about lines lost before.
func (l *Log) write(lines []byte) {
	if lost := l.lost; lost > 0 {
		l.lost = 0
		if !l.put(appendLoss(nil, time.Now(), lost, l.cause)) {
			l.lost = lost + bytes.Count(lines, []byte("\n"))
			return
		}
	}
	l.put(lines)
}

// put writes p and keeps the account of failures.
func (l *Log) put(p []byte) bool {
	if l.torn {
		p = append([]byte("\n"), p...)
	}
	n, err := l.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if n = min(max(n, 0), len(p)); n > 0 {
		l.torn = p[n-1] != '\n'
	}
	if err == nil {
		return true
	}
	l.failed.Add(1)
	l.lost += bytes.Count(p[n:], []byte("\n"))
	l.cause = err
	return false
}
