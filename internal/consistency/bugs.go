package consistency

import (
	"context"
	"math/rand/v2"
	"time"

	"sessiond.example/sessiond"
)

// Retrying is a store with a bug that a test over a real store must find: it does
// again what it does not know to be done. It does not learn of a part of the
// changes that have been made.
type Retrying struct{ sessiond.Store }

func unsure() bool { return rand.IntN(8) == 0 }

// Create implements [sessiond.Store].
func (s *Retrying) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	again := *c.Record
	res, err := s.Store.Create(ctx, c)
	if err == nil && unsure() {
		c.Record = &again
		return s.Store.Create(ctx, c)
	}
	return res, err
}

// Update implements [sessiond.Store].
func (s *Retrying) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	res, err := s.Store.Update(ctx, k, fn)
	if err == nil && unsure() {
		return s.Store.Update(ctx, k, fn)
	}
	return res, err
}
