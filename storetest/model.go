package storetest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
)

var (
	seedFlag  = flag.Uint64("storetest.seed", 0, "seed of RunModel; 0: a random one")
	stepsFlag = flag.Int("storetest.steps", 400, "operations of each run of RunModel")
)

// RunModel does random operations on a store and on memstore, step by step, and
// compares records, errors, events, lists and statistics after each. It logs
// its seed; the flag -storetest.seed repeats a run, -storetest.steps makes it
// longer. The clock of the fixture must stand still between calls of Advance:
// a sweep does not tell its time, so with a clock that runs the two could sweep
// at different milliseconds.
func RunModel(t *testing.T, open Open) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	for i := range uint64(4) {
		t.Run(fmt.Sprintf("run-%d", i), func(t *testing.T) {
			t.Parallel()
			t.Logf("repeat with -run '%s' -storetest.seed %d", t.Name(), seed)
			m := newModel(t, open(t), rand.New(rand.NewPCG(seed, i)))
			for range *stepsFlag {
				m.step()
			}
			m.compareAll()
		})
	}
}

// A model is a store under test and the reference beside it. The reference has
// the time at which the store says that it did the same step.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	store   sessiond.Store
	ref     sessiond.Store
	advance func(time.Duration)
	refNow  time.Time
	steps   []string // what was done, for the report

	feeds  map[string]*twoFeeds
	former []sessiond.Incarnation
}

// twoFeeds are the places in the two feeds of a tenant.
type twoFeeds struct {
	start, at       sessiond.Position
	refStart, refAt sessiond.Position
}

var (
	modelTenants  = []string{"acme", "b"}
	modelIDs      = []sessiond.ID{"s", "S", "s.1", "s-1", "t", "u", "v"}
	modelSubjects = []string{"", "a", "a", "a", "A", "ab"}
	modelLabels   = []string{"x", "X", "y"}
)

func newModel(t *testing.T, f Fixture, rng *rand.Rand) *model {
	m := &model{t: t, rng: rng, store: f.Store, advance: f.Advance, feeds: make(map[string]*twoFeeds)}
	ref := memstore.New(memstore.Options{Now: func() time.Time { return m.refNow }})
	t.Cleanup(func() {
		if err := ref.Close(); err != nil {
			t.Errorf("close the reference: %v", err)
		}
	})
	m.ref = ref
	m.follow()
	for _, tenant := range modelTenants {
		q := sessiond.EventQuery{Tenant: tenant, Limit: 10}
		at, refAt := m.events(m.store, q).Position, m.events(m.ref, q).Position
		m.feeds[tenant] = &twoFeeds{at, at, refAt, refAt}
	}
	return m
}

func (m *model) note(format string, args ...any) {
	m.steps = append(m.steps, fmt.Sprintf("%s ", m.refNow.Format("15:04:05.000"))+fmt.Sprintf(format, args...))
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	last := m.steps[max(0, len(m.steps)-40):]
	m.t.Fatalf("step %d: %s\nlast steps:\n  %s", len(m.steps), fmt.Sprintf(format, args...), strings.Join(last, "\n  "))
}

// follow brings the reference's clock to that of the store.
func (m *model) follow() {
	stats, err := m.store.Stats(m.t.Context())
	if err != nil {
		m.fatalf("Stats: %v", err)
	}
	m.refNow = stats.Now
}

func pick[T any](m *model, from ...T) T { return from[m.rng.IntN(len(from))] }

func (m *model) key() sessiond.Key {
	return sessiond.Key{Tenant: pick(m, modelTenants...), ID: pick(m, modelIDs...)}
}

func (m *model) step() {
	m.follow()
	switch n := m.rng.IntN(100); {
	case n < 22:
		m.create()
	case n < 38:
		m.update()
	case n < 54:
		m.touch()
	case n < 57:
		m.erase()
	case n < 60:
		m.get()
	case n < 68:
		m.list(m.query())
	case n < 77:
		m.sweep()
	case n < 79:
		m.replay()
	case n < 81:
		m.compareAll()
	default:
		d := pick(m, ms, ms, sec, 5*sec, 15*sec, 30*sec, mins, 5*mins)
		m.note("advance %v", d)
		m.advance(d)
	}
	m.compareEvents()
}

var errRefused = errors.New("refused")

// class is which of the errors that matter to callers err is.
func class(err error) string {
	if err == nil {
		return "none"
	}
	for _, e := range []error{
		sessiond.ErrNotFound, sessiond.ErrExists, sessiond.ErrLimit, sessiond.ErrEnded, errRefused,
	} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "unexpected: " + err.Error()
}

// compare checks what the two stores answered to the same step.
func (m *model) compare(got sessiond.Result, err error, want sessiond.Result, wantErr error) {
	m.t.Helper()
	m.steps[len(m.steps)-1] += " -> " + class(wantErr)
	if class(err) != class(wantErr) {
		m.fatalf("error is %v, want %v", err, wantErr)
	}
	switch class(wantErr) {
	case sessiond.ErrNotFound.Error(), sessiond.ErrLimit.Error():
		return // no record is promised
	}
	if diff := difference(want, got); diff != "" {
		m.fatalf("result differs (-want +got):\n%s", diff)
	}
}

// at gives the reference the time of a result of the store.
func (m *model) at(res sessiond.Result) {
	if !res.Now.IsZero() {
		m.refNow = res.Now
	}
}

