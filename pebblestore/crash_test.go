package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// A witness remembers what the store has acknowledged or shown. All of it has to
// survive a crash.
type witness struct {
	mu     sync.Mutex
	seen   map[sessiond.Key]sessiond.Record // the newest, by version and activity
	erased map[sessiond.Key]bool
	events map[string]sessiond.Event
	start  sessiond.Position
}

func newWitness(start sessiond.Position) *witness {
	return &witness{
		seen: make(map[sessiond.Key]sessiond.Record), erased: make(map[sessiond.Key]bool),
		events: make(map[string]sessiond.Event), start: start,
	}
}

func (w *witness) record(r *sessiond.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ok := w.seen[r.Key]
	if !ok || old.Version < r.Version || old.Version == r.Version && old.LastActiveAt.Before(r.LastActiveAt) {
		w.seen[r.Key] = *r
	}
}

func (w *witness) erase(k sessiond.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.erased[k] = true
}

func (w *witness) event(e sessiond.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events[e.ID] = e
}

func (w *witness) clone() *witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := newWitness(w.start)
	for k, v := range w.seen {
		c.seen[k] = v
	}
	for k := range w.erased {
		c.erased[k] = true
	}
	for k, v := range w.events {
		c.events[k] = v
	}
	return c
}

// check compares a store that was opened after a crash with what was known before.
func (w *witness) check(ctx context.Context, s *pebblestore.Store) error {
	events, err := eventsAfter(ctx, s, w.start)
	if err != nil {
		return err
	}
	versions, erased, err := w.checkFeed(events)
	if err != nil {
		return err
	}
	for k, r := range w.seen {
		res, err := s.Get(ctx, k)
		switch {
		case errors.Is(err, sessiond.ErrNotFound):
			if !erased[k] {
				return fmt.Errorf("%s is lost, without an event", k.ID)
			}
			continue
		case err != nil:
			return fmt.Errorf("Get %s: %w", k.ID, err)
		case w.erased[k]:
			return fmt.Errorf("%s was erased and is back", k.ID)
		}
		got := res.Record
		written := versions[k] // an expiry that the sweeper has not written has no event yet
		if got.Version < r.Version || got.Version != written && !(got.EndReason.Expiry() && got.Version == written+1) {
			return fmt.Errorf("%s has version %d, seen was %d, events up to %d", k.ID, got.Version, r.Version, written)
		}
		if got.LastActiveAt.Before(r.LastActiveAt) {
			return fmt.Errorf("%s lost a touch", k.ID)
		}
		if !r.EndedAt.IsZero() && (got.EndedAt != r.EndedAt || got.EndReason != r.EndReason) {
			return fmt.Errorf("%s had ended (%s) and is now %q", k.ID, r.EndReason, got.EndReason)
		}
	}
	return w.checkIndexes(ctx, s)
}

// checkFeed requires that versions of each session follow one another, and that what
// was delivered before is delivered again.
func (w *witness) checkFeed(events []sessiond.Event) (map[sessiond.Key]int64, map[sessiond.Key]bool, error) {
	versions := make(map[sessiond.Key]int64)
	erased := make(map[sessiond.Key]bool)
	byID := make(map[string]sessiond.Event)
	for _, e := range events {
		k := sessiond.Key{Tenant: e.Tenant, ID: e.SessionID}
		if e.Version != versions[k]+1 {
			return nil, nil, fmt.Errorf("feed of %s: version %d follows %d", k.ID, e.Version, versions[k])
		}
		versions[k] = e.Version
		erased[k] = e.Type == sessiond.EventErased
		byID[e.ID] = e
	}
	for id, e := range w.events {
		if byID[id] != e {
			return nil, nil, fmt.Errorf("event %s of %s was delivered and is gone", e.Type, e.SessionID)
		}
	}
	return versions, erased, nil
}

