// Package steadyclock is the clock of the embedded stores: a wall clock that never jumps.
//
// Whether a session is live is a comparison of its deadlines with the clock, so a wall clock that an operator
// or a time daemon steps would end sessions early or keep them too long. A [Clock] starts at the wall time (or at a
// remembered later time), advances with the time since boot, suspended time included, and moves towards the wall
// clock by at most one twentieth of the time that passes.
package steadyclock

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// segment is how long one computed rate is used before the sources are read again.
	segment = 100 * time.Millisecond
	// slew is the divisor of elapsed time that bounds the correction towards the wall clock: 5 %.
	slew = 20
)

// Source gives the readings a Clock is made of. Implementations must be safe for concurrent use.
//
// A Source may also have a method Monotonic() time.Duration that is cheaper than Boot and may stand still while the
// machine is suspended. A Clock then calls Monotonic on every reading and Boot only when it computes a new rate,
// about every 100 ms of use.
type Source interface {
	// Wall returns the wall clock, which may step in either direction.
	Wall() time.Time
	// Boot returns the time since an arbitrary fixed point, including suspended time. Without a Monotonic method
	// it must never decrease; with one, a reading may be short by the time the reader was preempted.
	Boot() time.Duration
}

// Clock is a monotone wall clock. It is safe for concurrent use; readings by different goroutines agree.
type Clock struct {
	src       Source
	monotonic func() time.Duration
	current   atomic.Pointer[line]

	mu     sync.Mutex    // guards the making of the next line
	asleep time.Duration // suspended time accounted so far: the largest Boot - monotonic seen
}

// line is a piece of service time: base at monotonic reading from, gaining gain over the segment beyond the time that
// passes. It holds for readings in [from, from+segment) and only there, so that every goroutine computes the same
// time from the same reading, whichever line it has loaded.
type line struct {
	from time.Duration
	base time.Time
	gain time.Duration
}

func (l *line) at(passed time.Duration) time.Time {
	return l.base.Add(passed + l.gain*passed/segment)
}

// New returns a clock that starts at the later of src.Wall() and highWater, the last time known to have been served
// by an earlier process (zero: none).
func New(src Source, highWater time.Time) *Clock {
	c := &Clock{src: src, monotonic: src.Boot}
	if m, ok := src.(interface{ Monotonic() time.Duration }); ok {
		c.monotonic = m.Monotonic
	}
	wall := civil(src.Wall())
	start := wall
	if h := civil(highWater); h.After(start) {
		start = h
	}
	// A goroutine preempted between the two readings sees too little suspended time, and the difference would later
	// be taken for a suspension. The best of a few tries is exact.
	c.asleep = c.suspended()
	for range 4 {
		c.asleep = max(c.asleep, c.suspended())
	}
	c.current.Store(&line{from: c.monotonic(), base: start, gain: bounded(wall.Sub(start), segment)})
	return c
}

// Now returns the service time in UTC, without a monotonic reading. It never decreases.
func (c *Clock) Now() time.Time {
	l := c.current.Load()
	// The line must be loaded before the reading is taken, so that the reading is not older than the line.
	passed := c.monotonic() - l.from
	if passed >= segment {
		return c.next()
	}
	return l.at(passed)
}

// Offset returns the wall time minus the service time: positive when the wall clock is ahead.
func (c *Clock) Offset() time.Duration {
	return civil(c.src.Wall()).Sub(c.Now())
}

// next replaces a line that has ended and returns the time at the start of its successor. Nobody has been given a
// time after the end of the old line yet, so the gap since then may be slewed as well.
func (c *Clock) next() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.current.Load()
	asleep := max(c.asleep, c.suspended())
	wall := civil(c.src.Wall())
	from := c.monotonic()
	if from-l.from < segment { // another goroutine was faster
		return l.at(max(0, from-l.from))
	}
	gap := from - l.from - segment + asleep - c.asleep
	base := l.at(segment).Add(gap)
	base = base.Add(bounded(wall.Sub(base), gap))
	c.asleep = asleep
	c.current.Store(&line{from: from, base: base, gain: bounded(wall.Sub(base), segment)})
	return base
}

// suspended returns the time the machine has been suspended for, up to a constant. It may be short by the time
// between its two readings, never long: too much would end sessions early.
func (c *Clock) suspended() time.Duration {
	boot := c.src.Boot()
	return boot - c.monotonic()
}

// bounded limits a correction to what may be made while elapsed passes.
func bounded(correction, elapsed time.Duration) time.Duration {
	return min(max(correction, -elapsed/slew), elapsed/slew)
}

// civil strips the monotonic reading, which would otherwise decide comparisons and differences.
func civil(t time.Time) time.Time { return t.Round(0).UTC() }
