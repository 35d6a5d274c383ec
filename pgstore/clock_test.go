package pgstore_test

import (
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pgstore"
)

// TestClockStepsBack sets the server's clock back: by a little, then time stands nearly
// still until the clock has caught up; by a lot, which is believed.
func TestClockStepsBack(t *testing.T) {
	t.Parallel()
	c := new(clock)
	s := open(t, newDatabase(t), &pgstore.Options{Skew: c.sinceEpoch})
	last := create(t, s, "s1").Now
	for _, step := range []time.Duration{time.Hour, -30 * time.Second, 10 * time.Second, -35 * time.Second} {
		c.advance(step)
		for range 3 {
			res, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{})
			if err != nil && step != time.Hour {
				res, err = s.Get(t.Context(), key("s1"))
			}
			if res.Now.Before(last) {
				t.Errorf("after a step of %v the time went back from %v to %v, %v", step, last, res.Now, err)
			}
			last = res.Now
			if stats, err := s.Stats(t.Context()); err != nil || stats.Now.Before(last) {
				t.Errorf("after a step of %v: %v came after %v, %v", step, stats.Now, last, err)
			} else {
				last = stats.Now
			}
		}
	}
	c.advance(-2 * time.Hour)
	stats, err := s.Stats(t.Context())
	if err != nil || last.Sub(stats.Now) < 90*time.Minute {
		t.Errorf("after a step back of two hours: %v, it was %v, %v", stats.Now, last, err)
	}
}

// TestClockRuns compares the store's time with the host's, which is the same here.
func TestClockRuns(t *testing.T) {
	t.Parallel()
	c := new(clock)
	s := open(t, newDatabase(t), &pgstore.Options{Skew: c.sinceEpoch})
	for _, ahead := range []time.Duration{0, 10 * time.Second} {
		c.advance(ahead)
		before := time.Now().Truncate(time.Millisecond).Add(ahead)
		stats, err := s.Stats(t.Context())
		if err != nil || stats.Now.Before(before) || stats.Now.After(time.Now().Add(ahead)) {
			t.Errorf("the store's time is %v, the host's was %v, %v", stats.Now, before, err)
		}
		if off := stats.ClockOffset + ahead; off.Abs() > time.Second {
			t.Errorf("the offset is %v", stats.ClockOffset)
		}
	}
}
