// Package admission bounds how many requests are in the works at a time, so that a service that is asked for more than
// it can do goes on doing what it can.
//
// A [Gate] has a few classes of requests, each with a limit of its own that adapts: it follows the time that admitted
// requests take (limit.go). Classes are ranked by their ceilings: a class is closed once that many requests of all
// classes are in the works, so the lowest is refused first, and the rest of the room is kept for the others.
//
// A request that finds its class closed waits a little for a place, the newest first, since the oldest is the one whose
// caller has given up soonest. The wait is there to slow the callers down: a refusal at once costs a good part of what
// a cheap request costs, and callers that are refused at once come back at once.
package admission

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// ErrRefused says that there was no place in time.
var ErrRefused = errors.New("admission: refused")

// A Class is one kind of requests.
type Class struct {
	Name string
	// Ceiling is how many requests of all classes may be in the works for one more of this class to be admitted. It is
	// also the most that the class's limit can be.
	Ceiling int
	// Most and Least are the bounds of the class's limit. Its throughput must not need more than Least at a time while
	// the service is well. They are equal for a limit that does not adapt.
	Most, Least int
}

// Stats are of one class.
type Stats struct {
	Name     string
	Limit    int // that holds now
	InFlight int // admitted and not yet done
	Waiting  int // for a place
	Refused  uint64
}

// Bounds on waiting. A refusal costs some 40 us, most of it in the kernel and in net/http. While processors have nothing
// better to do they refuse after minWait. While there is a queue for them, refusals would take the time of those who are
// served: then those who wait do so for longer, so that a processor spends a twentieth of its time on refusals, but no
// longer than maxWait.
const (
	minWait  = 5 * time.Millisecond
	maxWait  = 250 * time.Millisecond
	refusals = 1250                 // a second for each processor that is busy
	busy     = 4 * time.Millisecond // that a goroutine has to wait for a processor when all are
)

// A Gate admits requests. It is safe for concurrent use, starts no goroutines and needs no closing.
type Gate struct {
	epoch      time.Time // the clock's zero
	maxWaiting int
	pace       time.Duration // between two refusals

	mu       sync.Mutex
	classes  []class
	inFlight int           // of all classes
	waiting  int           // of all classes
	late     time.Duration // mean time that refusals came late, which is how long one waits for a processor
}

type class struct {
	Class
	limit
	inFlight int
	waiting  queue
	refused  uint64
}

// New makes a gate for classes, the last to be refused first in the list. At most maxWaiting requests wait; one more
// takes the place of the oldest.
func New(maxWaiting int, classes ...Class) *Gate {
	g := &Gate{
		epoch: time.Now(), maxWaiting: maxWaiting, classes: make([]class, len(classes)),
		pace: time.Second / time.Duration(refusals*runtime.GOMAXPROCS(0)),
	}
	for i, c := range classes {
		g.classes[i] = class{Class: c, limit: newLimit(c.Least, c.Most)}
	}
	return g
}

// A Pass is the place of one admitted request.
type Pass struct {
	gate  *Gate
	class int
	began time.Duration // of the work, by the gate's clock; 0 before it
}

// Enter admits a request of a class, by its index. The error is [ErrRefused], or that of ctx when it ended first.
func (g *Gate) Enter(ctx context.Context, class int) (Pass, error) {
	g.mu.Lock()
	if g.open(class) {
		g.admit(class)
		g.mu.Unlock()
		return Pass{gate: g, class: class}, nil
	}
	return g.wait(ctx, class) // unlocks
}

// Begin says that the work begins now, with all at hand that it needs from the caller. Without it, Leave learns nothing
// from the request.
func (p *Pass) Begin() { p.began = time.Since(p.gate.epoch) }

// Leave gives the place back.
func (p *Pass) Leave() {
	g := p.gate
	now := time.Since(g.epoch)
	g.mu.Lock()
	c := &g.classes[p.class]
	c.inFlight--
	g.inFlight--
	if p.began > 0 {
		c.done(now, now-p.began)
	}
	c.adapt(now, c.inFlight)
	if g.waiting > 0 {
		g.admitWaiting()
	}
	g.mu.Unlock()
}

