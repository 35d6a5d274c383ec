package redisstore_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// handClock is a store whose server's clock is moved by hand.
func handClock(t *testing.T) (*redisstore.Store, *atomic.Int64) {
	var now atomic.Int64
	now.Store(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli())
	o := (&redisstore.Options{}).WithClock(now.Load)
	return open(t, withPrefix(testserver.SharedRedis(t).URL()), o), &now
}

// TestClockSteppedBack: time does not run backwards, and it does not stand still either.
func TestClockSteppedBack(t *testing.T) {
	t.Parallel()
	s, now := handClock(t)
	at := func() time.Time {
		t.Helper()
		res, err := s.Get(t.Context(), key("s1"))
		if err != nil {
			t.Fatal(err)
		}
		return res.Now
	}
	create(t, s, "s1", "")
	now.Add(1000)
	update(t, s, "s1", bump) // writes the time down
	start := at()
	now.Add(-time.Hour.Milliseconds())
	if got := at(); !got.Equal(start) {
		t.Errorf("after a step back the time went from %v to %v", start, got)
	}
	update(t, s, "s1", bump)
	now.Add(10_000)
	if passed := at().Sub(start); passed != 9500*time.Millisecond {
		t.Errorf("%v passed in 10 s while the clock is behind, want 95 %%", passed)
	}
	now.Add(20 * time.Hour.Milliseconds()) // 5 % of it is an hour
	if got := at(); got.UnixMilli() != now.Load() {
		t.Errorf("the time is %v when the clock has caught up", got)
	}
}

// TestClockHeals: a clock that was far ahead leaves no partition standing still, also where
// nothing is written but by the sweeper.
func TestClockHeals(t *testing.T) {
	t.Parallel()
	s, now := handClock(t)
	const day = 24 * time.Hour
	now.Add(day.Milliseconds())
	r := create(t, s, "s1", "")
	now.Add(-day.Milliseconds())
	sweep(t, s)
	for range 4 {
		now.Add((10 * time.Minute).Milliseconds())
		sweep(t, s)
	}
	// 38 minutes have passed by the partition's time, and the idle timeout is 30.
	if got := get(t, s, "s1"); got.EndReason != sessiond.EndIdle || !got.EndedAt.Equal(r.CreatedAt.Add(30*time.Minute)) {
		t.Errorf("the session ended at %v with %q", got.EndedAt, got.EndReason)
	}
}

// TestLateTouch: the deadline passes between two millisecond ticks of the server.
func TestLateTouch(t *testing.T) {
	t.Parallel()
	s, now := handClock(t)
	create(t, s, "s1", "")
	now.Add((30*time.Minute - time.Millisecond).Milliseconds())
	if get(t, s, "s1").EndedAt != (time.Time{}) {
		t.Error("ended a millisecond before the deadline")
	}
	now.Add(1)
	_, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{})
	wantErr(t, "Touch at the deadline", err, sessiond.ErrEnded)
}

// TestLease has one store sweep, and another take over.
func TestLease(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	url := withPrefix(r.URL())
	var ahead atomic.Int64
	o := &redisstore.Options{Skew: func() time.Duration { return time.Duration(ahead.Load()) }}
	first, second := open(t, url, o), open(t, url, o)
	sweep(t, first)
	create(t, first, "s1", "")
	create(t, first, "s2", "")
	ahead.Add(int64(2 * time.Hour))
	if res := sweep(t, second); res != (sessiond.SweepResult{}) {
		t.Errorf("a store without the lease swept: %+v", res)
	}
	if ttl := do(t, r, "PTTL", first.Lease()).(int64); ttl <= 0 || ttl > 5000 {
		t.Errorf("the lease runs for %d ms", ttl)
	}
	do(t, r, "DEL", first.Lease()) // it has run out
	if res := sweep(t, second); res.Idle != 2 {
		t.Errorf("the sweep that took over: %+v", res)
	}
	if res := sweep(t, first); res != (sessiond.SweepResult{}) {
		t.Errorf("the former holder swept: %+v", res)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := do(t, r, "EXISTS", first.Lease()); got != int64(0) {
		t.Error("Close leaves the lease")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	for _, tt := range []struct{ field, value, restore string }{
		{"layout", "2", "1"}, {"layout", "x", "1"}, {"partitions", "32", "64"}, {"epoch", "x", "0123456789abcdef"},
	} {
		do(t, r, "HSET", s.Meta(), tt.field, tt.value)
		if _, err := redisstore.Open(t.Context(), r.URL(), nil); err == nil || errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("%s %s: %v", tt.field, tt.value, err)
		}
		do(t, r, "HSET", s.Meta(), tt.field, tt.restore)
	}
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		do(t, r, "CONFIG", "SET", "maxmemory-policy", policy)
		if _, err := redisstore.Open(t.Context(), r.URL(), nil); err == nil || errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("policy %s: %v", policy, err)
		}
	}
	do(t, r, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	r.Stop()
	_, err := redisstore.Open(t.Context(), r.URL(), nil)
	wantErr(t, "Open without a server", err, sessiond.ErrUnavailable)
}
