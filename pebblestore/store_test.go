package pebblestore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

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
func TestModel(t *testing.T)      { storetest.RunModel(t, fixture) }

var _ sessiond.Store = (*pebblestore.Store)(nil)
