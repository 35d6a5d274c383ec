// Package memstore keeps sessions in memory. It is the readable reference of
// what a [sessiond.Store] does, and the right store for tests and for sessions
// that need not survive the process.
package memstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/btree"

	"sessiond.example/sessiond"
)

// Options of a [Store]. The zero value is fine.
type Options struct {
	// Now is the store's clock; it must not run backwards. Default: the wall
	// clock at the start, advanced by Go's monotonic clock
	Now func() time.Time
}

// A Store is a [sessiond.Store] in memory, safe for concurrent use.
type Store struct {
	clock func() time.Time
	epoch uint64 // marks positions of this store's feed

	mu      sync.Mutex
	closed  bool
	now     time.Time // the latest time read from the clock
	records map[sessiond.Key]*sessiond.Record
	live    *btree.BTreeG[place] // records not written down as ended, in list order
	ended   *btree.BTreeG[place] // the others
	due     *btree.BTreeG[dueAt] // deadlines of live, ends of ended records
	active  map[string]int64
	keys    map[uint32]int64            // records by Record.DataKey
	order   *btree.BTreeG[sessiond.Key] // of all records, for walks
	log     eventLog
}

// A place is a record in list order: by tenant and subject, newest first. Every
// record is there twice: under its subject and under anySubject.
type place struct {
	tenant, subject string
	cursor          sessiond.Cursor
}

// anySubject is no valid subject, since it is a control character.
const anySubject = "\x00"

func placeBefore(a, b place) bool {
	switch {
	case a.tenant != b.tenant:
		return a.tenant < b.tenant
	case a.subject != b.subject:
		return a.subject < b.subject
	default:
		return a.cursor.Before(b.cursor)
	}
}

// A dueAt is the time at which the sweeper has to look at a record: its
// deadline while it lives, its end when it has ended.
type dueAt struct {
	ended bool
	at    time.Time
	key   sessiond.Key
}

func dueBefore(a, b dueAt) bool {
	switch {
	case a.ended != b.ended:
		return b.ended
	case !a.at.Equal(b.at):
		return a.at.Before(b.at)
	default:
		return keyBefore(a.key, b.key)
	}
}

func keyBefore(a, b sessiond.Key) bool {
	if a.Tenant != b.Tenant {
		return a.Tenant < b.Tenant
	}
	return a.ID < b.ID
}

// New makes an empty store.
func New(opts Options) *Store {
	if opts.Now == nil {
		start := time.Now()
		opts.Now = func() time.Time { return start.Add(time.Since(start)) }
	}
	var epoch [8]byte
	rand.Read(epoch[:])
	const degree = 32
	return &Store{
		clock:   opts.Now,
		epoch:   binary.BigEndian.Uint64(epoch[:]),
		records: make(map[sessiond.Key]*sessiond.Record),
		live:    btree.NewG(degree, placeBefore),
		ended:   btree.NewG(degree, placeBefore),
		due:     btree.NewG(degree, dueBefore),
		active:  make(map[string]int64),
		keys:    make(map[uint32]int64),
		order:   btree.NewG(degree, keyBefore),
		log:     newEventLog(),
	}
}

var errClosed = fmt.Errorf("%w: closed", sessiond.ErrUnavailable)

// begin locks the store for one operation and reads its clock.
func (s *Store) begin(ctx context.Context) (now time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return time.Time{}, errClosed
	}
	if t := s.clock().UTC().Truncate(time.Millisecond); t.After(s.now) {
		s.now = t
	}
	return s.now, nil
}

// put files r in place of old, either of which may be nil.
func (s *Store) put(old, r *sessiond.Record) {
	if old != nil {
		s.index(old).Delete(place{old.Tenant, anySubject, old.Cursor()})
		s.index(old).Delete(place{old.Tenant, old.Subject, old.Cursor()})
		s.due.Delete(due(old))
		if old.EndedAt.IsZero() {
			if s.active[old.Tenant]--; s.active[old.Tenant] == 0 {
				delete(s.active, old.Tenant)
			}
		}
		s.countKey(old.DataKey, -1)
		s.order.Delete(old.Key)
		delete(s.records, old.Key)
	}
	if r != nil {
		s.index(r).ReplaceOrInsert(place{r.Tenant, anySubject, r.Cursor()})
		s.index(r).ReplaceOrInsert(place{r.Tenant, r.Subject, r.Cursor()})
		s.due.ReplaceOrInsert(due(r))
		if r.EndedAt.IsZero() {
			s.active[r.Tenant]++
		}
		s.countKey(r.DataKey, 1)
		s.order.ReplaceOrInsert(r.Key)
		s.records[r.Key] = r
	}
}

// countKey counts a record for the key that sealed its data, if it has any.
func (s *Store) countKey(key uint32, n int64) {
	if key == 0 {
		return
	}
	if s.keys[key] += n; s.keys[key] == 0 {
		delete(s.keys, key)
	}
}

func (s *Store) index(r *sessiond.Record) *btree.BTreeG[place] {
	if r.EndedAt.IsZero() {
		return s.live
	}
	return s.ended
}

