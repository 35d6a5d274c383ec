package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/telemetry"
)

// A life is a store with a clock of its own, seen through metrics.
type life struct {
	t     *testing.T
	reg   *prometheus.Registry
	m     *telemetry.Metrics
	store sessiond.Store
	now   time.Time
}

func newLife(t *testing.T, opts telemetry.MetricsOptions) *life {
	l := &life{t: t, reg: prometheus.NewRegistry(), now: time.Now()}
	l.m = telemetry.NewMetrics(l.reg, opts)
	l.store = l.m.Store(memstore.New(memstore.Options{Now: func() time.Time { return l.now }}))
	return l
}

func (l *life) manager(p sessiond.Policy) *sessiond.Manager {
	l.t.Helper()
	m, err := sessiond.New(sessiond.Config{Store: l.store, Sealer: sessiond.NoSealing{}, Policy: p})
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

func (l *life) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) sweep(limit int) {
	l.t.Helper()
	_, err := l.store.Sweep(l.t.Context(), sessiond.SweepParams{
		Limit: limit, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 1000,
	})
	l.ok(err)
}

// Each way in which a session can end is counted once, by its reason, and
// nothing else is.
func TestEndsAreCounted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newLife(t, telemetry.MetricsOptions{Tenants: 10})
	policy := sessiond.DefaultPolicy()
	policy.MaxPerSubject, policy.EvictOldest, policy.RevokeOnReuse = 2, true, true
	m := l.manager(policy)

	created := 0
	create := func(subject string) (sessiond.ID, sessiond.Token) {
		t.Helper()
		created++
		l.now = l.now.Add(time.Second)
		s, token, err := m.Create(ctx, sessiond.CreateParams{
			ID: sessiond.ID(fmt.Sprint("s", created)), Subject: subject, ExpiresIn: new(time.Hour),
		})
		l.ok(err)
		return s.ID, token
	}

	revoked, _ := create("")
	l.ok(m.Revoke(ctx, revoked, sessiond.RevokeParams{}))
	l.ok(m.Revoke(ctx, revoked, sessiond.RevokeParams{})) // again: nothing ends
	l.ok(m.Revoke(ctx, revoked, sessiond.RevokeParams{Erase: true}))

	erased, _ := create("")
	l.ok(m.Revoke(ctx, erased, sessiond.RevokeParams{Erase: true, Reason: sessiond.EndSecurity}))
	err := m.Revoke(ctx, erased, sessiond.RevokeParams{Erase: true})
	if !errors.Is(err, sessiond.ErrNotFound) {
		t.Fatalf("erase again: %v", err)
	}

	_, token := create("")
	l.ok(m.RevokeToken(ctx, token))

	for range 4 { // two are evicted
		create("alice")
	}
	guest, _ := create("")
	_, _, err = m.Rotate(ctx, guest, sessiond.RotateParams{Subject: "alice"}) // one more
	l.ok(err)

	reused, token := create("")
	_, _, err = m.Rotate(ctx, reused, sessiond.RotateParams{})
	l.ok(err)
	_, err = m.Verify(ctx, token, sessiond.VerifyParams{})
	l.ok(err)

	idle, _ := create("")
	l.now = l.now.Add(time.Minute)
	_, err = m.Update(ctx, idle, sessiond.UpdateParams{IdleTimeout: new(time.Second)}) // ends at once
	l.ok(err)

	create("") // will expire by its idle timeout
	absolute, _ := create("")
	_, err = m.Update(ctx, absolute, sessiond.UpdateParams{IdleTimeout: new(time.Duration(0))})
	l.ok(err)
	_, err = m.Update(ctx, absolute, sessiond.UpdateParams{IfMatch: []sessiond.ETag{`"other"`}})
	if !errors.Is(err, sessiond.ErrVersion) {
		t.Fatalf("update with another tag: %v", err)
	}

	want := map[string]float64{
		`{reason="revoked"}`: 1, `{reason="security"}`: 1, `{reason="logout"}`: 1, `{reason="limit"}`: 3,
		`{reason="token_reuse"}`: 1, `{reason="idle"}`: 1,
	}
	const ended = "sessiond_sessions_ended_total"
	if diff := cmp.Diff(want, nonZero(only(scrape(t, l.reg), ended))); diff != "" {
		t.Errorf("before the sweep (-want +got):\n%s", diff)
	}

	l.now = l.now.Add(2 * time.Hour)
	l.sweep(1)
	got := scrape(t, l.reg)
	// Left: alice's two, of which one is idle and one of the others was swept;
	// the last two sessions.
	if backlog, lag := got["sessiond_sweep_backlog"], got["sessiond_sweep_lag_seconds"]; backlog != 3 || lag < 3600 {
		t.Errorf("backlog = %v, lag = %v, want 3 and more than an hour", backlog, lag)
	}
	l.sweep(100)
	l.sweep(100)
	want[`{reason="idle"}`] += 3
	want[`{reason="absolute"}`] = 1
	got = scrape(t, l.reg)
	if diff := cmp.Diff(want, nonZero(only(got, ended))); diff != "" {
		t.Errorf("after the sweep (-want +got):\n%s", diff)
	}
	if got["sessiond_sweep_backlog"] != 0 || got["sessiond_sweep_lag_seconds"] != 0 {
		t.Errorf("backlog = %v, lag = %v, want 0", got["sessiond_sweep_backlog"], got["sessiond_sweep_lag_seconds"])
	}
	if len(only(got, ended)) != 9 {
		t.Errorf("%d reasons exported, want all 8 and _other", len(only(got, ended)))
	}
}

