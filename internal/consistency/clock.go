package consistency

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A storeClock relates the store's clock to the recorder's: the store's time in
// nanoseconds is the recorder's plus something between lo and hi.
type storeClock struct{ lo, hi int64 }

const (
	// backwards is how far the store's time may step back between two answers: the
	// wall clock of a host is corrected now and then.
	backwards = 5 // ms
	// unsteady is how far it may be from running at one rate, beside a thousandth
	// of the length of the history.
	unsteady = int64(25 * time.Millisecond)
)

// ahead is how far the store's clock is ahead of the recorder's, as far as is
// known while a run lasts: hunters have to be there in time.
type ahead struct {
	mu     sync.Mutex
	known  bool
	lo, hi int64 // in ns
}

func (a *ahead) saw(seen Span, call, ret int64) {
	if seen == (Span{}) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	told := Op{Seen: seen, Call: call, Return: ret}
	if !a.known {
		a.known, a.lo, a.hi = true, told.least(), told.most()
	}
	a.lo, a.hi = max(a.lo, told.least()), min(a.hi, told.most())
}

func (a *ahead) about() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lo + (a.hi-a.lo)/2
}

// readings are the operations in which the store told its time, by their calls.
func readings(ops []*Op) []*Op {
	var told []*Op
	for _, op := range ops {
		if op.Seen != (Span{}) && op.Return != Open {
			told = append(told, op)
		}
	}
	slices.SortFunc(told, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
	return told
}

// checkClock finds out how the store's time runs and whether it is one clock.
func checkClock(h *History, r *Report) storeClock {
	byCall := readings(h.Ops)
	if len(byCall) == 0 {
		r.violate(Clock, "", "no answer told the store's time")
		return storeClock{}
	}
	byReturn := slices.SortedFunc(slices.Values(byCall), func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	var latest *Op // of those that returned before the one at hand was called
	for _, op := range byCall {
		for ; byReturn[0].Return < op.Call; byReturn = byReturn[1:] {
			if latest == nil || byReturn[0].Seen.Hi > latest.Seen.Hi {
				latest = byReturn[0]
			}
		}
		if latest != nil && op.Seen.Lo < latest.Seen.Hi-backwards {
			r.violate(Clock, op.Session, "the store's time ran backwards: %s was told %d, %s before it %d",
				op.RequestID(), op.Seen.Lo, latest.RequestID(), latest.Seen.Hi)
			break
		}
	}
	lo, hi := byCall[0], byCall[0]
	for _, op := range byCall[1:] {
		if op.least() > lo.least() {
			lo = op
		}
		if op.most() < hi.most() {
			hi = op
		}
	}
	if apart := lo.least() - hi.most(); apart > unsteady+h.Took/1000 {
		r.violate(Clock, "", "the store's time is not one clock: %s on replica %d and %s on replica %d are %v apart",
			lo.RequestID(), lo.Replica, hi.RequestID(), hi.Replica, time.Duration(apart))
	}
	return storeClock{min(lo.least(), hi.most()), max(lo.least(), hi.most())}
}

// least and most bound how far the store's clock is ahead of the recorder's,
// by an operation in which the store told its time.
func (o *Op) least() int64 { return o.Seen.Hi*int64(time.Millisecond) - o.Return }
func (o *Op) most() int64  { return (o.Seen.Lo+1)*int64(time.Millisecond) - o.Call }

// slack is added to both ends of the store's time of an operation that was not
// told it.
const slack = 5 // ms

// bound gives every operation the store's time in which it can have taken effect.
func (c storeClock) bound(ops []*Op, took int64) {
	for _, op := range ops {
		if op.Seen != (Span{}) && op.Return != Open {
			op.now = op.Seen
			continue
		}
		op.now = Span{
			(op.Call + c.lo) / int64(time.Millisecond),
			(min(op.Return, took) + c.hi) / int64(time.Millisecond),
		}.widened(slack)
	}
}
