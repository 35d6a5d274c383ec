package pebblestore

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// A feed knows how far events are durable, and wakes those who wait for more.
type feed struct {
	synced  atomic.Uint64 // events below this number may be told
	mu      sync.Mutex
	changed chan struct{} // closed by the next advance; nil when nobody waits
}

// advance makes events below next visible.
func (f *feed) advance(next uint64) {
	for {
		synced := f.synced.Load()
		if next <= synced {
			return
		}
		if f.synced.CompareAndSwap(synced, next) {
			f.wake()
			return
		}
	}
}

func (f *feed) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// wait returns a channel that is closed when there is more than there is now.
func (f *feed) wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// Events implements [sessiond.Store].
func (s *Store) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	deadline := time.NewTimer(q.Wait)
	defer deadline.Stop()
	for wait := q.Wait > 0; ; {
		changed := s.feed.wait()
		batch, err := s.batch(ctx, q)
		if err != nil || len(batch.Events) > 0 || batch.Reset || q.After == "" || !wait {
			return batch, err
		}
		q.After = batch.Position
		select {
		case <-changed:
		case <-s.closing:
		case <-deadline.C:
			wait = false
		case <-ctx.Done():
			return sessiond.EventBatch{}, ctx.Err()
		}
	}
}

// batch is what there is after q.After now.
func (s *Store) batch(ctx context.Context, q sessiond.EventQuery) (batch sessiond.EventBatch, err error) {
	if err := s.begin(ctx); err != nil {
		return batch, err
	}
	defer s.gate.RUnlock()
	next := s.feed.synced.Load()
	if q.After == "" {
		batch.Position = s.position(next)
		return batch, nil
	}
	from, ok := s.parsePosition(q.After)
	if first := s.firstKept.Load(); !ok || from < first || from > next {
		// Trimming may be ahead of what is known to be durable.
		from, batch.Reset = min(first, next), true
	}
	if from < next {
		if from, err = s.readEvents(ctx, &batch, q, from, next); err != nil {
			return sessiond.EventBatch{}, err
		}
	}
	batch.Position = s.position(from)
	return batch, nil
}

// readEvents adds events numbered from up to next to the batch and returns the number
// after the last one looked at.
func (s *Store) readEvents(
	ctx context.Context, batch *sessiond.EventBatch, q sessiond.EventQuery, from, next uint64,
) (uint64, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendEventKey(nil, from), UpperBound: appendEventKey(nil, next),
	})
	if err != nil {
		return 0, unavailable(err)
	}
	from, err = collectEvents(ctx, it, batch, q, from, next)
	if closed := it.Close(); closed != nil {
		err = errors.Join(err, unavailable(closed))
	}
	return from, err
}

func collectEvents(
	ctx context.Context, it *pebble.Iterator, batch *sessiond.EventBatch, q sessiond.EventQuery, from, next uint64,
) (uint64, error) {
	const checkEvery = 1024
	start := from
	for ok := it.First(); ok && len(batch.Events) < q.Limit; ok = it.Next() {
		if from%checkEvery == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if len(it.Key()) != 9 {
			return 0, unavailable(corrupt("feed key"))
		}
		if seq := binary.BigEndian.Uint64(it.Key()[1:]); seq != from {
			if from != start {
				return 0, unavailable(corrupt("feed lacks event %d", from))
			}
			from, batch.Reset = seq, true // trimmed since the position was checked
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, unavailable(err)
		}
		e, err := decodeEvent(v)
		if err != nil {
			return 0, unavailable(err)
		}
		if e.Tenant == q.Tenant {
			batch.Events = append(batch.Events, e)
		}
		from++
	}
	if err := it.Error(); err != nil {
		return 0, unavailable(err)
	}
	if len(batch.Events) < q.Limit && from < next {
		from, batch.Reset = next, true // all of it was trimmed
	}
	return from, nil
}

// A position is the store's epoch and the number of the next event to read.
func (s *Store) position(next uint64) sessiond.Position {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), s.epoch)
	return sessiond.Position(hex.EncodeToString(binary.BigEndian.AppendUint64(b, next)))
}

func (s *Store) parsePosition(p sessiond.Position) (next uint64, ok bool) {
	var b [16]byte
	if len(p) != 32 {
		return 0, false
	}
	if _, err := hex.Decode(b[:], []byte(p)); err != nil || binary.BigEndian.Uint64(b[:]) != s.epoch {
		return 0, false
	}
	next = binary.BigEndian.Uint64(b[8:])
	return next, s.position(next) == p
}
