package main

import (
	"context"
	"net/http"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/server"
	"sessiond.example/sessiond/telemetry"
)

// seams are where tracing attaches: as they are, when there is none.
type seams struct {
	store    sessiond.Store
	verifier server.Verifier
	manager  func(context.Context, string) (context.Context, func(error))
	request  func(*http.Request) (context.Context, string, func(server.Operation))
}

// trace starts the tracer that the configuration asks for.
func (s *service) trace(ctx context.Context) (seams, error) {
	plain := seams{store: s.store, verifier: s.verifier}
	if s.cfg.Tracing.OTLPEndpoint == "" {
		return plain, nil
	}
	t, err := telemetry.NewTracer(ctx, telemetry.TracerOptions{
		Endpoint: s.cfg.Tracing.OTLPEndpoint, Version: version, Logger: s.logger,
	})
	if err != nil {
		return plain, err
	}
	s.tracer = t
	return seams{
		store:    t.Store(s.store),
		verifier: tracedVerifier{s.verifier, t.Steps("auth")},
		manager:  t.Steps("manager"),
		request: func(r *http.Request) (context.Context, string, func(server.Operation)) {
			ctx, id, end := t.Request(r)
			return ctx, id, func(op server.Operation) { end(telemetry.Operation(op)) }
		},
	}, nil
}

// flushTraces sends the last spans. That they can't be sent is no failure of the
// service.
func (s *service) flushTraces(ctx context.Context) {
	if s.tracer == nil {
		return
	}
	if err := s.tracer.Shutdown(context.WithoutCancel(ctx)); err != nil {
		s.logger.Warn("the last spans were not exported", "err", err)
	}
}

// A tracedVerifier makes a span for each credential that it verifies.
type tracedVerifier struct {
	server.Verifier
	step func(context.Context, string) (context.Context, func(error))
}

// Verify implements [server.Verifier].
func (v tracedVerifier) Verify(ctx context.Context, raw string) (*auth.Principal, error) {
	ctx, done := v.step(ctx, "verify")
	p, err := v.Verifier.Verify(ctx, raw)
	done(err)
	return p, err
}
