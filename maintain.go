package sessiond

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// The operations here walk all sessions of all tenants, in batches, at a pace
// that leaves room for requests. They can be repeated, and taken up again where
// they ended.

// Progress tells how far a walk over all sessions has come.
type Progress struct {
	Seen    int64 // records looked at
	Changed int64 // records changed
	Failed  int64 // records whose data can't be opened, which stay as they are
	After   Key   // the walk has come so far; WalkParams.After takes it up again
}

// WalkParams are how to walk.
type WalkParams struct {
	After  Key            // Progress.After of a walk to be taken up. Default: from the beginning
	Pace   int            // records looked at in a second, at most. Default 20,000
	Report func(Progress) // called after every batch, and at the end. Default: none
}

const (
	walkBatch   = 500
	eachWorkers = 32
	defaultPace = 20_000
)

// Reencrypt seals the data of all sessions with the sealer's present key that
// were sealed with another. Version, ETag and times stay, and there is no event.
// When it returns without error and with Failed 0, no data is left that another
// key has sealed, except what other replicas with another present key have
// written since.
func (m *Manager) Reencrypt(ctx context.Context, p WalkParams) (Progress, error) {
	_, primary, err := m.sealer.Seal(nil, nil)
	if err != nil {
		return Progress{}, err
	}
	return m.walk(ctx, p, func(r *Record) error {
		if r.Data == nil || r.DataKey == primary {
			return errUnchanged
		}
		_, err := m.store.Update(ctx, r.Key, func(_ time.Time, r *Record) (Change, error) {
			if r.Data == nil || r.DataKey == primary {
				return Change{}, errUnchanged
			}
			data, err := m.open(r)
			if err != nil {
				return Change{}, err
			}
			return Change{}, m.seal(r, data)
		})
		return err
	})
}

// FenceParams say which sessions are to end, and why.
type FenceParams struct {
	Before time.Time // sessions created earlier end. Required
	Reason EndReason // EndRestored, EndSecurity or EndRevoked. Default EndSecurity
	Note   string    // kept with the records; see ValidText
	WalkParams
}

// Fence ends every live session of every tenant that was created before a time.
// It returns [ErrInvalid] for parameters that are out of bounds.
func (m *Manager) Fence(ctx context.Context, p FenceParams) (Progress, error) {
	if p.Reason == "" {
		p.Reason = EndSecurity
	}
	var v validator
	v.check(!p.Before.IsZero(), "/before", "is required")
	v.check(p.Reason == EndRestored || p.Reason == EndSecurity || p.Reason == EndRevoked, "/reason",
		"must be restored, security or revoked")
	v.check(ValidText(p.Note), "/note", textRule)
	if err := v.err(); err != nil {
		return Progress{}, err
	}
	return m.walk(ctx, p.WalkParams, func(r *Record) error {
		if !r.EndedAt.IsZero() || !r.CreatedAt.Before(p.Before) {
			return errUnchanged
		}
		_, err := m.store.Update(ctx, r.Key, func(now time.Time, r *Record) (Change, error) {
			if !r.CreatedAt.Before(p.Before) {
				return Change{}, errUnchanged
			}
			return m.end(ctx, r, now, p.Reason, p.Note), nil
		})
		return err
	})
}

// walk calls change for every record, several at a time.
func (m *Manager) walk(ctx context.Context, p WalkParams, change func(*Record) error) (Progress, error) {
	done := Progress{After: p.After}
	err := m.batches(ctx, p.After, p.Pace, func(records []*Record) (more bool, err error) {
		changed, failed, err := each(records, change)
		done.Seen += int64(len(records))
		done.Changed += int64(changed)
		done.Failed += int64(failed)
		if err != nil {
			return false, err
		}
		if len(records) > 0 {
			done.After = records[len(records)-1].Key
		}
		if p.Report != nil {
			p.Report(done)
		}
		return true, nil
	})
	return done, err
}

// batches hands all records that users have, from after a key on, to do, until that
// wants no more, at most pace in a second.
func (m *Manager) batches(
	ctx context.Context, after Key, pace int, do func([]*Record) (more bool, err error),
) error {
	if pace <= 0 {
		pace = defaultPace
	}
	for {
		began := time.Now()
		records, err := m.store.Scan(ctx, after, walkBatch)
		if err != nil {
			return err
		}
		last := len(records) < walkBatch
		if len(records) > 0 {
			after = records[len(records)-1].Key
		}
		pause := time.Duration(len(records)) * time.Second / time.Duration(pace)
		records = slices.DeleteFunc(records, func(r *Record) bool { return !ValidTenant(r.Tenant) })
		if more, err := do(records); err != nil || !more || last {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause - time.Since(began)):
		}
	}
}

// each calls change for records side by side, so that stores can commit them
// together, until one fails. Records that change leaves alone (errUnchanged), or
// that are gone or ended meanwhile, are no failures; those whose data can't be
// opened are counted and passed over.
func each(records []*Record, change func(*Record) error) (changed, sealed int, first error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next = make(chan *Record, len(records))
	)
	for _, r := range records {
		next <- r
	}
	close(next)
	for range min(eachWorkers, len(records)) {
		wg.Go(func() {
			for r := range next {
				err := change(r)
				mu.Lock()
				switch {
				case err == nil:
					changed++
				case errors.Is(err, errUnchanged), errors.Is(err, ErrEnded), errors.Is(err, ErrNotFound):
				case errors.Is(err, ErrSealed):
					sealed++
				case first == nil:
					first = err
				}
				stop := first != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	return changed, sealed, first
}
