package pebblestore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// One pass ends more sessions than there are locks for them, so that batches
// share locks with those before that are not settled yet.
func TestSweepOfManyInOnePass(t *testing.T) {
	const n = 3000
	h := &hands{}
	s := open(t, t.TempDir(), pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	var work errgroup.Group
	work.SetLimit(256)
	for i := range n {
		work.Go(func() error {
			_, err := s.Create(t.Context(), creation(fmt.Sprintf("many-%d", i), "subject", time.Minute))
			return err
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	start := end(t, s)
	h.advance(2 * time.Minute)

	p := keepAll
	p.Limit = n - 1
	for i, want := range []sessiond.SweepResult{
		{Idle: n - 1, Backlog: 1, Lag: time.Minute, More: true}, {Idle: 1}, {},
	} {
		if got, err := s.Sweep(t.Context(), p); err != nil || got != want {
			t.Fatalf("pass %d: %+v, %v, want %+v", i, got, err, want)
		}
	}
	events, err := eventsAfter(t.Context(), s, start)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(map[sessiond.ID]bool)
	for _, e := range events {
		ended[e.SessionID] = true
	}
	if len(events) != n || len(ended) != n {
		t.Errorf("%d events of %d sessions, want one of each of %d", len(events), len(ended), n)
	}
	stats, err := s.Stats(t.Context())
	if err != nil || len(stats.Active) != 0 {
		t.Errorf("Stats: %v, %v, want none active", stats.Active, err)
	}
	if r := get(t, s, "many-0"); r.EndReason != sessiond.EndIdle || len(r.Data) != 0 {
		t.Errorf("ended for %q with %d bytes of data", r.EndReason, len(r.Data))
	}
}

// A hooked context calls hook when it is asked for its error for the n-th time.
type hooked struct {
	context.Context
	n    int
	hook func()
}

func (c *hooked) Err() error {
	if c.n--; c.n == 0 {
		c.hook()
	}
	return c.Context.Err()
}

// A session is given a deadline that lies among those that a pass has already read, just before the
// pass commits their ends: the pass must not forget it.
func TestSweepKeepsWhatIsFiledMeanwhile(t *testing.T) {
	t.Parallel()
	h := &hands{}
	s := open(t, t.TempDir(), pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	create(t, s, "early", "", time.Minute)
	create(t, s, "late", "", 3*time.Minute)
	mover := "mover"
	for s.ShareStripe(key(mover), key("early")) || s.ShareStripe(key(mover), key("late")) {
		mover += "x"
	}
	create(t, s, mover, "", 30*time.Minute)
	h.advance(10 * time.Minute)

	ctx := &hooked{Context: t.Context(), n: 2, hook: func() { // the first time is at the begin
		_, err := s.Update(t.Context(), key(mover), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			r.IdleTimeout, r.ExpiresAt = 0, r.CreatedAt.Add(2*time.Minute)
			return change(now, r)
		})
		if err != nil {
			t.Error(err)
		}
	}}
	if res, err := s.Sweep(ctx, keepAll); err != nil || res.Idle != 2 || !res.More {
		t.Fatalf("first pass: %+v, %v, want 2 idle and more", res, err)
	}
	for i, want := range []sessiond.SweepResult{{Absolute: 1}, {}} {
		if got, err := s.Sweep(t.Context(), keepAll); err != nil || got != want {
			t.Errorf("then pass %d: %+v, %v, want %+v", i, got, err, want)
		}
	}
	if n, err := s.DueEntries(); err != nil || n != 0 {
		t.Errorf("the index of deadlines has %d entries, %v, want none", n, err)
	}
	create(t, s, "last", "", time.Minute)
	h.advance(10 * time.Minute)
	if got, err := s.Sweep(t.Context(), keepAll); err != nil || got != (sessiond.SweepResult{Idle: 1}) {
		t.Errorf("later: %+v, %v, want one idle", got, err)
	}
}

// The data of a session that expired is gone from the tables when the engine has compacted them.
func TestDataOfExpiredGoesFromDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := &hands{}
	s := open(t, dir, pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	c := creation("s", "subject", time.Minute)
	c.Record.Data = make([]byte, 64)
	rand.Read(c.Record.Data)
	data := bytes.Clone(c.Record.Data)
	if _, err := s.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	stored := func() bool {
		t.Helper()
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		if err != nil || len(tables) == 0 {
			t.Fatal("no tables", err)
		}
		return slices.ContainsFunc(tables, func(name string) bool {
			b, err := os.ReadFile(name)
			return err == nil && bytes.Contains(b, data)
		})
	}
	if !stored() {
		t.Fatal("the data is not found where it is")
	}
	h.advance(2 * time.Minute)
	if res, err := s.Sweep(t.Context(), keepAll); err != nil || res.Idle != 1 {
		t.Fatal(res, err)
	}
	for began := time.Now(); stored(); time.Sleep(10 * time.Millisecond) { // old tables go in the background
		if time.Since(began) > 10*time.Second {
			t.Fatal("the data is still on the disk")
		}
	}
}

// A backlog of many is told without counting all of it in each pass, and to the last session.
func TestBacklogOfMany(t *testing.T) {
	t.Parallel()
	h := &hands{}
	s := open(t, "data", pebblestore.Options{FS: vfs.NewMem(), Clock: h})
	defer closeStore(t, s)
	const n, limit, told = 25_000, 3000, 10_000
	var work errgroup.Group
	work.SetLimit(100)
	for i := range n {
		work.Go(func() error {
			_, err := s.Create(t.Context(), creation(fmt.Sprint("b", i), "", time.Minute))
			return err
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	h.advance(2 * time.Minute)
	p := keepAll
	p.Limit = limit
	for left := n; left > 0; {
		res, err := s.Sweep(t.Context(), p)
		left -= limit
		want := sessiond.SweepResult{Idle: limit, Backlog: min(left, told), Lag: time.Minute, More: true}
		if left <= 0 {
			want = sessiond.SweepResult{Idle: limit + left}
		}
		if err != nil || res != want {
			t.Fatalf("with %d left: %+v, %v, want %+v", left, res, err, want)
		}
	}
	if res, err := s.Sweep(t.Context(), p); err != nil || res != (sessiond.SweepResult{}) {
		t.Errorf("in the end: %+v, %v", res, err)
	}
}
