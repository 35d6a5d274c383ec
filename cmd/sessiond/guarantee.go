package main

// What the store keeps of what it has acknowledged, as its own settings tell: asked
// at start and again and again, logged when it changes, and shown to operators.

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

// guaranteeEvery is how often a server asks its store.
const guaranteeEvery = time.Minute

// A guarantor is a store that knows what it keeps.
type guarantor interface {
	sessiond.Store
	Guarantee(context.Context) (sessiond.Guarantee, error)
}

// A guarantee watches over what the store of a service keeps.
type guarantee struct {
	store    guarantor
	kind     string
	required sessiond.Durability // empty: nothing
	logger   *slog.Logger
	last     atomic.Pointer[verified]
}

// verified is what was found last.
type verified struct {
	Store    string              `json:"store"`
	Class    sessiond.Durability `json:"class"`
	Required sessiond.Durability `json:"required,omitzero"`
	Findings []string            `json:"findings,omitzero"`
	At       time.Time           `json:"verified_at"`
}

// verifyGuarantee asks the store of s what it keeps.
func (s *service) verifyGuarantee(ctx context.Context) (*guarantee, error) {
	kind, _, _ := strings.Cut(s.cfg.Store.URL, ":")
	g := &guarantee{store: s.store, kind: kind, required: sessiond.Durability(s.cfg.Store.RequireClass), logger: s.logger}
	return g, g.start(ctx)
}

// start asks for the first time. It fails when the store keeps less than required.
func (g *guarantee) start(ctx context.Context) error {
	found, err := g.check(ctx)
	if err != nil {
		return fmt.Errorf("asking the store what it keeps: %w", err)
	}
	if g.required != "" && !found.Class.AtLeast(g.required) {
		return fmt.Errorf("store.require_class is %s, and the store is found to be %s: %q", g.required, found.Class,
			found.Findings)
	}
	return nil
}

// check asks the store, and logs when the answer has changed.
func (g *guarantee) check(ctx context.Context) (*verified, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := g.store.Guarantee(ctx)
	if err != nil {
		return nil, err
	}
	now := &verified{
		Store: g.kind, Class: answer.Class, Required: g.required, Findings: answer.Findings, At: time.Now().UTC(),
	}
	before := g.last.Swap(now)
	attrs := []any{"store", now.Store, "class", now.Class, "findings", now.Findings}
	switch {
	case before == nil:
		g.logger.Info("the store's guarantee", attrs...)
	case before.Class != now.Class && !now.Class.AtLeast(before.Class):
		g.logger.Warn("the store keeps less than before", append(attrs, "before", before.Class)...)
	case before.Class != now.Class:
		g.logger.Info("the store keeps more than before", append(attrs, "before", before.Class)...)
	}
	return now, nil
}

// run asks until ctx ends. A store that does not answer leaves the last answer.
func (g *guarantee) run(ctx context.Context) error {
	tick := time.NewTicker(guaranteeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := g.check(ctx); err != nil && ctx.Err() == nil {
			g.logger.Warn("the store's guarantee could not be verified again", "err", err)
		}
	}
}

// class is what was found last.
func (g *guarantee) class() sessiond.Durability { return g.last.Load().Class }

// ServeHTTP shows operators what was found last.
func (g *guarantee) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(g.last.Load()) // an operator that hangs up needs no more
}
