package storetest

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sessiond.example/sessiond"
)

// tenant is the one that tests use unless they say otherwise.
const tenant = "acme"

// patience is how long a test waits for what must come.
func patience() time.Duration { return *patienceFlag }

var patienceFlag = flag.Duration("storetest.patience", 20*time.Second, "how long tests wait for what must come")

// A tester is a subtest with its store. Its methods fail the test unless what
// they are named after succeeds.
type tester struct {
	*testing.T
	store   sessiond.Store
	advance func(time.Duration)
	open    Open
	markers atomic.Int64
}

func key(id string) sessiond.Key { return sessiond.Key{Tenant: tenant, ID: sessiond.ID(id)} }

// An option changes a creation from what newCreation makes.
type option func(*sessiond.Creation)

func inTenant(name string) option { return func(c *sessiond.Creation) { c.Record.Tenant = name } }
func subject(s string) option     { return func(c *sessiond.Creation) { c.Record.Subject = s } }
func lifetime(d time.Duration) option {
	return func(c *sessiond.Creation) { c.Lifetime = d }
}
func idle(d time.Duration) option {
	return func(c *sessiond.Creation) { c.Record.IdleTimeout = d }
}
func labels(kv ...string) option {
	return func(c *sessiond.Creation) {
		c.Record.Labels = make(map[string]string)
		for i := 0; i < len(kv); i += 2 {
			c.Record.Labels[kv[i]] = kv[i+1]
		}
	}
}
func limit(l sessiond.SubjectLimit) option { return func(c *sessiond.Creation) { c.Limit = l } }

// newCreation is a session of one hour without idle timeout, and every other
// part filled in.
func newCreation(id string, opts ...option) sessiond.Creation {
	r := &sessiond.Record{
		Key:       key(id),
		Subject:   "alice",
		Labels:    map[string]string{"device": "phone"},
		Data:      []byte("sealed data of " + id),
		DataKey:   7,
		Version:   1,
		CreatedBy: sessiond.Actor{Sub: "signin", Client: "web"},
	}
	rand.Read(r.Incarnation[:])
	rand.Read(r.TokenHash[:])
	rand.Read(r.CreateHash[:])
	c := sessiond.Creation{Record: r, Lifetime: time.Hour, RequestID: "create-" + id}
	for _, o := range opts {
		o(&c)
	}
	return c
}

func (t *tester) create(id string, opts ...option) sessiond.Result {
	t.Helper()
	return t.created(newCreation(id, opts...))
}

func (t *tester) created(c sessiond.Creation) sessiond.Result {
	t.Helper()
	k := c.Record.Key
	res, err := t.store.Create(t.Context(), c)
	if err != nil {
		t.Fatalf("Create(%v): %v", k, err)
	}
	return res
}

func (t *tester) get(k sessiond.Key) sessiond.Result {
	t.Helper()
	res, err := t.store.Get(t.Context(), k)
	if err != nil {
		t.Fatalf("Get(%v): %v", k, err)
	}
	t.checkTimes(res.Record)
	return res
}

// An updateFunc is what Store.Update takes.
type updateFunc = func(now time.Time, r *sessiond.Record) (sessiond.Change, error)

// change is an update as a manager makes it: mod, a new version, an event.
func change(mod func(r *sessiond.Record)) updateFunc {
	return func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		mod(r)
		r.Version++
		r.UpdatedAt = now
		e := r.Event(sessiond.EventUpdated, sessiond.Actor{Sub: "editor"}, "change")
		return sessiond.Change{Event: &e}, nil
	}
}

// bump is a change of nothing but the version.
func bump() updateFunc { return change(func(*sessiond.Record) {}) }

// revoke ends the session.
func revoke(note string) updateFunc {
	return func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.End(now, sessiond.EndRevoked, note, sessiond.Actor{Sub: "support", Client: "desk"})
		e := r.EndEvent("revoke")
		return sessiond.Change{Event: &e}, nil
	}
}

func (t *tester) update(k sessiond.Key, fn updateFunc) sessiond.Result {
	t.Helper()
	res, err := t.store.Update(t.Context(), k, fn)
	if err != nil {
		t.Fatalf("Update(%v): %v", k, err)
	}
	return res
}

// anyIncarnation is the incarnation to give to Touch when it does not matter.
var anyIncarnation sessiond.Incarnation

func (t *tester) touch(k sessiond.Key) sessiond.Result {
	t.Helper()
	res, err := t.store.Touch(t.Context(), k, anyIncarnation, time.Time{})
	if err != nil {
		t.Fatalf("Touch(%v): %v", k, err)
	}
	return res
}

// eraseFunc is what a manager gives Store.Erase.
func eraseFunc(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
	c := *r
	var events []sessiond.Event
	switch {
	case c.Live(now):
		c.End(now, sessiond.EndRevoked, "", sessiond.Actor{Sub: "admin"})
		events = append(events, c.EndEvent("erase"))
	case c.EndedAt.IsZero():
		c.Expire()
		events = append(events, c.EndEvent(""))
	}
	c.Version++
	c.UpdatedAt = now
	return append(events, c.Event(sessiond.EventErased, sessiond.Actor{Sub: "admin"}, "erase")), nil
}

