package pebblestore_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
	"sessiond.example/sessiond/storetest"
)

// epoch is where the clocks of the tests start.
var epoch = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// hands are clocks that are moved by hand.
type hands struct {
	passed  atomic.Int64 // since the start of the machine
	stepped atomic.Int64 // what the wall clock was set forward by
}

func (h *hands) Boot() time.Duration { return time.Duration(h.passed.Load()) }
func (h *hands) Wall() time.Time {
	return epoch.Add(time.Duration(h.passed.Load() + h.stepped.Load()))
}
func (h *hands) advance(d time.Duration) { h.passed.Add(int64(d)) }
func (h *hands) step(d time.Duration)    { h.stepped.Add(int64(d)) }

// open opens a store that the test does not expect to fail.
func open(t testing.TB, dir string, o pebblestore.Options) *pebblestore.Store {
	t.Helper()
	if o.OnFatal == nil {
		o.OnFatal = func(err error) { t.Errorf("the engine failed: %v", err) }
	}
	if o.BlockCache == 0 {
		o.BlockCache = 8 << 20
	}
	s, err := pebblestore.Open(t.Context(), dir, &o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func fixture(t testing.TB) storetest.Fixture {
	h := &hands{}
	s := open(t, "data", pebblestore.Options{FS: vfs.NewMem(), Clock: h})
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return storetest.Fixture{Store: s, Advance: h.advance}
}

func TestStore(t *testing.T)      { storetest.Run(t, fixture) }
func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, fixture) }

// packedFixture is a store that keeps no record decoded.
func packedFixture(t testing.TB) storetest.Fixture {
	f := fixture(t)
	f.Store.(*pebblestore.Store).UseCache(0, 16<<20)
	return f
}

func TestPackedStore(t *testing.T)      { storetest.Run(t, packedFixture) }
func TestPackedConcurrent(t *testing.T) { storetest.RunConcurrent(t, packedFixture) }

// TestTouchesAreMergedIntoRecords touches a session of which the record and earlier touches are in
// tables, in memory and in the log.
func TestTouchesAreMergedIntoRecords(t *testing.T) {
	t.Parallel()
	disk, h := vfs.NewCrashableMem(), &hands{}
	s := open(t, "data", pebblestore.Options{FS: disk, Clock: h, RecordCache: 1})
	r := create(t, s, "s", "user", time.Hour)
	create(t, s, "other", "user", time.Hour)
	for i := range 8 {
		h.advance(time.Second)
		res, err := s.Touch(t.Context(), r.Key, sessiond.Incarnation{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := get(t, s, "s"); !cmp.Equal(got, res.Record) || !got.LastActiveAt.Equal(h.Wall()) {
			t.Errorf("touch %d: read %+v, want %+v", i, got, res.Record)
		}
		again := open(t, "data", pebblestore.Options{FS: disk.CrashClone(vfs.CrashCloneCfg{}), Clock: h})
		if got := get(t, again, "s"); !cmp.Equal(got, res.Record) {
			t.Errorf("touch %d: after a crash %+v, want %+v", i, got, res.Record)
		}
		closeStore(t, again)
	}
	if got := get(t, s, "other"); !got.LastActiveAt.Equal(epoch) {
		t.Errorf("a session beside it was active at %v", got.LastActiveAt)
	}
	res, err := s.Update(t.Context(), r.Key, change)
	if err == nil {
		err = s.Compact(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "s"); !cmp.Equal(got, res.Record) || !got.LastActiveAt.Equal(h.Wall()) {
		t.Errorf("updated: read %+v, want %+v", got, res.Record)
	}
	closeStore(t, s)
}

// TestLogEndsInZeros opens a copy of a store in use, as a crash leaves it. The log has been given its
// length before it was written.
func TestLogEndsInZeros(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir, pebblestore.Options{})
	defer closeStore(t, s)
	for round := range 2 {
		for i := range 200 {
			create(t, s, fmt.Sprintf("s%d-%d", round, i), "user", time.Hour)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(copied, "*.log"))
		if err != nil || len(logs) == 0 {
			t.Fatal(logs, err)
		}
		last, err := os.ReadFile(logs[len(logs)-1])
		if err != nil {
			t.Fatal(err)
		}
		if n := len(bytes.TrimRight(last, "\x00")); runtime.GOOS == "linux" && (n == 0 || n > len(last)/2) {
			t.Errorf("the log has %d of %d bytes", n, len(last))
		}
		again := open(t, copied, pebblestore.Options{})
		for i := range 200 {
			get(t, again, fmt.Sprintf("s%d-%d", round, i))
		}
		closeStore(t, again)
	}
}

func TestModel(t *testing.T)       { storetest.RunModel(t, fixture) }
func TestPackedModel(t *testing.T) { storetest.RunModel(t, packedFixture) }

var _ sessiond.Store = (*pebblestore.Store)(nil)