// promisedMetrics are the names that operators rely on.
var promisedMetrics = []string{
	"sessiond_sessions_active", "sessiond_session_operations_total", "sessiond_session_operation_duration_seconds",
	"sessiond_sessions_ended_total", "sessiond_sweep_backlog", "sessiond_sweep_lag_seconds",
	"sessiond_store_operation_duration_seconds", "sessiond_clock_offset_seconds", "sessiond_auth_failures_total",
	"sessiond_jwks_age_seconds", "sessiond_keyset_primary_info", "sessiond_store_class_info", "sessiond_event_streams", "sessiond_build_info",
	"sessiond_admission_limit", "sessiond_admission_in_flight", "sessiond_admission_refused_total",
	"http_server_request_duration_seconds",
}

func TestEveryMetricIsThere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newLife(t, telemetry.MetricsOptions{
		Tenants:       10,
		JWKSAge:       func() map[string]time.Duration { return map[string]time.Duration{"https://id.example.com": 1} },
		KeysetPrimary: func() uint32 { return 1 },
		StoreClass:    func() string { return "durable" },
		Admission:     func(each func(string, int, int, uint64)) { each("write", 128, 3, 7) },
	})
	m := l.manager(sessiond.Policy{})
	s, _, err := m.Create(ctx, sessiond.CreateParams{})
	l.ok(err)
	_, _, err = m.As("other", sessiond.Actor{}).Create(ctx, sessiond.CreateParams{})
	l.ok(err)
	_, err = m.Get(ctx, s.ID)
	l.ok(err)
	_, err = m.Get(ctx, "unknown")
	if !errors.Is(err, sessiond.ErrNotFound) {
		t.Fatal(err)
	}
	_, err = m.Touch(ctx, s.ID)
	l.ok(err)
	_, err = m.List(ctx, sessiond.ListParams{})
	l.ok(err)
	_, err = m.Update(ctx, s.ID, sessiond.UpdateParams{Labels: map[string]string{"a": "b"}})
	l.ok(err)
	_, err = l.store.Events(ctx, sessiond.EventQuery{Tenant: "default", Limit: 1})
	l.ok(err)
	l.ok(m.Revoke(ctx, s.ID, sessiond.RevokeParams{Erase: true}))
	l.sweep(1)
	l.m.Observe(telemetry.Operation{Op: "get", Route: "/sessions/{id}", Method: "GET", Status: 200})

	values := scrape(t, l.reg)
	for _, name := range promisedMetrics {
		if len(only(values, name)) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	want := map[string]float64{
		`{op="create"}`: 2, `{op="get"}`: 2, `{op="touch"}`: 1, `{op="list"}`: 1, `{op="update"}`: 1, `{op="erase"}`: 1,
		`{op="sweep"}`: 1, `{op="scan"}`: 0,
	}
	got := only(values, "sessiond_store_operation_duration_seconds")
	delete(got, `{op="stats"}`) // by the scrape itself
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("store operations (-want +got):\n%s", diff)
	}
	// A tenant that never had sessions when someone looked takes no label value.
	want = map[string]float64{`{tenant="other"}`: 1}
	if diff := cmp.Diff(want, only(values, "sessiond_sessions_active")); diff != "" {
		t.Errorf("active (-want +got):\n%s", diff)
	}
	problems, err := testutil.GatherAndLint(l.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// A statsStore answers Stats as the test wants and counts the questions.
type statsStore struct {
	sessiond.Store
	answer func(ctx context.Context) (sessiond.Stats, error)
	asked  int
}

func (s *statsStore) Stats(ctx context.Context) (sessiond.Stats, error) {
	s.asked++
	return s.answer(ctx)
}

func TestActiveTenants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{Tenants: 2})
		var active map[string]int64
		s := &statsStore{answer: func(context.Context) (sessiond.Stats, error) {
			return sessiond.Stats{Active: active, ClockOffset: -1500 * time.Millisecond}, nil
		}}
		m.Store(s)
		for i, step := range []struct {
			active map[string]int64
			want   map[string]float64
		}{
			{map[string]int64{"zero": 0, "minus": -5, "-servers": 7}, map[string]float64{}}, // the last is no tenant of users
			{map[string]int64{"a": 1, "b": 3, "c": 3, "d": 2, "zero": 0}, // the largest get names
				map[string]float64{"b": 3, "c": 3, "_other": 3}},
			{map[string]int64{"a": 100, "b": 1}, map[string]float64{"b": 1, "c": 0, "_other": 100}}, // and keep them
			{map[string]int64{"b": -1, "c": -1, "a": -1}, map[string]float64{"b": 0, "c": 0, "_other": 0}},
			{map[string]int64{"_other": 1, "\xff": 2, "B": 3, "c": 4}, map[string]float64{"b": 0, "c": 4, "_other": 6}},
		} {
			active = step.active
			time.Sleep(time.Second)
			want := map[string]float64{}
			for tenant, n := range step.want {
				want[`{tenant="`+tenant+`"}`] = n
			}
			got := scrape(t, reg)
			if diff := cmp.Diff(want, only(got, "sessiond_sessions_active")); diff != "" {
				t.Errorf("step %d (-want +got):\n%s", i, diff)
			}
			if offset := got["sessiond_clock_offset_seconds"]; offset != -1.5 {
				t.Errorf("clock offset = %v, want -1.5", offset)
			}
		}
	})
}

