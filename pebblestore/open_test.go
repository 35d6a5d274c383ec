package pebblestore_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

func closeStore(t *testing.T, s *pebblestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	h := &hands{}
	s := open(t, dir, pebblestore.Options{Clock: h})
	start := end(t, s)
	live := create(t, s, "live", "user", 10*time.Minute)
	create(t, s, "ended", "user", 0)
	if _, err := s.Update(t.Context(), key("ended"), revoke); err != nil {
		t.Fatal(err)
	}
	h.advance(time.Minute)
	if _, err := s.Touch(t.Context(), live.Key, live.Incarnation, time.Time{}); err != nil {
		t.Fatal(err)
	}
	before := []*sessiond.Record{get(t, s, "live"), get(t, s, "ended")}
	events, err := eventsAfter(t.Context(), s, start)
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	closeStore(t, s)

	s = open(t, dir, pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	after := []*sessiond.Record{get(t, s, "live"), get(t, s, "ended")}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	again, err := eventsAfter(t.Context(), s, start)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(events, again); diff != "" {
		t.Error(diff)
	}
	st, err := s.Stats(t.Context())
	if err != nil || st.Active[tenant] != 1 {
		t.Errorf("Stats: %+v, %v", st, err)
	}
}

func TestNewEpoch(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	s := open(t, "data", pebblestore.Options{FS: disk})
	before := end(t, s)
	closeStore(t, s)
	s = open(t, "data", pebblestore.Options{FS: disk, NewEpoch: true})
	create(t, s, "s", "", 0)
	b, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: before, Limit: 10})
	if err != nil || !b.Reset || len(b.Events) != 1 {
		t.Errorf("a position of the old epoch gives %+v, %v", b, err)
	}
	after := b.Position
	closeStore(t, s)
	s = open(t, "data", pebblestore.Options{FS: disk})
	defer closeStore(t, s)
	b, err = s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: after, Limit: 10})
	if err != nil || b.Reset {
		t.Errorf("a position of the new epoch gives %+v, %v after a restart", b, err)
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir, pebblestore.Options{})
	create(t, s, "s", "", 0)
	closeStore(t, s)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && d.Name() != "LOCK" {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, pebblestore.Options{})
	defer closeStore(t, s)
	refused(t, dir, pebblestore.Options{}, dir, "in use", "another sessiond")
	create(t, s, "s", "", 0)
}

// refused requires that Open fails and says these words.
func refused(t *testing.T, dir string, o pebblestore.Options, words ...string) {
	t.Helper()
	s, err := pebblestore.Open(t.Context(), dir, &o)
	if err == nil {
		_ = s.Close()
		t.Fatal("Open succeeded")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

func TestForeignDirectoriesAreRefused(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, pebblestore.Options{}, path)
	})
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, pebblestore.Options{}, dir, "thesis.tex")
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("Open left something behind: %v, %v", names, err)
		}
	})
	t.Run("tables without manifest", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "000004.sst"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, pebblestore.Options{}, "000004.sst")
	})
	t.Run("database", func(t *testing.T) {
		t.Parallel()
		disk := vfs.NewMem()
		db, err := pebble.Open("data", &pebble.Options{FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set([]byte("k"), []byte("v"), pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		before := disk.String()
		refused(t, "data", pebblestore.Options{FS: disk}, "not a session store")
		if diff := cmp.Diff(before, disk.String()); diff != "" {
			t.Errorf("Open changed the foreign database: %s", diff)
		}
	})
	t.Run("socket beside", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "sessiond.sock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		closeStore(t, open(t, dir, pebblestore.Options{}))
	})
}

func TestNewerLayoutIsRefused(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	closeStore(t, open(t, "data", pebblestore.Options{FS: disk}))
	comparer := *pebble.DefaultComparer
	comparer.Name = pebblestore.ComparerName
	db, err := pebble.Open("data", &pebble.Options{
		FS: disk, Comparer: &comparer, Merger: pebblestore.TailMerger, FormatMajorVersion: pebble.FormatTableFormatV6,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Set(pebblestore.MetaFormat, binary.BigEndian.AppendUint64(nil, 99), pebble.Sync)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	refused(t, "data", pebblestore.Options{FS: disk}, "99", "newer")
}

// TestDamage flips bytes of a table, which has to show as an error and never as a
// missing session.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, pebblestore.Options{})
	for _, id := range []string{"a", "b", "c"} {
		create(t, s, id, "user", 0)
	}
	closeStore(t, s)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 16; i < len(b)/2; i += 7 {
			b[i] ^= 0x55
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err = pebblestore.Open(t.Context(), dir, &pebblestore.Options{OnFatal: func(err error) { t.Error(err) }})
	if err != nil {
		return // found at once: as good
	}
	defer s.Close()
	if _, err := s.Get(t.Context(), key("a")); !errors.Is(err, sessiond.ErrUnavailable) {
		t.Errorf("Get in a damaged table: %v", err)
	}
	if _, err := s.List(t.Context(), sessiond.Query{Tenant: tenant, Limit: 10}); !errors.Is(err, sessiond.ErrUnavailable) {
		t.Errorf("List in a damaged table: %v", err)
	}
}

func TestDiskNearlyFull(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	h := &hands{}
	s := open(t, "data", pebblestore.Options{FS: disk, Clock: h, MinFree: 1000})
	defer closeStore(t, s)
	create(t, s, "a", "user", 0)
	create(t, s, "b", "user", 0)
	full := func(free uint64) {
		disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 20})
		h.advance(time.Second)
	}
	outcome := func(want error, errs ...error) {
		t.Helper()
		for i, err := range errs {
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("operation %d: %v, want %v", i, err, want)
			}
		}
	}
	grow := func() []error {
		_, err1 := s.Create(t.Context(), creation("new", "", 0))
		_, err2 := s.Update(t.Context(), key("a"), change)
		_, err3 := s.Touch(t.Context(), key("a"), sessiond.Incarnation{}, time.Time{})
		return []error{err1, err2, err3}
	}
	full(999)
	outcome(sessiond.ErrUnavailable, grow()...)
	_, err := s.Update(t.Context(), key("a"), revoke)
	outcome(nil, err, s.Erase(t.Context(), key("a"), erase))
	full(499)
	_, err = s.Update(t.Context(), key("b"), revoke)
	_, err2 := s.Sweep(t.Context(), keepAll)
	outcome(sessiond.ErrUnavailable, err, err2, s.Erase(t.Context(), key("b"), erase))
	if r := get(t, s, "b"); r.Version != 1 {
		t.Errorf("a refused write had an effect: %+v", r)
	}
	full(1000)
	create(t, s, "new", "", 0)
}

