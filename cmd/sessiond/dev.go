package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/internal/devidp"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pgstore"
)

// Names under the directory of sessiond dev.
const (
	devDir        = ".sessiond" // default of the directory itself
	devStoreDir   = "store"
	devKeysetFile = "keyset.json"
	devIssuerDir  = "issuer"   // the issuer's signing key and client
	devIssuerFile = "dev.json" // what sessiond token has to know
	devAudience   = "sessiond"
	devGateway    = "web"
)

// devIssuer is the content of devIssuerFile.
type devIssuer struct {
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
}

func (p *program) devCommand() *cobra.Command {
	cfg := config.Default()
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine, to try it",
		Long: "Run sessiond with an embedded store and a local OIDC issuer, both kept under one directory, and print a\n" +
			"curl line to begin with. Not for production: whoever can read the directory can make tokens.\n\n" +
			"With --store-url sessions are kept in a PostgreSQL or Redis of yours instead; a missing schema is made.\n\n" +
			"The issuer is on the operators' address, with discovery, key set and the client credentials grant.",
		Example: "  sessiond dev\n  sessiond dev --listen 127.0.0.1:8081 --ops-listen 127.0.0.1:9091 --data /tmp/sessiond",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := cmd.Flags().GetString("data")
			if err != nil {
				return err
			}
			return p.dev(cmd.Context(), &cfg, dir)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", cfg.Listen, "loopback `address` of the API")
	cmd.Flags().StringVar(&cfg.OpsListen, "ops-listen", cfg.OpsListen, "loopback `address` of health, metrics and the issuer")
	cfg.Store.URL = ""
	cmd.Flags().StringVar(&cfg.Store.URL, "store-url", "", "where sessions are kept (default in the directory)")
	cmd.Flags().BoolVar(&cfg.OpsPprof, pprofFlag, false, "serve /debug/pprof/ on the operators' address")
	cmd.Flags().StringVar(&cfg.Tracing.OTLPEndpoint, "otlp-endpoint", "", "`URL` of a collector of traces")
	cmd.Flags().String("data", devDir, "`directory` that everything is kept under")
	return cmd
}

func (p *program) dev(ctx context.Context, cfg *config.Config, dir string) error {
	for flag, address := range map[string]string{"--listen": cfg.Listen, "--ops-listen": cfg.OpsListen} {
		if !loopback(address) {
			return usagef("%s %s: dev only listens on loopback, such as 127.0.0.1:8080; use \"sessiond serve\" for more",
				flag, address)
		}
	}
	log, err := newLog(p.stderr, cfg.Log.Level)
	if err != nil {
		return err
	}
	defer log.Flush()
	listeners, err := listen(cfg)
	if err != nil {
		return err
	}
	defer listeners.close()

	issuer := devIssuer{Issuer: "http://" + listeners.ops.Addr().String(), Audience: devAudience}
	provider, err := p.prepareDev(cfg, dir, issuer)
	if err != nil {
		return err
	}
	if cfg.Store.Postgres() {
		if _, err := pgstore.Migrate(ctx, cfg.Store.URL); err != nil {
			return err
		}
	}
	s, err := newService(ctx, cfg, log)
	if err != nil {
		return err
	}
	// Only now is the directory known to be nobody else's.
	if err := writeDevIssuer(dir, issuer); err != nil {
		return errors.Join(err, s.store.Close())
	}
	s.issuer = provider
	return s.run(ctx, listeners, func() error {
		if err := waitUntil(ctx, s.verifier.Ready); err != nil {
			return err
		}
		return p.greet(provider, dir, issuer, "http://"+listeners.api.Addr().String())
	})
}

// prepareDev makes what is missing under dir and completes cfg.
func (p *program) prepareDev(cfg *config.Config, dir string, issuer devIssuer) (*devidp.Provider, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	provider, err := openDevIssuer(dir, issuer)
	if err != nil {
		return nil, err
	}
	cfg.Encryption.KeysetFile = filepath.Join(dir, devKeysetFile)
	keys, err := keyset.Create()
	if err != nil {
		return nil, err
	}
	if err := keys.WriteFile(cfg.Encryption.KeysetFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if cfg.Store.URL == "" {
		cfg.Store.URL = (&url.URL{Scheme: "pebble", Path: filepath.Join(dir, devStoreDir)}).String()
	}
	cfg.Auth.Issuers = []config.Issuer{{
		Issuer: issuer.Issuer, Audience: issuer.Audience, TenantClaim: "tenant",
	}}
	gateway := config.DefaultGateway()
	gateway.CookieName = "session" // browsers take a __Host- cookie only over https
	cfg.Gateways = map[string]config.Gateway{devGateway: gateway}
	return provider, cfg.Validate()
}

// writeDevIssuer tells sessiond token which issuer runs on dir.
func writeDevIssuer(dir string, issuer devIssuer) error {
	content, err := json.Marshal(issuer)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, devIssuerFile), content, 0o600)
}

func openDevIssuer(dir string, issuer devIssuer) (*devidp.Provider, error) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the library tells it of its routes
	state, err := devidp.LoadOrCreateState(filepath.Join(dir, devIssuerDir))
	if err != nil {
		return nil, err
	}
	return devidp.New(devidp.Config{
		Issuer: issuer.Issuer, Audience: issuer.Audience,
		ClientID: state.ClientID, ClientSecret: state.ClientSecret, SigningKey: state.SigningKey,
		Permissions: permissionNames(), Tenant: "default",
	})
}

// permissionNames are all permissions there are.
func permissionNames() []string { return auth.AllPermissions.List() }

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func waitUntil(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return nil // asked to stop, which is no failure
		case <-tick.C:
		}
	}
	return nil
}

// greet prints what a newcomer needs.
func (p *program) greet(provider *devidp.Provider, dir string, issuer devIssuer, apiURL string) error {
	token, err := provider.Mint(devidp.MintParams{Subject: "dev", Tenant: "default", TTL: 24 * time.Hour})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, `sessiond dev is ready; everything is kept under %s

  API       %s
  operators %s/metrics  /readyz  /openapi.json
  issuer    %s  (client and secret: %s)

Create a session:

curl -sS %s/sessions/ -H 'Content-Type: application/json' -d '{"subject":"alice","data":{"cart":["apple"]}}' -H 'Authorization: Bearer %s'

`, dir, apiURL, issuer.Issuer, issuer.Issuer, filepath.Join(dir, devIssuerDir, "issuer.json"), apiURL, token)
	return err
}
