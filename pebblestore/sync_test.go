package pebblestore_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond/pebblestore"
)

// Few writers never wait for others to come, many wait less than a millisecond.
func TestSyncInterval(t *testing.T) {
	for unsettled := range int64(8) {
		if d := pebblestore.SyncInterval(unsettled); d != 0 {
			t.Errorf("%d writers wait %v", unsettled, d)
		}
	}
	for _, unsettled := range []int64{8, 64, 100_000} {
		if d := pebblestore.SyncInterval(unsettled); d <= 0 || d >= time.Millisecond {
			t.Errorf("%d writers wait %v", unsettled, d)
		}
	}
}

// What was counted as waiting is counted down again, whatever became of it, or every writer
// would come to wait for others.
func TestNobodyWaitsInTheEnd(t *testing.T) {
	h := &hands{}
	s := open(t, t.TempDir(), pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	var work errgroup.Group
	for i := range 200 {
		work.Go(func() error {
			_, err := s.Create(t.Context(), creation(fmt.Sprint("waits-", i), "subject", time.Minute))
			return err
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	h.advance(2 * time.Minute)
	if res, err := s.Sweep(t.Context(), keepAll); err != nil || res.Idle != 200 {
		t.Fatalf("Sweep: %+v, %v", res, err)
	}
	if n := s.Unsettled(); n != 0 {
		t.Errorf("%d commits are counted as waiting", n)
	}
}
