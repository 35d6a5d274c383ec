package pgstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

const (
	// maxFlights is how many groups are under way to the server at the same time.
	maxFlights = 2
	// maxGroup is the largest number of keys in a group.
	maxGroup = 64
	// lateFlight is after what time a group that is under way no longer keeps the ones behind
	// it waiting: its connection may be dead, or its table locked.
	lateFlight = 20 * time.Millisecond
)

// reads have single reads that wait at the same time go to the server as one
// statement. A read goes at once if a flight is free, else with the next one.
// It never joins a group that has left, so that the answer is one that was true
// after the call began. Who leaves early, because its context has ended, leaves the
// group as it is.
type reads struct {
	// read reads records by different keys, by the number of the key. Its error is that of every key.
	read func(keys []sessiond.Key) ([]answer, time.Time, error)

	mu     sync.Mutex
	air    []*group // under way, oldest first, without those that are late; at most maxFlights
	queue  []*group // they leave in this order; all but the last are full
	watch  *time.Timer
	flying sync.WaitGroup
}

// A group is reads by different keys.
type group struct {
	keys []sessiond.Key
	left time.Time

	done    chan struct{} // closed when the rest is there
	answers []answer
	now     time.Time
	err     error
}

// An answer is what became of one key: without record there is none.
type answer struct {
	stored
	err error
}

func newGroup(k sessiond.Key) *group {
	return &group{keys: []sessiond.Key{k}, done: make(chan struct{})}
}

// add gives the number of a key in the group, -1 if it has no room.
func (g *group) add(k sessiond.Key) int {
	if n := slices.Index(g.keys, k); n >= 0 {
		return n
	}
	if len(g.keys) == maxGroup {
		return -1
	}
	g.keys = append(g.keys, k)
	return len(g.keys) - 1
}

// get reads one record, as it is stored, and the time.
func (r *reads) get(ctx context.Context, k sessiond.Key) (stored, time.Time, error) {
	g, n := r.join(k)
	select {
	case <-g.done:
	case <-ctx.Done():
		return stored{}, time.Time{}, ctx.Err()
	}
	if g.err != nil {
		return stored{}, time.Time{}, g.err
	}
	a := &g.answers[n]
	return a.stored, g.now, a.err
}

// join finds a group that has not left.
func (r *reads) join(k sessiond.Key) (g *group, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !plain(k) {
		g = newGroup(k)
		r.leave(g)
		return g, 0
	}
	if last := len(r.queue) - 1; last >= 0 {
		if n := r.queue[last].add(k); n >= 0 {
			return r.queue[last], n
		}
	}
	g = newGroup(k)
	if len(r.air) < maxFlights {
		r.air = append(r.air, g)
		r.leave(g)
		return g, 0
	}
	r.queue = append(r.queue, g)
	if len(r.queue) == 1 {
		r.watchOver()
	}
	return g, 0
}

// plain reports whether nothing in a key can make a statement fail, and with it the
// reads of others: its characters are the same in all encodings.
func plain(k sessiond.Key) bool {
	for _, s := range [...]string{k.Tenant, string(k.ID)} {
		for i := range len(s) {
			if s[i] == 0 || s[i] >= 0x80 {
				return false
			}
		}
	}
	return true
}

// leave begins a flight. r.mu is held.
func (r *reads) leave(g *group) {
	g.left = time.Now()
	r.flying.Add(1)
	go func() {
		defer r.flying.Done()
		for g != nil {
			g.answers, g.now, g.err = r.read(g.keys)
			close(g.done)
			g = r.land(g)
		}
	}()
}

// land gives the group that takes the place of g, nil if there is none.
func (r *reads) land(g *group) *group {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.air, g)
	switch {
	case i < 0:
		return nil // it was late, or had no place
	case len(r.queue) == 0:
		r.air = slices.Delete(r.air, i, i+1)
		return nil
	}
	next := r.pop()
	r.air = append(slices.Delete(r.air, i, i+1), next)
	next.left = time.Now()
	return next
}

func (r *reads) pop() *group {
	g := r.queue[0]
	r.queue = slices.Delete(r.queue, 0, 1)
	return g
}

// watchOver has r.late called when the oldest flight may be late. r.mu is held.
func (r *reads) watchOver() {
	wait := lateFlight - time.Since(r.air[0].left)
	if r.watch == nil {
		r.watch = time.AfterFunc(wait, r.late)
	} else {
		r.watch.Reset(wait)
	}
}

// late gives the places of flights that are late to groups that wait.
func (r *reads) late() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) > 0 && time.Since(r.air[0].left) >= lateFlight {
		g := r.pop()
		r.air = append(slices.Delete(r.air, 0, 1), g)
		r.leave(g)
	}
	if len(r.queue) > 0 {
		r.watchOver()
	}
}

// wait returns when nothing is under way. No read may begin any more.
func (r *reads) wait() {
	r.flying.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watch != nil {
		r.watch.Stop()
	}
}