// An invalid name never gets a label value, even if there is room.
func TestInvalidTenant(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{Tenants: 100})
	m.Store(&statsStore{answer: func(context.Context) (sessiond.Stats, error) {
		return sessiond.Stats{Active: map[string]int64{"_other": 1, "\xff": 2, "B": 3, "": 4, "ok": 5}}, nil
	}})
	want := map[string]float64{`{tenant="_other"}`: 10, `{tenant="ok"}`: 5}
	if diff := cmp.Diff(want, only(scrape(t, reg), "sessiond_sessions_active")); diff != "" {
		t.Errorf("active (-want +got):\n%s", diff)
	}
}

func TestStatsFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{Tenants: 2})
		hang := func(ctx context.Context) (sessiond.Stats, error) {
			<-ctx.Done()
			return sessiond.Stats{}, ctx.Err()
		}
		works := func(context.Context) (sessiond.Stats, error) {
			return sessiond.Stats{Active: map[string]int64{"a": 1}}, nil
		}
		s := &statsStore{answer: hang}
		m.Store(s)

		start := time.Now()
		scrape(t, reg)
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("a scrape waited %v for a store that hangs, want 1s", waited)
		}
		got := scrape(t, reg) // at once: the failure is shared
		if s.asked != 1 || time.Since(start) != time.Second {
			t.Errorf("asked %d times in %v, want once in 1s", s.asked, time.Since(start))
		}
		for _, name := range []string{"sessiond_sessions_active", "sessiond_clock_offset_seconds"} {
			if found := only(got, name); len(found) > 0 {
				t.Errorf("%s is there while the store hangs: %v", name, found)
			}
		}
		if n := got["sessiond_store_stats_failures_total"]; n != 1 {
			t.Errorf("%v failures, want 1", n)
		}

		s.answer = works
		time.Sleep(time.Second)
		got = scrape(t, reg)
		scrape(t, reg)
		if n := got[`sessiond_sessions_active{tenant="a"}`]; n != 1 || s.asked != 2 {
			t.Errorf("active = %v, asked %d times; want 1 and twice", n, s.asked)
		}
		if n := got["sessiond_store_stats_failures_total"]; n != 1 {
			t.Errorf("%v failures, want 1", n)
		}
	})
}

