package pebblestore

import (
	"sync"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

// A cache keeps records that are durable: those that were written or read often decoded,
// others packed, as the engine has them. A record is in one of the two. Which records may
// be in the cache is decided under the stripe lock of the key; the cache's own locks only
// keep its parts together and make lookup and clock reading one step.
type cache struct {
	now    func() time.Time
	synced *atomic.Uint64 // number of the last commit that someone may have been told is durable
	shards [cacheShards]cacheShard
}

const cacheShards = 64

// A cacheShard packs decoded records with a clock hand: entries that were read since the
// hand last passed get another round.
type cacheShard struct {
	mu      sync.RWMutex
	entries map[uint64]*cached // by hash of the key
	ring    []*cached
	hand    int
	size    int64
	limit   int64
	packed  packedCache
	scratch []byte
	_       [16]byte // keeps neighbors off the cache line of mu
}

// A cached is an entry that is decoded.
type cached struct {
	state
	hash   uint64
	commit uint64 // number of the last commit that may have changed the record
	size   int64
	place  int // in the ring
	used   atomic.Bool
	wanted bool // it was read or touched at all
	// touch is the number of the first commit with a touch that the record may lack, 0: none.
	touch atomic.Uint64
}

// unpackAt is how many reads, while its segment lasts, decode a packed entry for good.
const unpackAt = 8

// newCache makes a cache of so many bytes of each kind of entry.
func newCache(decoded, packed int64, now func() time.Time, synced *atomic.Uint64) *cache {
	c := &cache{now: now, synced: synced}
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = make(map[uint64]*cached)
		s.limit = decoded / cacheShards
		s.packed = newPacked(packed / cacheShards)
	}
	return c
}

func (c *cache) shard(hash uint64) *cacheShard { return &c.shards[hash>>32%cacheShards] }

// find is the decoded entry of k, nil if there is none.
func (s *cacheShard) find(hash uint64, k sessiond.Key) *cached {
	if e := s.entries[hash]; e != nil && e.rec.Key == k {
		return e
	}
	return nil
}

