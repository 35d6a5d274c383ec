package pgstore

import (
	"context"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

// Get implements [sessiond.Store].
func (s *Store) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	r, now, err := s.load(ctx, k)
	if err != nil {
		return sessiond.Result{}, err
	}
	return sessiond.Result{Record: r.rec.At(now), Now: now}, nil
}

// load reads the record of k as it is stored, and the time. A record whose deadline
// has passed without having been written down is read with its row locked: a
// touch that was in time may be on its way to its commit, and must not bring
// back what has been called ended.
func (s *Store) load(ctx context.Context, k sessiond.Key) (stored, time.Time, error) {
	r, at, err := s.reads.get(ctx, k)
	switch {
	case err != nil:
		return stored{}, time.Time{}, err
	case r.rec == nil:
		return stored{}, time.Time{}, sessiond.ErrNotFound
	case !overdue(r.rec, at):
		return r, at, nil
	}
	// Not in a group: the lock may take as long as the writer does.
	again, at, err := s.relook(ctx, []sessiond.Key{k})
	if err != nil {
		return stored{}, time.Time{}, err
	}
	if r = again[k]; r.rec == nil {
		return stored{}, time.Time{}, sessiond.ErrNotFound
	}
	return r, at, nil
}

// readGroup is the read of s.reads.
func (s *Store) readGroup(keys []sessiond.Key) ([]answer, time.Time, error) {
	c, err := s.acquire(context.Background())
	if err != nil {
		return nil, time.Time{}, err
	}
	defer c.Release()
	answers := make([]answer, len(keys))
	var now int64
	err = s.query(c.Conn(), s.until(), s.timed(getSQL).keys(keys), func(r *row) error {
		now = r.int()
		n := r.int() - 1
		if n < 0 || n >= int64(len(keys)) {
			return fmt.Errorf("there is no key %d", n+1)
		}
		a := &answers[n]
		a.stored, a.err = r.fields(keys[n])
		if a.err != nil {
			a.err = readError(getSQL.op, a.err)
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, readError(getSQL.op, err)
	}
	return answers, s.at(now), nil
}

// overdue reports whether a deadline of r has passed and nobody has written it down.
func overdue(r *sessiond.Record, now time.Time) bool { return r.EndedAt.IsZero() && !r.Live(now) }

// relook reads records under locks that wait for writers under way. Keys without
// a record are missing in what it returns.
func (s *Store) relook(ctx context.Context, keys []sessiond.Key) (map[sessiond.Key]stored, time.Time, error) {
	found := make(map[sessiond.Key]stored)
	var now int64
	err := s.read(ctx, s.timed(relookSQL).keys(keys), func(r *row) error {
		now = r.int()
		one, err := r.record()
		if err == nil {
			found[one.rec.Key] = one
		}
		return err
	})
	return found, s.at(now), err
}
