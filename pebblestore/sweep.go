package pebblestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// A frontier is a time before which an index of the sweeper has no entries, so
// that no pass has to step over what earlier ones deleted. It is guarded by commitMu.
type frontier struct {
	set bool
	ms  int64
}

// lower admits an entry at ms.
func (f *frontier) lower(ms int64) {
	if f.set {
		f.ms = min(f.ms, ms)
	}
}

const (
	// sweepBatch is how many sessions are locked and committed together. It bounds
	// how long a reader may have to wait for a stripe.
	sweepBatch = 64
	// sweepAhead is for how many batches a pass goes on before the first of them is settled.
	// Readers of their sessions wait until then. While a pass waits, requests get their turn.
	sweepAhead = 1
	// sweepRun is how many entries of an index are put into the order of their sessions.
	sweepRun = 1024
	// countTo is where a backlog is no longer told exactly.
	countTo = 10_000
	// lookAt is how many entries of the backlog are compared with their records.
	lookAt = 100
)

// Sweep implements [sessiond.Store]. While one pass runs, others do nothing.
func (s *Store) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.SweepResult{}, err
	}
	defer s.gate.RUnlock()
	if !s.sweeping.TryLock() {
		return sessiond.SweepResult{}, nil
	}
	defer s.sweeping.Unlock()
	sw := &sweep{ctx: ctx, s: s, p: p, now: s.now()}
	err := s.disk.room(sw.now, relief)
	if err == nil {
		err = sw.run()
	}
	for _, t := range sw.applied {
		err = errors.Join(err, t.settle())
	}
	return sw.res, err
}

// A sweep is one pass. Its commits wait for the disk together, a few batches later or at the end.
type sweep struct {
	ctx     context.Context
	s       *Store
	p       sessiond.SweepParams
	now     time.Time
	res     sessiond.SweepResult
	seen    int // entries of the due index
	applied []*tx
}

func (sw *sweep) run() error {
	nowMS := sw.now.UnixMilli()
	limit := max(1, sw.p.Limit)
	err := sw.walk(&sw.s.due, keyDue, nowMS, sw.end, func(seen int) int {
		sw.seen = seen
		// Entries of sessions that were touched are cheap and end nothing.
		return min(limit-sw.res.Idle-sw.res.Absolute, 4*limit-seen)
	})
	if err != nil {
		return err
	}
	more, err := sw.removeEnded(limit)
	if err != nil {
		return err
	}
	if err := sw.trim(); err != nil {
		return err
	}
	if err := sw.backlog(nowMS); err != nil {
		return err
	}
	sw.res.More = more || sw.res.Backlog > 0
	return sw.keepClock()
}

func (sw *sweep) removeEnded(limit int) (more bool, err error) {
	until := sw.now.Add(-sw.p.Retention).UnixMilli()
	err = sw.walk(&sw.s.ended, keyEnded, until, sw.remove, func(int) int { return limit - sw.res.Removed })
	if err != nil || sw.res.Removed < limit {
		return false, err
	}
	err = sw.each(&sw.s.ended, keyEnded, until, func([]byte) (bool, error) {
		more = true
		return false, nil
	})
	return more, err
}

// An entry is one of an index of the sweeper.
type entry struct {
	ms  int64
	key sessiond.Key
}

// walk hands the entries up to a time to act, in batches, and moves the frontier
// behind what was done. room says how many more it may take after it has seen some.
func (sw *sweep) walk(f *frontier, kind byte, until int64, act func([]entry) error, room func(seen int) int) error {
	from := sw.s.take(f)
	reached, err := sw.walkFrom(from, kind, until, act, room)
	sw.s.commitMu.Lock()
	f.lower(reached)
	sw.s.commitMu.Unlock()
	return err
}

// walkFrom is walk from a time on, without the frontier.
func (sw *sweep) walkFrom(
	from int64, kind byte, until int64, act func([]entry) error, room func(seen int) int,
) (reached int64, err error) {
	next := appendDueTime(nil, kind, from)
	for seen := 0; ; {
		size := min(sweepRun, room(seen))
		if size <= 0 {
			return from, nil
		}
		entries, err := sw.gather(next, kind, until, size)
		if err != nil {
			return from, err
		}
		if len(entries) == 0 {
			return until + 1, nil
		}
		seen += len(entries)
		last := entries[len(entries)-1]
		next = append(appendDue(nil, kind, last.ms, last.key), 0)
		// Sessions that were made together lie together in the tables.
		slices.SortFunc(entries, func(a, b entry) int {
			return cmp.Or(strings.Compare(a.key.Tenant, b.key.Tenant), strings.Compare(string(a.key.ID), string(b.key.ID)))
		})
		for batch := range slices.Chunk(entries, sweepBatch) {
			if err := act(batch); err != nil {
				return from, err
			}
		}
		from = last.ms
	}
}

