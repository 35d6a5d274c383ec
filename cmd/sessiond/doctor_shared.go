package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"sessiond.example/sessiond"
)

// checkShared opens a store that servers share, as they do, and tells what it
// keeps and which servers run on it.
func checkShared(ctx context.Context, d *doctor) []finding {
	place := d.cfg.Store.String()
	store, err := openStore(ctx, d.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return []finding{fail("%s: %v", place, err)}
	}
	found, err := judgeShared(ctx, store, place, sessiond.Durability(d.cfg.Store.RequireClass))
	if err = errors.Join(err, store.Close()); err != nil {
		found = append(found, fail("%s: %v", place, err))
	}
	return found
}

func judgeShared(
	ctx context.Context, store guarantor, place string, required sessiond.Durability,
) (found []finding, err error) {
	stats, err := store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	all, err := replicas(ctx, store)
	if err != nil {
		return nil, err
	}
	sessions, tenants := int64(0), 0
	for tenant, n := range stats.Active {
		if sessiond.ValidTenant(tenant) {
			sessions += n
			tenants++
		}
	}
	var hosts []string
	for _, r := range all {
		hosts = append(hosts, fmt.Sprintf("%s (%s)", r.Host, r.Version))
	}
	slices.Sort(hosts)
	running := "no server runs on it"
	if len(hosts) > 0 {
		running = "servers on it: " + strings.Join(hosts, ", ")
	}
	found = append(found, ok("%s opens: %d active sessions of %d tenants; %s", place, sessions, tenants, running))

	keeps, err := store.Guarantee(ctx)
	if err != nil {
		return found, err
	}
	if required != "" && !keeps.Class.AtLeast(required) {
		found = append(found, fail("it keeps what it acknowledged as %s, and store.require_class is %s",
			keeps.Class, required))
	} else {
		found = append(found, ok("it keeps what it acknowledged as %s", keeps.Class))
	}
	for _, text := range keeps.Findings {
		found = append(found, warn("%s", text))
	}
	return found, nil
}
