package sessiond

import (
	"context"
	"sync"
	"time"
)

const (
	sweepBatch = 1000
	sweepPause = time.Millisecond // between batches, so that requests get their turn
)

// Run does the background work of m and all its handles until ctx ends: it ends
// sessions whose deadline has passed, with their events, within
// [Policy].SweepInterval plus one second when there is no backlog; removes
// records after the retention; trims the feed of events; and records the
// activity that Verify saw. One Run for each process; among processes on one
// store, the store lets one sweep at a time.
//
// Run survives failures of the store, which it logs, and returns the error of ctx.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { m.recordTouches(ctx) })
	wg.Go(func() { m.sweepEvery(ctx) })
	wg.Wait()
	return ctx.Err()
}

func (c *core) sweepEvery(ctx context.Context) {
	tick := time.NewTicker(c.policy.SweepInterval)
	defer tick.Stop()
	for {
		c.sweep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep does passes until nothing is due.
func (c *core) sweep(ctx context.Context) {
	p := SweepParams{
		Limit:          sweepBatch,
		Retention:      c.policy.Retention,
		EventRetention: c.policy.EventRetention,
		MaxEvents:      c.policy.MaxEvents,
	}
	var total SweepResult
	for {
		res, err := c.store.Sweep(ctx, p)
		if err != nil {
			if ctx.Err() == nil {
				c.logger.Error("sweep failed", "err", err)
			}
			return
		}
		total.Idle += res.Idle
		total.Absolute += res.Absolute
		total.Removed += res.Removed
		total.Trimmed += res.Trimmed
		if !res.More {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepPause):
		}
	}
	if total.Idle+total.Absolute+total.Removed > 0 {
		c.logger.Info("sweep", "op", "sweep", "ended_idle", total.Idle, "ended_absolute", total.Absolute,
			"removed", total.Removed, "events_trimmed", total.Trimmed)
	}
}
