package pebblestore

import (
	"encoding/binary"

	"sessiond.example/sessiond"
)

// A packedCache keeps values as the engine has them, in segments of memory that the
// garbage collector need not look into. The oldest segment is used again when all are
// full: what was read since then moves to its beginning, the rest is forgotten. It is
// guarded by its shard's lock.
type packedCache struct {
	index    map[uint64]packed // by hash of the key
	segments [][]byte
	current  int // segment that is written to
	most     int // segments
	scratch  []byte
}

// A packed is where an entry is, and what is known of it.
type packed struct {
	at     uint32 // segment * segmentSize + offset
	size   uint32
	reads  uint32
	commit uint64 // as of cached
	touch  uint64 // as of cached
}

const (
	segmentSize = 64 << 10
	// packedMost is the greatest size of an entry, so that some survive in a segment.
	packedMost = segmentSize / 4
)

// newPacked makes a cache of so many bytes, an eighth of which are for the index.
func newPacked(bytes int64) packedCache {
	return packedCache{index: make(map[uint64]packed), most: int(bytes/8*7) / segmentSize}
}

// An entry is its hash, its size, the parts of the key, each ended by a zero byte, and the value.
const packedHeader = 12

// get is the value of k.
func (c *packedCache) get(hash uint64, k sessiond.Key) (value []byte, p packed, ok bool) {
	p, ok = c.index[hash]
	if !ok {
		return nil, p, false
	}
	b := c.bytes(p)[packedHeader:]
	tenant, id := len(k.Tenant), len(k.ID)
	if len(b) < tenant+id+2 || b[tenant] != 0 || b[tenant+1+id] != 0 ||
		string(b[:tenant]) != k.Tenant || string(b[tenant+1:tenant+1+id]) != string(k.ID) {
		return nil, p, false // another key of the same hash
	}
	return b[tenant+id+2:], p, true
}

func (c *packedCache) bytes(p packed) []byte {
	begin := p.at % segmentSize
	return c.segments[p.at/segmentSize][begin : begin+p.size]
}

func (c *packedCache) remove(hash uint64) { delete(c.index, hash) }

// putPacked adds or replaces an entry. It reports false, and has removed it, if there is no room for one of that size.
func putPacked[T []byte | string](c *packedCache, hash uint64, k sessiond.Key, value T, commit, touch uint64) bool {
	c.remove(hash)
	size := packedHeader + len(k.Tenant) + len(k.ID) + 2 + len(value)
	if c.most == 0 || size > packedMost {
		return false
	}
	if len(c.segments) == 0 || len(c.segments[c.current])+size > segmentSize {
		c.next()
	}
	s := c.segments[c.current]
	c.index[hash] = packed{
		at: uint32(c.current*segmentSize + len(s)), size: uint32(size), commit: commit, touch: touch,
	}
	s = binary.BigEndian.AppendUint64(s, hash)
	s = binary.BigEndian.AppendUint32(s, uint32(size))
	s = append(append(s, k.Tenant...), 0)
	s = append(append(s, k.ID...), 0)
	c.segments[c.current] = append(s, value...)
	return true
}

// next makes room for a segment's worth of entries, but for those that survive.
func (c *packedCache) next() {
	if len(c.segments) < c.most {
		c.current = len(c.segments)
		c.segments = append(c.segments, make([]byte, 0, segmentSize))
		return
	}
	c.current = (c.current + 1) % len(c.segments)
	old := c.segments[c.current]
	keep := c.scratch[:0]
	for at := 0; at < len(old); {
		hash := binary.BigEndian.Uint64(old[at:])
		size := binary.BigEndian.Uint32(old[at+8:])
		p, ok := c.index[hash]
		switch {
		case !ok || p.at != uint32(c.current*segmentSize+at): // it was removed or replaced
		case p.reads > 0 && len(keep)+int(size) <= segmentSize/2:
			p.at, p.reads = uint32(c.current*segmentSize+len(keep)), 0
			c.index[hash] = p
			keep = append(keep, old[at:at+int(size)]...)
		default:
			delete(c.index, hash)
		}
		at += int(size)
	}
	c.segments[c.current] = append(old[:0], keep...)
	c.scratch = keep
}
