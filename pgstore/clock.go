package pgstore

import (
	"sync/atomic"
	"time"
)

// maxStepBack is by how much the server's clock may be behind what was seen of
// it before a step back is believed. sessiond.clock has the same number.
const maxStepBack = time.Minute

// A watermark is the latest time that was seen of the server's clock. Statements
// carry it as a lower bound of their time, moved on a little slower than real time, so
// that it never gets ahead of a server whose clock just runs.
type watermark struct {
	latest atomic.Pointer[sighting]
}

// A sighting is a time of the server, in milliseconds, and when it was seen.
type sighting struct {
	ms int64
	at time.Time
}

// saw takes note of a time that the server has told.
func (w *watermark) saw(ms int64) {
	for {
		old := w.latest.Load()
		if old != nil && ms <= old.ms && ms > old.ms-maxStepBack.Milliseconds() {
			return
		}
		if w.latest.CompareAndSwap(old, &sighting{ms, time.Now()}) {
			return
		}
	}
}

// low is the time before which the store's clock can't be.
func (w *watermark) low() int64 {
	s := w.latest.Load()
	if s == nil {
		return 0
	}
	return s.ms + time.Since(s.at).Milliseconds()*19/20
}
