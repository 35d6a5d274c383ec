package faultmatrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
)

// settleAfter is how long after a lasting fault its late effects may come: what
// was sent into it may still be carried out.
const settleAfter = 200 * time.Millisecond

// lasting runs all operations under a fault at once, each without a deadline
// and with one.
func (s *suite) lasting(t *testing.T, f Lasting) {
	s.awaitAnswers(t, "before the fault")
	s.warm(t)
	var scenes []*scene
	for _, op := range operations() {
		scenes = append(scenes, s.scene(t, op, false))
		if !op.solo {
			scenes = append(scenes, s.scene(t, op, true))
		}
	}
	handles := s.handleTest(t)
	f.Begin(t)
	var wg sync.WaitGroup
	wg.Go(func() { handles.open(t.Context()) })
	wg.Go(func() { handles.close(t.Context()) })
	for _, c := range scenes {
		wg.Go(func() { c.perform(t.Context(), s.store, s.deadline(), s.target.Patience) })
	}
	wg.Wait()
	f.End(t)
	s.recovered(t)
	time.Sleep(settleAfter)
	t.Log(summary(scenes))
	t.Run("open", handles.judgeOpen)
	t.Run("close", handles.judgeClose)
	for _, c := range scenes {
		name := c.op.name
		if c.hurried {
			name += "-deadline"
		}
		t.Run(name, func(t *testing.T) { c.judge(t) })
	}
}

// cut runs the operations one by one, each as often as it has requests that
// can be cut.
func (s *suite) cut(t *testing.T, f Cut) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			s.awaitAnswers(t, "before the fault")
			for skip := range mostCuts {
				c := s.scene(t, op, false)
				f.Arm(skip)
				c.perform(t.Context(), s.store, s.deadline(), s.target.Patience)
				met := f.Met()
				f.End(t)
				t.Logf("request %d: met %t, answer %v after %v", skip+1, met, c.err, c.took.Round(time.Millisecond))
				if !met && c.outcome() != done {
					t.Errorf("nothing is disturbed, and the answer is %v", c.err)
				}
				c.judge(t)
				if !met || t.Failed() {
					return
				}
			}
		})
	}
}

// warm makes the store open the connections that it would have under load.
func (s *suite) warm(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if err := probe(t.Context(), s.store); err != nil {
					t.Errorf("before the fault: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// recovered checks that the store answers again soon after it could: after a
// new handle can be opened, for which the server needs its time, too.
func (s *suite) recovered(t *testing.T) {
	t.Helper()
	began := time.Now()
	var possible time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		for possible == 0 && time.Since(began) < s.tooLong() {
			store, err := s.target.Open(t.Context())
			if err == nil {
				possible = time.Since(began)
				err = store.Close()
			}
			if err != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
	took := s.awaitAnswers(t, "after the fault")
	wg.Wait()
	t.Logf("after the end of the fault a new handle answers within %v, the old one within %v",
		possible.Round(time.Millisecond), took.Round(time.Millisecond))
	if took-possible > s.target.Recovery {
		t.Errorf("the store answers again %v after it could, not within %v", took-possible, s.target.Recovery)
	}
}

// tooLong is when a store that does not answer is given up.
func (s *suite) tooLong() time.Duration { return 5*s.target.Recovery + 5*time.Second }

// awaitAnswers waits until all kinds of calls succeed and returns how long
// that took.
func (s *suite) awaitAnswers(t *testing.T, when string) time.Duration {
	t.Helper()
	began := time.Now()
	defer s.awaitObserver(t)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), s.target.Recovery)
		err := probe(ctx, s.store)
		cancel()
		took := time.Since(began)
		switch {
		case err == nil:
			return took
		case took > s.tooLong():
			t.Fatalf("%s: the store does not answer: %v", when, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// awaitObserver waits until the observer answers, which has its own troubles
// when a server was down.
func (s *suite) awaitObserver(t *testing.T) {
	t.Helper()
	began := time.Now()
	for {
		err := probe(t.Context(), s.observer)
		if err == nil {
			return
		}
		if time.Since(began) > s.tooLong() {
			t.Fatalf("the observer does not answer: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// probeTenant has nothing in it.
const probeTenant = "probe"

// probe makes calls of the kinds that take different ways.
func probe(ctx context.Context, store sessiond.Store) error {
	if _, err := store.Get(ctx, nobody); !errors.Is(err, sessiond.ErrNotFound) {
		return fmt.Errorf("get: %w", err)
	}
	if _, err := store.Touch(ctx, nobody, sessiond.Incarnation{}, time.Time{}); !errors.Is(err, sessiond.ErrNotFound) {
		return fmt.Errorf("touch: %w", err)
	}
	if _, err := store.List(ctx, sessiond.Query{Tenant: probeTenant, Limit: 1}); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if _, err := store.Events(ctx, sessiond.EventQuery{Tenant: probeTenant, Limit: 1}); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	if _, err := store.Stats(ctx); err != nil {
		return fmt.Errorf("stats: %w", err)
	}
	return nil
}

// summary counts the answers.
func summary(scenes []*scene) string {
	var text strings.Builder
	var slowest time.Duration
	counts := make(map[outcome]int)
	for _, c := range scenes {
		counts[c.outcome()]++
		slowest = max(slowest, c.took)
	}
	fmt.Fprintf(&text, "%d operations: %d done, %d not applied, %d unknown, slowest %v", len(scenes),
		counts[done], counts[undone], counts[uncertain], slowest.Round(time.Millisecond))
	return text.String()
}
