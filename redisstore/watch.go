package redisstore

import (
	"context"
	"sync"
	"time"
)

// A feed wakes those who wait for events. While there are any, one goroutine looks at the
// heads of all partitions: now and then for what other processes do, and at once after
// changes of this one.
type feed struct {
	changed chan struct{} // holds a token when this process has made an event

	mu       sync.Mutex
	waiters  int
	watching bool          // there is the goroutine
	joined   bool          // somebody has begun to wait since the last look began
	begun    uint64        // number of the last look that has begun
	latest   *heads        // what the last look has found
	err      error         // or why there is none
	number   uint64        // of that look
	looked   chan struct{} // closed by a look that found something new
}

const (
	lookEvery = 100 * time.Millisecond
	lookPause = 5 * time.Millisecond // between looks, however many changes there are
)

func (f *feed) init() {
	f.changed = make(chan struct{}, 1)
	f.looked = make(chan struct{})
}

// poke tells that this process has made an event.
func (f *feed) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// wait returns when the heads are others than h, or nil when the deadline has passed.
// The caller is in a call of the store.
func (f *feed) wait(ctx context.Context, s *Store, h *heads, deadline <-chan time.Time) (*heads, error) {
	f.mu.Lock()
	f.waiters++
	f.joined = true
	need := f.begun + 1 // an earlier look may have found less than h
	if !f.watching {
		f.watching = true
		s.calls.Add(1)
		go f.watch(s)
	}
	looked := f.looked
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.waiters--
		f.mu.Unlock()
	}()
	for {
		select {
		case <-looked:
		case <-s.closing:
			return nil, errClosed
		case <-deadline:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		f.mu.Lock()
		latest, number, err := f.latest, f.number, f.err
		looked = f.looked
		f.mu.Unlock()
		switch {
		case number < need:
		case err != nil:
			return nil, err
		case *latest != *h:
			return latest, nil
		}
	}
}

// watch looks as long as somebody waits.
func (f *feed) watch(s *Store) {
	defer s.calls.Done()
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		joined, ok := f.beginLook()
		if !ok {
			return
		}
		h, err := s.probe(context.Background())
		f.publish(h, err, joined)
		timer.Reset(lookPause)
		select {
		case <-timer.C:
		case <-s.closing:
		}
		timer.Reset(lookEvery)
		select {
		case <-f.changed:
		case <-timer.C:
		case <-s.closing: // the waiters go, too
		}
	}
}

// beginLook reports whether anybody began to wait since the last look, and whether
// anybody waits at all.
func (f *feed) beginLook() (joined, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiters == 0 {
		f.watching, f.latest, f.err = false, nil, nil
		return false, false
	}
	joined, f.joined = f.joined, false
	f.begun++
	return joined, true
}

// publish wakes the waiters if some of them may not have seen this.
func (f *feed) publish(h *heads, err error, joined bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	same := err == nil && f.err == nil && f.latest != nil && *f.latest == *h
	f.latest, f.err, f.number = h, err, f.begun
	if !same || joined {
		close(f.looked)
		f.looked = make(chan struct{})
	}
}
