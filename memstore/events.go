package memstore

import (
	"context"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

// An eventLog is the feed: events numbered from 1 in the order of their changes.
type eventLog struct {
	events  []logged      // the ones kept, without gaps
	next    uint64        // number of the next event
	changed chan struct{} // closed when an event is appended
}

type logged struct {
	at    time.Time
	event sessiond.Event
}

func newEventLog() eventLog { return eventLog{next: 1, changed: make(chan struct{})} }

func (l *eventLog) append(now time.Time, events ...sessiond.Event) {
	for _, e := range events {
		l.events = append(l.events, logged{now, e})
		l.next++
	}
	l.wake()
}

func (l *eventLog) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// first is the number of the oldest event kept.
func (l *eventLog) first() uint64 { return l.next - uint64(len(l.events)) }

// trim forgets events from before a time and the oldest beyond keep.
func (l *eventLog) trim(before time.Time, keep int64) (trimmed int) {
	for trimmed < len(l.events) &&
		(int64(len(l.events)-trimmed) > keep || l.events[trimmed].at.Before(before)) {
		trimmed++
	}
	clear(l.events[:trimmed]) // what append leaves behind must not hold on to it
	l.events = l.events[trimmed:]
	return trimmed
}

// Events implements [sessiond.Store].
func (s *Store) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	deadline := time.NewTimer(q.Wait)
	defer deadline.Stop()
	for wait := true; ; {
		if _, err := s.begin(ctx); err != nil {
			return sessiond.EventBatch{}, err
		}
		batch := s.batch(q)
		changed := s.log.changed
		s.mu.Unlock()
		if len(batch.Events) > 0 || batch.Reset || q.After == "" || !wait || q.Wait <= 0 {
			return batch, nil
		}
		q.After = batch.Position
		select {
		case <-changed:
		case <-deadline.C:
			wait = false
		case <-ctx.Done():
			return sessiond.EventBatch{}, ctx.Err()
		}
	}
}

// batch is what there is after q.After now.
func (s *Store) batch(q sessiond.EventQuery) sessiond.EventBatch {
	next := s.log.next
	if q.After == "" {
		return sessiond.EventBatch{Position: s.position(next)}
	}
	var batch sessiond.EventBatch
	from, ok := s.parsePosition(q.After)
	if !ok || from < s.log.first() || from > next {
		from, batch.Reset = s.log.first(), true
	}
	for ; from < next && len(batch.Events) < q.Limit; from++ {
		if e := s.log.events[from-s.log.first()].event; e.Tenant == q.Tenant {
			batch.Events = append(batch.Events, e)
		}
	}
	batch.Position = s.position(from)
	return batch
}

// A position is the store's epoch and the number of the next event to read.
func (s *Store) position(next uint64) sessiond.Position {
	return sessiond.Position(fmt.Sprintf("%016x%016x", s.epoch, next))
}

func (s *Store) parsePosition(p sessiond.Position) (next uint64, ok bool) {
	var epoch uint64
	if len(p) != 32 {
		return 0, false
	}
	if _, err := fmt.Sscanf(string(p), "%016x%016x", &epoch, &next); err != nil || epoch != s.epoch {
		return 0, false
	}
	return next, s.position(next) == p
}