func (t *tester) erase(k sessiond.Key) {
	t.Helper()
	if err := t.store.Erase(t.Context(), k, eraseFunc); err != nil {
		t.Fatalf("Erase(%v): %v", k, err)
	}
}

func (t *tester) gone(k sessiond.Key) {
	t.Helper()
	_, err := t.store.Get(t.Context(), k)
	t.wantErr("Get of a removed record", err, sessiond.ErrNotFound)
}

func (t *tester) stats() sessiond.Stats {
	t.Helper()
	stats, err := t.store.Stats(t.Context())
	if err != nil {
		t.Fatalf("Stats: %v", err)
	}
	return stats
}

// now is the store's time.
func (t *tester) now() time.Time {
	t.Helper()
	return t.stats().Now
}

func (t *tester) active(tenant string, want int64) {
	t.Helper()
	if got := t.stats().Active[tenant]; got != want {
		t.Errorf("Stats.Active[%q] = %d, want %d", tenant, got, want)
	}
}

// keepAll are sweep parameters that end what is due and remove nothing.
func keepAll() sessiond.SweepParams {
	return sessiond.SweepParams{
		Limit: 100, Retention: 1000 * time.Hour, EventRetention: 1000 * time.Hour, MaxEvents: 1_000_000,
	}
}

// sweep does passes until there is no more to do and adds them up. Backlog,
// Lag and More are those of the last pass.
func (t *tester) sweep(p sessiond.SweepParams) sessiond.SweepResult {
	t.Helper()
	return sweepAll(t, t.store, p)
}

func sweepAll(t testing.TB, store sessiond.Store, p sessiond.SweepParams) sessiond.SweepResult {
	t.Helper()
	var total sessiond.SweepResult
	for range 10_000 {
		res, err := store.Sweep(t.Context(), p)
		if err != nil {
			t.Fatalf("Sweep: %v", err)
		}
		res.Idle += total.Idle
		res.Absolute += total.Absolute
		res.Removed += total.Removed
		res.Trimmed += total.Trimmed
		if total = res; !res.More {
			return total
		}
	}
	t.Fatal("Sweep says that there is more without end")
	return total
}

func (t *tester) wantErr(what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error is %v, want %v", what, err, want)
	}
}

// wantEnded checks an ErrEnded: it comes with the ended record.
func (t *tester) wantEnded(what string, res sessiond.Result, err error, reason sessiond.EndReason) {
	t.Helper()
	t.wantErr(what, err, sessiond.ErrEnded)
	if res.Record == nil || res.Now.IsZero() {
		t.Fatalf("%s: ErrEnded comes without the record or its time", what)
	}
	if res.Record.EndedAt.IsZero() || res.Record.EndReason != reason {
		t.Fatalf("%s: record ended at %v with %q, want reason %q",
			what, res.Record.EndedAt, res.Record.EndReason, reason)
	}
	t.checkTimes(res.Record)
}

// difference is how got differs from want; empty when they are equal. Nil and empty
// maps and slices are the same.
func difference(want, got any) string {
	if reflect.DeepEqual(want, got) { // much faster
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

func (t *tester) same(what string, got, want *sessiond.Record) {
	t.Helper()
	if diff := difference(want, got); diff != "" {
		t.Errorf("%s: record differs (-want +got):\n%s", what, diff)
	}
	if (want.Data == nil) != (got.Data == nil) {
		t.Errorf("%s: data is nil: %t, want %t", what, got.Data == nil, want.Data == nil)
	}
	t.checkTimes(got)
}

// unchanged checks that the record of want is still what it was.
func (t *tester) unchanged(what string, want *sessiond.Record) {
	t.Helper()
	t.same(what, t.get(want.Key).Record, want)
}

// checkTimes checks that all times are UTC with milliseconds and nothing else.
func (t *tester) checkTimes(r *sessiond.Record) {
	t.Helper()
	for name, at := range map[string]time.Time{
		"CreatedAt": r.CreatedAt, "UpdatedAt": r.UpdatedAt, "LastActiveAt": r.LastActiveAt,
		"ExpiresAt": r.ExpiresAt, "PreviousTokenUntil": r.PreviousTokenUntil, "EndedAt": r.EndedAt,
	} {
		if err := checkTime(at); err != nil {
			t.Errorf("%s of %s: %v", name, r.ID, err)
		}
	}
}

func checkTime(at time.Time) error {
	switch {
	case at.Location() != time.UTC:
		return fmt.Errorf("%v is not in UTC", at)
	case !at.Equal(at.Truncate(time.Millisecond)):
		return fmt.Errorf("%v has more than milliseconds", at)
	case at != at.Round(0):
		return fmt.Errorf("%v has a monotonic reading", at)
	}
	return nil
}

// clone is a copy of a record that is safe to change.
func clone(r *sessiond.Record) *sessiond.Record {
	c := *r
	if r.Labels != nil {
		c.Labels = make(map[string]string, len(r.Labels))
		for k, v := range r.Labels {
			c.Labels[k] = v
		}
	}
	if r.Data != nil {
		c.Data = append([]byte{}, r.Data...)
	}
	return &c
}
