package faultstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/memstore"
)

func key(id sessiond.ID) sessiond.Key { return sessiond.Key{Tenant: "t", ID: id} }

func create(ctx context.Context, s *faultstore.Store, id sessiond.ID) error {
	r := &sessiond.Record{Key: key(id), Version: 1}
	_, err := s.Create(ctx, sessiond.Creation{Record: r, Lifetime: time.Hour})
	return err
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := faultstore.New(memstore.New(memstore.Options{}))

	s.FailNext(faultstore.Create, faultstore.Refused)
	wantErr(t, "refused create", create(ctx, s, "a"), sessiond.ErrUnavailable)
	_, err := s.Get(ctx, key("a"))
	wantErr(t, "get after it", err, sessiond.ErrNotFound)

	s.FailNext(faultstore.Create, faultstore.ReplyLost)
	wantErr(t, "create without reply", create(ctx, s, "a"), sessiond.ErrUnknown)
	_, err = s.Get(ctx, key("a"))
	wantErr(t, "get after it", err, nil)

	s.FailNext(faultstore.Create, faultstore.ReplyLost)
	wantErr(t, "create that the store refuses", create(ctx, s, "a"), sessiond.ErrExists)

	s.FailNth(faultstore.Get, 2, faultstore.ReplyLost)
	for i, want := range []error{nil, sessiond.ErrUnavailable, nil} {
		_, err := s.Get(ctx, key("a"))
		if !errors.Is(err, want) {
			t.Errorf("get %d: %v, want %v", i, err, want)
		}
	}

	s.FailAlways(faultstore.Any, faultstore.Refused)
	for range 3 {
		_, err := s.Stats(ctx)
		wantErr(t, "stats while all fails", err, sessiond.ErrUnavailable)
	}
	s.Heal()
	_, err = s.Stats(ctx)
	wantErr(t, "stats when healed", err, nil)
	if n := s.Calls(faultstore.Stats); n != 4 {
		t.Errorf("counted %d calls of stats, want 4", n)
	}
}

func TestHoldAndDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := faultstore.New(memstore.New(memstore.Options{}))
		held := s.Hold(faultstore.Create)
		result := make(chan error, 1)
		go func() { result <- create(t.Context(), s, "a") }()
		<-held.Arrived()
		_, err := s.Get(t.Context(), key("a"))
		wantErr(t, "get while the create is held", err, sessiond.ErrNotFound)
		held.Release()
		wantErr(t, "released create", <-result, nil)

		s.Delay(faultstore.Get, time.Second)
		start := time.Now()
		_, err = s.Get(t.Context(), key("a"))
		wantErr(t, "delayed get", err, nil)
		if d := time.Since(start); d != time.Second {
			t.Errorf("get was delayed by %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = s.Get(ctx, key("a"))
		wantErr(t, "delayed get without patience", err, context.DeadlineExceeded)
	})
}
