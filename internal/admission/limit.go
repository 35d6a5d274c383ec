package admission

import "time"

const (
	window  = 200 * time.Millisecond // shortest time between two changes of a limit
	longest = 5 * time.Second        // and how long it may take
	stall   = time.Second            // without anything done, the limit is lowered at once
	calm    = 150 * time.Millisecond // requests that take no longer are never a reason to lower a limit

	cut    = 0.6  // what a limit is lowered by at once
	grow   = 1.5  // and raised
	loss   = 0.75 // of what was done before; a lower limit that does less was wrong
	gain   = 1.3  // times what was done before; a higher limit that does more is needed
	forget = 0.97 // by how much a longer target is forgotten from window to window
	probes = 20   // windows between two higher limits on trial
)

// A limit is how many requests of a class may be in the works. It follows from the mean time that they take.
//
// Up to the target the limit grows, used or not: what is fast enough may have more. Above it the requests wait for each
// other somewhere behind us, and the limit is lowered. By Little's law it so comes to what the service can do in the
// time of the target.
//
// But time alone does not tell waiting from distance: a store that commits on another continent takes long and does many
// at a time, and so does a disk that syncs slowly but a thousand writes together. So a lower limit is on trial: when the
// service does less by it, it is taken back, and the target becomes twice the time it takes. The longer target is
// forgotten slowly, and then the question is asked again. At the least limit, now and then, a higher one is on trial.
//
// It is guarded by the gate's lock.
type limit struct {
	now         int
	least, most int
	target      time.Duration

	// The window.
	began time.Duration // may be ahead: what was admitted under the limit before does not count for this one
	peak  int           // most in the works
	n     int           // requests done
	sum   time.Duration // of the times they took

	// The trial.
	before int     // limit before it; 0 without a trial
	rate   float64 // requests done in a second before it
	atEnd  int     // windows at the least limit, when it was too low or the service too slow
}

func newLimit(least, most int) limit {
	return limit{now: most, least: min(least, most), most: most, target: calm}
}

// done counts a request that took so long and ended now.
func (l *limit) done(now, took time.Duration) {
	if now >= l.began {
		l.n++
		l.sum += took
	}
}

// adapt ends the window when it is time, and decides on the limit for the next one. busy is how many are in the works.
func (l *limit) adapt(now time.Duration, busy int) {
	elapsed := now - l.began
	if elapsed < window {
		return
	}
	var settle time.Duration
	switch {
	case l.n > 0:
		mean := l.sum / time.Duration(l.n)
		if elapsed < min(mean, longest) {
			return
		}
		if l.decide(mean, float64(l.n)/elapsed.Seconds()) {
			settle = min(mean, longest)
		}
	case l.peak > 0 && elapsed < max(stall, min(2*l.target, longest)):
		return // something is under way
	case l.peak > 0:
		l.now, l.before, l.target = l.least, 0, calm // there is nothing to be lost by it
	}
	l.began, l.peak, l.n, l.sum = now+settle, busy, 0, 0
}

// decide sets the limit by the mean time that requests took and how many were done in a second. It reports whether a
// trial begins.
func (l *limit) decide(mean time.Duration, rate float64) (trial bool) {
	before := l.before
	l.before = 0
	switch {
	case before > l.now && mean > calm && rate < loss*l.rate:
		l.now, l.target = before, 2*mean
		return false
	case before > 0 && before < l.now && rate > gain*l.rate:
		l.target = 2 * mean
	default:
		l.target = max(calm, min(2*mean, time.Duration(forget*float64(l.target))))
	}
	switch {
	case mean <= l.target:
		l.now = min(l.most, int(grow*float64(l.now))+1)
		return false
	case l.peak > l.least:
		l.before, l.rate = l.now, rate
		l.now = max(l.least, int(cut*float64(min(l.now, l.peak))))
		return true
	case l.peak == l.least:
		if l.atEnd++; l.atEnd%probes == 0 {
			l.before, l.rate = l.now, rate
			l.now = min(l.most, 2*l.least)
			return true
		}
	}
	return false
}
