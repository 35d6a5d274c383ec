// Package faultmatrix checks what a [sessiond.Store] that talks to a server
// answers while the way to it is disturbed: every operation under every fault.
// It is what package storetest can't say of a store, since nothing ever fails
// there:
//
//   - An answer is the truth, or says that the store is unavailable, that the
//     outcome of a write is unknown, or that the caller's context has ended;
//     nothing that is there is called not found, ended or taken.
//   - A write that succeeded is there afterwards, once. One that was not applied
//     is not there, also later. One of unknown outcome is there wholly or not at
//     all: record, lists, counters and events agree.
//   - Answers come in time: those of reads within the caller's deadline, all
//     within the store's own.
//   - When the fault is over, the store works again by itself, soon.
//   - A closed store leaves neither goroutines nor connections.
//
// [Run] checks a store, [RunHTTP] the service above it.
package faultmatrix

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sessiond.example/sessiond"
)

// A Target is a store and what can be done to it. Its data are empty at first
// and nobody else's.
type Target struct {
	// Open connects a handle of the store, by the way that the faults disturb.
	Open func(ctx context.Context) (sessiond.Store, error)
	// Observe connects a handle on the same data by another way. It works whenever
	// no fault is on.
	Observe func(ctx context.Context) (sessiond.Store, error)
	// Timeout is how long the store waits for one answer when the caller does
	// not say.
	Timeout time.Duration
	// Patience is how long a call without a deadline may take at most, and how
	// long a close, and an open.
	Patience time.Duration
	// Recovery is how soon after the end of a fault the store must answer, counted
	// from when a new handle can be opened. Default: 2s
	Recovery time.Duration
	// Connections is how many connections the handles of Open have now.
	Connections func() int
	Lasting     []Lasting
	Cuts        []Cut
}

// Only is the target with the lasting faults of these names.
func (t Target) Only(names ...string) Target {
	t.Lasting = slices.DeleteFunc(slices.Clone(t.Lasting), func(f Lasting) bool {
		return !slices.Contains(names, f.Name)
	})
	return t
}

// A Lasting fault holds from its begin to its end, or is over when it has begun
// and leaves its damage. All operations run under it at once.
type Lasting struct {
	Name       string
	Begin, End func(t testing.TB)
}

// A Cut hits one request. Operations run under it one by one, with every
// request of theirs cut in turn.
type Cut struct {
	Name string
	// Arm makes the cut hit the next request after it has let skip requests pass.
	Arm func(skip int)
	// Met reports whether the cut has hit a request since it was armed.
	Met func() bool
	// End takes back a cut that has not hit anything.
	End func(t testing.TB)
}

// mostCuts bounds the requests of one operation that are cut in turn.
const mostCuts = 12

// slack is how much longer than promised an answer may take on a machine that
// has much to do.
const slack = time.Second

// Run checks the store that open returns. It must not run at the same time as
// other tests of the process: it counts goroutines.
func Run(t *testing.T, open func(t testing.TB) Target) {
	s := newSuite(t, open(t))
	for _, f := range s.target.Lasting {
		t.Run(f.Name, func(t *testing.T) { s.lasting(t, f) })
	}
	for _, c := range s.target.Cuts {
		t.Run(c.Name, func(t *testing.T) { s.cut(t, c) })
	}
	t.Run("leftovers", s.leftovers)
}

// A suite is a target under test.
type suite struct {
	target   Target
	store    sessiond.Store
	observer sessiond.Store
	known    []goleak.Option // goroutines that are not the store's
	scenes   int             // so far
	closed   bool
}

func newSuite(t *testing.T, target Target) *suite {
	t.Helper()
	if target.Recovery == 0 {
		target.Recovery = 2 * time.Second
	}
	s := &suite{target: target, known: knownGoroutines()}
	var err error
	if s.store, err = target.Open(t.Context()); err != nil {
		t.Fatalf("open the store: %v", err)
	}
	if s.observer, err = target.Observe(t.Context()); err != nil {
		t.Fatalf("open the observer: %v", errors.Join(err, s.store.Close()))
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// close closes the handles if they are open.
func (s *suite) close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.store.Close(), s.observer.Close())
}

// deadline is what calls with a deadline get.
func (s *suite) deadline() time.Duration { return s.target.Timeout / 4 }
