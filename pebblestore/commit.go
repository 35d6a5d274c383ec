package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// A commit is a batch on its way to the disk. Commits become durable in the order
// of their numbers.
type commit struct {
	number    uint64
	nextEvent uint64 // number of the first event after it
	done      sync.WaitGroup
	err       error // valid when done
}

// wait returns when the commit is durable. A nil commit is.
func (c *commit) wait() error {
	if c == nil {
		return nil
	}
	c.done.Wait()
	return c.err
}

// A change is the new state of one session in a commit; without a record when
// the session was removed.
type change struct {
	state
	key    sessiond.Key
	hash   uint64
	commit *commit
	touch  bool // readers may see the state before until the change is durable
	cold   bool // not worth the cache
}

// A tx collects what is to be committed together. The caller holds the stripes of
// all sessions it changes, from loading them until apply returns. Its memory is used
// again, so nothing else keeps parts of it after drop and settle; others wait for its commit.
type tx struct {
	s       *Store
	b       *pebble.Batch
	now     time.Time
	changes []*change
	first   change // of most transactions the only one
	events  []byte // one after the other
	ends    []int  // of each of them
	counts  []count
	due     int64 // earliest entries made in the indexes of the sweeper
	ended   int64
	key     []byte // scratch
	value   []byte // scratch
	err     error  // first error of the batch
	*commit
}

// maxPooled is the memory in bytes that a transaction may keep for the next one.
const maxPooled = 64 << 10

// A counter counts records: those of a tenant that are not written down as ended,
// or those whose data a key has sealed.
type counter struct {
	tenant string
	key    uint32
}

type count struct {
	counter
	n int64
}

func (s *Store) newTx(now time.Time) *tx {
	t, ok := s.txs.Get().(*tx)
	if !ok {
		t = &tx{s: s}
	}
	t.b, t.now, t.due, t.ended, t.commit = s.db.NewBatch(), now, math.MaxInt64, math.MaxInt64, &commit{}
	return t
}

func (t *tx) keep(err error) {
	if t.err == nil {
		t.err = err
	}
}

// set writes a key that was appended to t.key.
func (t *tx) set(key, value []byte) {
	t.key = key[:0]
	t.keep(t.b.Set(key, value, nil))
}

func (t *tx) setNumber(key []byte, n uint64) {
	t.value = binary.BigEndian.AppendUint64(t.value[:0], n)
	t.set(key, t.value)
}

// del deletes a key that was appended to t.key.
func (t *tx) del(key []byte) {
	t.key = key[:0]
	t.keep(t.b.Delete(key, nil))
}

// merge writes an operand for a key that was appended to t.key.
func (t *tx) merge(key, operand []byte) {
	t.key = key[:0]
	t.keep(t.b.Merge(key, operand, nil))
}

func (t *tx) event(e *sessiond.Event) {
	t.events = appendEvent(t.events, e)
	t.ends = append(t.ends, len(t.events))
}

// countData keeps the counters of data keys in step with a record's change.
func (t *tx) countData(old, now uint32) {
	if old == now {
		return
	}
	if old != 0 {
		t.count(counter{key: old}, -1)
	}
	if now != 0 {
		t.count(counter{key: now}, 1)
	}
}

func (t *tx) count(c counter, n int64) {
	for i := range t.counts {
		if t.counts[i].counter == c {
			t.counts[i].n += n
			return
		}
	}
	t.counts = append(t.counts, count{c, n})
}

func (t *tx) changed(hash uint64, k sessiond.Key, st state) *change {
	ch := &t.first
	if len(t.changes) > 0 {
		ch = new(change)
	}
	*ch = change{state: st, key: k, hash: hash, commit: t.commit}
	t.changes = append(t.changes, ch)
	return ch
}

// put writes r in place of old, which has no record if there is none.
func (t *tx) put(hash uint64, old *state, r *sessiond.Record) *change {
	st := state{rec: r, unknown: nextFields(old.unknown)}
	t.index(old, &st)
	t.value = appendRecord(t.value[:0], &st)
	t.set(appendNamed(t.key, keyRecord, r.Key), t.value)
	return t.changed(hash, r.Key, st)
}

// end is put for a live record that has ended and not changed otherwise: it writes only that.
func (t *tx) end(hash uint64, old *state, r *sessiond.Record) *change {
	st := state{rec: r, unknown: old.unknown}
	t.index(old, &st)
	t.value = appendEnd(t.value[:0], &st)
	t.merge(appendNamed(t.key, keyRecord, r.Key), t.value)
	return t.changed(hash, r.Key, st)
}

