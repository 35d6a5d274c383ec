// Package storetest is the conformance suite that every [sessiond.Store]
// passes. A store is right when [Run], [RunConcurrent] and [RunModel] pass on
// it; [Bench] measures all stores under the same names.
//
//	func open(t testing.TB) storetest.Fixture { ... }
//
//	func TestStore(t *testing.T)      { storetest.Run(t, open) }
//	func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, open) }
//	func TestModel(t *testing.T)      { storetest.RunModel(t, open) }
//	func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }
//
// There are no capability flags: the suite has no part that a store may leave
// out. Every subtest opens a store of its own and runs in parallel with others.
// The flag -storetest.patience is how long a test waits for what must come,
// such as an event; raise it for slow stores.
package storetest

import (
	"testing"
	"time"

	"sessiond.example/sessiond"
)

// A Fixture is an empty store and the hand on its clock.
type Fixture struct {
	// Store is empty and closed by a cleanup of the test. A subtest may have
	// closed it before; the cleanup ignores what Close says then.
	Store sessiond.Store
	// Advance moves the store's clock forward by d, a number of milliseconds.
	// It may be called while the store is in use. Between calls the clock may
	// stand still, which makes the most exact tests, or run with real time.
	Advance func(d time.Duration)
}

// Open makes a fixture. It is called from several tests at the same time.
type Open func(t testing.TB) Fixture

// Run tests one promise of the Store contract after the other.
func Run(t *testing.T, open Open) {
	t.Run("Contract", func(t *testing.T) { runGroup(t, open, contract) })
	t.Run("Touch", func(t *testing.T) { runGroup(t, open, touching) })
	t.Run("Limit", func(t *testing.T) { runGroup(t, open, limits) })
	t.Run("List", func(t *testing.T) { runGroup(t, open, lists) })
	t.Run("Import", func(t *testing.T) { runGroup(t, open, importing) })
	t.Run("Scan", func(t *testing.T) { runGroup(t, open, scans) })
	t.Run("Sweep", func(t *testing.T) { runGroup(t, open, sweeping) })
	t.Run("Events", func(t *testing.T) { runGroup(t, open, feeds) })
	t.Run("Values", func(t *testing.T) { runGroup(t, open, values) })
	t.Run("Context", func(t *testing.T) { runGroup(t, open, contexts) })
	t.Run("Closed", func(t *testing.T) { runGroup(t, open, closing) })
}

// RunConcurrent tests what holds when operations race. Run it with the race
// detector too.
func RunConcurrent(t *testing.T, open Open) {
	runGroup(t, open, concurrent)
}

// A test is one subtest: a name and what it does with an empty store.
type test struct {
	name string
	run  func(t *tester)
}

func runGroup(t *testing.T, open Open, tests []test) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			tt.run(&tester{T: t, store: f.Store, advance: f.Advance, open: open})
		})
	}
}