func (g *Gate) open(class int) bool {
	c := &g.classes[class]
	return c.inFlight < c.now && g.inFlight < c.Ceiling
}

func (g *Gate) admit(class int) {
	c := &g.classes[class]
	c.inFlight++
	g.inFlight++
	c.peak = max(c.peak, c.inFlight)
}

// wait waits for a place. It is called with the lock held and returns without.
func (g *Gate) wait(ctx context.Context, class int) (Pass, error) {
	c := &g.classes[class]
	now := time.Since(g.epoch)
	c.adapt(now, c.inFlight) // nothing may have left for long
	switch {
	case g.open(class):
		g.admit(class)
		g.mu.Unlock()
		return Pass{gate: g, class: class}, nil
	case g.waiting >= g.maxWaiting && !g.dropOne(class): // for this one
		c.refused++
		g.mu.Unlock()
		return Pass{}, ErrRefused
	}
	w := &waiter{decided: make(chan bool, 1)}
	c.waiting.push(w)
	g.waiting++
	patience := g.patience()
	until := now + patience
	g.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	err := ErrRefused
	select {
	case admitted := <-w.decided:
		return g.decided(class, admitted)
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case admitted := <-w.decided: // in the meantime
		return g.decided(class, admitted)
	default:
	}
	g.unqueue(c, w)
	if errors.Is(err, ErrRefused) {
		c.refused++
		g.late += (time.Since(g.epoch) - until - g.late) / 16
	}
	return Pass{}, err
}

// patience is how long the one who comes now waits.
func (g *Gate) patience() time.Duration {
	long := min(time.Duration(g.waiting)*g.pace, maxWait)
	return max(minWait, long*min(g.late, busy)/busy)
}

func (g *Gate) decided(class int, admitted bool) (Pass, error) {
	if !admitted {
		return Pass{}, ErrRefused
	}
	return Pass{gate: g, class: class}, nil
}

// admitWaiting gives the places that are free to those who wait: to the class that is refused last first, and in it to
// the newest.
func (g *Gate) admitWaiting() {
	for i := range g.classes {
		c := &g.classes[i]
		for c.waiting.newest != nil && g.open(i) {
			w := c.waiting.newest
			g.unqueue(c, w)
			g.admit(i)
			w.decided <- true
		}
	}
}

// dropOne refuses the oldest of those who wait in the lowest class, for one of a class that is no lower.
func (g *Gate) dropOne(class int) bool {
	for i := len(g.classes) - 1; i >= class; i-- {
		if c := &g.classes[i]; c.waiting.oldest != nil {
			w := c.waiting.oldest
			g.unqueue(c, w)
			c.refused++
			w.decided <- false
			return true
		}
	}
	return false
}

func (g *Gate) unqueue(c *class, w *waiter) {
	c.waiting.remove(w)
	g.waiting--
}

// Stats are those of every class, in the order of New.
func (g *Gate) Stats() []Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Stats, len(g.classes))
	for i := range g.classes {
		c := &g.classes[i]
		out[i] = Stats{Name: c.Name, Limit: c.limit.now, InFlight: c.inFlight, Waiting: c.waiting.n, Refused: c.refused}
	}
	return out
}

// A waiter is a request that waits. It is told once what became of it, true for admitted.
type waiter struct {
	decided      chan bool // with room for the answer
	older, newer *waiter
}

// A queue is the waiters of a class by age.
type queue struct {
	newest, oldest *waiter
	n              int
}

func (q *queue) push(w *waiter) {
	w.older = q.newest
	if w.older != nil {
		w.older.newer = w
	} else {
		q.oldest = w
	}
	q.newest = w
	q.n++
}

func (q *queue) remove(w *waiter) {
	if w.newer != nil {
		w.newer.older = w.older
	} else {
		q.newest = w.older
	}
	if w.older != nil {
		w.older.newer = w.newer
	} else {
		q.oldest = w.newer
	}
	q.n--
}
