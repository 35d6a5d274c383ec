package telemetry

import (
	"context"
	"errors"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
)

// Store wraps s so that its calls within a trace have spans. It changes nothing
// that s answers. Events has none, since it waits for something to happen.
func (t *Tracer) Store(s sessiond.Store) sessiond.Store { return &tracedStore{s, t} }

// A tracedStore is a Store seen by a tracer. The other methods pass through: they
// belong to no request, or wait.
type tracedStore struct {
	sessiond.Store
	t *Tracer
}

// Create implements [sessiond.Store].
func (s *tracedStore) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	ctx, done := s.t.step(ctx, "store", "create")
	res, err := s.Store.Create(ctx, c)
	done(err)
	return res, err
}

// Get implements [sessiond.Store].
func (s *tracedStore) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	ctx, done := s.t.step(ctx, "store", "get")
	res, err := s.Store.Get(ctx, k)
	done(err)
	return res, err
}

// Update implements [sessiond.Store].
func (s *tracedStore) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	ctx, done := s.t.step(ctx, "store", "update")
	var refused error // by fn, which is no failure of the store
	res, err := s.Store.Update(ctx, k, func(now time.Time, r *sessiond.Record) (c sessiond.Change, err error) {
		c, err = fn(now, r)
		refused = err
		return c, err
	})
	done(unless(err, refused))
	return res, err
}

// Touch implements [sessiond.Store].
func (s *tracedStore) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	ctx, done := s.t.step(ctx, "store", "touch")
	res, err := s.Store.Touch(ctx, k, inc, at)
	done(err)
	return res, err
}

// Erase implements [sessiond.Store].
func (s *tracedStore) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	ctx, done := s.t.step(ctx, "store", "erase")
	var refused error
	err := s.Store.Erase(ctx, k, func(now time.Time, r *sessiond.Record) (events []sessiond.Event, err error) {
		events, err = fn(now, r)
		refused = err
		return events, err
	})
	done(unless(err, refused))
	return err
}

// unless is err, or nil when it is what the caller's function returned.
func unless(err, refused error) error {
	if refused != nil && errors.Is(err, refused) {
		return nil
	}
	return err
}

// List implements [sessiond.Store].
func (s *tracedStore) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	ctx, done := s.t.step(ctx, "store", "list")
	page, err := s.Store.List(ctx, q)
	done(err)
	return page, err
}

// kinds are the failures that spans tell apart. A fault is something behind us
// that went wrong; the others are answers.
var kinds = []struct {
	err   error
	name  string
	fault bool
}{
	{sessiond.ErrUnknown, "unknown_outcome", true}, // before what it may wrap
	{sessiond.ErrUnavailable, "unavailable", true},
	{sessiond.ErrSealed, "sealed", true},
	{context.Canceled, "canceled", false},
	{context.DeadlineExceeded, "timeout", true},
	{sessiond.ErrNotFound, "not_found", false},
	{sessiond.ErrEnded, "ended", false},
	{sessiond.ErrExists, "exists", false},
	{sessiond.ErrLimit, "limit", false},
	{sessiond.ErrVersion, "version", false},
	{sessiond.ErrToken, "token", false},
	{sessiond.ErrCursor, "cursor", false},
	{sessiond.ErrMalformed, "malformed", false},
	{sessiond.ErrInvalid, "invalid", false},
}

// failure is the kind of an error. Its text never gets into a span.
func failure(err error) (name string, fault bool) {
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		return refused.Reason, refused.Kind == auth.Unavailable
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.name, k.fault
		}
	}
	return other, true
}
