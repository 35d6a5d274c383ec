package redisstore_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// An index is the entries of alice's sessions, and the hand on them.
type index struct {
	t                    *testing.T
	r                    *testserver.Redis
	s                    *redisstore.Store
	pending, live, ended string
}

func newIndex(t *testing.T) *index {
	r := testserver.SharedRedis(t)
	s := open(t, withPrefix(r.URL()), nil)
	i := &index{t: t, r: r, s: s}
	i.pending, i.live, i.ended = s.SubjectKeys(tenant, "alice")
	return i
}

// settled waits until all sessions are where they belong: so many live and so many ended.
func (i *index) settled(live, ended int64) {
	i.t.Helper()
	eventually(i.t, "a settled index", func() bool {
		return do(i.t, i.r, "HLEN", i.pending) == int64(0) && do(i.t, i.r, "ZCARD", i.live) == live &&
			do(i.t, i.r, "ZCARD", i.ended) == ended
	})
}

// pend makes a pending entry of an age, as a crash leaves it.
func (i *index) pend(r *sessiond.Record, age time.Duration) {
	i.t.Helper()
	do(i.t, i.r, "HSET", i.pending, redisstore.PendingEntry(r), strconv.FormatInt(time.Now().Add(-age).UnixMilli(), 10))
}

func (i *index) want(f sessiond.Filter, want ...string) {
	i.t.Helper()
	f.Subject = "alice"
	if got := list(i.t, i.s, f); !slices.Equal(got, want) {
		i.t.Errorf("listed %v, want %v", got, want)
	}
}

