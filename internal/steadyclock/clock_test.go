package steadyclock_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/internal/steadyclock"
)

var epoch = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// fake is a source moved by hand; boot and wall move together unless the wall is stepped.
type fake struct {
	wall time.Time
	boot time.Duration
}

func (f *fake) Wall() time.Time     { return f.wall }
func (f *fake) Boot() time.Duration { return f.boot }

func (f *fake) pass(d time.Duration) {
	f.wall = f.wall.Add(d)
	f.boot += d
}

// suspendable has a monotonic clock that stands still during a suspension.
type suspendable struct {
	fake
	asleep time.Duration
}

func (s *suspendable) Monotonic() time.Duration { return s.boot - s.asleep }

func (s *suspendable) suspend(d time.Duration) {
	s.pass(d)
	s.asleep += d
}

func TestStart(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("east", 3600)
	for _, tt := range []struct {
		name      string
		highWater time.Time
		want      time.Time
	}{
		{"no high water", time.Time{}, epoch},
		{"earlier high water", epoch.Add(-time.Hour), epoch},
		{"later high water", epoch.Add(time.Hour).In(zone), epoch.Add(time.Hour)},
	} {
		src := &fake{wall: epoch.In(zone), boot: 7 * time.Hour}
		c := steadyclock.New(src, tt.highWater)
		if got := c.Now(); got != tt.want {
			t.Errorf("%s: Now() = %v, want %v in UTC", tt.name, got, tt.want)
		}
		if got, want := c.Offset(), epoch.Sub(tt.want); got != want {
			t.Errorf("%s: Offset() = %v, want %v", tt.name, got, want)
		}
	}
}

func TestFollowsAnUndisturbedWallClockExactly(t *testing.T) {
	t.Parallel()
	src := &fake{wall: epoch}
	c := steadyclock.New(src, time.Time{})
	for range 1000 {
		src.pass(37*time.Millisecond + 13)
		if got := c.Now(); got != src.wall {
			t.Fatalf("Now() = %v, want the wall time %v", got, src.wall)
		}
	}
}

func TestStepIsSlewed(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{
		time.Nanosecond, -time.Nanosecond, 3 * time.Millisecond, -7 * time.Millisecond, 10 * time.Second, -10 * time.Second,
	} {
		src := &fake{wall: epoch}
		c := steadyclock.New(src, time.Time{})
		c.Now()
		src.wall = src.wall.Add(step)
		if got := c.Now(); got != epoch {
			t.Fatalf("step %v: time jumped by %v", step, got.Sub(epoch))
		}
		if got := c.Offset(); got != step {
			t.Fatalf("step %v: Offset() = %v", step, got)
		}
		// A step of s needs 20 s to be made up, and one segment until it is noticed.
		need := 20*step.Abs() + 200*time.Millisecond
		for passed := time.Duration(0); passed < need; passed += 10 * time.Millisecond {
			src.pass(10 * time.Millisecond)
			c.Now()
		}
		for range 100 {
			if got := c.Offset(); got != 0 {
				t.Fatalf("step %v: offset %v after %v, want exact convergence", step, got, need)
			}
			src.pass(10 * time.Millisecond)
		}
	}
}

func TestHugeStepsNeverJump(t *testing.T) {
	t.Parallel()
	src := &fake{wall: epoch}
	c := steadyclock.New(src, time.Time{})
	before := c.Now()
	for _, wall := range []time.Time{{}, time.Unix(0, 0), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), epoch} {
		src.wall = wall
		src.boot += time.Second
		now := c.Now()
		if d := now.Sub(before); d < 950*time.Millisecond || d > 1050*time.Millisecond {
			t.Errorf("wall at %v: a second passed as %v", wall, d)
		}
		before = now
	}
}

// TestProperties plays random elapses, wall steps and wall drifts, and holds every pair of readings to the bounds.
func TestProperties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		src := &fake{wall: epoch, boot: time.Duration(rng.Int64N(int64(time.Hour)))}
		c := steadyclock.New(src, epoch.Add(time.Duration(rng.Int64N(int64(2*time.Hour)))-time.Hour))
		first, firstBoot := c.Now(), src.boot
		last, lastBoot := first, src.boot
		for range 2000 {
			switch rng.IntN(20) {
			case 0: // a step of up to an hour either way
				src.wall = src.wall.Add(time.Duration(rng.Int64N(int64(2*time.Hour))) - time.Hour)
			case 1: // a long pause
				src.pass(time.Duration(rng.Int64N(int64(time.Hour))))
			case 2: // a wall clock that runs differently
				src.boot += time.Duration(rng.Int64N(int64(time.Second)))
			default:
				src.pass(time.Duration(rng.Int64N(int64(150 * time.Millisecond))))
			}
			now := c.Now()
			if now.Before(last) {
				t.Fatalf("seed %d: time ran back by %v", seed, last.Sub(now))
			}
			within(t, seed, now.Sub(last), src.boot-lastBoot)
			within(t, seed, now.Sub(first), src.boot-firstBoot)
			last, lastBoot = now, src.boot
		}
		// Left alone, it converges in 20 times the offset, exactly.
		src.pass(20*c.Offset().Abs() + time.Second)
		c.Now()
		src.pass(time.Second)
		if got := c.Offset(); got != 0 {
			t.Fatalf("seed %d: offset %v, want 0", seed, got)
		}
	}
}