// get finds a record and reads the clock at a time at which it was the durable one, or a
// touch was durable that nobody has seen yet.
func (c *cache) get(hash uint64, k sessiond.Key) (r *sessiond.Record, now time.Time) {
	s := c.shard(hash)
	s.mu.RLock()
	e := s.find(hash, k)
	if e == nil {
		s.mu.RUnlock()
		return c.getPacked(s, hash, k)
	}
	if c.outdated(e.touch.Load()) {
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

// getPacked is get for what was not decoded a moment ago.
func (c *cache) getPacked(s *cacheShard, hash uint64, k sessiond.Key) (r *sessiond.Record, now time.Time) {
	s.mu.Lock()
	b, p, ok := s.packed.get(hash, k)
	if !ok || c.outdated(p.touch) {
		s.mu.Unlock()
		return nil, now
	}
	value := string(b)
	now = c.now()
	p.reads++
	s.packed.index[hash] = p
	s.mu.Unlock()
	st, err := decodeRecord(k, value)
	if err != nil {
		return nil, now // who reads the engine's value will say so
	}
	if p.reads == unpackAt {
		s.unpack(hash, st, p.commit)
	}
	return st.rec, now
}

// outdated reports whether someone may have seen the touch that an entry lacks.
func (c *cache) outdated(touch uint64) bool { return touch != 0 && touch <= c.synced.Load() }

// touched tells that a touch of a record is on its way to the disk.
func (c *cache) touched(hash uint64, k sessiond.Key, commit uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(hash, k); e != nil && e.commit < commit {
		e.touch.CompareAndSwap(0, commit)
	}
	if p, ok := s.packed.index[hash]; ok && p.commit < commit && p.touch == 0 {
		p.touch = commit
		s.packed.index[hash] = p
	}
}

// peek is get for writers, who hold the stripe.
func (c *cache) peek(hash uint64, k sessiond.Key) (st state, ok bool) {
	s := c.shard(hash)
	s.mu.RLock()
	if e := s.find(hash, k); e != nil {
		s.mu.RUnlock()
		return e.state, true
	}
	b, _, ok := s.packed.get(hash, k)
	value := string(b)
	s.mu.RUnlock()
	if !ok {
		return state{}, false
	}
	st, err := decodeRecord(k, value)
	return st, err == nil
}

// put adds or replaces a record as of a commit: packed when it was read, decoded when it was made or is too large for that.
func (c *cache) put(hash uint64, st state, commit uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(hash)
	if st.value != "" && putPacked(&s.packed, hash, st.rec.Key, st.value, commit, 0) {
		return
	}
	s.add(&cached{state: st, hash: hash, commit: commit, wanted: st.value != ""})
}

// touch is put for a record of which only the last activity is new. If it is packed it stays so.
func (c *cache) touch(hash uint64, st state, commit uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.touchPacked(hash, &st, commit, 0) {
		return
	}
	s.forget(hash)
	s.add(&cached{state: st, hash: hash, commit: commit, wanted: true})
}

func (s *cacheShard) touchPacked(hash uint64, st *state, commit, lacks uint64) bool {
	value, p, ok := s.packed.get(hash, st.rec.Key)
	if !ok || len(value) <= tailSize {
		return false
	}
	appendTail(value[:len(value)-tailSize], st)
	p.commit, p.touch, p.reads = commit, lacks, max(1, p.reads)
	s.packed.index[hash] = p
	return true
}

// renew replaces a record that is there and older than the commit. touch tells that only the last activity is new,
// and lacks is as of [cached].
func (c *cache) renew(hash uint64, st state, commit uint64, touch bool, lacks uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := st.rec.Key
	old := s.find(hash, k)
	_, p, packed := s.packed.get(hash, k)
	if (old == nil || old.commit >= commit) && (!packed || p.commit >= commit) {
		return
	}
	if packed && touch && s.touchPacked(hash, &st, commit, lacks) {
		return
	}
	e := &cached{state: st, hash: hash, commit: commit, wanted: packed || old.wanted || old.used.Load()}
	e.touch.Store(lacks)
	s.forget(hash)
	s.add(e)
}

func (c *cache) remove(hash uint64) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(hash)
}

// forget drops the entry of a hash. It may be of another key of that hash, to which it does no harm.
func (s *cacheShard) forget(hash uint64) {
	if e := s.entries[hash]; e != nil {
		s.drop(e)
	}
	s.packed.remove(hash)
}

// unpack decodes an entry for good that was packed a moment ago, unless it was changed since.
func (s *cacheShard) unpack(hash uint64, st state, commit uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.packed.index[hash]
	if !ok || p.commit != commit {
		return
	}
	e := &cached{state: st, hash: hash, commit: p.commit, wanted: true}
	e.touch.Store(p.touch)
	s.packed.remove(hash)
	s.add(e)
}

// add makes room for an entry that is not there, and adds it.
func (s *cacheShard) add(e *cached) {
	e.size = memory(&e.state)
	if e.size > s.limit/4 {
		s.pack(e) // it would push out too much
		return
	}
	for s.size+e.size > s.limit {
		s.evict()
	}
	s.size += e.size
	e.place = len(s.ring)
	s.ring = append(s.ring, e)
	s.entries[e.hash] = e
}

func (s *cacheShard) drop(e *cached) {
	last := len(s.ring) - 1
	s.ring[e.place] = s.ring[last]
	s.ring[e.place].place = e.place
	s.ring[last] = nil
	s.ring = s.ring[:last]
	s.size -= e.size
	delete(s.entries, e.hash)
}

// evict packs one entry, or drops it when nobody wanted it. There is one, since a new one is a
// fraction of the limit.
func (s *cacheShard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		s.hand++ // also past the newest, which takes the place of the one that is dropped
		if !e.used.Swap(false) {
			s.drop(e)
			if e.wanted {
				s.pack(e)
			}
			return
		}
		e.wanted = true
	}
}

// pack adds an entry, which is not there, to the packed ones.
func (s *cacheShard) pack(e *cached) {
	s.scratch = appendRecord(s.scratch[:0], &e.state)
	putPacked(&s.packed, e.hash, e.rec.Key, s.scratch, e.commit, e.touch.Load())
}

// memory estimates what a decoded record takes in the heap, with its entry and its share
// of the map.
func memory(st *state) int64 {
	r := st.rec
	n := 760 + len(r.Tenant) + len(r.ID) + len(r.Data) + len(st.unknown)
	if len(r.Labels) > 0 {
		n += 320
	}
	if st.value != "" {
		return int64(n + len(st.value)) // which the texts are parts of
	}
	n += len(r.Subject) + len(r.EndNote) + len(r.CreatedBy.Sub) + len(r.CreatedBy.Client) + len(r.EndedBy.Sub) +
		len(r.EndedBy.Client) + len(r.Data)
	for k, v := range r.Labels {
		n += 8 + len(k) + len(v)
	}
	return int64(n)
}
