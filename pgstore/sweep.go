package pgstore

import (
	"context"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

// Numbers of advisory locks, from the name of this program. Those of subjects are
// pairs, which are numbers apart.
const (
	sweepLock   int64 = 0x73657373696f6e64
	migrateLock int64 = sweepLock + 1
)

// Sweep implements [sessiond.Store]. A pass is a series of short statements, each
// of which holds the sweeper's lock for itself only; when another process has
// it, the pass is over.
func (s *Store) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.SweepResult{}, err
	}
	defer s.gate.RUnlock()
	if !s.sweeping.TryLock() {
		return sessiond.SweepResult{}, nil
	}
	defer s.sweeping.Unlock()
	sw := &sweep{s: s, p: p}
	err := sw.run(ctx)
	if sw.res.Idle+sw.res.Absolute > 0 {
		s.feed.kick()
	}
	if err != nil && ctx.Err() == nil && sw.res != (sessiond.SweepResult{}) {
		err = fmt.Errorf("pgstore: sweep: broken off after a part was done: %w: %v", sessiond.ErrUnknown, err)
	}
	return sw.res, err
}

// A sweep is one pass.
type sweep struct {
	s   *Store
	p   sessiond.SweepParams
	res sessiond.SweepResult
}

// sweepBatch is how many rows a statement locks; they have the same number.
const sweepBatch = 100

// maxFolded is how many changes of counters the statement adds at once.
const maxFolded = 10_000

// maxTrimmed is how many events the statement forgets at once.
const maxTrimmed = 5000

func (sw *sweep) run(ctx context.Context) error {
	found, err := sw.look(ctx)
	if err != nil {
		return err
	}
	if found.nothing() {
		return nil
	}
	mine := true
	for _, step := range []struct {
		needed bool
		do     func(context.Context) (bool, error)
	}{
		{found.filed > 0, sw.expire}, {found.removable, sw.remove}, {found.trimmable, sw.trim}, {found.changed, sw.fold},
	} {
		if !step.needed {
			continue
		}
		if mine, err = step.do(ctx); err != nil || !mine {
			return err
		}
	}
	if found, err = sw.look(ctx); err != nil {
		return err
	}
	sw.res.Backlog, sw.res.Lag = found.backlog, found.lag
	sw.res.More = found.backlog > 0 || found.removable || sw.res.Trimmed == maxTrimmed || found.filed > sweepBatch
	return nil
}

// A look is what there is to do.
type look struct {
	filed, backlog                int
	lag                           time.Duration
	removable, trimmable, changed bool
}

func (l *look) nothing() bool { return l.filed == 0 && !l.removable && !l.trimmable && !l.changed }

func (sw *sweep) look(ctx context.Context) (look, error) {
	a := sw.s.timed(lookSQL).int("retention", sw.p.Retention.Milliseconds())
	a.int("event_retention", sw.p.EventRetention.Milliseconds()).int("keep", sw.p.MaxEvents)
	var l look
	err := sw.s.read(ctx, a, func(r *row) error {
		l.filed, l.backlog, l.lag = int(r.int()), int(r.int()), time.Duration(r.int())*time.Millisecond
		l.removable, l.trimmable, l.changed = r.bool(), r.bool(), r.bool()
		return nil
	})
	return l, err
}

// step runs a statement of the pass, of which the first column tells whether it was
// this sweeper's turn.
func (sw *sweep) step(ctx context.Context, a *args, dst ...*int) (mine bool, err error) {
	err = sw.s.write(ctx, a, func(r *row) error {
		mine = r.bool()
		for _, d := range dst {
			*d = int(r.int())
		}
		return nil
	})
	return mine, err
}

// locked begins the arguments of a statement of the pass that reads the clock.
func (sw *sweep) locked(st *statement) *args { return sw.s.timed(st).int("lock", sweepLock) }

// expire ends what is due, up to the limit. Filing touched sessions anew is
// cheaper, and bounded as well.
func (sw *sweep) expire(ctx context.Context) (mine bool, err error) {
	limit := max(1, sw.p.Limit)
	for seen, ended := 0, 0; ended < limit && seen < 4*limit+sweepBatch; {
		var due, idle, absolute int
		mine, err = sw.step(ctx, sw.locked(expireSQL).int("most", int64(limit-ended)), &due, &idle, &absolute)
		if err != nil || !mine {
			return mine, err
		}
		seen, ended = seen+due, ended+idle+absolute
		sw.res.Idle += idle
		sw.res.Absolute += absolute
		if due < sweepBatch {
			break
		}
	}
	return true, nil
}

func (sw *sweep) remove(ctx context.Context) (mine bool, err error) {
	limit := max(1, sw.p.Limit)
	for sw.res.Removed < limit {
		most, removed := min(sweepBatch, limit-sw.res.Removed), 0
		a := sw.locked(removeSQL).int("most", int64(most)).int("retention", sw.p.Retention.Milliseconds())
		mine, err = sw.step(ctx, a, &removed)
		if err != nil || !mine {
			return mine, err
		}
		if sw.res.Removed += removed; removed < most {
			break
		}
	}
	return true, nil
}

func (sw *sweep) trim(ctx context.Context) (mine bool, err error) {
	a := sw.locked(trimSQL).int("retention", sw.p.EventRetention.Milliseconds()).int("keep", sw.p.MaxEvents)
	mine, err = sw.step(ctx, a, &sw.res.Trimmed)
	if err != nil || !mine {
		return mine, err
	}
	return true, sw.s.write(ctx, forgetSQL.args().int("lock", sweepLock), noRows)
}

// fold adds up the counters. What is left for the next pass costs Stats a little.
func (sw *sweep) fold(ctx context.Context) (mine bool, err error) {
	for range 10 {
		folded := 0
		if mine, err = sw.step(ctx, foldSQL.args().int("lock", sweepLock), &folded); err != nil || !mine {
			return mine, err
		}
		if folded < maxFolded {
			break
		}
	}
	return true, sw.s.write(ctx, pruneSQL.args().int("lock", sweepLock), noRows)
}

func noRows(*row) error { return nil }
