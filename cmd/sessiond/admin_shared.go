package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
	"sessiond.example/sessiond/keyset"
)

// A shared is the administrator of a store that several servers may be using
// meanwhile. What the servers have loaded it learns from the store.
type shared struct{ *local }

func (p *program) openShared(ctx context.Context, cfg *config.Config) (*shared, error) {
	logger := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	keys, err := keyset.OpenFile(cfg.Encryption.KeysetFile, logger)
	if err != nil {
		return nil, fmt.Errorf("encryption.keyset_file: %w", err)
	}
	store, err := openStore(ctx, cfg, logger)
	if err != nil {
		return nil, err
	}
	l, err := newLocal(cfg, store, keys, logger)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &shared{l}, nil
}

func (s *shared) running() bool { return true }

// keyUse tells of the keys as the servers have them: a key that one of them has
// not loaded is missing, and the primary key is one that a server seals with. What
// no server runs for is as the file says.
func (s *shared) keyUse(ctx context.Context) (keyUse, error) {
	use, err := s.local.keyUse(ctx)
	if err != nil {
		return use, err
	}
	all, err := replicas(ctx, s.store)
	if err != nil {
		return use, err
	}
	for i, k := range use.Keys {
		if _, ok := loaded(all, k.ID); !ok {
			use.Keys[i].Status = keyMissing
		}
	}
	for _, r := range all {
		use.Sealing = append(use.Sealing, r.Primary)
	}
	return use, nil
}

// reload takes the file over into this process. Servers do so by themselves.
func (s *shared) reload(ctx context.Context) (keyUse, error) {
	if _, err := s.keys.Reload(); err != nil {
		return keyUse{}, err
	}
	return s.keyUse(ctx)
}

// sharedServers reaches the servers that run on a shared store. It is nil when
// none does.
func (p *program) sharedServers(ctx context.Context, cfg *config.Config) (administrator, error) {
	s, err := p.openShared(ctx, cfg)
	if err != nil {
		return nil, err
	}
	all, err := replicas(ctx, s.store)
	if err == nil && len(all) > 0 {
		return s, nil
	}
	return nil, errors.Join(err, s.close())
}
