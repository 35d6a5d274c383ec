package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

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
	a := s.now()
	a["tenant"], a["id"] = k.Tenant, string(k.ID)
	var r stored
	var now int64
	err := s.read(ctx, getSQL, a, func(rows pgx.Rows) (err error) {
		r, err = new(row).scan(rows, &now)
		return err
	})
	switch {
	case err != nil:
		return stored{}, time.Time{}, err
	case r.rec == nil:
		return stored{}, time.Time{}, sessiond.ErrNotFound
	}
	if at := s.at(now); !overdue(r.rec, at) {
		return r, at, nil
	}
	again, at, err := s.relook(ctx, []sessiond.Key{k})
	if err != nil {
		return stored{}, time.Time{}, err
	}
	if r = again[k]; r.rec == nil {
		return stored{}, time.Time{}, sessiond.ErrNotFound
	}
	return r, at, nil
}

// overdue reports whether a deadline of r has passed and nobody has written it down.
func overdue(r *sessiond.Record, now time.Time) bool { return r.EndedAt.IsZero() && !r.Live(now) }

// relook reads records under locks that wait for writers under way. Keys without
// a record are missing in what it returns.
func (s *Store) relook(ctx context.Context, keys []sessiond.Key) (map[sessiond.Key]stored, time.Time, error) {
	a := s.now()
	tenants, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		tenants[i], ids[i] = k.Tenant, string(k.ID)
	}
	a["tenants"], a["ids"] = tenants, ids
	found := make(map[sessiond.Key]stored)
	var now int64
	var r row
	err := s.read(ctx, relookSQL, a, func(rows pgx.Rows) error {
		one, err := r.scan(rows, &now)
		if err == nil {
			found[one.rec.Key] = one
		}
		return err
	})
	return found, s.at(now), err
}
