package pebblestore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// Stored is what the codec keeps beside the record.
type Stored struct {
	Record  *sessiond.Record
	Filed   int64
	Unknown []byte
}

func EncodeRecord(s Stored) []byte {
	return appendRecord(nil, &state{rec: s.Record, filed: s.Filed, unknown: s.Unknown})
}

func DecodeRecord(k sessiond.Key, b []byte) (Stored, error) {
	st, err := decodeRecord(k, string(b))
	return Stored{st.rec, st.filed, st.unknown}, err
}

func EncodeEvent(e sessiond.Event) []byte { return appendEvent(nil, &e) }

func DecodeEvent(b []byte) (sessiond.Event, error) { return decodeEvent(b) }

func EncodePlace(c sessiond.Cursor) []byte { return appendPlace(nil, c) }

func DecodePlace(b []byte) (sessiond.Cursor, error) { return parsePlace(b) }

func DecodeDue(b []byte) (int64, sessiond.Key, error) { return parseDue(b) }

// HoldStripe keeps changes of k from being published until release is called.
func (s *Store) HoldStripe(k sessiond.Key) (release func()) {
	st := s.stripe(s.hash(k))
	st.mu.Lock()
	return st.mu.Unlock
}

const ComparerName = comparerName

var (
	MetaFormat = metaFormat
	TailMerger = tailMerger
)

// EncodeTail is what a touch writes.
func EncodeTail(s Stored) []byte { return appendTail(nil, &state{rec: s.Record, filed: s.Filed}) }

// EncodeEnd is what the sweeper writes of a session that it ends.
func EncodeEnd(s Stored) []byte { return appendEnd(nil, &state{rec: s.Record, filed: s.Filed}) }

// A Pacer is that of a store.
type Pacer = pacer

func NewPacer() *Pacer { return &pacer{epoch: time.Now()} }

func (p *Pacer) Flushed()   { p.flushed() }
func (p *Pacer) Compacted() { p.compacted() }
func (p *Pacer) Swept()     { p.swept() }

// Swept has the engine believe that a sweep is busy.
func (s *Store) Swept() { s.pacer.swept() }

// Compact brings everything to where the engine keeps old keys.
func (s *Store) Compact(ctx context.Context) error {
	return errors.Join(s.db.Flush(), s.db.Compact(ctx, []byte{0}, []byte{0xff}, false))
}

// Unsettled is how many commits were applied and are not yet settled.
func (s *Store) Unsettled() int64 { return s.unsettled.Load() }

// SyncInterval is the least time between two syncs while so many commits wait.
func SyncInterval(unsettled int64) time.Duration {
	var n atomic.Int64
	n.Store(unsettled)
	return syncInterval(&n)()
}

// UseCache gives a store that nobody uses yet a record cache of other sizes.
func (s *Store) UseCache(decoded, packed int64) {
	s.cache = newCache(decoded, packed, s.now, &s.synced)
}

// A RecordCache is the cache without a store.
type RecordCache struct {
	c      *cache
	Synced atomic.Uint64
}

const (
	CacheShards = cacheShards
	SegmentSize = segmentSize
	UnpackAt    = unpackAt
)

func NewRecordCache(decoded, packed int64) *RecordCache {
	var c RecordCache
	c.c = newCache(decoded, packed, func() time.Time { return time.Time{} }, &c.Synced)
	return &c
}

// Put puts r as it was made by a change, or as it was read.
func (c *RecordCache) Put(hash uint64, r *sessiond.Record, commit uint64, read bool) {
	st := state{rec: r}
	if read {
		st.value = string(appendRecord(nil, &st))
	}
	c.c.put(hash, st, commit)
}

func (c *RecordCache) Touch(hash uint64, r *sessiond.Record, commit uint64) {
	c.c.touch(hash, state{rec: r}, commit)
}

func (c *RecordCache) Renew(hash uint64, r *sessiond.Record, commit uint64, touch bool, lacks uint64) {
	c.c.renew(hash, state{rec: r}, commit, touch, lacks)
}

func (c *RecordCache) Get(hash uint64, k sessiond.Key) *sessiond.Record {
	r, _ := c.c.get(hash, k)
	return r
}

func (c *RecordCache) Peek(hash uint64, k sessiond.Key) *sessiond.Record {
	st, _ := c.c.peek(hash, k)
	return st.rec
}

func (c *RecordCache) Touched(hash uint64, k sessiond.Key, commit uint64) {
	c.c.touched(hash, k, commit)
}

func (c *RecordCache) Remove(hash uint64) { c.c.remove(hash) }

// Sizes are the bytes of decoded entries by estimate and of segments, of the shard of a hash.
func (c *RecordCache) Sizes(hash uint64) (decoded, packed int64) {
	s := c.c.shard(hash)
	return s.size, int64(len(s.packed.segments) * segmentSize)
}

// Kind is how the entry of a hash is kept: "decoded", "packed" or "".
func (c *RecordCache) Kind(hash uint64) (kind string) {
	s := c.c.shard(hash)
	if s.entries[hash] != nil {
		kind += "decoded"
	}
	if _, ok := s.packed.index[hash]; ok {
		kind += "packed"
	}
	return kind
}

// WaitQuiet returns when the engine has written its memory to tables and compacted what it wants to, and
// tells how many bytes it has written so far.
func (s *Store) WaitQuiet() (written uint64, err error) {
	if err := s.db.Flush(); err != nil {
		return 0, err
	}
	for quiet := 0; quiet < 20; quiet++ {
		m := s.db.Metrics()
		if m.Compact.NumInProgress > 0 || m.Flush.NumInProgress > 0 {
			quiet = 0
		}
		total := m.Total()
		written = m.WAL.BytesWritten + total.TableBytesFlushed + total.TableBytesCompacted
		time.Sleep(10 * time.Millisecond)
	}
	return written, nil
}

// ShareStripe reports whether changes of the two sessions wait for each other.
func (s *Store) ShareStripe(a, b sessiond.Key) bool {
	return s.stripe(s.hash(a)) == s.stripe(s.hash(b))
}

// DueEntries counts those of the index of deadlines.
func (s *Store) DueEntries() (n int, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyDue}, UpperBound: []byte{keyDue + 1}})
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n, errors.Join(it.Error(), it.Close())
}
