package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

// contexts is what a context that has ended prevents: everything.
var contexts = []test{
	{"cancelled", contextCancelled},
	{"expired", contextExpired},
	{"cancelled-in-fn", contextCancelledInFn},
}

// closing is what a store does after Close: nothing.
var closing = []test{
	{"methods", closedMethods},
	{"waiting", closedWhileWaiting},
	{"under-way", closedUnderWay},
}

// A call is one method of a store with arguments that would succeed on the
// session s1, or on no session s2.
type call struct {
	name string
	run  func(ctx context.Context, s sessiond.Store) error
}

func calls() []call {
	return []call{
		{"Create", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Create(ctx, newCreation("s2"))
			return err
		}},
		{"Get", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Get(ctx, key("s1"))
			return err
		}},
		{"Update", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Update(ctx, key("s1"), func(time.Time, *sessiond.Record) (sessiond.Change, error) {
				return sessiond.Change{}, errNotReached
			})
			return err
		}},
		{"Touch", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Touch(ctx, key("s1"), anyIncarnation, time.Time{})
			return err
		}},
		{"Erase", func(ctx context.Context, s sessiond.Store) error {
			return s.Erase(ctx, key("s1"), func(time.Time, *sessiond.Record) ([]sessiond.Event, error) {
				return nil, errNotReached
			})
		}},
		{"List", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.List(ctx, sessiond.Query{Tenant: tenant, Limit: 10})
			return err
		}},
		{"Scan", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Scan(ctx, sessiond.Key{}, 10)
			return err
		}},
		{"Events", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Events(ctx, sessiond.EventQuery{Tenant: tenant, Limit: 10})
			return err
		}},
		{"Sweep", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Sweep(ctx, sessiond.SweepParams{Limit: 10, Retention: 1})
			return err
		}},
		{"Stats", func(ctx context.Context, s sessiond.Store) error {
			_, err := s.Stats(ctx)
			return err
		}},
	}
}

// errNotReached is the error of functions that must not be called.
var errNotReached = errors.New("called after the context ended or the store was closed")

func (t *tester) refusedBy(ctx context.Context, want error) {
	before := t.create("s1", idle(10*mins)).Record
	t.create("overdue", lifetime(sec))
	t.advance(mins)
	f := t.follow(tenant)
	for _, c := range calls() {
		if err := c.run(ctx, t.store); !errors.Is(err, want) {
			t.Errorf("%s: error is %v, want %v", c.name, err, want)
		}
	}
	t.unchanged("after the refused calls", before)
	t.gone(key("s2"))
	t.active(tenant, 2)
	f.want()
}

func contextCancelled(t *tester) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.refusedBy(ctx, context.Canceled)
}

func contextExpired(t *tester) {
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	t.refusedBy(ctx, context.DeadlineExceeded)
}

// contextCancelledInFn cancels when a write may or may not have been sent: its
// outcome is what the error says.
func contextCancelledInFn(t *tester) {
	t.create("s1")
	f := t.follow(tenant)
	want := int64(1)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := t.store.Update(ctx, key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			cancel()
			return bump()(now, r)
		})
		cancel()
		got := t.get(key("s1")).Record.Version
		switch {
		case err == nil:
			want++
		case errors.Is(err, sessiond.ErrUnknown):
			want = max(want, got)
		case !errors.Is(err, context.Canceled) && !errors.Is(err, sessiond.ErrUnavailable):
			t.Errorf("Update: unexpected error %v", err)
		}
		if got != want {
			t.Errorf("the version is %d after error %v, want %d", got, err, want)
		}
	}
	if got := len(f.drain()); int64(got) != want-1 {
		t.Errorf("%d events of %d updates", got, want-1)
	}
}

func closedMethods(t *tester) {
	t.create("s1")
	if err := t.store.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for _, c := range calls() {
		if err := c.run(t.Context(), t.store); !errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("%s after Close: error is %v, want ErrUnavailable", c.name, err)
		}
	}
}

// closedWhileWaiting closes under a reader that waits for events.
func closedWhileWaiting(t *tester) {
	f := t.follow(tenant)
	done := make(chan error, 1)
	go func() {
		_, err := t.store.Events(t.Context(),
			sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10, Wait: 10 * patience()})
		done <- err
	}()
	time.Sleep(20 * ms) // the wait has most likely begun
	closed := make(chan error, 1)
	go func() { closed <- t.store.Close() }()
	for range 2 {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, sessiond.ErrUnavailable) {
				t.Errorf("Events: %v", err)
			}
		case err := <-closed:
			if err != nil {
				t.Errorf("Close: %v", err)
			}
		case <-time.After(patience()):
			t.Fatal("Close and a waiting Events don't end")
		}
	}
}

// closedUnderWay closes under writers: each is told success or ErrUnavailable.
func closedUnderWay(t *tester) {
	var writers sync.WaitGroup
	start := time.Now()
	for w := range 4 {
		writers.Go(func() {
			for i := 0; time.Since(start) < patience(); i++ {
				_, err := t.store.Create(t.Context(), newCreation(fmt.Sprintf("s-%d-%d", w, i)))
				if err == nil {
					continue
				}
				if !errors.Is(err, sessiond.ErrUnavailable) {
					t.Errorf("Create: %v", err)
				}
				return
			}
			t.Error("Create goes on after Close")
		})
	}
	time.Sleep(5 * ms)
	if err := t.store.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	writers.Wait()
}
