package faultmatrix

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

// An operation is one call of a store.
type operation struct {
	name    string
	write   bool
	prepare func(c *scene)
	// call makes the call. Of a successful answer it says what is wrong, if anything.
	call func(ctx context.Context, store sessiond.Store, c *scene) (wrong string, err error)
	// applied reports whether a write has happened; nil for reads.
	applied func(after *state) bool
	// check is about the state after a write that has happened.
	check func(c *scene, after *state) error
	// maybe: a success does not mean that anything was done.
	maybe bool
	// loose: parts of it may happen although the whole did not.
	loose bool
	// solo: one at a time, because it works on all tenants.
	solo bool
}

// operations are the calls of a store, with those variations of a call that
// take another way through it.
func operations() []operation {
	return []operation{
		{name: "create", write: true, call: create(sessiond.SubjectLimit{}), applied: has(fresh), check: checkCreate},
		{name: "create-limit", write: true, prepare: one, call: create(sessiond.SubjectLimit{Max: 2}),
			applied: has(fresh), check: checkCreate},
		{name: "create-evict", write: true, prepare: one, call: create(sessiond.SubjectLimit{Max: 1, Evict: true}),
			applied: has(fresh), check: checkEvict, loose: true},
		{name: "get", prepare: one, call: get},
		{name: "update", write: true, prepare: one, call: update(relabel), applied: version(first, 2), check: checkUpdate},
		{name: "revoke", write: true, prepare: one, call: update(revoke), applied: version(first, 2), check: checkRevoke},
		{name: "bind", write: true, prepare: guest, call: update(bind), applied: version(first, 2), check: checkBind},
		{name: "touch", write: true, prepare: touchable, call: touch, applied: touched, check: checkTouch},
		{name: "erase", write: true, prepare: one, call: erase,
			applied: func(after *state) bool { return after.Records[first] == nil }, check: checkErase},
		{name: "list", prepare: one, call: list(sessiond.Filter{})},
		{name: "list-subject", prepare: one, call: list(sessiond.Filter{Subject: subject, ActiveOnly: true})},
		{name: "scan", prepare: one, call: scan},
		{name: "events", prepare: one, call: events},
		{name: "sweep", write: true, prepare: expired, call: sweep, applied: swept, check: checkSweep,
			maybe: true, solo: true},
		{name: "stats", prepare: one, call: stats},
	}
}

// The sessions that are there before.

func one(c *scene)   { c.create(first, nil) }
func guest(c *scene) { c.create(first, func(n *sessiond.Creation) { n.Record.Subject = "" }) }
func expired(c *scene) {
	c.create(first, func(n *sessiond.Creation) {
		n.Record.Data, n.Record.DataKey = nil, 0
		n.Lifetime = time.Millisecond
	})
	time.Sleep(5 * time.Millisecond)
}

func touchable(c *scene) {
	one(c)
	time.Sleep(5 * time.Millisecond) // a touch is seen by its time
}

// What was done.

func has(id sessiond.ID) func(*state) bool {
	return func(after *state) bool { return after.Records[id] != nil }
}

func version(id sessiond.ID, at int64) func(*state) bool {
	return func(after *state) bool { return after.Records[id] != nil && after.Records[id].Version >= at }
}

func touched(after *state) bool {
	r := after.Records[first]
	return r != nil && r.LastActiveAt.After(r.CreatedAt)
}

func swept(after *state) bool { return !after.Unswept[first] }

// The calls.

func create(l sessiond.SubjectLimit) func(context.Context, sessiond.Store, *scene) (string, error) {
	return func(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
		n := c.creation(fresh)
		n.Limit = l
		hash := n.Record.TokenHash
		res, err := store.Create(ctx, n)
		if err == nil && (res.Record == nil || res.Record.TokenHash != hash) {
			return "not the new record", nil
		}
		return "", err
	}
}

func get(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	res, err := store.Get(ctx, c.key(first))
	if err != nil {
		return "", err
	}
	return c.compare([]*sessiond.Record{res.Record}), nil
}

// compare says how records differ from the first before the fault.
func (c *scene) compare(got []*sessiond.Record) string {
	if len(got) != 1 || got[0] == nil {
		return fmt.Sprintf("%d records", len(got))
	}
	return (&state{Records: map[sessiond.ID]*sessiond.Record{got[0].ID: got[0]}}).difference(
		&state{Records: c.before.Records})
}

type changer = func(now time.Time, r *sessiond.Record) (sessiond.Change, error)

func update(fn changer) func(context.Context, sessiond.Store, *scene) (string, error) {
	return func(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
		res, err := store.Update(ctx, c.key(first), fn)
		if err == nil && (res.Record == nil || res.Record.Version != 2) {
			return "not the changed record", nil
		}
		return "", err
	}
}

func relabel(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.Labels = map[string]string{"device": "tablet"}
	return told(now, r), nil
}

func bind(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.Subject = otherSubject
	return told(now, r), nil
}