// within allows the two nanoseconds that integer division may cost.
func within(t *testing.T, seed uint64, service, boot time.Duration) {
	t.Helper()
	if service < boot-boot/20-2 || service > boot+boot/20+2 {
		t.Fatalf("seed %d: %v since boot passed as %v of service time", seed, boot, service)
	}
}

func TestSuspensionCounts(t *testing.T) {
	t.Parallel()
	src := &suspendable{fake: fake{wall: epoch, boot: time.Hour}, asleep: 10 * time.Minute}
	c := steadyclock.New(src, time.Time{})
	for range 3 {
		src.pass(30 * time.Millisecond)
		c.Now()
		src.suspend(8 * time.Hour)
		c.Now()
		src.pass(time.Second)
		if got := c.Now(); got != src.wall {
			t.Errorf("after a suspension Now() = %v, want %v", got, src.wall)
		}
	}
	// Suspended time counts even if the wall clock was not set on resume.
	src.suspend(time.Hour)
	src.wall = src.wall.Add(-time.Hour)
	before := c.Now()
	src.pass(time.Second)
	if d := c.Now().Sub(before); d < 55*time.Minute {
		t.Errorf("an hour of suspension passed as %v", d)
	}
}

func TestSystemUnderVirtualTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := steadyclock.New(steadyclock.System{}, time.Time{})
		start := c.Now()
		for _, d := range []time.Duration{time.Millisecond, time.Hour, 50 * time.Millisecond, 30 * 24 * time.Hour} {
			time.Sleep(d)
			// Suspended time is measured by real clocks: their readings may differ by a few microseconds.
			if off := c.Offset().Abs(); off > 5*time.Millisecond {
				t.Errorf("after a sleep of %v the offset is %v", d, off)
			}
		}
		if d := c.Now().Sub(start); d < 30*24*time.Hour {
			t.Errorf("slept for a month, the clock advanced %v", d)
		}
	})
}

func TestSystem(t *testing.T) {
	t.Parallel()
	var src steadyclock.System
	before := src.Boot()
	if after := src.Boot(); after < before-time.Second { // preempted readings are short
		t.Errorf("boot time ran back by %v", before-after)
	}
	if d := time.Since(src.Wall()).Abs(); d > time.Minute {
		t.Errorf("wall time is %v off", d)
	}
}

// TestConcurrentReadingsAgree has goroutines pass the latest reading on: whoever reads later must not read less.
func TestConcurrentReadingsAgree(t *testing.T) {
	t.Parallel()
	c := steadyclock.New(steadyclock.System{}, time.Now().Add(time.Hour)) // ahead, so that lines differ in rate
	var (
		mu     sync.Mutex
		latest time.Time
		wg     sync.WaitGroup
	)
	end := time.Now().Add(400 * time.Millisecond)
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				mu.Lock()
				seen := latest
				mu.Unlock()
				for range 50 {
					now := c.Now()
					if now.Before(seen) {
						t.Errorf("read %v after %v", now, seen)
						return
					}
					seen = now
				}
				mu.Lock()
				if seen.After(latest) {
					latest = seen
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNowDoesNotAllocate(t *testing.T) {
	c := steadyclock.New(steadyclock.System{}, time.Time{})
	if n := testing.AllocsPerRun(1000, func() { c.Now() }); n != 0 {
		t.Errorf("Now allocates %v times", n)
	}
}

func BenchmarkNow(b *testing.B) {
	c := steadyclock.New(steadyclock.System{}, time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		c.Now()
	}
}

func BenchmarkNowParallel(b *testing.B) {
	c := steadyclock.New(steadyclock.System{}, time.Time{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Now()
		}
	})
}

// BenchmarkTimeNow is what Now is to be compared with.
func BenchmarkTimeNow(b *testing.B) {
	for b.Loop() {
		_ = time.Now()
	}
}
