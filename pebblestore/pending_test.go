package pebblestore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// A slowDisk holds up syncs of the log while it is stuck.
type slowDisk struct {
	vfs.FS
	mu   sync.Mutex
	free chan struct{} // closed: syncs go through
	hit  chan struct{} // gets a signal when a sync is held up
}

func newSlowDisk() *slowDisk {
	d := &slowDisk{FS: vfs.NewMem(), free: make(chan struct{}), hit: make(chan struct{}, 1)}
	close(d.free)
	return d
}

func (d *slowDisk) stick() (release func()) {
	free := make(chan struct{})
	d.mu.Lock()
	d.free = free
	d.mu.Unlock()
	return sync.OnceFunc(func() { close(free) })
}

func (d *slowDisk) wait() {
	d.mu.Lock()
	free := d.free
	d.mu.Unlock()
	select {
	case <-free:
	default:
		select {
		case d.hit <- struct{}{}:
		default:
		}
		<-free
	}
}

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return slowFile{f, d}, nil
}

type slowFile struct {
	vfs.File
	d *slowDisk
}

func (f slowFile) Sync() error     { f.d.wait(); return f.File.Sync() }
func (f slowFile) SyncData() error { f.d.wait(); return f.File.SyncData() }

// A pendingTest has a store of which the disk is stuck in the middle of a write.
type pendingTest struct {
	*testing.T
	s       *pebblestore.Store
	h       *hands
	release func()
	writing chan error
}

func pending(t *testing.T, prepare, write func(s *pebblestore.Store, h *hands) error) *pendingTest {
	disk := newSlowDisk()
	h := &hands{}
	p := &pendingTest{T: t, h: h, writing: make(chan error, 1)}
	p.s = open(t, "data", pebblestore.Options{FS: disk, Clock: h})
	if prepare != nil {
		if err := prepare(p.s, h); err != nil {
			t.Fatal(err)
		}
	}
	p.release = disk.stick()
	t.Cleanup(func() { p.release(); closeStore(t, p.s) })
	go func() { p.writing <- write(p.s, h) }()
	<-disk.hit
	return p
}

// waits requires that fn waits for the write.
func (p *pendingTest) waits(what string, fn func() error) {
	p.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		p.Errorf("%s told of a write that is not durable (%v)", what, err)
	case <-time.After(20 * time.Millisecond):
		p.Cleanup(func() {
			p.release()
			if err := <-done; err != nil {
				p.Errorf("%s: %v", what, err)
			}
		})
	}
}

func want(got, target error) error {
	if errors.Is(got, target) {
		return nil
	}
	return errors.Join(errors.New("unexpected error"), got)
}

func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	p := pending(t, nil, func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("s", "user", 0))
		return err
	})
	p.waits("Get", func() error {
		_, err := p.s.Get(t.Context(), key("s"))
		return err
	})
	p.waits("a refused Create", func() error {
		_, err := p.s.Create(t.Context(), creation("s", "user", 0))
		return want(err, sessiond.ErrExists)
	})
	p.waits("a refused Update", func() error {
		other := errors.New("no")
		_, err := p.s.Update(t.Context(), key("s"), func(time.Time, *sessiond.Record) (sessiond.Change, error) {
			return sessiond.Change{}, other
		})
		return want(err, other)
	})
	p.waits("Touch without effect", func() error {
		_, err := p.s.Touch(t.Context(), key("s"), sessiond.Incarnation{}, epoch)
		return err
	})
	p.waits("a refused Touch", func() error {
		_, err := p.s.Touch(t.Context(), key("s"), sessiond.Incarnation{1}, epoch)
		return want(err, sessiond.ErrNotFound)
	})
	p.waits("a refusal for the limit", func() error {
		c := creation("t", "user", 0)
		c.Limit.Max = 1
		_, err := p.s.Create(t.Context(), c)
		return want(err, sessiond.ErrLimit)
	})
	p.waits("List", func() error {
		page, err := p.s.List(t.Context(), sessiond.Query{Tenant: tenant, Limit: 10})
		if err == nil && len(page.Records) != 1 {
			err = errors.New("the session is not listed")
		}
		return err
	})
	p.waits("Stats", func() error {
		_, err := p.s.Stats(t.Context())
		return err
	})
	b, err := p.s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: "?", Limit: 10})
	if err != nil || len(b.Events) != 0 {
		t.Errorf("Events told of a write that is not durable: %+v, %v", b, err)
	}
}

