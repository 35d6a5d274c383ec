package pebblestore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/pebblestore"
)

// Whoever has to wait during a sweep waits for a bounded time, and for none otherwise.
func TestPacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pebblestore.NewPacer()
		took := func(step func()) time.Duration {
			began := time.Now()
			step()
			return time.Since(began)
		}
		check := func(when string, step func(), least, most time.Duration) {
			t.Helper()
			if d := took(step); d < least || d > most {
				t.Errorf("%s: waited %v, want %v to %v", when, d, least, most)
			}
		}
		check("compaction alone", p.Compacted, 0, 0)
		check("flush alone", p.Flushed, 0, 0)
		check("batch beside a flush", p.Swept, time.Millisecond, 20*time.Millisecond)
		check("flush beside a sweep", p.Flushed, time.Microsecond, time.Millisecond)
		check("compaction beside a sweep", p.Compacted, time.Millisecond, 20*time.Millisecond)
		time.Sleep(50 * time.Millisecond)
		check("batch after a flush", p.Swept, 0, 0)
		time.Sleep(time.Second)
		check("compaction after a sweep", p.Compacted, 0, 0)
		for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(150 * time.Millisecond) {
			p.Swept() // with lulls
		}
		p.Swept()
		check("compaction beside a sweep that lasts", p.Compacted, 0, 0)
		check("flush beside it", p.Flushed, time.Microsecond, time.Millisecond)
		time.Sleep(time.Minute)
		p.Swept()
		check("compaction beside a sweep after a rest", p.Compacted, time.Millisecond, 20*time.Millisecond)
	})
}