// TestIndexLife follows entries through the life of sessions.
func TestIndexLife(t *testing.T) {
	t.Parallel()
	i := newIndex(t)
	create(t, i.s, "s1", "alice")
	create(t, i.s, "s2", "alice")
	create(t, i.s, "guest", "")
	i.settled(2, 0)
	update(t, i.s, "guest", bindTo("alice", 0))
	i.settled(3, 0)
	update(t, i.s, "s1", revoke)
	i.settled(2, 1)
	err := i.s.Erase(t.Context(), key("s2"), func(time.Time, *sessiond.Record) ([]sessiond.Event, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	i.settled(1, 1)
	_, err = i.s.Create(t.Context(), session("s1", "alice"))
	wantErr(t, "Create of a taken ID", err, sessiond.ErrExists)
	i.settled(1, 1)
	i.want(sessiond.Filter{}, "guest", "s1")
}

// TestIndexCrashes has every step after the entry lost, and readers make up for it.
func TestIndexCrashes(t *testing.T) {
	t.Parallel()
	i := newIndex(t)
	live := create(t, i.s, "live", "alice")
	over := create(t, i.s, "over", "alice")
	gone := create(t, i.s, "gone", "alice")
	i.settled(3, 0)
	update(t, i.s, "over", revoke)
	i.settled(2, 1)

	// The creator crashed before it settled the entries.
	for _, r := range []*sessiond.Record{live, over} {
		do(t, i.r, "ZREM", i.live, redisstore.Spot(r))
		do(t, i.r, "ZREM", i.ended, redisstore.Spot(r))
		i.pend(r, time.Hour)
	}
	i.want(sessiond.Filter{ActiveOnly: true}, "gone", "live")
	i.settled(2, 1)
	i.want(sessiond.Filter{}, "gone", "live", "over")

	// Whoever revoked one crashed before it moved the entry.
	do(t, i.r, "ZREM", i.ended, redisstore.Spot(over))
	do(t, i.r, "ZADD", i.live, "0", redisstore.Spot(over))
	i.want(sessiond.Filter{ActiveOnly: true}, "gone", "live")
	i.settled(2, 1)

	// Whoever erased one crashed before it dropped the entry; the ID was given again.
	tag := i.s.Tag(gone.Key)
	do(t, i.r, "DEL", tag+"r:acme:gone")
	create(t, i.s, "gone", "bob")
	i.want(sessiond.Filter{}, "live", "over")
	i.settled(1, 1)
}

// TestIndexWithoutRecords has creators that crashed before the record was made.
func TestIndexWithoutRecords(t *testing.T) {
	t.Parallel()
	i := newIndex(t)
	young, old := session("young", "alice").Record, session("old", "alice").Record
	i.pend(young, 50*time.Second)
	i.pend(old, 70*time.Second)
	i.want(sessiond.Filter{})
	eventually(t, "pruning of the old entry", func() bool {
		return do(t, i.r, "HEXISTS", i.pending, redisstore.PendingEntry(old)) == int64(0)
	})
	if do(t, i.r, "HEXISTS", i.pending, redisstore.PendingEntry(young)) != int64(1) {
		t.Error("an entry was pruned under which a session may still come")
	}
}

// TestStaleEntries has a creator so slow that its entry is too old to build on.
func TestStaleEntries(t *testing.T) {
	t.Parallel()
	i := newIndex(t)
	s := session("s1", "alice")
	err := i.s.CreateWithStamp(t.Context(), &s, strconv.FormatInt(time.Now().Add(-31*time.Second).UnixMilli(), 10))
	if !redisstore.IsStale(err) {
		t.Errorf("a creation under an entry of 31 s: %v", err)
	}
	err = i.s.CreateWithStamp(t.Context(), &s, strconv.FormatInt(time.Now().Add(-25*time.Second).UnixMilli(), 10))
	if err != nil {
		t.Errorf("a creation under an entry of 25 s: %v", err)
	}
}

// TestHeldPlaces has crashed creators hold places for a while, and no longer.
func TestHeldPlaces(t *testing.T) {
	t.Parallel()
	i := newIndex(t)
	limited := func(id string) error {
		c := session(id, "alice")
		c.Limit.Max = 2
		_, err := i.s.Create(t.Context(), c)
		return err
	}
	if err := limited("s1"); err != nil {
		t.Fatal(err)
	}
	i.settled(1, 0)
	held := session("crashed", "alice").Record
	i.pend(held, 10*time.Second)
	began := time.Now()
	wantErr(t, "Create while a place is held", limited("s2"), sessiond.ErrLimit)
	if waited := time.Since(began); waited < 500*time.Millisecond {
		t.Errorf("Create did not wait for the one who holds the place (%v)", waited)
	}
	i.pend(held, 40*time.Second)
	if err := limited("s2"); err != nil {
		t.Errorf("Create when the place is not held any more: %v", err)
	}
	wantErr(t, "Create over the limit", limited("s3"), sessiond.ErrLimit)
}

// TestPrefixes has two stores on one server that know nothing of each other.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	urls := []string{withPrefix(r.URL()), withPrefix(r.URL())}
	a, b := open(t, urls[0], nil), open(t, urls[1], nil)
	create(t, a, "s1", "alice")
	_, err := b.Get(t.Context(), key("s1"))
	wantErr(t, "Get of another store's session", err, sessiond.ErrNotFound)
	create(t, b, "s1", "bob")
	if got := list(t, a, sessiond.Filter{}); len(got) != 1 || get(t, a, "s1").Subject != "alice" {
		t.Errorf("a lists %v", got)
	}
	sweep(t, a)
	for _, url := range urls {
		if len(keys(t, r, prefixOf(url))) < 8 {
			t.Error("too few keys under the prefix")
		}
	}
}

// TestNothingIsLeft requires that removed sessions leave no key behind but for the store's own.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	url := withPrefix(r.URL())
	var ahead time.Duration
	s := open(t, url, &redisstore.Options{Skew: func() time.Duration { return ahead }})
	for _, id := range ids(20) {
		create(t, s, id, "subject of "+id)
	}
	for _, id := range ids(10) {
		update(t, s, id, revoke)
	}
	ahead = 3 * time.Hour
	if res := sweep(t, s); res.Idle != 10 || res.Removed != 20 {
		t.Errorf("sweep: %+v", res)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys(t, r, prefixOf(url)) {
		switch k[strings.LastIndexByte(k, ':')+1:] {
		case "meta", "events", "clock":
		default:
			t.Errorf("left: %q", k)
		}
	}
}
