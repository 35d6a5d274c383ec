package consistency

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/behaviour"
)

var (
	seedFlag = flag.Uint64("consistency.seed", 0, "seed of the workload; 0: a random one")
	forFlag  = flag.Duration("consistency.for", 0, "how long clients work; 0: as the test says")
)

// Config says what to run.
type Config struct {
	// Open opens two stores on the same, empty data: two replicas, which may be one
	// and the same. The test closes them. Required
	Open func(t testing.TB) (a, b sessiond.Store)
	// Over gives the sessions of a manager as clients use them, through a server
	// for example (OverHTTP). Default: the manager itself
	Over func(t testing.TB, m *sessiond.Manager) Sessions

	For time.Duration // how long clients work, unless -consistency.for says. Default 5s
	Ops int           // clients stop earlier after so many operations. Default: no limit
	// Least is how many operations a run must have to prove something. Clients go on
	// for up to ten times For until they are done and every fault has struck; less
	// fails the check. Default: none
	Least   int
	Clients int // working on sessions. Default 8
	Hunters int // working at deadlines. Default 4
	// Think is the longest time that clients wait between operations, for stores so
	// fast that the history would grow large before deadlines come. Default: none
	Think time.Duration
	// Yield lets others run around each call of a store that answers from memory,
	// so that operations overlap. Default false
	Yield bool

	Faults     []Fault       // strike in turn, in an order that the seed draws. Default: none
	FaultEvery time.Duration // about this long apart. Default 700ms
	// InFlight is how many operations must be under way when a fault strikes.
	// Default 3
	InFlight int
	Seed     uint64 // of the workload, unless -consistency.seed says. Default: a random one
}

// A Fault is a way to make stores fail for a while.
type Fault struct {
	Name string
	// Inject makes stores fail and returns when the cause is gone. It must not
	// outlive ctx by much.
	Inject func(ctx context.Context) error
}

// run is a history in the making.
type run struct {
	cfg      Config
	started  time.Time
	stores   [2]sessiond.Store
	replicas [2]Sessions
	ahead    ahead
	tokens   sync.Map
	world    *world
	readers  readers

	numbers            atomic.Int64
	active, mostActive atomic.Int64
	struck             atomic.Int64

	mu     sync.Mutex
	ops    []*Op
	faults []Strike
}

// Actor is who changes sessions. What Config.Over returns must act for it.
var Actor = behaviour.Actor

// Policy is the policy of the managers: deadlines come, ended records go and
// superseded tokens die while the run lasts.
func Policy() sessiond.Policy {
	p := sessiond.DefaultPolicy()
	p.MaxLifetime = time.Hour
	p.DefaultLifetime = time.Minute
	p.Retention = 2 * time.Second
	p.SweepInterval = 100 * time.Millisecond
	p.RotationOverlap = 100 * time.Millisecond
	return p
}

// Run records a history and fails the test unless Check finds nothing. It logs
// the report in one line. The history of a failed run is kept as history.json
// among the artifacts of the test (go test -artifacts), for [Load].
func Run(t *testing.T, cfg Config) *Report {
	t.Helper()
	h := Record(t, cfg)
	r := Check(h)
	t.Log(r)
	if err := r.Err(); err != nil {
		file := filepath.Join(t.ArtifactDir(), "history.json")
		if err := h.Save(file); err != nil {
			t.Error(err)
		}
		t.Errorf("%v\nrun again with -consistency.seed=%d; the history is in %s", err, h.Seed, file)
	}
	return r
}

// Record lets clients work and returns the history.
func Record(t testing.TB, cfg Config) *History {
	t.Helper()
	cfg.defaults()
	t.Logf("consistency: seed %d", cfg.Seed)
	r := &run{cfg: cfg, started: time.Now(), world: newWorld()}
	a, b := cfg.Open(t)
	r.stores = [2]sessiond.Store{&observed{a, cfg.Yield}, &observed{b, cfg.Yield}}
	r.readers = readers{run: r, closing: make(chan struct{}), end: make(chan struct{})}

	ctx, cancel := context.WithTimeout(t.Context(), cfg.longest()+time.Minute)
	defer cancel()
	var background sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	defer background.Wait()
	defer stop()
	for i, s := range r.stores {
		m, err := sessiond.New(sessiond.Config{Store: s, Sealer: sessiond.NoSealing{}, Policy: Policy()})
		if err != nil {
			t.Fatal(err)
		}
		m = m.As(sessiond.DefaultTenant, Actor)
		background.Go(func() { _ = m.Run(work) }) // it returns the error of its context
		r.replicas[i] = m
		if cfg.Over != nil {
			r.replicas[i] = cfg.Over(t, m)
		}
	}
	called := r.clock()
	stats, err := a.Stats(ctx)
	if err != nil {
		t.Fatalf("Stats: %v", err)
	}
	r.ahead.saw(Span{stats.Now.UnixMilli(), stats.Now.UnixMilli()}, called, r.clock())
	if err := r.record(ctx); err != nil {
		t.Fatal(err)
	}
	return r.history()
}

