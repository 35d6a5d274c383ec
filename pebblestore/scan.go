package pebblestore

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// Scan implements [sessiond.Store]. It reads one snapshot.
func (s *Store) Scan(ctx context.Context, from sessiond.Key, limit int) ([]*sessiond.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.gate.RUnlock()
	snap := s.db.NewSnapshot()
	last := s.last.Load() // everything in the snapshot is in it or before it
	records, err := s.scan(ctx, snap, from, limit)
	if err = errors.Join(err, snap.Close()); err != nil {
		return nil, err
	}
	if err := last.wait(); err != nil {
		return nil, err
	}
	return records, nil
}

func (s *Store) scan(
	ctx context.Context, snap *pebble.Snapshot, from sessiond.Key, limit int,
) (records []*sessiond.Record, err error) {
	lower := []byte{keyRecord}
	if from != (sessiond.Key{}) {
		// The smallest key that is larger.
		lower = append(appendNamed(nil, keyRecord, from), 0)
	}
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{keyRecord + 1}})
	if err != nil {
		return nil, unavailable(err)
	}
	defer func() {
		if closed := it.Close(); closed != nil {
			err = errors.Join(err, unavailable(closed))
		}
	}()
	now := s.now()
	for ok := it.First(); ok && len(records) < limit; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k, err := parseNamed(it.Key())
		if err != nil {
			return nil, unavailable(err)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, unavailable(err)
		}
		st, err := decodeRecord(k, string(v))
		if err != nil {
			return nil, unavailable(err)
		}
		records = append(records, st.rec.At(now))
	}
	if err := it.Error(); err != nil {
		return nil, unavailable(err)
	}
	return records, nil
}
