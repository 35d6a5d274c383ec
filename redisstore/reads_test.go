package redisstore_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
)

// neighbour is the name of a session in the same partition as another.
func neighbour(tag func(sessiond.Key) string, of string) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("neighbour-", i); tag(key(id)) == tag(key(of)) {
			return id
		}
	}
}

// TestChangesDuringGet has something happen between the two commands of a Get: the answer
// counts only when it is the one that the session had at the first.
func TestChangesDuringGet(t *testing.T) {
	t.Parallel()
	s := open(t, withPrefix(testserver.SharedRedis(t).URL()), nil)
	other := neighbour(s.Tag, "s1")
	erase := func(id string) error {
		silent := func(time.Time, *sessiond.Record) ([]sessiond.Event, error) { return nil, nil }
		return s.Erase(t.Context(), key(id), silent)
	}
	for _, tt := range []struct {
		name  string
		do    func() error
		again bool
	}{
		{"nothing", func() error { return nil }, false},
		{"update", func() error { _, err := s.Update(t.Context(), key("s1"), bump); return err }, true},
		{"revoke", func() error { _, err := s.Update(t.Context(), key("s1"), revoke); return err }, true},
		{"erase", func() error { return erase("s1") }, true},
		{"nothing to a session that is gone", func() error { return nil }, false},
		{"create", func() error { _, err := s.Create(t.Context(), session("s1", "")); return err }, true},
		{"create of another", func() error { _, err := s.Create(t.Context(), session(other, "")); return err }, true},
	} {
		if tt.name == "nothing" {
			create(t, s, "s1", "")
		}
		_, again, err := s.GetAround(t.Context(), key("s1"), func() {
			if err := tt.do(); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		})
		if again != tt.again || err != nil && !errors.Is(err, sessiond.ErrNotFound) {
			t.Errorf("%s: looks again: %t, %v", tt.name, again, err)
		}
	}
}

// TestDeadlineDuringGet has the deadline of a session pass between the two commands.
func TestDeadlineDuringGet(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]bool{"passed": false, "swept": true} {
		s, now := handClock(t)
		deadline := create(t, s, "s1", "").CreatedAt.Add(30 * time.Minute)
		now.Store(deadline.UnixMilli() - 1)
		res, again, err := s.GetAround(t.Context(), key("s1"), func() {
			now.Add(2)
			_, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{})
			wantErr(t, "Touch after the deadline", err, sessiond.ErrEnded)
			if end {
				sweep(t, s)
			}
		})
		if err != nil || again != end {
			t.Errorf("%s: looks again: %t, %v", name, again, err)
		}
		if !again && (!res.Record.EndedAt.IsZero() || !res.Now.Before(deadline)) {
			t.Errorf("%s: at %v the session has ended at %v, deadline %v", name, res.Now, res.Record.EndedAt, deadline)
		}
		if got, err := s.Get(t.Context(), key("s1")); err != nil || !got.Record.EndedAt.Equal(deadline) || got.Now.Before(deadline) {
			t.Errorf("%s: afterwards: %+v, %v", name, got, err)
		}
	}
}

// TestTouchDuringGet: a touch that came later is not shown before its time.
func TestTouchDuringGet(t *testing.T) {
	t.Parallel()
	s, now := handClock(t)
	create(t, s, "s1", "")
	for _, later := range []int64{0, 1} {
		now.Add(1)
		res, again, err := s.GetAround(t.Context(), key("s1"), func() {
			now.Add(later)
			if _, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{}); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil || again != (later > 0) || !again && res.Record.LastActiveAt.After(res.Now) {
			t.Errorf("touched %d ms later: looks again: %t, %+v, %v", later, again, res, err)
		}
	}
}

// TestGetInDoubt counts what Get asks the server for: a script only when the clock record says
// that something may have changed.
func TestGetInDoubt(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	create(t, s, "s1", "")
	scripts := func() int {
		return strings.Count(do(t, r, "INFO", "commandstats").(string), "cmdstat_eval")
	}
	do(t, r, "CONFIG", "RESETSTAT")
	get(t, s, "s1")
	if scripts() != 0 {
		t.Error("Get ran a script although nothing had changed")
	}
	// The clock of a server that was master before was an hour ahead in the microseconds.
	at := time.Now()
	var kept []byte
	for _, n := range []int64{at.UnixMilli(), at.UnixMilli(), at.Add(time.Hour).UnixMicro()} {
		kept = binary.BigEndian.AppendUint64(kept, uint64(n))
	}
	do(t, r, "SET", s.Tag(key("s1"))+"clock", string(kept))
	if get(t, s, "s1"); scripts() == 0 {
		t.Error("Get ran no script although something may have changed")
	}
}

// TestGroupedGets has many callers read at the same time, so that they share requests.
func TestGroupedGets(t *testing.T) {
	t.Parallel()
	s, p := behindProxy(t, 3*time.Second)
	const n = 400
	for i := 0; i < n; i += 2 { // every other one
		create(t, s, fmt.Sprint("s", i), "")
	}
	p.Latency(20 * time.Millisecond) // while the first are under way, all others gather
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() {
			k := key(fmt.Sprint("s", i))
			res, err := s.Get(t.Context(), k)
			switch {
			case i%2 != 0:
				wantErr(t, "Get of "+string(k.ID), err, sessiond.ErrNotFound)
			case err != nil || res.Record.Key != k || string(res.Record.Data) != "sealed data of "+string(k.ID):
				t.Errorf("Get of %s: %+v, %v", k.ID, res.Record, err)
			}
		})
	}
	callers.Wait()
}
