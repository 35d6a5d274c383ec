package pebblestore_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// The engine's compactions are among those who wait.
func TestCompactionsArePaced(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), pebblestore.Options{Clock: &hands{}})
	defer closeStore(t, s)
	const n = 50 // a megabyte and a half, which is 50 pauses
	var began time.Time
	for round := range 2 { // the second time there is something to merge with
		for i := range n {
			id := fmt.Sprint("s", i)
			if round == 0 {
				create(t, s, id, "", time.Hour)
			}
			_, err := s.Update(t.Context(), key(id), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
				r.Data = make([]byte, 32<<10)
				rand.Read(r.Data)
				return change(now, r)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if round == 1 {
			began = time.Now()
			s.Swept()
		}
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("a compaction beside a sweep took %v, want at least what is left of the sweep", took)
	}
}

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
