package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// verified is what the cache remembers of a verified credential.
type verified struct {
	principal *Principal
	notBefore time.Time
	issuer    *issuer
	key       *key
}

// valid reports whether a verification now would come out the same.
func (e *verified) valid(now time.Time) bool {
	return now.Before(e.principal.Expires) && !now.Before(e.notBefore) && !e.key.gone.Load() && e.issuer.fresh(now)
}

// tokenHash stands for a credential: the credential itself is never kept.
type tokenHash [sha256.Size]byte

func hashToken(raw string) tokenHash {
	var buf [2048]byte // most tokens fit, and need no allocation
	return sha256.Sum256(append(buf[:0], raw...))
}

const (
	cacheShards  = 64
	evictSamples = 8
)

// cache holds verified credentials in shards, so that readers on many cores do not meet at one lock. The hash is
// uniform, so a shard's share of the size is enough.
type cache struct {
	shards []cacheShard
	limit  int // entries per shard
}

type cacheShard struct {
	mu      sync.RWMutex
	entries map[tokenHash]*verified
	_       [32]byte // a cache line of its own
}

// newCache returns a cache for at most size entries; for none if size is negative.
func newCache(size int) *cache {
	if size < 0 {
		return &cache{}
	}
	shards := cacheShards
	if size < shards*evictSamples {
		shards = 1
	}
	c := &cache{shards: make([]cacheShard, shards), limit: size / shards}
	for i := range c.shards {
		c.shards[i].entries = make(map[tokenHash]*verified)
	}
	return c
}

func (c *cache) shard(hash *tokenHash) *cacheShard { return &c.shards[int(hash[0])%len(c.shards)] }

// get returns the remembered verification if it still holds, and forgets it otherwise.
func (c *cache) get(hash *tokenHash, now time.Time) *verified {
	if len(c.shards) == 0 {
		return nil
	}
	s := c.shard(hash)
	s.mu.RLock()
	entry := s.entries[*hash]
	s.mu.RUnlock()
	if entry == nil {
		return nil
	}
	if entry.valid(now) {
		return entry
	}
	s.mu.Lock()
	if s.entries[*hash] == entry {
		delete(s.entries, *hash)
	}
	s.mu.Unlock()
	return nil
}

func (c *cache) put(hash *tokenHash, entry *verified, now time.Time) {
	if len(c.shards) == 0 {
		return
	}
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, replaces := s.entries[*hash]; !replaces && len(s.entries) >= c.limit {
		s.evict(now)
	}
	s.entries[*hash] = entry
}

// evict makes room for one entry: of a few random ones those that no longer hold, else the one that expires first.
func (s *cacheShard) evict(now time.Time) {
	var victim tokenHash
	var expires time.Time
	seen, room := 0, false
	for hash, entry := range s.entries { // in random order
		if !entry.valid(now) {
			delete(s.entries, hash)
			room = true
		} else if expires.IsZero() || entry.principal.Expires.Before(expires) {
			victim, expires = hash, entry.principal.Expires
		}
		if seen++; seen == evictSamples {
			break
		}
	}
	if !room {
		delete(s.entries, victim)
	}
}
