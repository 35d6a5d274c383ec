package main

// Servers on a shared store know of each other through it: each keeps a session
// of its own there, in a tenant that no credential can name, with what the
// commands for operators have to know of it in its labels. It ends by idleness
// when its server is gone.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/keyset"
)

const (
	replicaTenant   = "-replicas" // sessiond.ValidTenant refuses it
	replicaIdle     = 10 * time.Second
	replicaBeat     = 3 * time.Second
	replicaLifetime = 10 * 365 * 24 * time.Hour
	maxReplicas     = 1000 // that are listed
)

// Labels of a replica's session.
const (
	labelHost    = "host"
	labelVersion = "version"
	labelPrimary = "primary_key"
	labelKeys    = "keys" // enabled ones, separated by spaces
)

// A replica is a server that runs on a shared store.
type replica struct {
	ID      sessiond.ID
	Host    string
	Version string
	Primary uint32   // seals data
	Keys    []uint32 // loaded and enabled
}

// A registration keeps the session of this process in a shared store.
type registration struct {
	store  sessiond.Store
	keys   *keyset.File
	logger *slog.Logger

	key    sessiond.Key
	labels map[string]string // as stored; nil: not registered
}

// run keeps the session alive until ctx ends, and removes it. A store that is
// down for a while costs nothing but the registration, which is renewed.
func (r *registration) run(ctx context.Context) error {
	tick := time.NewTicker(replicaBeat)
	defer tick.Stop()
	for {
		if err := r.beat(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("this replica is not registered in the store", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r.leave(context.WithoutCancel(ctx))
		}
	}
}

func (r *registration) beat(ctx context.Context) error {
	labels := r.current()
	var err error
	switch {
	case r.labels == nil:
		return r.join(ctx, labels)
	case labels[labelKeys] != r.labels[labelKeys] || labels[labelPrimary] != r.labels[labelPrimary]:
		_, err = r.store.Update(ctx, r.key, func(now time.Time, rec *sessiond.Record) (sessiond.Change, error) {
			rec.Labels, rec.LastActiveAt, rec.UpdatedAt = labels, now, now
			rec.Version++
			return sessiond.Change{}, nil
		})
		if err == nil {
			r.labels = labels
		}
	default:
		_, err = r.store.Touch(ctx, r.key, sessiond.Incarnation{}, time.Time{})
	}
	if errors.Is(err, sessiond.ErrNotFound) || errors.Is(err, sessiond.ErrEnded) {
		return r.join(ctx, labels)
	}
	return err
}

func (r *registration) join(ctx context.Context, labels map[string]string) error {
	r.labels = nil
	k := sessiond.Key{Tenant: replicaTenant, ID: sessiond.ID(strings.ToLower(rand.Text()))}
	rec := &sessiond.Record{Key: k, Labels: labels, IdleTimeout: replicaIdle, Version: 1}
	rand.Read(rec.Incarnation[:])
	if _, err := r.store.Create(ctx, sessiond.Creation{Record: rec, Lifetime: replicaLifetime}); err != nil {
		return err
	}
	r.key, r.labels = k, labels
	return nil
}

func (r *registration) leave(ctx context.Context) error {
	if r.labels == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, replicaBeat)
	defer cancel()
	err := r.store.Erase(ctx, r.key, func(time.Time, *sessiond.Record) ([]sessiond.Event, error) { return nil, nil })
	if err != nil && !errors.Is(err, sessiond.ErrNotFound) {
		r.logger.Warn("this replica stays registered in the store for a moment", "err", err)
	}
	return nil
}

// current is what the labels should say now.
func (r *registration) current() map[string]string {
	keys := r.keys.Keyset()
	var enabled []string
	for _, k := range keys.Keys() {
		if k.Status == keyset.Enabled {
			enabled = append(enabled, strconv.FormatUint(uint64(k.ID), 10))
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return map[string]string{
		labelHost: host, labelVersion: version,
		labelPrimary: strconv.FormatUint(uint64(keys.Primary()), 10), labelKeys: strings.Join(enabled, " "),
	}
}

// replicas are the servers that run on the shared store now, or did up to
// replicaIdle ago.
func replicas(ctx context.Context, store sessiond.Store) ([]replica, error) {
	page, err := store.List(ctx, sessiond.Query{
		Tenant: replicaTenant, Filter: sessiond.Filter{ActiveOnly: true}, Limit: maxReplicas,
	})
	if err != nil {
		return nil, err
	}
	if page.Next != nil && len(page.Records) == maxReplicas {
		return nil, fmt.Errorf("more than %d servers run on the store", maxReplicas)
	}
	found := make([]replica, 0, len(page.Records))
	for _, rec := range page.Records {
		found = append(found, replica{
			ID: rec.ID, Host: rec.Labels[labelHost], Version: rec.Labels[labelVersion],
			Primary: keyNumber(rec.Labels[labelPrimary]), Keys: keyNumbers(rec.Labels[labelKeys]),
		})
	}
	return found, nil
}

func keyNumbers(s string) (ids []uint32) {
	for f := range strings.FieldsSeq(s) {
		ids = append(ids, keyNumber(f))
	}
	return ids
}

// keyNumber is 0, which is no key, for what a newer server may write.
func keyNumber(s string) uint32 {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(id)
}

// loaded reports whether all replicas have loaded a key, and names one that hasn't.
func loaded(all []replica, id uint32) (missing string, ok bool) {
	for _, r := range all {
		if !slices.Contains(r.Keys, id) {
			return r.Host, false
		}
	}
	return "", true
}
