package sessiond

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Touch records activity of the session's holder now, exactly and durably. It
// changes neither version nor ETag.
//
// It returns [ErrNotFound] or an [*EndedError].
func (m *Manager) Touch(ctx context.Context, id ID) (_ *Session, err error) {
	ctx, done := m.span(ctx, "touch")
	defer func() { done(err) }()
	if !validID(string(id)) {
		return nil, ErrNotFound
	}
	res, err := m.store.Touch(ctx, m.key(id), Incarnation{}, time.Time{})
	if err != nil {
		return nil, m.writeError(res, err)
	}
	return m.tagged(res.Record)
}

// A touch is activity that Verify saw and that is still to be recorded.
type touch struct {
	key         Key
	incarnation Incarnation
	at          time.Time
}

// A touchQueue holds the touches on their way to the store: one for each
// session at most. When it is full, further ones are dropped; the next Verify
// of the session offers one again.
type touchQueue struct {
	mu      sync.Mutex
	waiting map[Key]struct{}
	ch      chan touch
}

const (
	touchQueueSize = 10_000
	touchWorkers   = 32
)

func (q *touchQueue) init() {
	q.waiting = make(map[Key]struct{})
	q.ch = make(chan touch, touchQueueSize)
}

func (q *touchQueue) add(t touch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.waiting[t.key]; ok {
		return
	}
	select {
	case q.ch <- t:
		q.waiting[t.key] = struct{}{}
	default:
	}
}

func (q *touchQueue) done(k Key) {
	q.mu.Lock()
	delete(q.waiting, k)
	q.mu.Unlock()
}

// recordTouches records queued touches until ctx ends, and then those that are
// left, for up to a second.
func (c *core) recordTouches(ctx context.Context) {
	ctxWrite, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, cancel) })()
	var wg sync.WaitGroup
	for range touchWorkers {
		wg.Go(func() {
			for ctx.Err() == nil {
				select {
				case t := <-c.touches.ch:
					c.recordTouch(ctxWrite, t)
				case <-ctx.Done():
				}
			}
			for ctxWrite.Err() == nil {
				select {
				case t := <-c.touches.ch:
					c.recordTouch(ctxWrite, t)
				default:
					return
				}
			}
		})
	}
	wg.Wait()
}

func (c *core) recordTouch(ctx context.Context, t touch) {
	_, err := c.store.Touch(ctx, t.key, t.incarnation, t.at)
	c.touches.done(t.key)
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrEnded):
	default:
		// The next Verify offers the touch again; an idle deadline comes early by
		// up to one interval at worst.
		c.logger.Warn("activity not recorded", "session_id", string(t.key.ID), "tenant", t.key.Tenant, "err", err)
	}
}