// checkIndexes requires that lists and counters agree with the records.
func (w *witness) checkIndexes(ctx context.Context, s *pebblestore.Store) error {
	active := int64(0)
	listed := 0
	for q := (sessiond.Query{Tenant: tenant, Limit: 1000}); ; {
		page, err := s.List(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Records {
			listed++
			res, err := s.Get(ctx, r.Key)
			if err != nil {
				return fmt.Errorf("Get of a listed session: %w", err)
			}
			if res.Record.Version != r.Version {
				return fmt.Errorf("%s is listed with version %d, not %d", r.ID, r.Version, res.Record.Version)
			}
		}
		if page.Next == nil {
			break
		}
		q.After = page.Next
	}
	if _, err := s.Sweep(ctx, keepAll); err != nil {
		return err
	}
	page, err := s.List(ctx, sessiond.Query{Tenant: tenant, Limit: 1000, Filter: sessiond.Filter{ActiveOnly: true}})
	if err != nil {
		return err
	}
	active = int64(len(page.Records))
	st, err := s.Stats(ctx)
	if err != nil {
		return err
	}
	if st.Active[tenant] != active {
		return fmt.Errorf("%d sessions are counted as active, %d are listed", st.Active[tenant], active)
	}
	return nil
}

// A load works on a store from several goroutines until it is stopped.
type load struct {
	s    *pebblestore.Store
	h    *hands
	w    *witness
	fail func(error)
	stop chan struct{}
	wg   sync.WaitGroup
	hold sync.RWMutex // held for writing while the load pauses
}

func (l *load) start(workers int, seed uint64) {
	for i := range workers {
		l.wg.Go(func() { l.work(i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	l.wg.Go(l.sweep)
	l.wg.Go(l.follow)
}

// next waits while the load pauses and reports whether to go on.
func (l *load) next() bool {
	l.hold.RLock()
	defer l.hold.RUnlock()
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

// work makes sessions and changes them. Reads are of the sessions of all workers.
func (l *load) work(worker int, rng *rand.Rand) {
	var own []string
	for n := 0; l.next(); n++ {
		if len(own) < 3 || rng.IntN(6) == 0 {
			id := fmt.Sprintf("w%d-%d", worker, n)
			own = append(own, id)
			l.create(id, rng)
			continue
		}
		k := key(own[rng.IntN(len(own))])
		switch rng.IntN(8) {
		case 0, 1, 2:
			l.did(l.s.Touch(context.Background(), k, sessiond.Incarnation{}, time.Time{}))
		case 3, 4:
			l.did(l.s.Update(context.Background(), k, change))
		case 5:
			l.did(l.s.Update(context.Background(), k, revoke))
		case 6:
			if rng.IntN(3) == 0 && l.s.Erase(context.Background(), k, erase) == nil {
				l.w.erase(k)
			}
		default:
			l.did(l.s.Get(context.Background(), key(fmt.Sprintf("w%d-%d", rng.IntN(8), n))))
		}
	}
}

func (l *load) create(id string, rng *rand.Rand) {
	c := creation(id, "user", time.Duration(1+rng.IntN(20))*time.Second)
	if rng.IntN(3) == 0 {
		c.Record.Subject = fmt.Sprintf("limited-%d", rng.IntN(4))
		c.Limit = sessiond.SubjectLimit{Max: 5, Evict: true}
	}
	l.did(l.s.Create(context.Background(), c))
}

func (l *load) did(res sessiond.Result, err error) {
	switch {
	case err == nil, errors.Is(err, sessiond.ErrEnded):
		l.w.record(res.Record)
	case errors.Is(err, sessiond.ErrNotFound):
	default:
		l.fail(err)
	}
}

func (l *load) sweep() {
	for l.next() {
		l.h.advance(100 * time.Millisecond)
		if _, err := l.s.Sweep(context.Background(), keepAll); err != nil {
			l.fail(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func (l *load) follow() {
	for at := l.w.start; l.next(); {
		b, err := l.s.Events(context.Background(),
			sessiond.EventQuery{Tenant: tenant, After: at, Limit: 100, Wait: time.Millisecond})
		if err != nil {
			l.fail(err)
			return
		}
		for _, e := range b.Events {
			l.w.event(e)
		}
		at = b.Position
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	const stores, crashes = 10, 22
	for i := range uint64(stores) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewCrashableMem()
			h := &hands{}
			s := open(t, "data", pebblestore.Options{FS: fs, Clock: h})
			l := &load{s: s, h: h, w: newWitness(end(t, s)), stop: make(chan struct{}), fail: func(err error) { t.Error(err) }}
			l.start(6, i)
			rng := rand.New(rand.NewPCG(i, 99))
			for range crashes {
				time.Sleep(time.Duration(rng.IntN(1500)) * time.Microsecond)
				known := l.w.clone()
				disk := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 0, 20, 70}[rng.IntN(4)], RNG: rng})
				l.hold.Lock()
				again := open(t, "data", pebblestore.Options{FS: disk, Clock: h})
				if err := known.check(t.Context(), again); err != nil {
					t.Error(err)
				}
				if err := again.Close(); err != nil {
					t.Error(err)
				}
				l.hold.Unlock()
			}
			close(l.stop)
			l.wg.Wait()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCrashWhileOpening cuts the power before each file operation of an Open: of a new
// directory, and of one with a log to replay.
func TestCrashWhileOpening(t *testing.T) {
	t.Parallel()
	filled := vfs.NewCrashableMem()
	h := &hands{}
	s := open(t, "data", pebblestore.Options{FS: filled, Clock: h})
	w := newWitness(end(t, s))
	for i := range 20 {
		w.record(create(t, s, fmt.Sprint("s", i), "user", time.Minute))
	}
	crashed := filled.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for name, disk := range map[string]*vfs.MemFS{"new": vfs.NewCrashableMem(), "replay": crashed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for cut := 0; crashAt(t, disk, h, w, cut, name == "replay"); cut++ {
			}
		})
	}
}

// crashAt opens a copy of disk, crashes before an operation, and opens the rest. It reports
// whether Open does so many.
func crashAt(t *testing.T, disk *vfs.MemFS, h *hands, w *witness, cut int, filled bool) bool {
	fs := disk.CrashClone(vfs.CrashCloneCfg{})
	rng := rand.New(rand.NewPCG(uint64(cut), 1))
	var mu sync.Mutex
	var left []*vfs.MemFS
	n := 0
	hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			if n == cut {
				for _, percent := range []int{0, 50} {
					left = append(left, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
				}
			}
			n++
		}
		return nil
	})
	if err := open(t, "data", pebblestore.Options{FS: errorfs.Wrap(fs, hook), Clock: h}).Close(); err != nil {
		t.Error(err)
	}
	for _, disk := range left {
		s, err := pebblestore.Open(t.Context(), "data", &pebblestore.Options{FS: disk, Clock: h})
		if err != nil {
			t.Errorf("cut before write %d: %v\n%s", cut, err, disk)
			continue
		}
		if filled {
			if err := w.check(t.Context(), s); err != nil {
				t.Errorf("cut before write %d: %v", cut, err)
			}
		} else if _, err := s.Create(t.Context(), creation("s", "", 0)); err != nil {
			t.Errorf("cut before write %d: %v", cut, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	return len(left) > 0
}

// TestFaults lets every file operation of a workload fail, once or from then on. What
// was acknowledged stays, and everything else is an error of the right kind.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, forever := range []bool{false, true} {
		t.Run(fmt.Sprintf("forever=%v", forever), func(t *testing.T) {
			t.Parallel()
			for n := 0; failAt(t, n, forever); n++ {
			}
		})
	}
}

// failAt runs a workload in which operation n fails, and reports whether there was one.
func failAt(t *testing.T, n int, forever bool) bool {
	fs := vfs.NewCrashableMem()
	h := &hands{}
	var mu sync.Mutex
	count, hit, off := 0, errorfs.Op{}, false
	reached := false
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		count++
		if off || count-1 < n || reached && !forever || strings.HasSuffix(op.Path, "LOCK") {
			return nil
		}
		if !reached {
			reached, hit = true, op
		}
		return errorfs.ErrInjected
	})
	w := newWitness("")
	fatal := make(chan error, 1)
	done := make(chan error, 1)
	go func() {
		done <- faulty(&pebblestore.Options{
			FS: errorfs.Wrap(fs, inject), Clock: h, BlockCache: 1 << 20, OnFatal: func(err error) { fatal <- err },
		}, w)
	}()
	died := false
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("operation %d (%v %s) failed: %v", n, hit.Kind, hit.Path, err)
		}
	case <-fatal:
		died = true
	case <-time.After(30 * time.Second):
		t.Fatalf("operation %d (%v %s) failed: the store hangs", n, hit.Kind, hit.Path)
	}
	mu.Lock()
	off = true // the process is gone
	wasReached := reached
	mu.Unlock()
	known := w.clone()
	again := open(t, "data", pebblestore.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{}), Clock: h, BlockCache: 1 << 20})
	defer again.Close()
	if err := known.checkRecords(t.Context(), again); err != nil {
		t.Errorf("operation %d (%v %s) failed, died %v: %v", n, hit.Kind, hit.Path, died, err)
	}
	return wasReached
}

