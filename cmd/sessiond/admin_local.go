package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pebblestore"
)

// addStoreFlags gives cmd the flags that say which store it is about.
func addStoreFlags(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "configuration `file` of the server (or $SESSIOND_CONFIG)")
	cmd.Flags().String("store-url", "", "where sessions are kept (overrides store.url)")
	cmd.Flags().String("keyset-file", "", "data encryption keys (overrides encryption.keyset_file)")
	cmd.Flags().String("data", "", "`directory` of sessiond dev, instead of a configuration")
}

// namesStore reports whether the command line or the environment says which store
// cmd is about.
func (p *program) namesStore(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("config") || cmd.Flags().Changed("data") || cmd.Flags().Changed("store-url") ||
		p.getenv("SESSIOND_CONFIG") != "" || p.getenv("SESSIOND_STORE_URL") != ""
}

// storeConfig is the configuration that addStoreFlags speaks of, and where its
// store is: its directory, or the address of a shared store.
func (p *program) storeConfig(cmd *cobra.Command) (cfg *config.Config, place string, err error) {
	data, err := cmd.Flags().GetString("data")
	if err != nil {
		return nil, "", err
	}
	if data != "" {
		if data, err = filepath.Abs(data); err != nil {
			return nil, "", err
		}
		c := config.Default()
		c.Store.URL = "pebble://" + filepath.Join(data, devStoreDir)
		c.Encryption.KeysetFile = filepath.Join(data, devKeysetFile)
		cfg = &c
	} else {
		if !p.namesStore(cmd) {
			return nil, "", usagef("which store? give --config FILE, or --data DIR for one of sessiond dev")
		}
		var warnings []config.Warning
		if cfg, warnings, err = p.loadConfig(cmd); err != nil {
			return nil, "", err
		}
		p.warn(warnings)
	}
	dir, ok := cfg.Store.PebbleDir()
	switch {
	case ok:
		return cfg, dir, nil
	case cfg.Store.Shared():
		return cfg, cfg.Store.String(), nil
	default:
		return nil, "", errors.New("store.url: sessions in memory can't be reached from outside of their server")
	}
}

// embeddedConfig is storeConfig for a command that is about a directory.
func (p *program) embeddedConfig(cmd *cobra.Command) (cfg *config.Config, dir string, err error) {
	cfg, dir, err = p.storeConfig(cmd)
	if err == nil && cfg.Store.Shared() {
		err = fmt.Errorf("store.url: %w", errNotEmbedded)
	}
	return cfg, dir, err
}

// administer reaches the store: through the server that has its directory open, or
// by opening it. The caller closes the result.
func (p *program) administer(ctx context.Context, cfg *config.Config, dir string) (administrator, error) {
	if cfg.Store.Shared() {
		return p.openShared(ctx, cfg)
	}
	server, err := dialServer(ctx, dir)
	if err != nil || server != nil {
		return server, err
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	return p.openLocal(ctx, cfg, dir)
}

// dialServer reaches the server that runs on dir; nil when none does.
func dialServer(ctx context.Context, dir string) (administrator, error) {
	server, err := dialAdmin(ctx, dir)
	switch {
	case err == nil:
		return server, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: run this as the user of the server", err)
	default:
		return nil, err
	}
}

// checkOwner keeps root from leaving files in a directory that the server, which
// isn't root, can't open.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", dir, pebblestore.ErrNoStore)
	}
	if err != nil {
		return err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d and this is user %d: run this as the owner, as in \"sudo -u '#%d'\"",
			dir, owner, os.Geteuid(), owner)
	}
	return nil
}

// A local is the administrator of a store that no server has open.
type local struct {
	*administration
	sweep func(context.Context) error
}

func (p *program) openLocal(ctx context.Context, cfg *config.Config, dir string) (*local, error) {
	logger := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	keys, err := keyset.OpenFile(cfg.Encryption.KeysetFile, logger)
	if err != nil {
		return nil, fmt.Errorf("encryption.keyset_file: %w", err)
	}
	store, err := pebblestore.Open(ctx, dir, &pebblestore.Options{Logger: logger, MustExist: true})
	if err != nil {
		return nil, err
	}
	l, err := newLocal(cfg, store, keys, logger)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return l, nil
}

func newLocal(cfg *config.Config, store sessiond.Store, keys *keyset.File, logger *slog.Logger) (*local, error) {
	pol := policy(cfg)
	manager, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys, Policy: pol, Logger: logger})
	if err != nil {
		return nil, err
	}
	embedded, _ := store.(*pebblestore.Store)
	return &local{
		administration: &administration{store: store, pebble: embedded, manager: manager, keys: keys, logger: logger},
		sweep: func(ctx context.Context) error {
			for {
				res, err := store.Sweep(ctx, sessiond.SweepParams{
					Limit: 500, Retention: pol.Retention, EventRetention: pol.EventRetention, MaxEvents: pol.MaxEvents,
				})
				if err != nil || !res.More {
					return err
				}
			}
		},
	}, nil
}

func (l *local) close() error { return l.store.Close() }

// reencrypt also does what the sweeper of a server would: sessions whose deadline
// has passed keep their data, and need its key, until they are swept.
func (l *local) reencrypt(ctx context.Context, p walkRequest, report func(progress)) (progress, error) {
	if err := l.sweep(ctx); err != nil {
		return progress{}, err
	}
	return l.administration.reencrypt(ctx, p, report)
}

// A progressLine tells a person how far a walk has come, at most once a second.
func (p *program) progressLine(what string) func(progress) {
	last := time.Now()
	return func(now progress) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		fmt.Fprintf(p.stderr, "%s: %d sessions looked at, %d changed, %d failed\n", what, now.Seen, now.Changed, now.Failed)
	}
}