// gather reads some entries from a key on.
func (sw *sweep) gather(from []byte, kind byte, until int64, size int) (entries []entry, err error) {
	err = sw.scan(from, kind, until, func(key []byte) (bool, error) {
		ms, k, err := parseDue(key)
		entries = append(entries, entry{ms, k})
		return len(entries) < size, err
	})
	return entries, err
}

// take gives up the frontier for the time of a walk: writers lower it meanwhile.
func (s *Store) take(f *frontier) (from int64) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	from = math.MinInt64
	if f.set {
		from = f.ms
	}
	*f = frontier{set: true, ms: math.MaxInt64}
	return from
}

// each calls fn with the entries up to a time, until it returns false.
func (sw *sweep) each(f *frontier, kind byte, until int64, fn func(key []byte) (bool, error)) error {
	sw.s.commitMu.Lock()
	from := f.ms
	sw.s.commitMu.Unlock()
	return sw.scan(appendDueTime(nil, kind, from), kind, until, fn)
}

func (sw *sweep) scan(from []byte, kind byte, until int64, fn func(key []byte) (bool, error)) error {
	end := appendDueTime(nil, kind, until+1)
	if bytes.Compare(from, end) >= 0 {
		return nil
	}
	it, err := sw.s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: end})
	if err != nil {
		return unavailable(err)
	}
	err = scanDue(it, fn)
	if closed := it.Close(); closed != nil {
		err = errors.Join(err, unavailable(closed))
	}
	return err
}

func scanDue(it *pebble.Iterator, fn func([]byte) (bool, error)) error {
	for ok := it.First(); ok; ok = it.Next() {
		switch goOn, err := fn(it.Key()); {
		case err != nil:
			return unavailable(err)
		case !goOn:
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return unavailable(err)
	}
	return nil
}

// commit runs fn in a transaction for each entry, and settles an earlier one.
func (sw *sweep) commit(batch []entry, fn func(t *tx, hash uint64, e entry, cur *current)) error {
	if len(batch) == sweepBatch { // there is much to do
		sw.s.pacer.swept()
	}
	t, err := sw.apply(batch, fn)
	if err != nil {
		return err
	}
	sw.applied = append(sw.applied, t)
	if len(sw.applied) <= sweepAhead {
		return nil
	}
	t, sw.applied = sw.applied[0], sw.applied[1:]
	return t.settle() // which has less to wait, as it came before
}

// apply applies a transaction with all stripes of the batch locked. They are free again when it
// returns, since settling takes them one by one.
func (sw *sweep) apply(batch []entry, fn func(t *tx, hash uint64, e entry, cur *current)) (*tx, error) {
	s := sw.s
	keys := make([]sessiond.Key, len(batch))
	for i, e := range batch {
		keys[i] = e.key
	}
	defer s.lockAll(keys)()
	records, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyRecord}, UpperBound: []byte{keyRecord + 1}})
	if err != nil {
		return nil, unavailable(err)
	}
	t := s.newTx(s.now())
	read := seekState(records)
	for _, e := range batch {
		hash := s.hash(e.key)
		var cur current
		if cur, err = s.load(hash, e.key, read); err != nil {
			break
		}
		fn(t, hash, e, &cur)
	}
	if err = errors.Join(err, records.Close()); err != nil {
		t.drop()
		return nil, unavailable(err)
	}
	return t, t.apply(sw.ctx)
}

// seekState is readState from an iterator, which costs half of that for sessions in the order of their keys.
func seekState(it *pebble.Iterator) func(pebble.Reader, sessiond.Key) (state, error) {
	var key []byte
	return func(_ pebble.Reader, k sessiond.Key) (st state, err error) {
		key = appendNamed(key[:0], keyRecord, k)
		if !it.SeekGE(key) || !bytes.Equal(it.Key(), key) {
			return st, it.Error()
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return st, err
		}
		return decodeRecord(k, string(v))
	}
}