// A touch that a list has shown is not taken back by a read, though it has not reached the cache.
func TestTouchThatWasSeenIsRead(t *testing.T) {
	t.Parallel()
	prepare := func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("s", "user", 0))
		h.advance(time.Second)
		return err
	}
	p := pending(t, prepare, func(s *pebblestore.Store, h *hands) error {
		_, err := s.Touch(t.Context(), key("s"), sessiond.Incarnation{}, time.Time{})
		return err
	})
	before, err := p.s.Get(t.Context(), key("s")) // from the cache, without a wait
	if err != nil || !before.Record.LastActiveAt.Equal(epoch) {
		t.Fatalf("while the touch is on its way: %v, %v", before.Record, err)
	}
	publish := p.s.HoldStripe(key("s"))
	p.release()
	page, err := p.s.List(t.Context(), sessiond.Query{Tenant: tenant, Limit: 10})
	if err != nil || len(page.Records) != 1 || !page.Records[0].LastActiveAt.Equal(epoch.Add(time.Second)) {
		publish()
		t.Fatalf("listed %v, %v", page.Records, err)
	}
	read := make(chan sessiond.Result, 1)
	go func() {
		res, err := p.s.Get(t.Context(), key("s"))
		if err != nil {
			t.Error(err)
			res.Record = &sessiond.Record{}
		}
		read <- res
	}()
	time.Sleep(20 * time.Millisecond) // for a reader that would not wait
	publish()
	if res := <-read; !res.Record.LastActiveAt.Equal(epoch.Add(time.Second)) {
		t.Errorf("read as last active at %v, after a list that had %v", res.Record.LastActiveAt, epoch.Add(time.Second))
	}
	if err := <-p.writing; err != nil {
		t.Error(err)
	}
}

func TestRevocationIsNotTornByReaders(t *testing.T) {
	t.Parallel()
	prepare := func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("s", "user", 0))
		return err
	}
	p := pending(t, prepare, func(s *pebblestore.Store, h *hands) error {
		_, err := s.Update(t.Context(), key("s"), revoke)
		return err
	})
	p.h.advance(time.Second) // a reader that said live now would contradict the time of the end
	p.waits("Get", func() error {
		res, err := p.s.Get(t.Context(), key("s"))
		if err == nil && res.Record.EndedAt.IsZero() {
			err = errors.New("live")
		}
		return err
	})
	p.waits("Touch", func() error {
		_, err := p.s.Touch(t.Context(), key("s"), sessiond.Incarnation{}, time.Time{})
		return want(err, sessiond.ErrEnded)
	})
}

func TestErasureIsNotToldBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	prepare := func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("s", "user", 0))
		return err
	}
	p := pending(t, prepare, func(s *pebblestore.Store, h *hands) error {
		return s.Erase(t.Context(), key("s"), erase)
	})
	p.waits("Get", func() error {
		_, err := p.s.Get(t.Context(), key("s"))
		return want(err, sessiond.ErrNotFound)
	})
	p.waits("Touch", func() error {
		_, err := p.s.Touch(t.Context(), key("s"), sessiond.Incarnation{}, time.Time{})
		return want(err, sessiond.ErrNotFound)
	})
}

// TestTouchInTime touches a session just before its deadline. Who looks after the deadline,
// while the touch is on its way to the disk, must not say that it is over.
func TestTouchInTime(t *testing.T) {
	t.Parallel()
	prepare := func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("s", "user", time.Minute))
		h.advance(time.Minute - time.Millisecond)
		return err
	}
	p := pending(t, prepare, func(s *pebblestore.Store, h *hands) error {
		_, err := s.Touch(t.Context(), key("s"), sessiond.Incarnation{}, time.Time{})
		return err
	})
	if res, err := p.s.Get(t.Context(), key("s")); err != nil || !res.Record.EndedAt.IsZero() {
		t.Errorf("Get before the deadline: %+v, %v", res.Record, err)
	}
	p.h.advance(time.Second)
	p.waits("Get", func() error {
		res, err := p.s.Get(t.Context(), key("s"))
		if err == nil && !res.Record.EndedAt.IsZero() {
			err = errors.New("ended")
		}
		return err
	})
	p.waits("List", func() error {
		page, err := p.s.List(t.Context(), sessiond.Query{
			Tenant: tenant, Limit: 10, Filter: sessiond.Filter{ActiveOnly: true},
		})
		if err == nil && len(page.Records) != 1 {
			err = errors.New("not listed as active")
		}
		return err
	})
}

// TestOthersAreNotHeldUp reads what has nothing to do with a pending write.
func TestOthersAreNotHeldUp(t *testing.T) {
	t.Parallel()
	prepare := func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("other", "user", 0))
		return err
	}
	p := pending(t, prepare, func(s *pebblestore.Store, h *hands) error {
		_, err := s.Create(t.Context(), creation("s", "user", 0))
		return err
	})
	if _, err := p.s.Get(t.Context(), key("other")); err != nil {
		t.Error(err)
	}
	if _, err := p.s.Get(t.Context(), key("nobody")); !errors.Is(err, sessiond.ErrNotFound) {
		t.Error(err)
	}
}