func due(r *sessiond.Record) dueAt {
	if r.EndedAt.IsZero() {
		return dueAt{false, r.Deadline(), r.Key}
	}
	return dueAt{true, r.EndedAt, r.Key}
}

// Create implements [sessiond.Store].
func (s *Store) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.Result{}, err
	}
	defer s.mu.Unlock()
	if holder, ok := s.records[c.Record.Key]; ok {
		return sessiond.Result{Record: holder.At(now), Now: now}, sessiond.ErrExists
	}
	evicted, err := s.makeRoom(now, c.Record.Tenant, c.Record.Subject, c.Limit)
	if err != nil {
		return sessiond.Result{}, err
	}
	e := c.Start(now)
	s.put(nil, c.Record)
	s.log.append(now, e)
	return sessiond.Result{Record: c.Record, Now: now, Evicted: evicted}, nil
}

// makeRoom ends the oldest live sessions of a subject until one more fits.
func (s *Store) makeRoom(now time.Time, tenant, subject string, limit sessiond.SubjectLimit) (evicted int, err error) {
	if limit.Max == 0 || subject == "" {
		return 0, nil
	}
	var live []*sessiond.Record // newest first
	all := sessiond.Query{}
	s.live.AscendGreaterOrEqual(place{tenant, subject, all.Start()}, func(p place) bool {
		if p.tenant != tenant || p.subject != subject {
			return false
		}
		if r := s.records[sessiond.Key{Tenant: tenant, ID: p.cursor.ID}]; r.Live(now) {
			live = append(live, r)
		}
		return true
	})
	if len(live) < limit.Max {
		return 0, nil
	}
	if !limit.Evict {
		return 0, sessiond.ErrLimit
	}
	for _, old := range live[limit.Max-1:] {
		r := *old
		r.End(now, sessiond.EndLimit, "", limit.By)
		s.put(old, &r)
		s.log.append(now, r.EndEvent(limit.RequestID))
		evicted++
	}
	return evicted, nil
}

// Get implements [sessiond.Store].
func (s *Store) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.Result{}, err
	}
	defer s.mu.Unlock()
	r, ok := s.records[k]
	if !ok {
		return sessiond.Result{}, sessiond.ErrNotFound
	}
	return sessiond.Result{Record: r.At(now), Now: now}, nil
}

// Update implements [sessiond.Store].
func (s *Store) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.Result{}, err
	}
	defer s.mu.Unlock()
	old, ok := s.records[k]
	if !ok {
		return sessiond.Result{}, sessiond.ErrNotFound
	}
	res := sessiond.Result{Record: old.At(now), Now: now}
	if !old.Live(now) {
		return res, sessiond.ErrEnded
	}
	r := *old
	change, err := fn(now, &r)
	if err != nil {
		return res, err
	}
	if r.LastActiveAt.Before(old.LastActiveAt) {
		r.LastActiveAt = old.LastActiveAt
	}
	if r.Subject != old.Subject {
		if res.Evicted, err = s.makeRoom(now, k.Tenant, r.Subject, change.Limit); err != nil {
			return res, err
		}
	}
	s.put(old, &r)
	if change.Event != nil {
		s.log.append(now, *change.Event)
	}
	res.Record = &r
	return res, nil
}

// Touch implements [sessiond.Store].
func (s *Store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.Result{}, err
	}
	defer s.mu.Unlock()
	old, ok := s.records[k]
	if !ok || inc != (sessiond.Incarnation{}) && inc != old.Incarnation {
		return sessiond.Result{}, sessiond.ErrNotFound
	}
	if !old.Live(now) {
		return sessiond.Result{Record: old.At(now), Now: now}, sessiond.ErrEnded
	}
	if at.IsZero() || at.After(now) {
		at = now
	}
	r := *old
	if r.Touch(at.UTC().Truncate(time.Millisecond)) {
		s.put(old, &r)
	}
	return sessiond.Result{Record: &r, Now: now}, nil
}

// Erase implements [sessiond.Store].
func (s *Store) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	now, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	old, ok := s.records[k]
	if !ok {
		return sessiond.ErrNotFound
	}
	events, err := fn(now, old)
	if err != nil {
		return err
	}
	s.put(old, nil)
	s.log.append(now, events...)
	return nil
}

// Stats implements [sessiond.Store].
func (s *Store) Stats(ctx context.Context) (sessiond.Stats, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.Stats{}, err
	}
	defer s.mu.Unlock()
	return sessiond.Stats{
		Active: maps.Clone(s.active), DataKeys: maps.Clone(s.keys),
		ClockOffset: time.Since(now).Truncate(time.Millisecond), Now: now,
	}, nil
}

// Guarantee tells that sessions end with the process.
func (s *Store) Guarantee(context.Context) (sessiond.Guarantee, error) {
	return sessiond.Guarantee{
		Class:    sessiond.Ephemeral,
		Findings: []string{"Sessions are in the memory of this process only and end with it."},
	}, nil
}

// Close implements [sessiond.Store]. The sessions are gone with it.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("memstore: closed twice")
	}
	s.closed = true
	s.log.wake()
	return nil
}
