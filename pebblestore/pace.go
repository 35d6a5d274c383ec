package pebblestore

import (
	"sync/atomic"
	"time"
)

// A pacer has the work behind requests take turns while a sweep has much to do. On two processors, a sweep with a flush or a
// compaction beside it would leave none to requests: as long as no processor is idle, Go's
// scheduler looks at the network every 10 ms only. Flushes go first, since they free memory, and compactions last.
//
// A pause has a processor look at the network. It takes about a millisecond if there is nothing else to do.
type pacer struct {
	epoch    time.Time // times are since then, by a clock that nobody sets
	sweeping until
	flushing until
	began    atomic.Int64 // nanoseconds: when sweeps did, after a rest
}

const (
	flushStep       = 64 << 10 // bytes of a table between two pauses: some 1 ms of work
	compactionStep  = 32 << 10
	shortPause      = 50 * time.Microsecond
	compactionPause = 5 * time.Millisecond // leaves it a tenth of a processor
	sweepPauses     = 2                    // of a millisecond, the longest that a batch waits for a flush

	sweepLasts = 100 * time.Millisecond // after a full batch
	mostPauses = 10 * time.Second       // for compactions until sweeps rest as long, or level 0 would have too many tables
	flushLasts = 10 * time.Millisecond  // after a step
)

// An until is a time up to which something is taken to go on, in nanoseconds.
type until struct{ at atomic.Int64 }

func (u *until) going(now time.Duration) bool { return int64(now) < u.at.Load() }

func (p *pacer) now() time.Duration { return time.Since(p.epoch) }

// flushed is called after each step of a flush.
func (p *pacer) flushed() {
	now := p.now()
	p.flushing.at.Store(int64(now + flushLasts))
	if p.sweeping.going(now) {
		time.Sleep(shortPause)
	}
}

// compacted is called after each step of a compaction.
func (p *pacer) compacted() {
	if now := p.now(); p.sweeping.going(now) && now-time.Duration(p.began.Load()) < mostPauses {
		time.Sleep(compactionPause)
	}
}

// swept is called for each full batch of a sweep.
func (p *pacer) swept() {
	now := p.now()
	if rested := p.sweeping.at.Load(); rested == 0 || int64(now)-rested >= int64(mostPauses) {
		p.began.Store(int64(now))
	}
	p.sweeping.at.Store(int64(now + sweepLasts))
	for i := 0; i < sweepPauses && p.flushing.going(p.now()); i++ {
		time.Sleep(time.Millisecond)
	}
}
