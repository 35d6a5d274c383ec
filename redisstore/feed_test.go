package redisstore_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// forget makes the partition of a session lose its last events, as a crash does of a server
// that had not written them to the disk.
func forget(t *testing.T, r *testserver.Redis, s *redisstore.Store, k sessiond.Key, n int) {
	t.Helper()
	tag := s.Tag(k)
	entries := do(t, r, "XREVRANGE", tag+"events", "+", "-").([]any)
	last := []string{"0", ""}
	for i, e := range entries {
		entry := e.([]any)
		id := entry[0].(string)
		if i < n {
			do(t, r, "XDEL", tag+"events", id)
			continue
		}
		number, _, _ := cutID(id)
		last = []string{number, entry[1].([]any)[3].(string)}
		break
	}
	do(t, r, "XSETID", tag+"events", last[0]+"-9999999999999999")
	if last[0] == "0" {
		do(t, r, "HDEL", tag+"meta", "n", "c")
		do(t, r, "DEL", tag+"events")
		return
	}
	do(t, r, "HSET", tag+"meta", "n", last[0], "c", last[1])
}

func cutID(id string) (number, us string, ok bool) {
	for i := range id {
		if id[i] == '-' {
			return id[:i], id[i+1:], true
		}
	}
	return id, "", false
}

// TestLostEvents has a server lose events that a reader has seen, and give their numbers to
// others.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	s := open(t, withPrefix(r.URL()), nil)
	create(t, s, "s1", "")
	create(t, s, "s2", "")
	for range 3 {
		update(t, s, "s1", bump)
	}
	before := end(t, s)
	forget(t, r, s, key("s1"), 1)
	if b := batch(t, s, before); !b.Reset {
		t.Errorf("the feed is shorter than the position: %+v", b)
	}
	behind := end(t, s)
	update(t, s, "s1", bump)
	if b := batch(t, s, before); !b.Reset || len(b.Events) != 5 {
		t.Errorf("the number has another event: Reset %t, %d events", b.Reset, len(b.Events))
	}
	update(t, s, "s1", bump)
	if b := batch(t, s, before); !b.Reset || len(b.Events) != 6 {
		t.Errorf("the feed is longer than before: Reset %t, %d events", b.Reset, len(b.Events))
	}
	// A reader that had not seen the lost event misses nothing.
	if b := batch(t, s, behind); b.Reset || len(b.Events) != 2 {
		t.Errorf("before the lost event: Reset %t, %d events", b.Reset, len(b.Events))
	}
}

// TestEmptiedServer has a server come back with nothing, under a store that is open.
func TestEmptiedServer(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	create(t, s, "s1", "alice")
	before := end(t, s)
	do(t, r, "FLUSHALL")
	if b := batch(t, s, before); !b.Reset || len(b.Events) != 0 {
		t.Errorf("after the loss of everything: %+v", b)
	}
	after := end(t, s)
	create(t, s, "s1", "alice")
	if b := batch(t, s, after); b.Reset || len(b.Events) != 1 {
		t.Errorf("a new beginning: %+v", b)
	}
	if b := batch(t, open(t, r.URL(), nil), after); b.Reset || len(b.Events) != 1 {
		t.Errorf("another store: %+v", b)
	}
}

// TestEventsOfOthers has a reader wait for an event that another store makes.
func TestEventsOfOthers(t *testing.T) {
	t.Parallel()
	url := withPrefix(testserver.SharedRedis(t).URL())
	reader, writer := open(t, url, nil), open(t, url, nil)
	after := end(t, reader)
	type answer struct {
		b   sessiond.EventBatch
		err error
	}
	const readers = 5
	got := make(chan answer, readers)
	for range readers {
		go func() {
			b, err := reader.Events(t.Context(), sessiond.EventQuery{
				Tenant: tenant, After: after, Limit: 10, Wait: time.Minute,
			})
			got <- answer{b, err}
		}()
	}
	time.Sleep(20 * time.Millisecond) // they wait, most likely
	create(t, writer, "s1", "")
	for range readers {
		if a := <-got; a.err != nil || a.b.Reset || len(a.b.Events) != 1 {
			t.Errorf("%+v, %v", a.b, a.err)
		}
	}
}

// TestManyReaders has readers come and go while events are made: none is reset, and none waits
// for an event that is there.
func TestManyReaders(t *testing.T) {
	t.Parallel()
	s := open(t, withPrefix(testserver.SharedRedis(t).URL()), nil)
	const readers, events = 8, 60
	after := end(t, s)
	done := make(chan error, readers)
	for range readers {
		go func() {
			at, seen := after, 0
			for seen < events {
				b, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: at, Limit: 7, Wait: 20 * time.Second})
				if err != nil || b.Reset || len(b.Events) == 0 {
					done <- fmt.Errorf("after %d events: %+v, %w", seen, b, err)
					return
				}
				at, seen = b.Position, seen+len(b.Events)
			}
			done <- nil
		}()
	}
	for i := range events {
		create(t, s, fmt.Sprint("s", i), "")
	}
	for range readers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestWaitWithoutServer has the server fail while a reader waits.
func TestWaitWithoutServer(t *testing.T) {
	t.Parallel()
	s, p := behindProxy(t, 200*time.Millisecond)
	after := end(t, s)
	got := make(chan error, 1)
	go func() {
		_, err := s.Events(context.Background(), sessiond.EventQuery{Tenant: tenant, After: after, Limit: 1, Wait: time.Minute})
		got <- err
	}()
	time.Sleep(20 * time.Millisecond)
	p.SetEnabled(t, false)
	wantErr(t, "Events without a server", <-got, sessiond.ErrUnavailable)
}

// TestTrimManyEvents trims more events than one script looks at, by count and by age.
func TestTrimManyEvents(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	var ahead time.Duration
	s := open(t, withPrefix(r.URL()), &redisstore.Options{Skew: func() time.Duration { return ahead }})
	create(t, s, "s1", "")
	tag := s.Tag(key("s1"))
	entry := do(t, r, "XRANGE", tag+"events", "-", "+").([]any)[0].([]any)[1].([]any)
	script := `for n = 2, 4000 do
	redis.call('XADD', KEYS[1], string.format('%d-%d', n, n), 't', ARGV[1], 'c', 'x', 'e', ARGV[2]) end
	redis.call('HSET', KEYS[2], 'n', 4000, 'c', 'x')`
	do(t, r, "EVAL", script, "2", tag+"events", tag+"meta", entry[1].(string), entry[5].(string))
	trim := func(retention time.Duration, most int64) (n int) {
		t.Helper()
		res, err := s.Sweep(t.Context(), sessiond.SweepParams{
			Limit: 10, Retention: time.Hour, EventRetention: retention, MaxEvents: most,
		})
		if err != nil {
			t.Fatal(err)
		}
		return res.Trimmed
	}
	if n := trim(time.Hour, 3500); n != 500 {
		t.Errorf("trimmed %d by count, want 500", n)
	}
	ahead = 30 * time.Minute
	create(t, s, "s2", "")
	if n := trim(10*time.Minute, 10_000); n != 3500 {
		t.Errorf("trimmed %d by age, want 3500", n)
	}
	if got := do(t, r, "HGET", tag+"meta", "f"); got != strconv.Itoa(4000) {
		t.Errorf("trimmed up to %v", got)
	}
}
