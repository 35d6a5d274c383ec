package pebblestore

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// Whoever decides on a session holds the stripe of its key, from reading the
// record until the change is in the engine's log and memory, but not
// while it is synced. Locks are taken in this order: one subject, stripes by
// number, commitMu.
const (
	stripeCount  = 1024
	subjectCount = 256
)

type stripe struct {
	mu      sync.Mutex
	pending map[sessiond.Key]*change // changes that are not known to be durable
	_       [48]byte                 // keeps neighbors off the cache line of mu
}

func (s *Store) hash(k sessiond.Key) uint64 { return maphash.Comparable(s.seed, k) }

func (s *Store) stripe(hash uint64) *stripe { return &s.stripes[hash%stripeCount] }

// subject is the lock of those who add a live session to a subject that has a limit.
func (s *Store) subject(tenant, subject string) *sync.Mutex {
	return &s.subjects[maphash.Comparable(s.seed, [2]string{tenant, subject})%subjectCount]
}

// lockAll locks the stripes of all keys and returns the function that unlocks them.
func (s *Store) lockAll(keys []sessiond.Key) (unlock func()) {
	numbers := make([]uint64, len(keys))
	for i, k := range keys {
		numbers[i] = s.hash(k) % stripeCount
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	for _, n := range numbers {
		s.stripes[n].mu.Lock()
	}
	return func() {
		for _, n := range numbers {
			s.stripes[n].mu.Unlock()
		}
	}
}

// A current is what a session is now, for who holds its stripe. It must not be
// told to anyone before pend is durable.
type current struct {
	state         // without record when there is none
	pend  *commit // nil when it is durable
	disk  bool    // it was not in memory
}

// load finds the current state of k. The caller holds its stripe.
func (s *Store) load(
	hash uint64, k sessiond.Key, read func(pebble.Reader, sessiond.Key) (state, error),
) (current, error) {
	if ch := s.stripe(hash).pending[k]; ch != nil {
		return current{state: ch.state, pend: ch.commit}, nil
	}
	if st, ok := s.cache.peek(hash, k); ok {
		return current{state: st}, nil
	}
	st, err := read(s.db, k)
	return current{state: st, disk: true}, err
}

// keep puts what load found into the cache. The caller holds the stripe.
func (s *Store) keep(hash uint64, cur *current) {
	if cur.rec != nil && cur.pend == nil {
		// All commits that changed the record are among those so far.
		s.cache.put(hash, cur.state, s.last.Load().number)
	}
}
