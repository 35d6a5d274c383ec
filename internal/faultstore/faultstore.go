// Package faultstore wraps a [sessiond.Store] so that tests can make chosen
// calls fail, lose their reply or wait. It fails calls in the two forms that
// matter to callers: not applied, and applied without anyone being told.
package faultstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

// An Op names a method of [sessiond.Store].
type Op string

// The operations that faults can be asked for. Any stands for all of them.
const (
	Any    Op = "any"
	Create Op = "create"
	Get    Op = "get"
	Update Op = "update"
	Touch  Op = "touch"
	Erase  Op = "erase"
	List   Op = "list"
	Scan   Op = "scan"
	Events Op = "events"
	Sweep  Op = "sweep"
	Stats  Op = "stats"
)

// A Fault is a way to fail.
type Fault int

// The two faults.
const (
	// Refused: the call does not reach the store and returns ErrUnavailable.
	Refused Fault = iota + 1
	// ReplyLost: the call reaches the store. If it succeeds there, a write
	// returns ErrUnknown and a read ErrUnavailable; an error comes through as
	// it is.
	ReplyLost
)

// A Store passes calls to the store below, except for those it was asked to
// spoil. Without a plan it changes nothing. It is safe for concurrent use.
type Store struct {
	below sessiond.Store

	mu    sync.Mutex
	calls map[Op]int
	plans []*plan
	delay map[Op]time.Duration
}

// A plan spoils one call, or all of them.
type plan struct {
	op     Op
	skip   int // calls to let pass before
	always bool
	fault  Fault // 0: none
	held   *Held // nil: no wait
}

// New wraps s.
func New(s sessiond.Store) *Store {
	return &Store{below: s, calls: make(map[Op]int), delay: make(map[Op]time.Duration)}
}

// FailNext spoils the next call of op.
func (s *Store) FailNext(op Op, f Fault) { s.FailNth(op, 1, f) }

// FailNth spoils the n-th call of op from now on, counted from 1.
func (s *Store) FailNth(op Op, n int, f Fault) { s.plan(&plan{op: op, skip: n - 1, fault: f}) }

// FailAlways spoils every call of op until [Store.Heal].
func (s *Store) FailAlways(op Op, f Fault) { s.plan(&plan{op: op, always: true, fault: f}) }

// Heal forgets all faults and delays that are still to come. Calls that are
// held stay held.
func (s *Store) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = nil
	clear(s.delay)
}

// Delay makes every call of op wait for d before it reaches the store, or
// until its context ends.
func (s *Store) Delay(op Op, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay[op] = d
}

// Hold makes the next call of op wait, before it reaches the store, until it is
// released or its context ends.
func (s *Store) Hold(op Op) *Held {
	h := &Held{arrived: make(chan struct{}), released: make(chan struct{})}
	s.plan(&plan{op: op, held: h})
	return h
}

// Calls is how often op was called, the spoiled calls included.
func (s *Store) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op != Any {
		return s.calls[op]
	}
	total := 0
	for _, n := range s.calls {
		total += n
	}
	return total
}

// A Held is a call that waits.
type Held struct {
	arrived, released chan struct{}
	once              sync.Once
}

// Arrived is closed when the call has come and waits.
func (h *Held) Arrived() <-chan struct{} { return h.arrived }

// Release lets the call go on, or pass at once if it has not come yet.
func (h *Held) Release() { h.once.Do(func() { close(h.released) }) }

func (s *Store) plan(p *plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = append(s.plans, p)
}

// take counts a call and finds the plan for it. The first plan that is due
// counts; the others of the operation come one call closer.
func (s *Store) take(op Op) (due *plan, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	for _, p := range s.plans {
		switch {
		case p.op != op && p.op != Any:
		case p.skip > 0:
			p.skip--
		case due == nil:
			due = p
		}
	}
	if due != nil && !due.always {
		s.plans = slices.DeleteFunc(s.plans, func(p *plan) bool { return p == due })
	}
	return due, s.delay[op] + s.delay[Any]
}

// enter does what was planned before a call and reports what is left of the plan.
func (s *Store) enter(ctx context.Context, op Op) (Fault, error) {
	p, delay := s.take(op)
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if p == nil {
		return 0, nil
	}
	if p.held != nil {
		close(p.held.arrived)
		select {
		case <-p.held.released:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if p.fault == Refused {
		return 0, fmt.Errorf("%w: injected before %s", sessiond.ErrUnavailable, op)
	}
	return p.fault, nil
}

// call passes one call on. Lost is what its caller sees instead of a success
// whose reply is lost.
func call[T any](ctx context.Context, s *Store, op Op, lost error, do func() (T, error)) (T, error) {
	var none T
	fault, err := s.enter(ctx, op)
	if err != nil {
		return none, err
	}
	res, err := do()
	if err == nil && fault == ReplyLost {
		return none, fmt.Errorf("%w: injected after %s", lost, op)
	}
	return res, err
}

// Create implements [sessiond.Store].
func (s *Store) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	return call(ctx, s, Create, sessiond.ErrUnknown, func() (sessiond.Result, error) {
		return s.below.Create(ctx, c)
	})
}

// Get implements [sessiond.Store].
func (s *Store) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	return call(ctx, s, Get, sessiond.ErrUnavailable, func() (sessiond.Result, error) {
		return s.below.Get(ctx, k)
	})
}

// Update implements [sessiond.Store].
func (s *Store) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	return call(ctx, s, Update, sessiond.ErrUnknown, func() (sessiond.Result, error) {
		return s.below.Update(ctx, k, fn)
	})
}

// Touch implements [sessiond.Store].
func (s *Store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	return call(ctx, s, Touch, sessiond.ErrUnknown, func() (sessiond.Result, error) {
		return s.below.Touch(ctx, k, inc, at)
	})
}

// Erase implements [sessiond.Store].
func (s *Store) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	_, err := call(ctx, s, Erase, sessiond.ErrUnknown, func() (struct{}, error) {
		return struct{}{}, s.below.Erase(ctx, k, fn)
	})
	return err
}

// List implements [sessiond.Store].
func (s *Store) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	return call(ctx, s, List, sessiond.ErrUnavailable, func() (sessiond.Page, error) {
		return s.below.List(ctx, q)
	})
}

// Scan implements [sessiond.Store].
func (s *Store) Scan(ctx context.Context, after sessiond.Key, limit int) ([]*sessiond.Record, error) {
	return call(ctx, s, Scan, sessiond.ErrUnavailable, func() ([]*sessiond.Record, error) {
		return s.below.Scan(ctx, after, limit)
	})
}

// Events implements [sessiond.Store].
func (s *Store) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	return call(ctx, s, Events, sessiond.ErrUnavailable, func() (sessiond.EventBatch, error) {
		return s.below.Events(ctx, q)
	})
}

// Sweep implements [sessiond.Store].
func (s *Store) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	return call(ctx, s, Sweep, sessiond.ErrUnknown, func() (sessiond.SweepResult, error) {
		return s.below.Sweep(ctx, p)
	})
}

// Stats implements [sessiond.Store].
func (s *Store) Stats(ctx context.Context) (sessiond.Stats, error) {
	return call(ctx, s, Stats, sessiond.ErrUnavailable, func() (sessiond.Stats, error) {
		return s.below.Stats(ctx)
	})
}

// Close closes the store below, whatever is planned.
func (s *Store) Close() error { return s.below.Close() }
