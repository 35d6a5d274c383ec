package testserver_test

import (
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/testserver"
)

func do(t *testing.T, r *testserver.Redis, command ...string) any {
	t.Helper()
	reply, err := r.Do(command...)
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return reply
}

func TestRedisComesBack(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{Settings: map[string]string{"maxclients": "77"}})
	if got := do(t, r, "CONFIG", "GET", "maxclients").([]any)[1]; got != "77" {
		t.Errorf("maxclients is %v, not what the test wants", got)
	}
	kept := func(what string) {
		t.Helper()
		if got := do(t, r, "GET", "kept"); got != "yes" {
			t.Fatalf("%s: the key is %v", what, got)
		}
	}
	do(t, r, "SET", "kept", "yes")
	r.Stop()
	if _, err := r.Do("PING"); err == nil {
		t.Error("a stopped server answers")
	}
	r.Start()
	kept("stopped")
	r.Kill()
	r.Start()
	kept("killed")

	r.Pause()
	answered := make(chan error, 1)
	go func() {
		_, err := r.Do("PING")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a paused server answers, or refuses: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	r.Resume()
	if err := <-answered; err != nil {
		t.Errorf("a request to a paused server is not answered when it goes on: %v", err)
	}
	r.Pause()
	r.Kill()
	r.Start()
	kept("killed while it was paused")
}

func TestSharedRedis(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	if testserver.SharedRedis(t) != r {
		t.Error("a second call starts a second server")
	}
	if got := do(t, r, "CONFIG", "GET", "appendonly").([]any)[1]; got != "no" {
		t.Error("the shared server writes a log")
	}
	defer func() {
		if recover() == nil {
			t.Error("a shared server can be stopped")
		}
	}()
	r.Stop()
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := testserver.StartRedisCluster(t, testserver.RedisClusterOptions{Proxied: true})
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	slot := c.Slot("key")
	master := c.MasterOf(slot)
	do(t, master, "SET", "key", "value")
	if got := do(t, master, "WAIT", "1", "5000"); got != int64(1) {
		t.Errorf("%v replicas have the key", got)
	}
	for _, n := range c.Nodes()[:3] {
		if n == master {
			continue
		}
		_, err := n.Do("GET", "key")
		if err == nil || !strings.HasPrefix(strings.TrimPrefix(err.Error(), "GET key: "), "MOVED") {
			t.Errorf("the wrong master answers %v", err)
			continue
		}
		proxied := false
		for _, p := range c.Proxies() {
			proxied = proxied || strings.HasSuffix(err.Error(), p.Addr())
		}
		if !proxied {
			t.Errorf("%v: not the address of a proxy", err)
		}
	}

	c.Failover(slot)
	next := c.MasterOf(slot)
	if next == master {
		t.Fatal("the old master serves the slot after the failover")
	}
	if got := do(t, next, "GET", "key"); got != "value" {
		t.Errorf("the key is %v after the failover", got)
	}

	next.Kill()
	if back := c.MasterOf(slot); back != master {
		t.Errorf("%s serves the slot after the death of the other node", back.Addr())
	}
	next.Start()
	c.AwaitHealthy()
}

func TestSharedRedisCluster(t *testing.T) {
	t.Parallel()
	c := testserver.SharedRedisCluster(t)
	if len(c.Nodes()) != 6 || strings.Count(c.URL(), ",") != 2 {
		t.Errorf("%d nodes, URL %s", len(c.Nodes()), c.URL())
	}
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := testserver.StartSentinel(t, testserver.RedisOptions{})
	old := s.Master()
	do(t, old, "SET", "key", "value")
	do(t, old, "WAIT", "1", "5000")
	s.Failover()
	next := s.Master()
	if next == old {
		t.Fatal("the killed server is still the master")
	}
	if got := do(t, next, "GET", "key"); got != "value" {
		t.Errorf("the key is %v after the failover", got)
	}
}