func (m *model) limit() sessiond.SubjectLimit {
	return sessiond.SubjectLimit{
		Max: pick(m, 0, 1, 2, 2, 3), Evict: m.rng.IntN(2) == 0, By: sessiond.Actor{Sub: "x"}, RequestID: "limit",
	}
}

func (m *model) create() {
	k := m.key()
	c := newCreation("", subject(pick(m, modelSubjects...)), labels("k", pick(m, modelLabels...)), limit(m.limit()),
		lifetime(pick(m, 30*sec, 5*mins, hour, hour)), idle(pick(m, 0, 0, 20*sec, 2*mins, 10*mins)))
	c.Record.Key = k
	if m.rng.IntN(4) == 0 {
		c.Record.Data, c.Record.DataKey = nil, 0
	}
	again := c
	again.Record = clone(c.Record)
	m.note("create %v of %q, lifetime %v, idle %v, limit %d evict %t", k, c.Record.Subject, c.Lifetime,
		c.Record.IdleTimeout, c.Limit.Max, c.Limit.Evict)
	got, err := m.store.Create(m.t.Context(), c)
	m.at(got)
	want, wantErr := m.ref.Create(m.t.Context(), again)
	m.compare(got, err, want, wantErr)
	m.former = append(m.former, again.Record.Incarnation)
}

func (m *model) get() {
	k := m.key()
	m.note("get %v", k)
	got, err := m.store.Get(m.t.Context(), k)
	m.at(got)
	want, wantErr := m.ref.Get(m.t.Context(), k)
	m.compare(got, err, want, wantErr)
}

func (m *model) touch() {
	k := m.key()
	var inc sessiond.Incarnation
	if len(m.former) > 0 && m.rng.IntN(3) == 0 {
		inc = m.former[max(0, len(m.former)-1-m.rng.IntN(20))]
	}
	at := time.Time{}
	if m.rng.IntN(2) == 0 {
		at = m.refNow.Add(pick(m, -hour, -mins, -10*sec, -ms, ms, hour))
	}
	m.note("touch %v at %v, incarnation %v", k, at.Format("15:04:05.000"), inc)
	got, err := m.store.Touch(m.t.Context(), k, inc, at)
	m.at(got)
	want, wantErr := m.ref.Touch(m.t.Context(), k, inc, at)
	m.compare(got, err, want, wantErr)
}

func (m *model) update() {
	k := m.key()
	name, fn := m.updateFunc()
	m.note("update %v: %s", k, name)
	got, err := m.store.Update(m.t.Context(), k, fn)
	m.at(got)
	want, wantErr := m.ref.Update(m.t.Context(), k, fn)
	m.compare(got, err, want, wantErr)
}

// updateFunc chooses an update, which does the same to both stores.
func (m *model) updateFunc() (name string, fn updateFunc) {
	label, d, l, to := pick(m, modelLabels...), pick(m, 10*sec, 3*mins, hour), m.limit(), pick(m, modelSubjects...)
	n := m.rng.Uint64()
	switch m.rng.IntN(10) {
	case 0, 1:
		return "labels " + label, change(func(r *sessiond.Record) { r.Labels = map[string]string{"k": label} })
	case 2:
		return "data", change(func(r *sessiond.Record) { r.Data, r.DataKey = fmt.Append(nil, n), uint32(n) })
	case 3:
		return fmt.Sprintf("expires in %v", d), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			return change(func(r *sessiond.Record) { r.ExpiresAt = now.Add(d) })(now, r)
		}
	case 4:
		return fmt.Sprintf("idle %v", d), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			if r.IdleTimeout = d; !r.Live(now) {
				return sessiond.Change{}, errRefused
			}
			return bump()(now, r)
		}
	case 5:
		return "revoke", revoke("note")
	case 6, 7:
		return fmt.Sprintf("bind %q, limit %d evict %t", to, l.Max, l.Evict),
			func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
				if r.Subject != "" {
					return sessiond.Change{}, errRefused
				}
				return bind(to, l)(now, r)
			}
	case 8:
		return "older activity", change(func(r *sessiond.Record) { r.LastActiveAt = r.CreatedAt })
	default:
		return "token only", func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			r.PreviousTokenHash, r.PreviousTokenUntil = r.TokenHash, now.Add(sec)
			r.TokenHash[0]++
			return sessiond.Change{}, nil
		}
	}
}

func (m *model) erase() {
	k := m.key()
	refuse := m.rng.IntN(4) == 0
	m.note("erase %v, refused %t", k, refuse)
	fn := func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		m.refNow = now
		if refuse {
			return nil, errRefused
		}
		return eraseFunc(now, r)
	}
	err := m.store.Erase(m.t.Context(), k, fn)
	wantErr := m.ref.Erase(m.t.Context(), k, fn)
	m.compare(sessiond.Result{}, err, sessiond.Result{}, wantErr)
}

func (m *model) sweep() {
	p := sessiond.SweepParams{
		Limit: 1 + m.rng.IntN(4), Retention: pick(m, ms, mins, hour, 1000*hour),
		EventRetention: pick(m, 20*mins, 1000*hour, 1000*hour), MaxEvents: 1_000_000,
	}
	m.note("sweep %+v", p)
	got, want := sweepAll(m.t, m.store, p), sweepAll(m.t, m.ref, p)
	if got != want {
		m.fatalf("sweep: %+v, want %+v", got, want)
	}
}
