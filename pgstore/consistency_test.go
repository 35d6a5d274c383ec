package pgstore_test

import (
	"context"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

// replicas are two stores on one database, each by its own URL.
func replicas(t testing.TB, a, b string) (sessiond.Store, sessiond.Store) {
	opts := &pgstore.Options{Timeout: time.Second}
	return open(t, a, opts), open(t, b, opts)
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{For: 3 * time.Second, Least: 1000, Open: func(t testing.TB) (a, b sessiond.Store) {
		url := newDatabase(t)
		return replicas(t, url, url)
	}})
}

func TestConsistencyPooled(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{For: 2 * time.Second, Least: 1000, Open: func(t testing.TB) (a, b sessiond.Store) {
		url := testserver.StartPgBouncer(t, testserver.SharedPostgres(t)).NewDatabase(t)
		migrate(t, url)
		return replicas(t, url, url)
	}})
}

func TestConsistencyOverHTTP(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{
		For: 2 * time.Second, Least: 500, Over: consistency.OverHTTP, Open: func(t testing.TB) (a, b sessiond.Store) {
			url := newDatabase(t)
			return replicas(t, url, url)
		},
	})
}

// TestConsistencyFar has a replica far from the server, so that much happens between
// what it reads and what it writes.
func TestConsistencyFar(t *testing.T) {
	t.Parallel()
	far := testserver.NewProxy(t, testserver.SharedPostgres(t).Addr())
	far.Latency(4 * time.Millisecond)
	consistency.Run(t, consistency.Config{
		For: 3 * time.Second, Least: 800, Open: func(t testing.TB) (a, b sessiond.Store) {
			url := newDatabase(t)
			return replicas(t, url, testserver.URLThrough(t, url, far.Addr()))
		},
	})
}

// TestConsistencyFaults has the network and the server fail in every way while
// clients work.
func TestConsistencyFaults(t *testing.T) {
	t.Parallel()
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{})
	url := pg.NewDatabase(t)
	migrate(t, url)
	network := testserver.NewProxy(t, pg.Addr()) // of one replica, so that the other sees what becomes of its writes
	faults := []consistency.Fault{
		{Name: "server-killed", Inject: func(ctx context.Context) error {
			pg.Kill()
			time.Sleep(50 * time.Millisecond)
			pg.Start()
			return nil
		}},
		{Name: "server-restarted", Inject: func(ctx context.Context) error {
			pg.Stop()
			pg.Start()
			return nil
		}},
		{Name: "server-process-killed", Inject: func(ctx context.Context) error {
			pg.KillBackend(0)
			return nil
		}},
		{Name: "server-paused", Inject: func(ctx context.Context) error {
			pg.Pause()
			time.Sleep(400 * time.Millisecond)
			pg.Resume()
			return nil
		}},
		{Name: "connections-ended", Inject: func(ctx context.Context) error {
			pg.Admin(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`)
			return nil
		}},
	}
	faults = append(faults, proxyFaults(t, network)...)
	consistency.Run(t, consistency.Config{
		For: 5 * time.Second, Least: 300, FaultEvery: 200 * time.Millisecond, Faults: faults,
		Open: func(t testing.TB) (sessiond.Store, sessiond.Store) {
			return replicas(t, testserver.URLThrough(t, url, network.Addr()), url)
		},
	})
}

// proxyFaults are what the network can do to one replica.
func proxyFaults(t testing.TB, p *testserver.Proxy) []consistency.Fault {
	// cuts cuts several requests, one after the other.
	cuts := func(cut func(skip int)) func(context.Context) error {
		return func(ctx context.Context) error {
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
	return []consistency.Fault{
		{Name: "cut", Inject: func(context.Context) error {
			p.Reset()
			return nil
		}},
		{Name: "refused", Inject: func(context.Context) error {
			p.SetEnabled(t, false)
			time.Sleep(100 * time.Millisecond)
			p.SetEnabled(t, true)
			return nil
		}},
		{Name: "replies-lost", Inject: cuts(p.CutAfterRequest)},
		{Name: "requests-lost", Inject: cuts(p.CutBeforeRequest)},
		{Name: "black-hole", Inject: func(context.Context) error {
			p.BlackHole()
			time.Sleep(300 * time.Millisecond)
			p.Heal(t)
			return nil
		}},
		{Name: "slow", Inject: func(context.Context) error {
			p.Latency(30 * time.Millisecond)
			time.Sleep(300 * time.Millisecond)
			p.Heal(t)
			return nil
		}},
	}
}
