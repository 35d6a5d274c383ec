package main

// Administration of stores. While a server runs on an embedded store it owns the
// directory, and commands reach it through a socket there (admin_server.go,
// admin_client.go). When none runs, and on stores that servers share, they open
// the store and do the same themselves (admin_local.go).

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pebblestore"
)

// An administrator does what operators ask of a store.
type administrator interface {
	// keyUse tells which keys are loaded, and how many records need each.
	keyUse(context.Context) (keyUse, error)
	// reload loads the keyset file now, and tells the same.
	reload(context.Context) (keyUse, error)
	reencrypt(context.Context, walkRequest, func(progress)) (progress, error)
	fence(context.Context, fenceRequest, func(progress)) (progress, error)
	// backup writes an archive of the store to w.
	backup(context.Context, io.Writer) error
	mover
	layout(context.Context) (layout, error)
	finalize(context.Context) (layout, error)
	// running reports whether servers may be using the store meanwhile.
	running() bool
	close() error
}

// A keyUse tells of the data keys.
type keyUse struct {
	Primary uint32      `json:"primary"`
	Keys    []keyStatus `json:"keys"`
	Sealing []uint32    `json:"sealing,omitzero"` // the primary keys of the servers on a shared store
}

type keyStatus struct {
	ID      uint32        `json:"id"`
	Status  keyset.Status `json:"status"` // or keyMissing
	Records int64         `json:"records"`
}

// keyMissing is the status of a key that records need and the keyset lacks.
const keyMissing keyset.Status = "missing"

func (u *keyUse) find(id uint32) (keyStatus, bool) {
	for _, k := range u.Keys {
		if k.ID == id {
			return k, true
		}
	}
	return keyStatus{}, false
}

// A walkRequest asks for a walk over all sessions.
type walkRequest struct {
	Pace int `json:"pace,omitzero"` // records a second; 0: the default
}

type fenceRequest struct {
	Before time.Time          `json:"before,omitzero"` // zero: the store's present
	Reason sessiond.EndReason `json:"reason,omitzero"`
	Note   string             `json:"note,omitzero"`
	walkRequest
}

// progress is how far a walk has come.
type progress struct {
	Seen    int64 `json:"seen"`
	Changed int64 `json:"changed"`
	Failed  int64 `json:"failed"`
}

// A layout is the layout version of a store, and the newest that its program knows.
type layout struct {
	Store  int `json:"store"`
	Newest int `json:"newest"`
}

// An administration is an administrator of a store that this process has open.
type administration struct {
	store   sessiond.Store
	pebble  *pebblestore.Store // the same, when it is an embedded one
	manager *sessiond.Manager
	keys    *keyset.File
	logger  *slog.Logger

	walking sync.Mutex // one walk at a time
	copying sync.Mutex // one backup at a time
}

// errBusy: the same is being done already.
var errBusy = errors.New("another walk or backup is under way; try again when it has ended")

// errNotEmbedded: the operation is one of the directory of an embedded store.
var errNotEmbedded = errors.New("this command is for stores in a directory (pebble:///dir)")

// adminActor ends sessions on behalf of the operator.
var adminActor = sessiond.Actor{Client: "sessiond-admin"}

func (a *administration) running() bool { return false }

func (a *administration) keyUse(ctx context.Context) (keyUse, error) {
	keys := a.keys.Keyset()
	stats, err := a.store.Stats(ctx)
	if err != nil {
		return keyUse{}, err
	}
	use := keyUse{Primary: keys.Primary()}
	for _, k := range keys.Keys() {
		use.Keys = append(use.Keys, keyStatus{k.ID, k.Status, stats.DataKeys[k.ID]})
		delete(stats.DataKeys, k.ID)
	}
	for id, n := range stats.DataKeys {
		use.Keys = append(use.Keys, keyStatus{id, keyMissing, n})
	}
	return use, nil
}

func (a *administration) reload(ctx context.Context) (keyUse, error) {
	changed, err := a.keys.Reload()
	if err != nil {
		return keyUse{}, err
	}
	if changed {
		a.logger.Info("keyset reloaded", "primary_key_id", a.keys.Keyset().Primary())
	}
	return a.keyUse(ctx)
}

// walk does one walk, with its begin and end in the log.
func (a *administration) walk(
	ctx context.Context, op string, p walkRequest, report func(progress),
	do func(context.Context, sessiond.WalkParams) (sessiond.Progress, error),
) (progress, error) {
	if !a.walking.TryLock() {
		return progress{}, errBusy
	}
	defer a.walking.Unlock()
	a.logger.Info("administration", "op", op)
	done, err := do(ctx, sessiond.WalkParams{Pace: p.Pace, Report: func(p sessiond.Progress) {
		report(progress{p.Seen, p.Changed, p.Failed})
	}})
	attrs := []any{"op", op, "seen", done.Seen, "changed", done.Changed, "failed", done.Failed}
	if err != nil {
		a.logger.Warn("administration was cut off", append(attrs, "err", err)...)
	} else {
		a.logger.Info("administration has ended", attrs...)
	}
	return progress{done.Seen, done.Changed, done.Failed}, err
}

func (a *administration) reencrypt(ctx context.Context, p walkRequest, report func(progress)) (progress, error) {
	return a.walk(ctx, "reencrypt", p, report, a.manager.Reencrypt)
}

func (a *administration) fence(ctx context.Context, p fenceRequest, report func(progress)) (progress, error) {
	return a.walk(ctx, "fence", p.walkRequest, report,
		func(ctx context.Context, w sessiond.WalkParams) (sessiond.Progress, error) {
			if p.Before.IsZero() {
				stats, err := a.store.Stats(ctx)
				if err != nil {
					return sessiond.Progress{}, err
				}
				p.Before = stats.Now.Add(time.Millisecond) // with those of this instant
			}
			return a.manager.As(sessiond.DefaultTenant, adminActor).Fence(ctx, sessiond.FenceParams{
				Before: p.Before, Reason: p.Reason, Note: p.Note, WalkParams: w,
			})
		})
}

func (a *administration) backup(ctx context.Context, w io.Writer) error {
	if a.pebble == nil {
		return fmt.Errorf("%w: back the database up with its own tools, or use \"sessiond export\"", errNotEmbedded)
	}
	if !a.copying.TryLock() {
		return errBusy
	}
	defer a.copying.Unlock()
	m, err := a.pebble.Backup(ctx, w, version)
	if err != nil {
		return err
	}
	a.logger.Info("administration", "op", "backup", "files", len(m.Files), "bytes", m.Size())
	return nil
}

func (a *administration) layout(context.Context) (layout, error) {
	if a.pebble == nil {
		return layout{}, errNotEmbedded
	}
	stored, newest := a.pebble.Layout()
	return layout{stored, newest}, nil
}

func (a *administration) finalize(ctx context.Context) (layout, error) {
	if a.pebble == nil {
		return layout{}, errNotEmbedded
	}
	if err := a.pebble.Finalize(ctx); err != nil {
		return layout{}, err
	}
	l, err := a.layout(ctx)
	a.logger.Info("administration", "op", "finalize", "layout", l.Store)
	return l, err
}

// settle waits until no write is under way that has sealed data with a key that
// was primary when the wait began: sealing and committing are a matter of
// milliseconds, unless commits are held up, for which the store is asked.
func settle(ctx context.Context, a administrator) (keyUse, error) {
	select {
	case <-ctx.Done():
		return keyUse{}, ctx.Err()
	case <-time.After(time.Second):
	}
	use, err := a.keyUse(ctx)
	if err != nil {
		return use, fmt.Errorf("asking for the records per key: %w", err)
	}
	return use, nil
}
