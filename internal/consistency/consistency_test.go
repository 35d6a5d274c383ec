package consistency_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/pebblestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is one store in memory, as both replicas.
func memory(t testing.TB) (a, b sessiond.Store) {
	s := memstore.New(memstore.Options{})
	t.Cleanup(func() { s.Close() })
	return s, s
}

// quick is a run over a store in memory that is long enough for deadlines.
func quick(open func(testing.TB) (a, b sessiond.Store)) consistency.Config {
	return consistency.Config{Open: open, For: 2500 * time.Millisecond, Think: 800 * time.Microsecond, Yield: true}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	cfg := quick(memory)
	cfg.Least = 8000
	r := consistency.Run(t, cfg)
	if r.AtDeadline < 5 || r.Incarnations < 100 || r.Laps < 4 {
		t.Error("the run was too quiet")
	}
}

func TestPebble(t *testing.T) {
	t.Parallel()
	open := func(t testing.TB) (a, b sessiond.Store) {
		s, err := pebblestore.Open(t.Context(), "data", &pebblestore.Options{FS: vfs.NewMem(), BlockCache: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s, s
	}
	consistency.Run(t, consistency.Config{Open: open, For: 2 * time.Second, Think: time.Millisecond})
}

// TestUnsure has a store that does not say what became of a part of the writes.
func TestUnsure(t *testing.T) {
	t.Parallel()
	cfg := quick(func(t testing.TB) (a, b sessiond.Store) {
		s, _ := memory(t)
		var late sync.WaitGroup
		t.Cleanup(late.Wait) // before the store is closed
		return &unsure{s, &late}, &unsure{s, &late}
	})
	cfg.Least = 8000
	r := consistency.Run(t, cfg)
	if r.Unknown < 50 || r.Settled == 0 || r.NotApplied < 20 {
		t.Error("the run was too quiet")
	}
}

// unsure loses replies and requests, and delays some of the writes that it has
// called unknown.
type unsure struct {
	sessiond.Store
	late *sync.WaitGroup
}

func unsurely[T any](ctx context.Context, s *unsure, write func(context.Context) (T, error)) (T, error) {
	var none T
	switch rand.IntN(150) {
	case 0:
		return none, fmt.Errorf("%w: not sent", sessiond.ErrUnavailable)
	case 1:
		return none, fmt.Errorf("%w: request lost", sessiond.ErrUnknown)
	case 2:
		if res, err := write(ctx); err != nil {
			return res, err
		}
		return none, fmt.Errorf("%w: reply lost", sessiond.ErrUnknown)
	case 3:
		ctx = context.WithoutCancel(ctx)
		s.late.Go(func() {
			time.Sleep(rand.N(30 * time.Millisecond))
			_, _ = write(ctx) // nobody learns of it
		})
		return none, fmt.Errorf("%w: under way", sessiond.ErrUnknown)
	}
	return write(ctx)
}

func (s *unsure) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	return unsurely(ctx, s, func(ctx context.Context) (sessiond.Result, error) { return s.Store.Create(ctx, c) })
}

func (s *unsure) Update(ctx context.Context, k key, fn changer) (sessiond.Result, error) {
	return unsurely(ctx, s, func(ctx context.Context) (sessiond.Result, error) { return s.Store.Update(ctx, k, fn) })
}

func (s *unsure) Touch(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (sessiond.Result, error) {
	return unsurely(ctx, s, func(ctx context.Context) (sessiond.Result, error) { return s.Store.Touch(ctx, k, inc, at) })
}

func (s *unsure) Erase(ctx context.Context, k key, fn eraser) error {
	_, err := unsurely(ctx, s, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.Store.Erase(ctx, k, fn) })
	return err
}

// TestServers works through two servers with a client each.
func TestServers(t *testing.T) {
	t.Parallel()
	cfg := quick(memory)
	cfg.Yield, cfg.Over = false, consistency.OverHTTP
	consistency.Run(t, cfg)
}

// TestLoad checks that a history that was saved is judged as before.
func TestLoad(t *testing.T) {
	t.Parallel()
	h := consistency.Record(t, consistency.Config{Open: memory, For: time.Second, Ops: 2000, Yield: true})
	before := consistency.Check(h)
	file := filepath.Join(t.TempDir(), "history.json")
	if err := h.Save(file); err != nil {
		t.Fatal(err)
	}
	loaded, err := consistency.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, consistency.Check(loaded), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the report changes (-before +after):\n%s", diff)
	}
	if err := before.Err(); err != nil {
		t.Error(err)
	}
}

// TestFaultStrikes: a fault is counted with the operations that it met, and
// what it could not do is reported.
func TestFaultStrikes(t *testing.T) {
	t.Parallel()
	cfg := quick(memory)
	cfg.For, cfg.FaultEvery = time.Second, 50*time.Millisecond
	struck := 0
	cfg.Faults = []consistency.Fault{{Name: "nothing", Inject: func(context.Context) error {
		if struck++; struck == 3 {
			return fmt.Errorf("out of order")
		}
		return nil
	}}}
	r := consistency.Check(consistency.Record(t, cfg))
	if r.Faults["nothing"] != struck || struck < 3 || r.LeastInFlight < 3 {
		t.Errorf("%d strikes are reported as %v with at least %d in flight", struck, r.Faults, r.LeastInFlight)
	}
	if len(r.Violations) != 1 || r.Violations[0].Rule != consistency.Faulty {
		t.Errorf("violations: %v", r.Violations)
	}
}
