package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sessiond.example/sessiond/api"
)

// An opsHandler answers on the operators' address, without credentials.
type opsHandler struct {
	*http.ServeMux
	s        *service
	ready    atomic.Bool // has been ready once
	draining atomic.Bool
}

func newOpsHandler(s *service, registry *prometheus.Registry) (*opsHandler, error) {
	document, err := api.OpenAPIJSON()
	if err != nil {
		return nil, err
	}
	docs, err := newDocsHandler()
	if err != nil {
		return nil, err
	}
	h := &opsHandler{ServeMux: http.NewServeMux(), s: s}
	h.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	h.HandleFunc("GET /readyz", h.readyz)
	h.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	h.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(document) // an operator that hangs up needs no more
	})
	h.Handle("GET /docs", docs)
	h.Handle("GET /guarantee", s.keeps)
	if s.cfg.OpsPprof {
		h.HandleFunc("GET /debug/pprof/", pprof.Index)
		h.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		h.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		h.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		h.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // as go tool pprof asks
		h.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	h.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s.issuer == nil {
			http.NotFound(w, r)
			return
		}
		s.issuer.ServeHTTP(w, r)
	})
	return h, nil
}

// drain makes /readyz fail from now on.
func (h *opsHandler) drain() { h.draining.Store(true) }

// readyz is 200 from the moment the store has answered and the keys of an
// issuer are loaded until the service drains. A shared store or an issuer that
// is down later does not take every replica out of the balancer: those requests
// are answered 503.
func (h *opsHandler) readyz(w http.ResponseWriter, r *http.Request) {
	if h.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	if !h.ready.Load() {
		if err := h.check(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		h.ready.Store(true)
	}
	fmt.Fprintln(w, "ready")
}

func (h *opsHandler) check(ctx context.Context) error {
	if !h.s.verifier.Ready() {
		return errors.New("no issuer's keys are loaded yet")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := h.s.manager.Stats(ctx); err != nil {
		return errors.New("the store does not answer yet")
	}
	return nil
}
