package pebblestore

import (
	"sync"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

// A cache keeps decoded records that are durable. Which of them may be in it is
// decided under the stripe lock of the key; the cache's own locks only keep its
// parts together and make lookup and clock reading one step.
type cache struct {
	now    func() time.Time
	synced *atomic.Uint64 // number of the last commit that someone may have been told is durable
	shards [cacheShards]cacheShard
}

const cacheShards = 64

// A cacheShard evicts with a clock hand: entries that were read since the hand
// last passed get another round.
type cacheShard struct {
	mu      sync.RWMutex
	entries map[sessiond.Key]*cached
	ring    []*cached
	hand    int
	size    int64
	limit   int64
	_       [40]byte // keeps neighbors off the cache line of mu
}

type cached struct {
	state
	commit uint64 // number of the last commit that may have changed the record
	size   int64
	place  int // in the ring
	used   atomic.Bool
	// touch is the number of the first commit of a touch that the record lacks, 0: none.
	touch atomic.Uint64
}

func newCache(bytes int64, now func() time.Time, synced *atomic.Uint64) *cache {
	c := &cache{now: now, synced: synced}
	for i := range c.shards {
		c.shards[i].entries = make(map[sessiond.Key]*cached)
		c.shards[i].limit = bytes / cacheShards
	}
	return c
}

func (c *cache) shard(hash uint64) *cacheShard { return &c.shards[hash>>32%cacheShards] }

// get finds a record and reads the clock at a time at which it was the durable one, or a
// touch was durable that nobody has seen yet.
func (c *cache) get(hash uint64, k sessiond.Key) (r *sessiond.Record, now time.Time) {
	s := c.shard(hash)
	s.mu.RLock()
	e := s.entries[k]
	if e == nil || e.outdated(c.synced) {
		s.mu.RUnlock()
		return nil, now
	}
	r, now = e.rec, c.now()
	s.mu.RUnlock()
	if !e.used.Load() {
		e.used.Store(true)
	}
	return r, now
}

// outdated reports whether a touch of the record may have been seen by someone.
func (e *cached) outdated(synced *atomic.Uint64) bool {
	touch := e.touch.Load()
	return touch != 0 && touch <= synced.Load()
}

// touched tells that a touch of a record is on its way to the disk.
func (c *cache) touched(hash uint64, k sessiond.Key, commit uint64) {
	s := c.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.entries[k]; e != nil && e.commit < commit {
		e.touch.CompareAndSwap(0, commit)
	}
}

// peek is get for writers, who hold the stripe.
func (c *cache) peek(hash uint64, k sessiond.Key) (st state, ok bool) {
	s := c.shard(hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.entries[k]; e != nil {
		return e.state, true
	}
	return state{}, false
}

// put adds or replaces a record as of a commit.
func (c *cache) put(hash uint64, st state, commit uint64) {
	e := &cached{state: st, commit: commit, size: memory(&st)}
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[st.rec.Key]; old != nil {
		s.drop(old)
	}
	if e.size > s.limit/4 {
		return // it would push out too much
	}
	s.size += e.size
	for s.size > s.limit {
		s.evict()
	}
	e.place = len(s.ring)
	s.ring = append(s.ring, e)
	s.entries[st.rec.Key] = e
}

// renew replaces a record that is there and older than the commit.
func (c *cache) renew(hash uint64, st state, commit uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.entries[st.rec.Key]
	if old == nil || old.commit >= commit {
		return
	}
	e := &cached{state: st, commit: commit, size: memory(&st), place: old.place}
	e.used.Store(true)
	s.size += e.size - old.size
	s.ring[e.place] = e
	s.entries[st.rec.Key] = e
}

func (c *cache) remove(hash uint64, k sessiond.Key) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[k]; e != nil {
		s.drop(e)
	}
}

func (s *cacheShard) drop(e *cached) {
	last := len(s.ring) - 1
	s.ring[e.place] = s.ring[last]
	s.ring[e.place].place = e.place
	s.ring[last] = nil
	s.ring = s.ring[:last]
	s.size -= e.size
	delete(s.entries, e.rec.Key)
}

// evict drops one entry. There is one, since the size exceeds the limit by less
// than the newest entry, which is a fraction of it.
func (s *cacheShard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if !e.used.Swap(false) {
			s.drop(e)
			return
		}
		s.hand++
	}
}

// memory estimates what a record takes in the heap, with its entry and its share
// of the map.
func memory(st *state) int64 {
	r := st.rec
	n := 800 + len(r.Tenant) + len(r.ID) + len(r.Subject) + len(r.EndNote) + len(st.unknown) +
		len(r.CreatedBy.Sub) + len(r.CreatedBy.Client) + len(r.EndedBy.Sub) + len(r.EndedBy.Client) + 2*len(r.Data)
	if len(r.Labels) > 0 {
		n += 320
	}
	for k, v := range r.Labels {
		n += 8 + len(k) + len(v)
	}
	return int64(n)
}