func (c *Config) defaults() {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.For, 5*time.Second)
	set(&c.FaultEvery, 700*time.Millisecond)
	if *forFlag > 0 {
		c.For = *forFlag
	}
	if c.Clients == 0 {
		c.Clients = 8
	}
	if c.Hunters == 0 {
		c.Hunters = 4
	}
	if c.InFlight == 0 {
		c.InFlight = 3
	}
	if *seedFlag != 0 {
		c.Seed = *seedFlag
	}
	for c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
}

// longest is how long clients may work.
func (c *Config) longest() time.Duration {
	return 10 * c.For
}

// proves reports whether enough has happened.
func (r *run) proves() bool {
	return r.numbers.Load() >= int64(r.cfg.Least) && r.struck.Load() >= int64(len(r.cfg.Faults))
}

// clock is the recorder's clock.
func (r *run) clock() int64 { return int64(time.Since(r.started)) }

func (r *run) rng(n uint64) *rand.Rand { return rand.New(rand.NewPCG(r.cfg.Seed, n)) }

// record lets everybody work.
func (r *run) record(ctx context.Context) error {
	first, err := r.readers.begin(ctx)
	if err != nil {
		return fmt.Errorf("the feed does not begin: %w", err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { r.readers.follow(ctx, first, r.rng(1000), 0, true, nil) })
	reading.Go(func() { r.readers.resume(ctx, first, r.rng(1001)) })
	reading.Go(func() { r.readers.late(ctx, r.rng(1002), r.cfg.For/3) })

	working, stop := context.WithCancel(ctx)
	defer stop()
	timeUp := time.AfterFunc(r.cfg.For, func() {
		for began := time.Now(); !r.proves() && time.Since(began) < 9*r.cfg.For; {
			if !pause(working, 10*time.Millisecond) {
				return
			}
		}
		stop()
	})
	defer timeUp.Stop()
	var clients sync.WaitGroup
	for i := range r.cfg.Clients {
		clients.Go(func() { r.work(working, ctx, i, r.rng(uint64(i))) })
	}
	for i := range r.cfg.Hunters {
		client := r.cfg.Clients + i
		clients.Go(func() { r.hunt(working, ctx, client, r.rng(uint64(client))) })
	}
	clients.Go(func() { r.strike(working, ctx) })
	if err := r.await(ctx, &clients); err != nil {
		return err
	}
	r.finish(ctx)
	return r.await(ctx, &reading)
}

// await waits until all are done. A call that does not come back although its
// context has ended must not keep the test from saying so.
func (r *run) await(ctx context.Context, all *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	case <-time.After(recovery):
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return fmt.Errorf("a call has not come back %v after its context ended:\n%s", recovery, stacks)
}

func (r *run) keep(ops ...*Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, ops...)
}

func (r *run) enough() bool { return r.cfg.Ops > 0 && r.numbers.Load() >= int64(r.cfg.Ops) }

// work is a client. Operations under way when the time is up are finished.
func (r *run) work(working, ctx context.Context, client int, rng *rand.Rand) {
	var ops []*Op
	defer func() { r.keep(ops...) }()
	for working.Err() == nil && !r.enough() {
		f, i := r.world.pick(rng)
		op := f.draw(rng, f.slots[i])
		ops = append(ops, r.one(working, ctx, f, i, op, client, rng)...)
		if r.cfg.Think > 0 {
			pause(working, time.Duration(rng.Int64N(int64(r.cfg.Think))))
		}
	}
}