// index keeps the indexes and counters in step with a change of a record.
func (t *tx) index(old, st *state) {
	r := st.rec
	prev := old.rec
	moved := prev == nil || class(prev) != class(r)
	if prev != nil {
		if moved {
			t.del(appendPlace(appendRun(t.key, r.Tenant, "", class(prev)), r.Cursor()))
		}
		if prev.Subject != "" && (moved || prev.Subject != r.Subject) {
			t.del(appendPlace(appendRun(t.key, r.Tenant, prev.Subject, class(prev)), r.Cursor()))
		}
	}
	if moved {
		t.set(appendPlace(appendRun(t.key, r.Tenant, "", class(r)), r.Cursor()), nil)
	}
	if r.Subject != "" && (moved || prev.Subject != r.Subject) {
		t.set(appendPlace(appendRun(t.key, r.Tenant, r.Subject, class(r)), r.Cursor()), nil)
	}
	t.file(old, st)
	oldKey := uint32(0)
	if prev != nil {
		oldKey = prev.DataKey
	}
	t.countData(oldKey, r.DataKey)
}

// file keeps the sweeper's indexes and the counter of active sessions in step
// with a change of a record.
func (t *tx) file(old, st *state) {
	wasLive := old.rec != nil && old.rec.EndedAt.IsZero()
	k := st.rec.Key
	if !st.rec.EndedAt.IsZero() {
		if wasLive {
			t.del(appendDue(t.key, keyDue, old.filed, k))
			t.count(counter{tenant: k.Tenant}, -1)
		}
		if old.rec == nil || wasLive {
			t.fileEnded(st.rec.EndedAt.UnixMilli(), k)
		}
		return
	}
	deadline := st.rec.Deadline().UnixMilli()
	switch {
	case !wasLive:
		st.filed = deadline
		t.fileDue(deadline, k)
		t.count(counter{tenant: k.Tenant}, 1)
	case deadline < old.filed:
		st.filed = deadline
		t.del(appendDue(t.key, keyDue, old.filed, k))
		t.fileDue(deadline, k)
	default:
		st.filed = old.filed // early; the sweeper files it again
	}
}

func (t *tx) fileDue(ms int64, k sessiond.Key) {
	t.due = min(t.due, ms)
	t.set(appendDue(t.key, keyDue, ms, k), nil)
}

func (t *tx) fileEnded(ms int64, k sessiond.Key) {
	t.ended = min(t.ended, ms)
	t.set(appendDue(t.key, keyEnded, ms, k), nil)
}

// tail writes r, which differs from old in its last activity only.
func (t *tx) tail(hash uint64, old *state, r *sessiond.Record, filed int64) *change {
	st := state{rec: r, filed: filed, unknown: old.unknown}
	t.value = appendTail(t.value[:0], &st)
	t.merge(appendNamed(t.key, keyRecord, r.Key), t.value)
	ch := t.changed(hash, r.Key, st)
	ch.touch = true
	return ch
}

// remove erases all traces of a session but its events.
func (t *tx) remove(hash uint64, old *state) *change {
	r := old.rec
	t.del(appendNamed(t.key, keyRecord, r.Key))
	t.del(appendPlace(appendRun(t.key, r.Tenant, "", class(r)), r.Cursor()))
	if r.Subject != "" {
		t.del(appendPlace(appendRun(t.key, r.Tenant, r.Subject, class(r)), r.Cursor()))
	}
	if r.EndedAt.IsZero() {
		t.del(appendDue(t.key, keyDue, old.filed, r.Key))
		t.count(counter{tenant: r.Tenant}, -1)
	} else {
		t.del(appendDue(t.key, keyEnded, r.EndedAt.UnixMilli(), r.Key))
	}
	t.countData(r.DataKey, 0)
	return t.changed(hash, r.Key, state{})
}

// drop gives up a transaction that was not applied, or that is settled.
func (t *tx) drop() {
	if err := t.b.Close(); err != nil {
		t.s.log.Error("closing a batch", "err", err)
	}
	if cap(t.events)+cap(t.value) > maxPooled {
		return
	}
	clear(t.changes)
	clear(t.counts)
	*t = tx{
		s: t.s, changes: t.changes[:0], events: t.events[:0], ends: t.ends[:0], counts: t.counts[:0],
		key: t.key[:0], value: t.value[:0],
	}
	t.s.txs.Put(t)
}