// checkRecords is the part of check that needs no feed.
func (w *witness) checkRecords(ctx context.Context, s *pebblestore.Store) error {
	for k, r := range w.seen {
		res, err := s.Get(ctx, k)
		switch {
		case err != nil:
			return fmt.Errorf("Get %s: %w", k.ID, err)
		case res.Record.Version < r.Version || res.Record.LastActiveAt.Before(r.LastActiveAt):
			return fmt.Errorf("%s lost a change", k.ID)
		case !r.EndedAt.IsZero() && res.Record.EndedAt != r.EndedAt:
			return fmt.Errorf("%s had ended", k.ID)
		}
	}
	return nil
}

// faulty does a bit of everything. It returns an error that the store must not give.
func faulty(o *pebblestore.Options, w *witness) error {
	ctx := context.Background()
	s, err := pebblestore.Open(ctx, "data", o)
	if err != nil {
		return nil // nothing was promised
	}
	var wrong error
	did := func(res sessiond.Result, err error) {
		switch {
		case err == nil:
			w.record(res.Record)
		case errors.Is(err, sessiond.ErrNotFound), // an earlier create failed
			errors.Is(err, sessiond.ErrUnavailable), errors.Is(err, sessiond.ErrUnknown):
		default:
			wrong = errors.Join(wrong, err)
		}
	}
	for i := range 6 {
		k := key(fmt.Sprint("s", i))
		did(s.Create(ctx, creation(string(k.ID), "user", time.Minute)))
		o.Clock.(*hands).advance(time.Second)
		did(s.Touch(ctx, k, sessiond.Incarnation{}, time.Time{}))
		did(s.Update(ctx, k, change))
		if i%2 == 0 {
			did(s.Update(ctx, k, revoke))
		}
		did(s.Get(ctx, k))
	}
	_, err = s.List(ctx, sessiond.Query{Tenant: tenant, Limit: 10})
	if err != nil && !errors.Is(err, sessiond.ErrUnavailable) {
		wrong = errors.Join(wrong, err)
	}
	_ = s.Close() // may fail; what was acknowledged is in the log
	return wrong
}