// TestClock steps the wall clock: nobody ends early, nor late by more than a second.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{time.Hour, -time.Hour, 5 * time.Second, -5 * time.Second} {
		disk := vfs.NewMem()
		h := &hands{}
		s := open(t, "data", pebblestore.Options{FS: disk, Clock: h})
		create(t, s, "s", "", 10*time.Second)
		h.advance(5 * time.Second)
		if _, err := s.Stats(t.Context()); err != nil { // let the clock notice
			t.Fatal(err)
		}
		h.step(step)
		live := func(want bool, passed string) {
			t.Helper()
			if r := get(t, s, "s"); r.EndedAt.IsZero() != want {
				t.Errorf("step %v: after %s live is %v", step, passed, !want)
			}
		}
		for range 45 { // in small steps, as time passes
			h.advance(100 * time.Millisecond)
			live(true, "less than 9.5 s")
		}
		for range 15 {
			h.advance(100 * time.Millisecond)
			if _, err := s.Sweep(t.Context(), keepAll); err != nil {
				t.Fatal(err)
			}
		}
		live(false, "11 s")
		if st, err := s.Stats(t.Context()); err != nil || (st.ClockOffset > 0) != (step > 0) {
			t.Errorf("step %v: offset %v, %v", step, st.ClockOffset, err)
		}
		closeStore(t, s)

		// A restart does not go back behind a time that was served, nor revive anyone.
		before := restarted(t, disk, h)
		if r := before.Record; r.EndReason != sessiond.EndIdle {
			t.Errorf("step %v: after a restart the session is %q", step, r.EndReason)
		}
		if before.Now.Before(epoch.Add(10 * time.Second)) {
			t.Errorf("step %v: after a restart it is %v", step, before.Now)
		}
	}
}

// restarted reads the session of TestClock after a restart.
func restarted(t *testing.T, disk vfs.FS, h *hands) sessiond.Result {
	t.Helper()
	s := open(t, "data", pebblestore.Options{FS: disk, Clock: h})
	defer closeStore(t, s)
	res, err := s.Get(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestLeaks is not parallel, so that it sees no goroutines of others.
func TestLeaks(t *testing.T) {
	known := goleak.IgnoreCurrent()
	s := open(t, t.TempDir(), pebblestore.Options{})
	create(t, s, "s", "user", time.Minute)
	after := end(t, s)
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: after, Limit: 1, Wait: time.Hour})
		waiting <- err
	}()
	time.Sleep(time.Millisecond)
	closeStore(t, s)
	if err := <-waiting; !errors.Is(err, sessiond.ErrUnavailable) {
		t.Errorf("Events of a closed store: %v", err)
	}
	goleak.VerifyNone(t, known)
}
