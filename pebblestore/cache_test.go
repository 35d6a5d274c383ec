package pebblestore_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// cachedRecord is a record of about 400 bytes, of which each version differs.
func cachedRecord(n, version int) *sessiond.Record {
	at := epoch.Add(time.Duration(version) * time.Second)
	return &sessiond.Record{
		Key: sessiond.Key{Tenant: "t", ID: sessiond.ID(fmt.Sprintf("s%d", n))}, Subject: fmt.Sprintf("user%d", n),
		Labels: map[string]string{"device": "phone"}, Data: []byte(strings.Repeat("x", 300)), DataKey: 7,
		CreatedAt: epoch, UpdatedAt: at, LastActiveAt: at, ExpiresAt: epoch.Add(time.Hour), Version: int64(version),
	}
}

// All of these are of one shard.
func cachedHash(n int) uint64 { return uint64(n)*pebblestore.CacheShards<<32 | uint64(n) }

// smallCache has, in a shard, room for four decoded records and two segments.
func smallCache() *pebblestore.RecordCache {
	return pebblestore.NewRecordCache(8000*pebblestore.CacheShards, 150<<10*pebblestore.CacheShards)
}

// TestCacheModel does random things to a cache that is much too small, and requires that it has what is
// true or nothing.
func TestCacheModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := smallCache()
	const keys = 500
	type truth struct {
		version int
		active  int    // when it was touched last
		touched uint64 // by that commit, which is not settled
	}
	var truths [keys]truth
	now := func(n int) *sessiond.Record {
		r := cachedRecord(n, truths[n].version)
		r.Touch(epoch.Add(time.Duration(truths[n].active) * time.Second))
		return r
	}
	kinds := make(map[string]int)
	commit := uint64(1)
	for range 50_000 {
		// Few are wanted often.
		n := int(float64(keys) * random.Float64() * random.Float64() * random.Float64())
		hash, k, at := cachedHash(n), cachedRecord(n, 1).Key, &truths[n]
		commit++
		switch random.IntN(20) {
		case 0, 1:
			*at = truth{version: at.version + 1}
			c.Put(hash, now(n), commit, false)
		case 2, 3, 4:
			if at.touched == 0 && at.version > 0 { // as read, since what was changed is what is there
				c.Put(hash, now(n), commit, true)
			}
		case 5:
			*at = truth{version: at.version + 1}
			c.Renew(hash, now(n), commit, false, 0)
		case 6:
			c.Touched(hash, k, commit)
			if at.touched == 0 {
				at.touched = commit
			}
		case 7:
			c.Remove(hash)
		case 8:
			if at.version > 0 {
				at.active, at.touched = int(commit), 0
				c.Touch(hash, now(n), commit)
			}
		case 9: // overtaken by another touch
			if at.version > 0 {
				at.active, at.touched = int(commit), commit+1
				c.Renew(hash, now(n), commit, true, commit+1)
			}
		case 10:
			c.Synced.Store(max(c.Synced.Load(), commit-min(commit, random.Uint64N(100))))
		default:
			kinds[c.Kind(hash)]++
			got := c.Get(hash, k)
			if got == nil {
				continue
			}
			if at.touched != 0 && at.touched <= c.Synced.Load() {
				t.Fatalf("%s is shown as before its touch", k.ID)
			}
			if want := now(n); !reflect.DeepEqual(got, want) || !reflect.DeepEqual(c.Peek(hash, k), want) {
				t.Fatalf("%s is version %d, want %d:\n%s", k.ID, got.Version, want.Version, cmp.Diff(want, got))
			}
		}
	}
	decoded, packed := c.Sizes(0)
	if decoded > 8000 || packed != 2*pebblestore.SegmentSize {
		t.Errorf("%d bytes decoded, %d packed", decoded, packed)
	}
	for _, kind := range []string{"decoded", "packed", ""} {
		if kinds[kind] < 100 {
			t.Errorf("of the reads %d were %q: %v", kinds[kind], kind, kinds)
		}
	}
	if len(kinds) != 3 {
		t.Errorf("entries were %v", kinds)
	}
}

// TestCachePacks follows a record from one form to the other.
func TestCachePacks(t *testing.T) {
	t.Parallel()
	c := smallCache()
	put := func(n int, read bool) { c.Put(cachedHash(n), cachedRecord(n, 1), 1, read) }
	kind := func(n int, want string) {
		t.Helper()
		if got := c.Kind(cachedHash(n)); got != want {
			t.Errorf("record %d is kept %q, want %q", n, got, want)
		}
	}
	read := func(n int) {
		t.Helper()
		if r := c.Get(cachedHash(n), cachedRecord(n, 1).Key); r == nil {
			t.Errorf("record %d is not there", n)
		}
	}
	put(0, false)
	kind(0, "decoded")
	read(0)
	put(1, false)
	for n := 2; n < 12; n++ {
		put(n, false)
	}
	kind(0, "packed") // since it was read
	kind(1, "")
	for range pebblestore.UnpackAt - 1 {
		read(0)
	}
	kind(0, "packed")
	read(0)
	kind(0, "decoded")
	put(20, true)
	kind(20, "packed")
	put(20, false)
	kind(20, "decoded")
	// Segments for hundreds more: what was read stays.
	put(30, true)
	put(31, true)
	for n := 100; n < 1000; n++ {
		put(n, true)
		if n%100 == 0 {
			read(30)
		}
	}
	kind(30, "packed")
	kind(31, "")
}

// TestCacheOfLargeRecords has records that are too large for a segment.
func TestCacheOfLargeRecords(t *testing.T) {
	t.Parallel()
	for _, packed := range []int64{0, 1 << 20} {
		c := pebblestore.NewRecordCache(400<<10*pebblestore.CacheShards, packed*pebblestore.CacheShards)
		r := cachedRecord(1, 1)
		r.Data = make([]byte, 32<<10)
		c.Put(cachedHash(1), r, 1, true)
		if got := c.Get(cachedHash(1), r.Key); !reflect.DeepEqual(got, r) {
			t.Errorf("with %d bytes for packed ones a record of 32 KiB is not there after it was read", packed)
		}
	}
}

// TestCacheOfAnotherKey asks for keys that have the hash of what is there.
func TestCacheOfAnotherKey(t *testing.T) {
	t.Parallel()
	for _, read := range []bool{false, true} {
		c := smallCache()
		r := cachedRecord(1, 1)
		r.Tenant = "t1a"
		c.Put(7, r, 1, read)
		for _, k := range []sessiond.Key{
			{Tenant: "t1a", ID: "s2"}, {Tenant: "t1a", ID: "s"}, {Tenant: "t1a", ID: "s1x"}, {Tenant: "t", ID: "s1"},
			{Tenant: "t", ID: "a"}, {Tenant: "t1as", ID: "1"}, {},
		} {
			if r := c.Get(7, k); r != nil {
				t.Errorf("read=%t: %v is %v", read, k, r.Key)
			}
		}
		if r := c.Get(7, r.Key); r == nil {
			t.Errorf("read=%t: nothing is there", read)
		}
	}
}
