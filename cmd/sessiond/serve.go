package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/pebblestore"
	"sessiond.example/sessiond/pgstore"
	"sessiond.example/sessiond/redisstore"
	"sessiond.example/sessiond/telemetry"
)

func (p *program) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API",
		Long: "Serve the API as the configuration says, until SIGTERM or SIGINT; then requests in flight are finished\n" +
			"and the exit code is 0.\n\n" +
			"Every key can come from the file, from the environment (store.url is SESSIOND_STORE_URL, lists and maps as\n" +
			"JSON, with _FILE appended read from that file), and the common ones from flags, which win.",
		Example: "  sessiond serve --config /etc/sessiond/config.yaml\n" +
			"  SESSIOND_LOG_LEVEL=debug sessiond serve --config config.yaml --listen 127.0.0.1:8081",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := p.loadConfig(cmd)
			if err != nil {
				return err
			}
			return p.serve(cmd.Context(), cfg, warnings)
		},
	}
	addConfigFlags(cmd)
	return cmd
}

// serve runs the service on the configured addresses.
func (p *program) serve(ctx context.Context, cfg *config.Config, warnings []config.Warning) error {
	log, err := newLog(p.stderr, cfg.Log.Level)
	if err != nil {
		return err
	}
	defer log.Flush()
	for _, w := range warnings {
		log.Logger().Warn("configuration", "variable", w.Name, "warning", w.Text)
	}
	listeners, err := listen(cfg)
	if err != nil {
		return err
	}
	defer listeners.close()
	s, err := newService(ctx, cfg, log)
	if err != nil {
		return err
	}
	return s.run(ctx, listeners, nil)
}

func newLog(w io.Writer, level string) (*telemetry.Log, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	return telemetry.NewLog(w, l), nil
}

// listeners are the two addresses of a service. They are opened first, so that
// an address that is taken stops the start before anything is touched.
type listeners struct{ api, ops net.Listener }

func listen(cfg *config.Config) (l listeners, err error) {
	if l.api, err = net.Listen("tcp", cfg.Listen); err != nil {
		return l, fmt.Errorf("listen: %w; choose another address with --listen", err)
	}
	if l.ops, err = net.Listen("tcp", cfg.OpsListen); err != nil {
		l.api.Close()
		return l, fmt.Errorf("ops_listen: %w; choose another address with --ops-listen", err)
	}
	return l, nil
}

func (l listeners) close() {
	l.api.Close()
	l.ops.Close()
}

// openStore opens the store that the configuration names.
func openStore(ctx context.Context, cfg *config.Config, logger *slog.Logger) (guarantor, error) {
	if cfg.Store.Memory() {
		logger.Warn("sessions are kept in memory and end with the process")
		return memstore.New(memstore.Options{}), nil
	}
	if dir, ok := cfg.Store.PebbleDir(); ok {
		return pebblestore.Open(ctx, dir, &pebblestore.Options{Logger: logger})
	}
	if cfg.Store.Postgres() {
		return pgstore.Open(ctx, cfg.Store.URL, &pgstore.Options{Logger: logger})
	}
	if cfg.Store.Redis() {
		return redisstore.Open(ctx, cfg.Store.URL, nil)
	}
	return nil, errors.New("store.url: not a store that this version has")
}

// openKeys opens the keyset file, or makes a keyset that lives as long as a
// store in memory.
func openKeys(cfg *config.Config, logger *slog.Logger) (*keyset.File, *keyset.Keyset, error) {
	if cfg.Encryption.KeysetFile != "" {
		file, err := keyset.OpenFile(cfg.Encryption.KeysetFile, logger)
		if err != nil {
			return nil, nil, fmt.Errorf("encryption.keyset_file: %w", err)
		}
		return file, nil, nil
	}
	keys, err := keyset.Create()
	return nil, keys, err
}

// policy is the manager's policy that the configuration asks for.
func policy(cfg *config.Config) sessiond.Policy {
	s := cfg.Session
	return sessiond.Policy{
		DefaultLifetime:    s.DefaultLifetime,
		MaxLifetime:        s.MaxLifetime,
		DefaultIdleTimeout: s.DefaultIdleTimeout,
		MaxIdleTimeout:     s.MaxIdleTimeout,
		Retention:          s.Retention,
		SweepInterval:      s.SweepInterval,
		TouchInterval:      s.TouchInterval,
		RotationOverlap:    s.RotationOverlap,
		RevokeOnReuse:      s.OnTokenReuse == "revoke",
		MaxPerSubject:      s.MaxPerSubject,
		EvictOldest:        s.OnLimit == "revoke_oldest",
		MaxData:            int(cfg.Limits.MaxData),
		EventRetention:     cfg.Events.Retention,
		MaxEvents:          int64(cfg.Events.Max),
	}
}

// issuers are the verifier's issuers that the configuration names.
func issuers(cfg *config.Config) []auth.Issuer {
	out := make([]auth.Issuer, len(cfg.Auth.Issuers))
	for i, c := range cfg.Auth.Issuers {
		out[i] = auth.Issuer{
			Issuer: c.Issuer, Audience: c.Audience, JWKSURL: c.JWKSURL, CAFile: c.CAFile, AllowHTTP: c.AllowHTTP,
			RequireTyp: c.RequireTyp, Tenant: c.Tenant, TenantClaim: c.TenantClaim, Tenants: c.Tenants,
			AllowedPermissions: c.AllowedPermissions, Roles: c.Roles, Subjects: c.Subjects,
			LogoutAudiences: c.LogoutAudiences,
		}
		for _, path := range c.RolesClaims {
			out[i].RolesClaims = append(out[i].RolesClaims, auth.Path(path))
		}
	}
	return out
}
