package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// Get implements [sessiond.Store].
func (s *Store) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	hash := s.hash(k)
	// A change takes the record out of the cache until it is durable, but a touch does
	// not. Only when it might decide whether the session is over, it has to be waited for.
	if r, now := s.cache.get(hash, k); r != nil && (!r.EndedAt.IsZero() || r.Live(now)) {
		return sessiond.Result{Record: r, Now: now}, nil
	}
	r, now, err := s.read(hash, k)
	if err != nil {
		return sessiond.Result{}, err
	}
	if r == nil {
		return sessiond.Result{}, sessiond.ErrNotFound
	}
	return sessiond.Result{Record: r.At(now), Now: now}, nil
}

// read reads a record, nil if there is none, in step with writers.
func (s *Store) read(hash uint64, k sessiond.Key) (r *sessiond.Record, now time.Time, err error) {
	st := s.stripe(hash)
	st.mu.Lock()
	cur, err := s.load(hash, k, readState)
	now = s.now()
	if err == nil && cur.disk {
		s.keep(hash, &cur)
	}
	st.mu.Unlock()
	if err != nil {
		return nil, now, unavailable(err)
	}
	return cur.rec, now, cur.pend.wait()
}

// readState reads what is stored of k: without record if there is nothing.
func readState(from pebble.Reader, k sessiond.Key) (st state, err error) {
	var buf [200]byte
	err = readValue(from, appendNamed(buf[:0], keyRecord, k), func(v []byte) error {
		st, err = decodeRecord(k, string(v))
		return err
	})
	return st, err
}

// readAbsent is readState for a session that is probably not there. Pebble's Get does not
// ask the filters of the last level, which has most of the keys.
func readAbsent(from pebble.Reader, k sessiond.Key) (st state, err error) {
	it, err := from.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return st, err
	}
	var buf [200]byte
	key := appendNamed(buf[:0], keyRecord, k)
	if !it.SeekPrefixGE(key) {
		return st, errors.Join(it.Error(), it.Close())
	}
	v, err := it.ValueAndErr()
	if err == nil && bytes.Equal(it.Key(), key) {
		st, err = decodeRecord(k, string(v))
	}
	return st, errors.Join(err, it.Close())
}
