package memstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A clock stands still until it is advanced.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t testing.TB) storetest.Fixture {
	clock := newClock()
	s := memstore.New(memstore.Options{Now: clock.Now})
	t.Cleanup(func() {
		_ = s.Close() // the test may have closed it
	})
	return storetest.Fixture{Store: s, Advance: clock.Advance}
}

// openRunning gives a store with a clock that runs.
func openRunning(t testing.TB) storetest.Fixture {
	var ahead atomic.Int64
	s := memstore.New(memstore.Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	t.Cleanup(func() {
		_ = s.Close() // the test may have closed it
	})
	return storetest.Fixture{Store: s, Advance: func(d time.Duration) { ahead.Add(int64(d)) }}
}

func TestStore(t *testing.T)      { storetest.Run(t, open) }
func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, open) }
func TestModel(t *testing.T)      { storetest.RunModel(t, open) }

func TestStoreRunning(t *testing.T) { storetest.Run(t, openRunning) }

func TestDefaultClock(t *testing.T) {
	s := memstore.New(memstore.Options{})
	before := time.Now().Truncate(time.Millisecond)
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.Now.Before(before) || stats.Now.After(time.Now()) || stats.ClockOffset.Abs() > time.Minute {
		t.Errorf("the store's time is %v with offset %v, it was %v before", stats.Now, stats.ClockOffset, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Close() == nil {
		t.Error("the second Close succeeds")
	}
}

// TestClockStepsBack has a clock that breaks its promise.
func TestClockStepsBack(t *testing.T) {
	clock := newClock()
	s := memstore.New(memstore.Options{Now: clock.Now})
	defer s.Close()
	first, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(-time.Hour)
	second, err := s.Stats(t.Context())
	if err != nil || second.Now.Before(first.Now) {
		t.Errorf("the store's time went back from %v to %v, %v", first.Now, second.Now, err)
	}
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }
