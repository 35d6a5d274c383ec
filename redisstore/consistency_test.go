package redisstore_test

import (
	"context"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// replicas are two stores on the same keys, each by its own URL.
func replicas(t testing.TB, a, b string) (sessiond.Store, sessiond.Store) {
	opts := &redisstore.Options{Timeout: time.Second}
	return open(t, a, opts), open(t, b, opts)
}

// sharing are two replicas on a server that other tests use, too.
func sharing(url func(testing.TB) string) func(testing.TB) (a, b sessiond.Store) {
	return func(t testing.TB) (a, b sessiond.Store) {
		url := withPrefix(url(t))
		return replicas(t, url, url)
	}
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{For: 3 * time.Second, Least: 3000, Open: sharing(singleURL)})
}

func TestConsistencyCluster(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{For: 3 * time.Second, Least: 3000, Open: sharing(clusterURL)})
}

func TestConsistencyOverHTTP(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{
		For: 2 * time.Second, Least: 1000, Open: sharing(singleURL), Over: consistency.OverHTTP,
	})
}

// TestConsistencyFar has a replica far from the server, so that much happens between
// what it reads and what it writes.
func TestConsistencyFar(t *testing.T) {
	t.Parallel()
	r := testserver.SharedRedis(t)
	far := testserver.NewProxy(t, r.Addr())
	far.Latency(4 * time.Millisecond)
	consistency.Run(t, consistency.Config{
		For: 3 * time.Second, Least: 2000, Open: func(t testing.TB) (a, b sessiond.Store) {
			url := withPrefix("/0")
			return replicas(t, "redis://"+r.Addr()+url, "redis://"+far.Addr()+url)
		},
	})
}

// TestConsistencyFaults has the network and the server fail in every way while
// clients work. The server keeps everything it has acknowledged.
func TestConsistencyFaults(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	network := testserver.NewProxy(t, r.Addr()) // of one replica, so that the other sees what becomes of its writes
	faults := []consistency.Fault{
		{Name: "server-killed", Inject: func(context.Context) error {
			r.Kill()
			time.Sleep(50 * time.Millisecond)
			r.Start()
			return nil
		}},
		{Name: "server-restarted", Inject: func(context.Context) error {
			r.Stop()
			r.Start()
			return nil
		}},
		{Name: "server-paused", Inject: func(context.Context) error {
			r.Pause()
			time.Sleep(400 * time.Millisecond)
			r.Resume()
			return nil
		}},
		{Name: "connections-ended", Inject: func(context.Context) error {
			_, err := r.Do("CLIENT", "KILL", "TYPE", "normal")
			return err
		}},
		{Name: "scripts-forgotten", Inject: func(context.Context) error {
			_, err := r.Do("SCRIPT", "FLUSH")
			return err
		}},
	}
	faults = append(faults, proxyFaults(t, "of-a", network)...)
	consistency.Run(t, consistency.Config{
		For: 5 * time.Second, Least: 1000, FaultEvery: 200 * time.Millisecond, Faults: faults,
		Open: func(t testing.TB) (sessiond.Store, sessiond.Store) {
			return replicas(t, "redis://"+network.Addr()+"/0", r.URL())
		},
	})
}

// TestConsistencyClusterFaults disturbs a cluster for less than the time after
// which a replica takes over: what that may lose is not promised.
func TestConsistencyClusterFaults(t *testing.T) {
	t.Parallel()
	c := testserver.StartRedisCluster(t, testserver.RedisClusterOptions{Proxied: true})
	faults := []consistency.Fault{
		{Name: "master-paused", Inject: func(context.Context) error {
			m := c.MasterOf(0)
			m.Pause()
			time.Sleep(400 * time.Millisecond)
			m.Resume()
			return nil
		}},
	}
	for i, p := range c.Proxies()[:2] {
		faults = append(faults, proxyFaults(t, string(rune('1'+i)), p)...)
	}
	consistency.Run(t, consistency.Config{
		For: 5 * time.Second, Least: 1000, FaultEvery: 200 * time.Millisecond, Faults: faults,
		Open: func(t testing.TB) (sessiond.Store, sessiond.Store) { return replicas(t, c.URL(), c.URL()) },
	})
}

// proxyFaults are what the network can do between the replicas and one server.
func proxyFaults(t testing.TB, name string, p *testserver.Proxy) []consistency.Fault {
	// cuts cuts several requests, one after the other.
	cuts := func(cut func(skip int)) func(context.Context) error {
		return func(context.Context) error {
			for n := range 6 {
				cut(n)
				for deadline := time.Now().Add(time.Second); !p.Cut() && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
			}
			p.Heal(t)
			return nil
		}
	}
	during := func(fault func(), d time.Duration) func(context.Context) error {
		return func(context.Context) error {
			fault()
			time.Sleep(d)
			p.Heal(t)
			return nil
		}
	}
	return []consistency.Fault{
		{Name: "cut-" + name, Inject: during(p.Reset, 0)},
		{Name: "refused-" + name, Inject: during(func() { p.SetEnabled(t, false) }, 100*time.Millisecond)},
		{Name: "replies-lost-" + name, Inject: cuts(p.CutAfterRequest)},
		{Name: "requests-lost-" + name, Inject: cuts(p.CutBeforeRequest)},
		{Name: "black-hole-" + name, Inject: during(p.BlackHole, 300*time.Millisecond)},
		{Name: "slow-" + name, Inject: during(func() { p.Latency(30 * time.Millisecond) }, 300*time.Millisecond)},
	}
}
