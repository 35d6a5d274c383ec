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
	sweeping until
	flushing until
	began    atomic.Int64 // when the sweep did, in nanoseconds
}

const (
	flushStep       = 64 << 10 // bytes of a table between two pauses: some 1 ms of work
	compactionStep  = 32 << 10
	shortPause      = 50 * time.Microsecond
	compactionPause = 5 * time.Millisecond // leaves it a tenth of a processor
	sweepPauses     = 2                    // of a millisecond, the longest that a batch waits for a flush

	sweepLasts = 100 * time.Millisecond // after a full batch
	mostPauses = 10 * time.Second       // of compactions, or the tables of level 0 would become too many
	flushLasts = 10 * time.Millisecond  // after a step
)

// An until is a time up to which something is taken to go on.
type until struct{ at atomic.Int64 }

func (u *until) extend(d time.Duration) { u.at.Store(time.Now().Add(d).UnixNano()) }

func (u *until) going() bool { return time.Now().UnixNano() < u.at.Load() }

// flushed is called after each step of a flush.
func (p *pacer) flushed() {
	if p.flushing.extend(flushLasts); p.sweeping.going() {
		time.Sleep(shortPause)
	}
}

// compacted is called after each step of a compaction.
func (p *pacer) compacted() {
	if p.sweeping.going() && time.Now().UnixNano()-p.began.Load() < int64(mostPauses) {
		time.Sleep(compactionPause)
	}
}

// swept is called for each full batch of a sweep.
func (p *pacer) swept() {
	if !p.sweeping.going() {
		p.began.Store(time.Now().UnixNano())
	}
	p.sweeping.extend(sweepLasts)
	for i := 0; i < sweepPauses && p.flushing.going(); i++ {
		time.Sleep(time.Millisecond)
	}
}