// end ends sessions whose deadline has passed, and files those again that were
// touched since.
func (sw *sweep) end(batch []entry) error {
	var idle, absolute int
	err := sw.commit(batch, func(t *tx, hash uint64, e entry, cur *current) {
		r := cur.rec
		switch {
		case r == nil || !r.EndedAt.IsZero() || cur.filed != e.ms:
			t.del(appendDue(t.key, keyDue, e.ms, e.key))
		case r.Live(t.now):
			deadline := r.Deadline().UnixMilli()
			t.del(appendDue(t.key, keyDue, e.ms, e.key))
			t.fileDue(deadline, e.key)
			t.tail(hash, &cur.state, r, deadline).cold = true
		default:
			over := *r
			over.Expire()
			t.end(hash, &cur.state, &over).cold = true
			ev := over.EndEvent("")
			t.event(&ev)
			if over.EndReason == sessiond.EndIdle {
				idle++
			} else {
				absolute++
			}
		}
	})
	if err == nil {
		sw.res.Idle += idle
		sw.res.Absolute += absolute
	}
	return err
}

// remove removes records whose retention is over.
func (sw *sweep) remove(batch []entry) error {
	removed := 0
	err := sw.commit(batch, func(t *tx, hash uint64, e entry, cur *current) {
		if cur.rec == nil || cur.rec.EndedAt.UnixMilli() != e.ms {
			t.del(appendDue(t.key, keyEnded, e.ms, e.key))
			return
		}
		t.remove(hash, &cur.state)
		removed++
	})
	if err == nil {
		sw.res.Removed += removed
	}
	return err
}

// backlog counts what is due and tells how late it is. It does not count anew while an earlier pass has counted so many
// that there are enough left.
func (sw *sweep) backlog(nowMS int64) error {
	const ahead = 2 * countTo
	seen, left := 0, max(0, sw.s.overdue-sw.seen)
	err := sw.each(&sw.s.due, keyDue, nowMS, func(key []byte) (bool, error) {
		ms, session, err := cutDue(key)
		if err != nil {
			return false, err
		}
		if seen++; seen <= lookAt {
			k, err := parseSession(session)
			if err != nil {
				return false, err
			}
			st, err := readState(sw.s.db, k)
			if err != nil {
				return false, err
			}
			if st.rec == nil || !st.rec.EndedAt.IsZero() || st.rec.Live(sw.now) {
				return true, nil
			}
			ms = st.rec.Deadline().UnixMilli()
		}
		sw.res.Lag = max(sw.res.Lag, time.Duration(nowMS-ms)*time.Millisecond)
		if seen > lookAt && left >= countTo {
			sw.res.Backlog = left
			return false, nil
		}
		sw.res.Backlog++
		return sw.res.Backlog < ahead, nil
	})
	sw.s.overdue = sw.res.Backlog
	sw.res.Backlog = min(sw.res.Backlog, countTo)
	return err
}

// trim removes events that are too old or too many. It waits until there are enough
// to be worth it, so that a large feed is not cut every second.
func (sw *sweep) trim() error {
	s := sw.s
	s.commitMu.Lock()
	next := s.nextEvent
	s.commitMu.Unlock()
	first := s.firstKept.Load()
	kept := next - first
	cut := first
	if most := uint64(max(0, sw.p.MaxEvents)); kept > most {
		cut = next - most
	}
	cut, err := sw.firstSince(cut, next, sw.now.Add(-sw.p.EventRetention).UnixMilli())
	if err != nil {
		return err
	}
	const share = 256
	if cut == first || cut-first < kept/share {
		return nil
	}
	t := s.newTx(sw.now)
	t.keep(t.b.DeleteRange(appendEventKey(nil, first), appendEventKey(nil, cut), nil))
	t.setNumber(append(t.key, metaFeed...), cut)
	if err := t.apply(sw.ctx); err != nil {
		return err
	}
	sw.applied = append(sw.applied, t)
	s.firstKept.Store(cut)
	sw.res.Trimmed = int(cut - first)
	return nil
}

// firstSince is the number of the first event from low up to high that was appended at
// a time or later. Times rise with the numbers.
func (sw *sweep) firstSince(low, high uint64, since int64) (uint64, error) {
	for low < high {
		mid := low + (high-low)/2
		var at int64
		found := false
		err := readValue(sw.s.db, appendEventKey(nil, mid), func(v []byte) (err error) {
			found = true
			at, err = eventTime(v)
			return err
		})
		if err == nil && !found {
			err = corrupt("feed lacks event %d", mid)
		}
		if err != nil {
			return 0, unavailable(err)
		}
		if at >= since {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}

// keepClock writes the clock when no commit has done so for a while.
func (sw *sweep) keepClock() error {
	s := sw.s
	s.commitMu.Lock()
	due := sw.now.UnixMilli()-s.clockAt >= clockInterval
	s.commitMu.Unlock()
	if !due {
		return nil
	}
	return s.writeClock()
}
