package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

const (
	// benchCallers is how many calls prepare and clean up at the same time.
	benchCallers = 32
	// benchMargin is how much longer than the run its sessions live.
	benchMargin = 15 * time.Minute
	// benchPatience bounds the end of a run that was interrupted.
	benchPatience = time.Minute
	// benchListed is how many sessions each subject has when lists are measured.
	benchListed = 10
)

// benchData and benchLabels make sessions of the usual size.
const benchData = `{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB","csrf":"6f1c9f2e5b7d4a3c8e0f1a2b3c4d5e6f"}`

// A benchStock is the sessions of a run: those that were created before, and
// those that the operation create makes. Their ids and subjects are numbered, so
// that they can be found again.
type benchStock struct {
	marker     string // of the run
	lifetime   time.Duration
	perSubject int
	tokens     []sessiond.Token // of those created before, by number
	used       atomic.Int64     // numbers that sessions may exist for
}

func newBenchStock(o benchOptions) *benchStock {
	s := &benchStock{
		marker: "bench-" + strings.ToLower(rand.Text()[:8]), perSubject: 1, tokens: make([]sessiond.Token, o.sessions),
		lifetime: (o.warmup + o.duration + benchMargin).Truncate(time.Second),
	}
	if o.operation == "list" {
		s.perSubject = benchListed
	}
	return s
}

// id and subject are those of a session; all have the same length.
func (s *benchStock) id(n int64) string      { return fmt.Sprintf("%s-%012d", s.marker, n) }
func (s *benchStock) subject(n int64) string { return s.id(n / int64(s.perSubject)) }

// create creates the sessions to work on.
func (s *benchStock) create(ctx context.Context, b *benchmark) error {
	return benchEach(ctx, int64(len(s.tokens)), func(ctx context.Context, n int64) error {
		raise(&s.used, n+1)
		_, token, err := b.client.Create(ctx, sessiond.CreateParams{
			ID: sessiond.ID(s.id(n)), Subject: s.subject(n), Data: []byte(benchData),
			Labels: map[string]string{"bench": s.marker}, ExpiresIn: &s.lifetime,
		})
		s.tokens[n] = token
		return err
	})
}

// revoke ends the sessions, also after an interrupt.
func (s *benchStock) revoke(ctx context.Context, b *benchmark) error {
	used := s.used.Load()
	if used == 0 {
		return nil
	}
	b.say("revoking sessions: %d", used)
	after := context.WithoutCancel(ctx)
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		after, cancel = context.WithTimeout(after, benchPatience)
		defer cancel()
	}
	err := benchEach(after, used, func(ctx context.Context, n int64) error {
		err := b.client.Revoke(ctx, sessiond.ID(s.id(n)), sessiond.RevokeParams{})
		if errors.Is(err, sessiond.ErrNotFound) { // it was never created
			err = nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("not all sessions of the run were revoked; they expire within %v: %w", s.lifetime, explain(err))
	}
	return nil
}

// benchEach calls f for the numbers below n, some at a time, until one fails.
func benchEach(ctx context.Context, n int64, f func(ctx context.Context, n int64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, benchCallers) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := f(ctx, i); err != nil {
					cancel(err) // the first is the one to tell
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func raise(to *atomic.Int64, value int64) {
	for old := to.Load(); old < value && !to.CompareAndSwap(old, value); old = to.Load() {
	}
}