// apply hands the transaction to the engine: from here on others build on it. If it
// returns an error, nothing was applied and the transaction is dropped. Otherwise settle
// has to follow, when the stripes are released.
func (t *tx) apply(ctx context.Context) error {
	err := errors.Join(ctx.Err(), t.err)
	if err != nil {
		t.drop()
		return err
	}
	s := t.s
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if s.failed.Load() != nil {
		t.drop()
		return errFailed
	}
	last := s.last.Load()
	t.number = last.number + 1
	if err := t.finish(); err != nil {
		t.drop()
		return unavailable(err)
	}
	t.done.Add(1)
	s.last.Store(t.commit) // before the engine shows it to anyone
	for _, ch := range t.changes {
		s.stripe(ch.hash).pending[ch.key] = ch
		if ch.touch {
			s.cache.touched(ch.hash, ch.key, t.number)
		} else {
			s.cache.remove(ch.hash)
		}
	}
	if err := s.db.ApplyNoSyncWait(t.b, pebble.Sync); err != nil {
		s.fatal(fmt.Errorf("commit: %w", err))
	}
	s.unsettled.Add(1)
	return nil
}

// finish adds to the batch what depends on the order of commits. The caller holds commitMu.
func (t *tx) finish() error {
	s := t.s
	now := t.now.UnixMilli()
	s.appended = max(s.appended, now)
	begin := 0
	for _, end := range t.ends {
		e := t.events[begin:end]
		stampEvent(e, s.appended)
		t.set(appendEventKey(t.key, s.nextEvent), e)
		s.nextEvent++
		begin = end
	}
	t.nextEvent = s.nextEvent
	for _, c := range t.counts {
		if c.n == 0 {
			continue
		}
		if s.counters[c.counter] += c.n; s.counters[c.counter] == 0 {
			delete(s.counters, c.counter) // tenants and keys come and go
			t.del(appendCounter(t.key, c.counter))
			continue
		}
		t.setNumber(appendCounter(t.key, c.counter), uint64(s.counters[c.counter]))
	}
	if now-s.clockAt >= clockInterval {
		s.clockAt = now
		t.setNumber(append(t.key, metaClock...), uint64(now))
	}
	s.due.lower(t.due)
	s.ended.lower(t.ended)
	return t.err
}

// clockInterval is the time in milliseconds after which a commit writes the clock
// again, so that a restart does not go back behind a time that was served.
const clockInterval = 500

// settle waits until an applied transaction is durable and lets it be seen.
func (t *tx) settle() error {
	s := t.s
	err := t.b.SyncWait()
	s.unsettled.Add(-1)
	if err != nil {
		t.commit.err = errFailed
		t.done.Done()
		s.fail(fmt.Errorf("syncing the log: %w", err))
		return fmt.Errorf("%w: %w", sessiond.ErrUnknown, err)
	}
	s.sync(t.number) // before anyone is told
	t.done.Done()
	for _, ch := range t.changes {
		s.publish(ch)
	}
	s.feed.advance(t.nextEvent)
	t.drop()
	return nil
}

// sync notes that a commit is durable, and with it all before it.
func (s *Store) sync(number uint64) {
	for old := s.synced.Load(); old < number && !s.synced.CompareAndSwap(old, number); {
		old = s.synced.Load()
	}
}

// publish lets readers see a durable change.
func (s *Store) publish(ch *change) {
	st := s.stripe(ch.hash)
	st.mu.Lock()
	defer st.mu.Unlock()
	if later := st.pending[ch.key]; later != ch {
		// A later change is pending or already published.
		if ch.rec == nil {
			return
		}
		var lacks uint64
		if later != nil && later.touch {
			lacks = ch.commit.number + 1 // or a later one: there may be more touches than this
		}
		s.cache.renew(ch.hash, ch.state, ch.commit.number, ch.touch, lacks)
		return
	}
	delete(st.pending, ch.key)
	switch {
	case ch.rec == nil:
	case ch.cold:
		s.cache.renew(ch.hash, ch.state, ch.commit.number, ch.touch, 0)
	case ch.touch:
		s.cache.touch(ch.hash, ch.state, ch.commit.number)
	default:
		s.cache.put(ch.hash, ch.state, ch.commit.number)
	}
}

// finish ends a write: it waits for what was applied, or for what a refusal or a
// write without effect was decided on.
func (s *Store) finish(t *tx, pend *commit) error {
	if t != nil {
		return t.settle()
	}
	return pend.wait()
}

// writeClock commits the clock alone.
func (s *Store) writeClock() error {
	t := s.newTx(s.now())
	t.setNumber(append(t.key, metaClock...), uint64(t.now.UnixMilli()))
	if err := t.apply(context.Background()); err != nil {
		return err
	}
	return t.settle()
}