// one asks for op and learns from the answer.
func (r *run) one(working, ctx context.Context, f *family, i int, op *Op, client int, rng *rand.Rand) []*Op {
	op.Client, op.Replica = client, rng.IntN(2)
	if op.Kind == List || op.Kind == RevokeMatching {
		op.Session = ""
	}
	if rng.IntN(40) == 0 { // callers hang up
		hasty, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(2000))*time.Microsecond)
		defer cancel()
		ctx = hasty
	}
	r.ask(ctx, op)
	f.ops.Add(1)
	f.slots[i].learn(op)
	switch {
	case op.Result == Unknown && op.Kind == RevokeMatching:
		for i := range f.unknown {
			f.unknown[i].Add(1)
		}
	case op.Result == Unknown:
		f.unknown[i].Add(1)
	}
	if op.Result == Unknown || op.Result == NotApplied {
		pause(working, time.Duration(1+rng.IntN(4))*time.Millisecond)
	}
	return []*Op{op}
}

// strike makes stores fail, again and again.
func (r *run) strike(working, ctx context.Context) {
	rng := r.rng(2000)
	for len(r.cfg.Faults) > 0 {
		for _, n := range rng.Perm(len(r.cfg.Faults)) {
			every := int64(r.cfg.FaultEvery)
			if !pause(working, time.Duration(every/2+rng.Int64N(every))) || r.enough() {
				return
			}
			f := r.cfg.Faults[n]
			s := Strike{Name: f.Name}
			// A fault of which nobody notices anything proves nothing.
			for s.InFlight = int(r.active.Load()); s.InFlight < r.cfg.InFlight; s.InFlight = int(r.active.Load()) {
				if !pause(working, 50*time.Microsecond) {
					return
				}
			}
			s.At = r.clock()
			if err := f.Inject(ctx); err != nil {
				s.Err = err.Error()
			}
			s.For = r.clock() - s.At
			r.struck.Add(1)
			r.mu.Lock()
			r.faults = append(r.faults, s)
			r.mu.Unlock()
		}
	}
}

// recovery is how long the stores may take to work again after the last fault.
const recovery = 15 * time.Second

// finish reads what is left and makes the change that ends the feed.
func (r *run) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	var marker *Op
	for n := 0; ctx.Err() == nil; n++ {
		op := &Op{
			Kind: Create, Session: sessiond.ID(fmt.Sprintf("ready-%d", n)), Subject: "ready", Replica: n % 2, Client: -1,
			ExpiresIn: 600_000, Effect: -1,
		}
		r.ask(ctx, op)
		r.keep(op)
		if op.Result == OK {
			break
		}
		pause(ctx, 20*time.Millisecond)
	}
	for _, f := range r.world.families() {
		for _, s := range f.slots {
			for replica := range 2 {
				op := &Op{Kind: Get, Session: s.id, Subject: s.subject, Replica: replica, Client: -1, Effect: -1}
				r.ask(ctx, op)
				r.keep(op)
			}
		}
	}
	close(r.readers.closing)
	for n := 0; ctx.Err() == nil && (marker == nil || marker.Result != OK); n++ {
		marker = &Op{
			Kind: Create, Session: sessiond.ID(fmt.Sprintf("end-%d", n)), Subject: "end", Replica: n % 2, Client: -1,
			ExpiresIn: 600_000, Effect: -1,
		}
		r.ask(ctx, marker)
		r.keep(marker)
	}
	if marker == nil || marker.Result != OK {
		r.faults = append(r.faults, Strike{
			Name: "recovery", Err: fmt.Sprintf("the store did not work again within %v", recovery),
		})
	} else {
		r.readers.marker = marker.RequestID()
	}
	if !r.proves() {
		r.faults = append(r.faults, Strike{Name: "load", Err: fmt.Sprintf(
			"%d operations and %d strikes of %d faults prove little", len(r.ops), r.struck.Load(), len(r.cfg.Faults))})
	}
	close(r.readers.end)
}

func (r *run) history() *History {
	p := Policy()
	return &History{
		Seed: r.cfg.Seed, Ops: r.ops, Laps: r.readers.laps, Faults: r.faults,
		Retention: p.Retention.Milliseconds(), Overlap: p.RotationOverlap.Milliseconds(),
		MaxLife: p.MaxLifetime.Milliseconds(),
		Actor:   sessiond.Actor{Sub: Actor.Sub, Client: Actor.Client},
		Took:    r.clock(), MaxActive: int(r.mostActive.Load()),
	}
}

func decodeIncarnation(inc *sessiond.Incarnation, text string) error {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || copy(inc[:], b) != len(inc) {
		return fmt.Errorf("incarnation %q", text)
	}
	return nil
}
