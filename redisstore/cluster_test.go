package redisstore_test

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// A move is the migration of a slot from one master to another.
type move struct {
	t        *testing.T
	c        *testserver.RedisCluster
	slot     string
	from, to *testserver.Redis
}

func newMove(t *testing.T, c *testserver.RedisCluster, key string) *move {
	slot := c.Slot(key)
	m := &move{t: t, c: c, slot: strconv.Itoa(slot), from: c.MasterOf(slot)}
	for _, n := range c.Nodes()[:3] {
		if n != m.from {
			m.to = n
		}
	}
	return m
}

func (m *move) id(n *testserver.Redis) string { return do(m.t, n, "CLUSTER", "MYID").(string) }

// begin lets the two exchange keys.
func (m *move) begin() {
	do(m.t, m.to, "CLUSTER", "SETSLOT", m.slot, "IMPORTING", m.id(m.from))
	do(m.t, m.from, "CLUSTER", "SETSLOT", m.slot, "MIGRATING", m.id(m.to))
}

// keys moves up to n keys and tells how many there were.
func (m *move) keys(n int) int {
	names := do(m.t, m.from, "CLUSTER", "GETKEYSINSLOT", m.slot, strconv.Itoa(n)).([]any)
	if len(names) == 0 {
		return 0
	}
	host, port, _ := strings.Cut(m.to.Addr(), ":")
	command := []string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}
	for _, name := range names {
		command = append(command, name.(string))
	}
	do(m.t, m.from, command...)
	return len(names)
}

// end makes the new master the owner.
func (m *move) end() {
	owner := m.id(m.to)
	for _, n := range append([]*testserver.Redis{m.to, m.from}, m.c.Nodes()[:3]...) {
		do(m.t, n, "CLUSTER", "SETSLOT", m.slot, "NODE", owner)
	}
}

// TestSlotMigration uses the sessions of a partition while it moves: a write is done or
// certainly not done, and nothing gets lost.
func TestSlotMigration(t *testing.T) {
	t.Parallel()
	c := testserver.StartRedisCluster(t, testserver.RedisClusterOptions{})
	s := open(t, c.URL(), nil)
	waiting := open(t, withOption(c.URL(), "wait_replicas=1"), nil)
	create(t, s, "s1", "alice")
	create(t, waiting, "s2", "alice") // connects to all it needs
	m := newMove(t, c, s.Tag(key("s1"))+"meta")
	f := end(t, s)
	updates := int64(0)
	use := func() {
		t.Helper()
		for _, store := range []*redisstore.Store{s, waiting} {
			_, err := store.Update(t.Context(), key("s1"), bump)
			switch {
			case err == nil:
				updates++
			case errors.Is(err, sessiond.ErrUnknown) || !errors.Is(err, sessiond.ErrUnavailable):
				t.Errorf("Update during a migration: %v", err)
			}
		}
	}
	m.begin()
	use()
	for m.keys(1) > 0 {
		use()
	}
	use()
	m.end()
	eventually(t, "the new master", func() bool {
		_, err := s.Get(t.Context(), key("s1"))
		return err == nil
	})
	before := updates
	use()
	if updates != before+2 {
		t.Errorf("%d of 2 updates followed the slot", updates-before)
	}
	if got := get(t, s, "s1").Version; got != 1+updates {
		t.Errorf("version %d after %d updates", got, updates)
	}
	if b := batch(t, s, f); b.Reset || int64(len(b.Events)) != updates {
		t.Errorf("Reset %t, %d events of %d updates", b.Reset, len(b.Events), updates)
	}
	if got := list(t, s, sessiond.Filter{Subject: "alice"}); len(got) != 2 {
		t.Errorf("listed %v", got)
	}
}

// TestClusterSwitch has a master hand over in order while sessions are used.
func TestClusterSwitch(t *testing.T) {
	t.Parallel()
	c := testserver.StartRedisCluster(t, testserver.RedisClusterOptions{})
	s := open(t, c.URL(), nil)
	create(t, s, "s1", "alice")
	f := end(t, s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var done, unknown int64
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := s.Update(t.Context(), key("s1"), bump)
			switch {
			case err == nil:
				done++
			case errors.Is(err, sessiond.ErrUnknown):
				unknown++
			case !errors.Is(err, sessiond.ErrUnavailable):
				t.Errorf("Update during a switch: %v", err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	c.Failover(c.Slot(s.Tag(key("s1")) + "meta"))
	eventually(t, "recovery", func() bool {
		_, err := s.Get(t.Context(), key("s1"))
		return err == nil
	})
	close(stop)
	wg.Wait()
	got := get(t, s, "s1").Version - 1
	if got < done || got > done+unknown {
		t.Errorf("%d updates, of which %d were acknowledged and %d unknown", got, done, unknown)
	}
	if b := batch(t, s, f); b.Reset || int64(len(b.Events)) != got {
		t.Errorf("Reset %t, %d events of %d updates", b.Reset, len(b.Events), got)
	}
}

// TestWrongKind: what is not a cluster is not taken for one.
func TestWrongKind(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	_, err := redisstore.Open(t.Context(), "redis+cluster://"+r.Addr(), nil)
	if err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Errorf("a single server as a cluster: %v", err)
	}
	node := testserver.SharedRedisCluster(t).Nodes()[0]
	if _, err := redisstore.Open(t.Context(), withPrefix(node.URL()), nil); err == nil {
		t.Error("a node of a cluster is taken for a single server")
	}
}
