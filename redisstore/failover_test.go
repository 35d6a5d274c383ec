package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// TestClusterFailover kills a master under load.
func TestClusterFailover(t *testing.T) {
	cluster := testserver.StartRedisCluster(t, testserver.RedisClusterOptions{})
	failover(t, cluster.URL(), func() {
		master := cluster.MasterOf(0)
		master.Kill()
		cluster.MasterOf(0) // waits for the new one
		t.Cleanup(func() {
			master.Start()
			cluster.AwaitHealthy()
		})
	})
}

// TestSentinelFailover kills the master under load.
func TestSentinelFailover(t *testing.T) {
	s := testserver.StartSentinel(t, testserver.RedisOptions{})
	failover(t, s.URL(), s.Failover)
}

// failover creates sessions while a master is replaced. What was acknowledged with a
// replica's word for it is there afterwards, what was refused is not, and the store goes on
// by itself soon after.
func failover(t *testing.T, url string, replace func()) {
	t.Helper()
	store := open(t, withOption(url, "wait_replicas=1"), &redisstore.Options{Timeout: time.Second})
	w := &creators{store: store, created: make(map[sessiond.Key]bool), refused: make(map[sessiond.Key]bool)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { w.run(ctx, i) })
	}
	time.Sleep(300 * time.Millisecond)
	replace()
	replaced := time.Now()
	for {
		if _, err := store.Stats(ctx); err == nil { // asks all masters
			break
		}
		if time.Since(replaced) > 10*time.Second {
			t.Fatal("the store does not find the new master")
		}
		time.Sleep(10 * time.Millisecond)
	}
	found := time.Since(replaced)
	if found > 2*time.Second {
		t.Errorf("the store finds the new master after %v", found)
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()
	t.Logf("the new master was found after %v; %d created, %d not, %d unknown",
		found.Round(time.Millisecond), len(w.created), len(w.refused), w.unknown)
	if len(w.created) < 20 {
		t.Errorf("only %d sessions were created", len(w.created))
	}
	if w.wrong != nil {
		t.Error(w.wrong)
	}
	for k := range w.created {
		if _, err := store.Get(t.Context(), k); err != nil {
			t.Errorf("a session that was created: %v", err)
		}
	}
	for k := range w.refused {
		if _, err := store.Get(t.Context(), k); !errors.Is(err, sessiond.ErrNotFound) {
			t.Errorf("a session that was not created: %v", err)
		}
	}
}

// creators create sessions and remember what they were told.
type creators struct {
	store sessiond.Store

	mu               sync.Mutex
	created, refused map[sessiond.Key]bool
	unknown          int
	wrong            error
}

func (w *creators) run(ctx context.Context, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		r := &sessiond.Record{
			Key:     sessiond.Key{Tenant: "failover", ID: sessiond.ID(fmt.Sprintf("w%d-%d", worker, i))},
			Subject: fmt.Sprintf("subject-%d", i%10), Version: 1,
		}
		rand.Read(r.Incarnation[:])
		_, err := w.store.Create(context.WithoutCancel(ctx), sessiond.Creation{Record: r, Lifetime: time.Hour})
		w.mu.Lock()
		switch {
		case err == nil:
			w.created[r.Key] = true
		case errors.Is(err, sessiond.ErrUnknown):
			w.unknown++
		case errors.Is(err, sessiond.ErrUnavailable):
			w.refused[r.Key] = true
		default:
			w.wrong = fmt.Errorf("create: %w", err)
		}
		w.mu.Unlock()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
