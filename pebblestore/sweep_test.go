package pebblestore_test

import (
	"fmt"
	"testing"
	"time"

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
