package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sessiond.example/sessiond"
)

// Store wraps s so that its calls are timed, the sessions that they end are
// counted by reason, and the gauges tell of it. It changes nothing that s
// answers. Use it once: the gauges follow the store wrapped last.
//
// Events is not timed, since it waits for something to happen.
func (m *Metrics) Store(s sessiond.Store) sessiond.Store {
	timed := func(op string) timer { return timer{m.storeTimes.WithLabelValues(op)} }
	w := &store{
		Store: s, m: m,
		create: timed("create"), get: timed("get"), update: timed("update"), touch: timed("touch"),
		erase: timed("erase"), list: timed("list"), scan: timed("scan"), sweep: timed("sweep"), stats: timed("stats"),
	}
	m.gauges.mu.Lock()
	m.gauges.store, m.gauges.asked = w, time.Time{}
	m.gauges.mu.Unlock()
	return w
}

// A store is a Store seen through its metrics. Events and Close pass through.
type store struct {
	sessiond.Store
	m *Metrics

	create, get, update, touch, erase, list, scan, sweep, stats timer
}

// A timer observes durations.
type timer struct{ prometheus.Observer }

// epoch is what instants are measured from: two readings of the monotonic clock
// cost less than one of the wall clock.
var epoch = time.Now()

// now is an instant, as the time since epoch.
func now() time.Duration { return time.Since(epoch) }

// since observes the time that has passed since start.
func (t timer) since(start time.Duration) { t.Observe((now() - start).Seconds()) }

// Create implements [sessiond.Store].
func (s *store) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	start := now()
	res, err := s.Store.Create(ctx, c)
	s.create.since(start)
	if err == nil {
		s.m.end(sessiond.EndLimit, res.Evicted)
	}
	return res, err
}

// Get implements [sessiond.Store].
func (s *store) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	start := now()
	res, err := s.Store.Get(ctx, k)
	s.get.since(start)
	return res, err
}

// Update implements [sessiond.Store]. Since a store only updates live sessions,
// one that comes back ended was ended by this call.
func (s *store) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	start := now()
	res, err := s.Store.Update(ctx, k, fn)
	s.update.since(start)
	if err == nil {
		s.m.end(sessiond.EndLimit, res.Evicted)
		if !res.Record.EndedAt.IsZero() {
			s.m.end(res.Record.EndReason, 1)
		}
	}
	return res, err
}

// Touch implements [sessiond.Store].
func (s *store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	start := now()
	res, err := s.Store.Touch(ctx, k, inc, at)
	s.touch.since(start)
	return res, err
}

// Erase implements [sessiond.Store]. Whether it ended the session shows in the
// events of the last run of fn, the one that took effect.
func (s *store) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	var events []sessiond.Event
	start := now()
	err := s.Store.Erase(ctx, k, func(at time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		var err error
		events, err = fn(at, r)
		return events, err
	})
	s.erase.since(start)
	if err == nil {
		for _, e := range events {
			if e.Type == sessiond.EventRevoked || e.Type == sessiond.EventExpired {
				s.m.end(e.Reason, 1)
			}
		}
	}
	return err
}

// List implements [sessiond.Store].
func (s *store) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	start := now()
	page, err := s.Store.List(ctx, q)
	s.list.since(start)
	return page, err
}

// Scan implements [sessiond.Store].
func (s *store) Scan(ctx context.Context, after sessiond.Key, limit int) ([]*sessiond.Record, error) {
	start := now()
	records, err := s.Store.Scan(ctx, after, limit)
	s.scan.since(start)
	return records, err
}

// Sweep implements [sessiond.Store].
func (s *store) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	start := now()
	res, err := s.Store.Sweep(ctx, p)
	s.sweep.since(start)
	s.m.end(sessiond.EndIdle, res.Idle) // also those before an error
	s.m.end(sessiond.EndAbsolute, res.Absolute)
	switch {
	case err == nil:
		s.m.sweepBacklog.Set(float64(res.Backlog))
		s.m.sweepLag.Set(res.Lag.Seconds())
	case ctx.Err() == nil:
		s.m.sweepFailed.Inc()
	}
	return res, err
}

// Stats implements [sessiond.Store].
func (s *store) Stats(ctx context.Context) (sessiond.Stats, error) {
	start := now()
	stats, err := s.Store.Stats(ctx)
	s.stats.since(start)
	return stats, err
}
