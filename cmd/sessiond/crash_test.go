package main

// TestCrash kills a loaded server with SIGKILL again and again and holds it to
// every answer it gave. Each session has one writer, so there is at most one
// operation on it of which the outcome is unknown, the one that was cut off;
// everything else must be exactly as it was answered. crash_session_test.go has
// the writers, crash_check_test.go what is checked after a kill and at the end,
// crash_events_test.go the reader of events.

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/internal/devidp"
)

var (
	crashCycles = flag.Int("crash.cycles", 3, "how often TestCrash kills the server")
	crashSeed   = flag.Uint64("crash.seed", 0, "seed of TestCrash; 0 takes a new one")
)

const crashWriters = 16

// A crash is one run of TestCrash.
type crash struct {
	t        *testing.T
	api, ops string // addresses, the same for every start
	dir      string
	server   *process
	writers  []*writer
	feed     *feed
	loaded   atomic.Bool // while writers should go on
}

func TestCrash(t *testing.T) {
	t.Parallel()
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("to repeat: -crash.seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	c := &crash{t: t, api: freeAddress(t), ops: freeAddress(t), dir: t.TempDir()}
	c.start()
	transport := &http.Transport{MaxIdleConnsPerHost: crashWriters + 1}
	t.Cleanup(transport.CloseIdleConnections)
	remote, err := client.New(client.Config{
		Server: "http://" + c.api, Transport: transport, Token: client.StaticToken(c.token()),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range crashWriters {
		c.writers = append(c.writers, newWriter(t, remote, fmt.Sprintf("writer-%d", i), random.Uint64()))
	}
	c.feed = newFeed(t, remote)
	stopFeed := c.feed.follow()
	t.Cleanup(stopFeed)

	for cycle := range *crashCycles {
		c.load(time.Duration(300+random.IntN(700)) * time.Millisecond)
		began := time.Now()
		c.start()
		c.log(cycle, time.Since(began))
		c.each((*writer).checkChanged)
		if t.Failed() {
			return
		}
	}
	c.finish()
	stopFeed()
	t.Logf("%d events over %d connections", c.feed.count(), c.feed.connections)
	c.server.signal(syscall.SIGTERM)
	<-c.server.exited
	if c.server.code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", c.server.code, &c.server.stderr)
	}
	c.server.checkOutput()
}

// start starts the server and waits until it is ready.
func (c *crash) start() {
	c.server = startProcess(c.t, "dev", "--listen", c.api, "--ops-listen", c.ops, "--data", c.dir)
	c.server.waitReady()
}

// token is a credential for everything, made as sessiond token does.
func (c *crash) token() string {
	c.t.Helper()
	token, err := mintDevToken(c.dir, devidp.MintParams{
		Subject: "crash", Tenant: sessiond.DefaultTenant, Permissions: permissionNames(), TTL: time.Hour,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

// load lets the writers write for d, and then kills the server under them.
func (c *crash) load(d time.Duration) {
	c.loaded.Store(true)
	var wg sync.WaitGroup
	for _, w := range c.writers {
		wg.Go(func() {
			for c.loaded.Load() && w.step() {
			}
		})
	}
	time.Sleep(d)
	c.server.kill()
	c.loaded.Store(false)
	wg.Wait()
	c.server.checkOutput()
}

// each lets every writer check what it knows.
func (c *crash) each(check func(*writer)) {
	var wg sync.WaitGroup
	for _, w := range c.writers {
		wg.Go(func() { check(w) })
	}
	wg.Wait()
}

func (c *crash) log(cycle int, ready time.Duration) {
	var steps, sessions, pending int
	for _, w := range c.writers {
		steps += w.steps
		for _, s := range w.all() {
			sessions++
			if s.pending != nil {
				pending++
			}
		}
	}
	c.t.Logf("cycle %d: ready %v after the kill; so far %d operations on %d sessions; %d cut off by this kill",
		cycle, ready.Round(time.Millisecond), steps, sessions, pending)
}

// finish checks every session once more, when the last short deadline has
// passed, and then the events of all of them.
func (c *crash) finish() {
	last := time.Now()
	for _, w := range c.writers {
		if at := w.lastShortDeadline(); at.After(last) {
			last = at
		}
	}
	time.Sleep(time.Until(last) + 10*time.Millisecond)
	c.each((*writer).checkAll)
	if c.t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, w := range c.writers {
		w.checkEvents(ctx, c.feed)
	}
}
