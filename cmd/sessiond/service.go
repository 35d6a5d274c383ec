package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/server"
	"sessiond.example/sessiond/telemetry"
)

// drainTime is how long requests in flight may take after SIGTERM.
const drainTime = 30 * time.Second

// A service is everything that one process serves, put together but not
// started.
type service struct {
	cfg      *config.Config
	log      *telemetry.Log
	logger   *slog.Logger
	store    guarantor // as opened, without instruments
	keeps    *guarantee
	keys     *keyset.File // nil when they are in memory only
	manager  *sessiond.Manager
	verifier *auth.Verifier
	tracer   *telemetry.Tracer // nil without tracing
	api      *server.Server
	ops      *opsHandler
	issuer   http.Handler // of sessiond dev: the local issuer, behind ops
}

func newService(ctx context.Context, cfg *config.Config, log *telemetry.Log) (_ *service, err error) {
	s := &service{cfg: cfg, log: log, logger: log.Logger()}
	s.verifier, err = auth.New(auth.Config{
		Issuers:   issuers(cfg),
		Refresh:   cfg.Auth.JWKSRefresh,
		MaxKeyAge: cfg.Auth.MaxKeyAge,
		Logger:    s.logger,
	})
	if err != nil {
		return nil, err
	}
	file, inMemory, err := openKeys(cfg, s.logger)
	if err != nil {
		return nil, err
	}
	s.keys = file
	var sealer sessiond.Sealer = file
	primary := func() uint32 { return file.Keyset().Primary() }
	if file == nil {
		sealer, primary = inMemory, inMemory.Primary
	}
	if s.store, err = openStore(ctx, cfg, s.logger); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.store.Close())
			s.flushTraces(ctx)
		}
	}()

	if s.keeps, err = s.verifyGuarantee(ctx); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := telemetry.NewMetrics(registry, telemetry.MetricsOptions{
		Tenants: cfg.Metrics.Tenants, Version: version, Commit: commit(),
		JWKSAge: s.verifier.KeyAges, KeysetPrimary: primary, LogErrors: log.Errors,
		StoreClass: func() string { return string(s.keeps.class()) },
		Admission:  s.admission,
	})
	seams, err := s.trace(ctx)
	if err != nil {
		return nil, err
	}
	s.manager, err = sessiond.New(sessiond.Config{
		Store: metrics.Store(seams.store), Sealer: metrics.Sealer(sealer), Policy: policy(cfg),
		Logger: s.logger, Trace: seams.manager,
	})
	if err != nil {
		return nil, err
	}
	s.api, err = server.New(server.Config{
		Manager: s.manager, Verifier: seams.verifier, Logout: s.verifier, Trace: seams.request, Gateways: gateways(cfg),
		MaxBody: int64(cfg.Limits.MaxBody), Heartbeat: cfg.Events.Heartbeat, Logger: s.logger,
		StreamOpened: metrics.StreamOpened, StreamClosed: metrics.StreamClosed,
		Observe: func(op server.Operation) {
			metrics.Observe(telemetry.Operation(op))
			log.Operation(telemetry.Operation(op))
		},
	})
	if err != nil {
		return nil, err
	}
	s.ops, err = newOpsHandler(s, registry)
	return s, err
}

// admission tells the metrics what the server admits. Nobody asks before the service is put together.
func (s *service) admission(each func(class string, limit, inFlight int, refused uint64)) {
	for _, a := range s.api.Admissions() {
		each(a.Class, a.Limit, a.InFlight, a.Refused)
	}
}

func gateways(cfg *config.Config) map[string]server.Gateway {
	out := make(map[string]server.Gateway, len(cfg.Gateways))
	for name, g := range cfg.Gateways {
		out[name] = server.Gateway{
			Tenant: g.Tenant, CookieName: g.CookieName, NoTouch: !g.Touch, ForeignCookies: g.ForeignCookies,
		}
	}
	return out
}

// run serves until ctx ends, drains, and closes the store. started, if not
// nil, is called once the service can answer.
func (s *service) run(ctx context.Context, l listeners, started func() error) error {
	api, err := s.apiServer()
	if err != nil {
		return errors.Join(err, s.store.Close())
	}
	admin, err := s.listenAdmin()
	if err != nil {
		return errors.Join(err, s.store.Close())
	}
	// Background work outlives ctx until the requests in flight have been answered.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var work errgroup.Group
	run := func(name string, f func(context.Context) error) {
		work.Go(func() error {
			if err := f(background); err != nil && background.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("log", s.log.Run)
	run("issuers", s.verifier.Run)
	run("sweeper", s.manager.Run)
	run("guarantee", s.keeps.run)
	if s.keys != nil {
		run("keyset", s.keys.Run)
	}
	if s.cfg.Store.Shared() {
		run("registration", (&registration{store: s.store, keys: s.keys, logger: s.logger}).run)
	}

	ops := server.NewHTTPServer(s.ops, s.logger)
	failed := make(chan error, 2)
	serve := func(h *http.Server, l net.Listener, tls bool) {
		var err error
		if tls {
			err = h.ServeTLS(l, "", "")
		} else {
			err = h.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	go serve(ops, l.ops, false)
	go serve(api, l.api, s.cfg.TLS.CertFile != "")
	s.logger.Info("serving", "version", version, "listen", l.api.Addr().String(), "ops_listen", l.ops.Addr().String())

	if started != nil {
		err = started()
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	return errors.Join(err, s.drain(context.WithoutCancel(ctx), api, ops, admin, stop, &work))
}

// drain ends the service so that nothing acknowledged is lost: no new work, the
// requests in flight answered, the background work ended, the store closed.
func (s *service) drain(
	ctx context.Context, api, ops *http.Server, admin *adminServer, stop func(), work *errgroup.Group,
) error {
	s.logger.Info("draining")
	s.ops.drain()
	s.api.Shutdown()
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	errAPI := api.Shutdown(ctx)
	if errAPI != nil {
		errAPI = errors.Join(fmt.Errorf("requests were cut off: %w", errAPI), api.Close())
	}
	errOps := ops.Shutdown(ctx)
	errAdmin := admin.close(ctx)
	stop()
	err := errors.Join(errAPI, errOps, errAdmin, work.Wait(), s.store.Close())
	s.flushTraces(ctx)
	return err
}

func (s *service) apiServer() (*http.Server, error) {
	h := server.NewHTTPServer(s.api, s.logger)
	if s.cfg.TLS.CertFile == "" {
		return h, nil
	}
	certificate, err := newCertificate(s.cfg.TLS.CertFile, s.cfg.TLS.KeyFile, s.logger)
	if err != nil {
		return nil, err
	}
	h.TLSConfig = certificate.config()
	return h, nil
}
