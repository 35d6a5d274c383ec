package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
)

// A changing store has a guarantee that tests set.
type changing struct {
	*memstore.Store
	mu    sync.Mutex
	class sessiond.Durability
	err   error
}

func (s *changing) set(class sessiond.Durability, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.class, s.err = class, err
}

func (s *changing) Guarantee(context.Context) (sessiond.Guarantee, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sessiond.Guarantee{Class: s.class}, s.err
}

func TestGuaranteeIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log output
		s := &changing{Store: memstore.New(memstore.Options{}), class: sessiond.Durable}
		defer s.Close()
		g := &guarantee{store: s, required: sessiond.Durable, logger: slog.New(slog.NewTextHandler(&log, nil))}
		if err := g.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.run(ctx) }()
		step := func(class sessiond.Durability, err error, want sessiond.Durability, said string) {
			t.Helper()
			s.set(class, err)
			before := len(log.String())
			time.Sleep(guaranteeEvery)
			synctest.Wait()
			if got := g.class(); got != want || !strings.Contains(log.String()[before:], said) {
				t.Errorf("%s, %v: class %s, want %s; log %q", class, err, got, want, log.String()[before:])
			}
		}
		step(sessiond.BestEffort, nil, sessiond.BestEffort, "keeps less than before")
		step(sessiond.BestEffort, errors.New("gone"), sessiond.BestEffort, "could not be verified again")
		step(sessiond.Replicated, nil, sessiond.Replicated, "keeps more than before")
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.set(sessiond.Unverified, nil)
		if err := g.start(t.Context()); err == nil || !strings.Contains(err.Error(), "store.require_class is durable") {
			t.Errorf("a start with less than required: %v", err)
		}
	})
}