func told(now time.Time, r *sessiond.Record) sessiond.Change {
	r.Version++
	r.UpdatedAt = now
	e := r.Event(sessiond.EventUpdated, sessiond.Actor{Sub: "editor"}, "change")
	return sessiond.Change{Event: &e}
}

func revoke(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.End(now, sessiond.EndRevoked, "lost phone", sessiond.Actor{Sub: "support"})
	e := r.EndEvent("revoke")
	return sessiond.Change{Event: &e}, nil
}

func touch(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	res, err := store.Touch(ctx, c.key(first), sessiond.Incarnation{}, time.Time{})
	if err == nil && (res.Record == nil || !res.Record.LastActiveAt.After(res.Record.CreatedAt)) {
		return "not the touched record", nil
	}
	return "", err
}

func erase(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	return "", store.Erase(ctx, c.key(first), func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		end := *r
		end.End(now, sessiond.EndRevoked, "", sessiond.Actor{Sub: "admin"})
		events := []sessiond.Event{end.EndEvent("erase")}
		end.Version++
		return append(events, end.Event(sessiond.EventErased, sessiond.Actor{Sub: "admin"}, "erase")), nil
	})
}

func list(f sessiond.Filter) func(context.Context, sessiond.Store, *scene) (string, error) {
	return func(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
		page, err := store.List(ctx, sessiond.Query{Tenant: c.tenant, Filter: f, Limit: 10})
		if err != nil {
			return "", err
		}
		return c.compare(page.Records), nil
	}
}

func scan(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	records, err := store.Scan(ctx, sessiond.Key{Tenant: c.tenant}, 1)
	if err != nil {
		return "", err
	}
	return c.compare(records), nil
}

func events(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	batch, err := store.Events(ctx, sessiond.EventQuery{Tenant: c.tenant, After: c.feed, Limit: 10, Wait: c.wait})
	switch {
	case err != nil:
		return "", err
	case batch.Reset:
		return "the feed begins anew", nil
	case len(batch.Events) != 1 || batch.Events[0] != c.before.Events[0]:
		return fmt.Sprintf("not the one event that there is: %+v", batch.Events), nil
	}
	return "", nil
}

func sweep(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	res, err := store.Sweep(ctx, sessiond.SweepParams{
		Limit: 100, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 1_000_000,
	})
	c.counted.Store(res.Absolute > 0)
	return "", err
}

func stats(ctx context.Context, store sessiond.Store, c *scene) (string, error) {
	s, err := store.Stats(ctx)
	if err == nil && (s.Active[c.tenant] != 1 || s.DataKeys[c.dataKey] != 1) {
		return fmt.Sprintf("%d active sessions, %d with the data key", s.Active[c.tenant], s.DataKeys[c.dataKey]), nil
	}
	return "", err
}

// What must be so after a write.

func checkCreate(c *scene, after *state) error {
	if r := after.Records[fresh]; r.Version != 1 || string(r.Data) != "sealed fresh" {
		return errors.New("the new session is not the one that was given")
	}
	return after.told(c.before, fresh, sessiond.EventCreated)
}

func checkEvict(c *scene, after *state) error {
	evicted := after.Records[first]
	if evicted == nil || evicted.EndReason != sessiond.EndLimit {
		return errors.New("the oldest session was not ended to keep the limit")
	}
	return errors.Join(checkCreate(c, after), after.told(c.before, first, sessiond.EventRevoked))
}

func checkUpdate(c *scene, after *state) error {
	if r := after.Records[first]; r.Version != 2 || r.Labels["device"] != "tablet" {
		return errors.New("the session is not what the update made of it")
	}
	return after.told(c.before, first, sessiond.EventUpdated)
}

func checkBind(c *scene, after *state) error {
	if r := after.Records[first]; r.Version != 2 || r.Subject != otherSubject {
		return errors.New("the session is not what the update made of it")
	}
	return after.told(c.before, first, sessiond.EventUpdated)
}

func checkRevoke(c *scene, after *state) error {
	if r := after.Records[first]; r.Version != 2 || r.EndReason != sessiond.EndRevoked || r.Data != nil {
		return errors.New("the session has not ended as it should")
	}
	return after.told(c.before, first, sessiond.EventRevoked)
}

func checkTouch(c *scene, after *state) error {
	was, is := c.before.Records[first], *after.Records[first]
	is.LastActiveAt = was.LastActiveAt
	if diff := (&state{Records: map[sessiond.ID]*sessiond.Record{first: &is}}).difference(
		&state{Records: map[sessiond.ID]*sessiond.Record{first: was}}); diff != "" {
		return errors.New("the touch changed more than the last activity")
	}
	return after.told(c.before, first)
}

func checkErase(c *scene, after *state) error {
	return after.told(c.before, first, sessiond.EventRevoked, sessiond.EventErased)
}

func checkSweep(c *scene, after *state) error {
	if r := after.Records[first]; r == nil || r.EndReason != sessiond.EndAbsolute {
		return errors.New("the expired session has not ended as it should")
	}
	return after.told(c.before, first, sessiond.EventExpired)
}