// A brokenStore returns errors, and with them what it has.
type brokenStore struct{ sessiond.Store }

var errBroken = errors.New("broken")

func (s brokenStore) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	return sessiond.Result{Evicted: 1}, errBroken
}

func (s brokenStore) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	return sessiond.Result{Record: &sessiond.Record{EndedAt: time.Now(), EndReason: sessiond.EndIdle}}, errBroken
}

func (s brokenStore) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	if _, err := fn(time.Now(), &sessiond.Record{}); err != nil {
		return err
	}
	return errBroken
}

func (s brokenStore) Sweep(context.Context, sessiond.SweepParams) (sessiond.SweepResult, error) {
	return sessiond.SweepResult{Idle: 2, Backlog: 5, Lag: time.Hour}, errBroken
}

// Errors pass through, and what did not happen is not counted.
func TestErrorsPassThrough(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	reg := prometheus.NewRegistry()
	m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{})
	s := m.Store(brokenStore{memstore.New(memstore.Options{})})
	_, createErr := s.Create(ctx, sessiond.Creation{})
	_, updateErr := s.Update(ctx, sessiond.Key{}, nil)
	eraseErr := s.Erase(ctx, sessiond.Key{}, func(time.Time, *sessiond.Record) ([]sessiond.Event, error) {
		return []sessiond.Event{{Type: sessiond.EventRevoked, Reason: sessiond.EndRevoked}}, nil
	})
	errOther := errors.New("of fn")
	fnErr := s.Erase(ctx, sessiond.Key{}, func(time.Time, *sessiond.Record) ([]sessiond.Event, error) {
		return nil, errOther
	})
	_, sweepErr := s.Sweep(ctx, sessiond.SweepParams{})
	for i, err := range []error{createErr, updateErr, eraseErr, sweepErr} {
		if err != errBroken {
			t.Errorf("error %d = %v, want %v", i, err, errBroken)
		}
	}
	if fnErr != errOther {
		t.Errorf("error of fn = %v, want %v", fnErr, errOther)
	}
	got := scrape(t, reg)
	want := map[string]float64{`{reason="idle"}`: 2} // what the sweep did before it failed
	if diff := cmp.Diff(want, nonZero(only(got, "sessiond_sessions_ended_total"))); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
	if got["sessiond_sweep_backlog"] != 0 {
		t.Errorf("backlog = %v from a sweep that failed", got["sessiond_sweep_backlog"])
	}
}
