package consistency

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

// An observation is what one operation was told of the store's time.
type observation struct {
	mu   sync.Mutex
	seen Span
}

type observationKey struct{}

// restart forgets what was told before: an update function runs anew.
func (o *observation) restart(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = exactly(now.UnixMilli())
}

// unless forgets the time that an update function was given, when the record was
// gone afterwards: the store looked again, later, and does not tell when.
func (o *observation) unless(err error) {
	if errors.Is(err, sessiond.ErrNotFound) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen = Span{}
	}
}

func (o *observation) add(now time.Time) {
	if now.IsZero() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	at := now.UnixMilli()
	if o.seen == (Span{}) {
		o.seen = exactly(at)
	}
	o.seen = Span{min(o.seen.Lo, at), max(o.seen.Hi, at)}
}

func (o *observation) span() Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// An observed store notes the times that its answers carry with the operation
// in whose context they are asked for. Stores that answer from memory it makes
// yield, so that operations overlap on few processors.
type observed struct {
	sessiond.Store
	yield bool
}

func observing(ctx context.Context) *observation {
	if o, ok := ctx.Value(observationKey{}).(*observation); ok {
		return o
	}
	return &observation{} // a call of the background work
}

func (s *observed) pause() {
	if !s.yield {
		return
	}
	for range rand.IntN(4) {
		runtime.Gosched()
	}
}

// Create implements [sessiond.Store].
func (s *observed) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	s.pause()
	defer s.pause()
	res, err := s.Store.Create(ctx, c)
	observing(ctx).add(res.Now)
	return res, err
}

// Get implements [sessiond.Store].
func (s *observed) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	s.pause()
	defer s.pause()
	res, err := s.Store.Get(ctx, k)
	observing(ctx).add(res.Now)
	return res, err
}

// Update implements [sessiond.Store].
func (s *observed) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	s.pause()
	defer s.pause()
	o := observing(ctx)
	res, err := s.Store.Update(ctx, k, func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		o.restart(now)
		return fn(now, r)
	})
	o.unless(err)
	o.add(res.Now)
	return res, err
}

// Touch implements [sessiond.Store].
func (s *observed) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	s.pause()
	defer s.pause()
	res, err := s.Store.Touch(ctx, k, inc, at)
	observing(ctx).add(res.Now)
	return res, err
}

// Erase implements [sessiond.Store].
func (s *observed) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	s.pause()
	defer s.pause()
	o := observing(ctx)
	err := s.Store.Erase(ctx, k, func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		o.restart(now)
		return fn(now, r)
	})
	o.unless(err)
	return err
}
