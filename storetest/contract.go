package storetest

import (
	"errors"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

const (
	ms   = time.Millisecond
	sec  = time.Second
	mins = time.Minute
	hour = time.Hour
)

// contract is creation, reading, updating and erasing.
var contract = []test{
	{"create-stamps", createStamps},
	{"create-event", createEvent},
	{"create-exists", createExists},
	{"create-exists-ended", createExistsEnded},
	{"create-after-erase", createAfterErase},
	{"get-unknown", getUnknown},
	{"get-deadline", getDeadline},
	{"get-ended-view", getEndedView},
	{"update-commits", updateCommits},
	{"update-replaces", updateReplaces},
	{"update-fn-error", updateFnError},
	{"update-without-event", updateWithoutEvent},
	{"update-unknown", updateUnknown},
	{"update-ended", updateEnded},
	{"update-ends", updateEnds},
	{"update-merges-activity", updateMergesActivity},
	{"erase-live", eraseLive},
	{"erase-ended", eraseEnded},
	{"erase-fn-error", eraseFnError},
	{"erase-unknown", eraseUnknown},
	{"stats-active", statsActive},
	{"time", timeMoves},
}

func createStamps(t *tester) {
	c := newCreation("s1", idle(10*mins), lifetime(2*hour))
	want := clone(c.Record)
	before := t.now()
	res := t.created(c)
	if res.Now.Before(before) || res.Evicted != 0 {
		t.Errorf("Create at %v, evicted %d; it was %v before the call", res.Now, res.Evicted, before)
	}
	want.CreatedAt, want.UpdatedAt, want.LastActiveAt = res.Now, res.Now, res.Now
	want.ExpiresAt = res.Now.Add(2 * hour)
	t.same("Create", res.Record, want)
	t.unchanged("Get after Create", want)
}

func createEvent(t *tester) {
	f := t.follow(tenant)
	r := t.create("s1").Record
	f.want(r.Event(sessiond.EventCreated, r.CreatedBy, "create-s1"))
}

func createExists(t *tester) {
	first := t.create("s1").Record
	f := t.follow(tenant)
	res, err := t.store.Create(t.Context(), newCreation("s1", subject("mallory")))
	t.wantErr("second Create", err, sessiond.ErrExists)
	if res.Record == nil {
		t.Fatal("ErrExists comes without the holder of the key")
	}
	t.same("holder", res.Record, first)
	t.unchanged("after the second Create", first)
	t.active(tenant, 1)
	f.want()
	t.create("s1", inTenant("other")) // the key is free in another tenant
	t.unchanged("after a Create in another tenant", first)
}

func createExistsEnded(t *tester) {
	t.create("revoked")
	t.create("expired", lifetime(mins))
	t.update(key("revoked"), revoke("stolen"))
	t.advance(2 * mins)
	for range 2 { // before and after the sweeper has seen it
		for id, reason := range map[string]sessiond.EndReason{
			"revoked": sessiond.EndRevoked, "expired": sessiond.EndAbsolute,
		} {
			holder := t.get(key(id)).Record
			res, err := t.store.Create(t.Context(), newCreation(id))
			t.wantErr("Create over an ended session", err, sessiond.ErrExists)
			if res.Record == nil || res.Record.EndReason != reason {
				t.Fatalf("holder of %s is not an ended record: %+v", id, res.Record)
			}
			t.same("holder", res.Record, holder)
			t.unchanged("after Create over an ended session", holder)
		}
		t.sweep(keepAll())
	}
}

func createAfterErase(t *tester) {
	old := t.create("s1").Record
	t.erase(key("s1"))
	fresh := t.create("s1", subject("bob")).Record
	t.unchanged("second session of the ID", fresh)
	_, err := t.store.Touch(t.Context(), key("s1"), old.Incarnation, time.Time{})
	t.wantErr("Touch of the erased incarnation", err, sessiond.ErrNotFound)
	page := t.page(sessiond.Query{Filter: sessiond.Filter{Subject: "alice"}, Limit: 10})
	if len(page.Records) != 0 {
		t.Errorf("the subject of the erased session still has %d sessions", len(page.Records))
	}
	t.active(tenant, 1)
}

func getUnknown(t *tester) {
	t.create("s1")
	t.gone(key("s2"))
	t.gone(sessiond.Key{Tenant: "other", ID: "s1"})
}

// getDeadline steps over both deadlines by milliseconds: what is live follows
// from the time that comes with the record.
func getDeadline(t *tester) {
	t.create("absolute", lifetime(mins))
	t.create("idle", idle(mins))
	t.advance(mins - 3*ms)
	for range 6 {
		for _, id := range []string{"absolute", "idle"} {
			res := t.get(key(id))
			deadline := res.Record.CreatedAt.Add(mins)
			if live := res.Record.EndedAt.IsZero(); live != res.Now.Before(deadline) {
				t.Errorf("%s at %v with deadline %v: live is %t", id, res.Now, deadline, live)
			}
		}
		t.advance(ms)
	}
}

func getEndedView(t *tester) {
	absolute := clone(t.create("absolute", lifetime(mins), idle(hour)).Record)
	idled := clone(t.create("idle", lifetime(hour), idle(2*mins)).Record)
	both := clone(t.create("both", lifetime(mins), idle(mins)).Record)
	t.advance(10 * mins)
	for _, r := range []*sessiond.Record{absolute, idled, both} {
		r.Expire()
		t.unchanged(string(r.ID)+" before the sweep", r)
	}
	if idled.EndReason != sessiond.EndIdle || both.EndReason != sessiond.EndAbsolute {
		t.Errorf("reasons are %q and %q", idled.EndReason, both.EndReason)
	}
	if res := t.sweep(keepAll()); res.Idle != 1 || res.Absolute != 2 {
		t.Errorf("sweep ended %d idle, %d absolute", res.Idle, res.Absolute)
	}
	for _, r := range []*sessiond.Record{absolute, idled, both} {
		t.unchanged(string(r.ID)+" after the sweep", r)
	}
}

func updateCommits(t *tester) {
	want := clone(t.create("s1").Record)
	f := t.follow(tenant)
	t.advance(sec)
	var seen sessiond.Record
	var at time.Time
	res := t.update(key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		seen, at = *r, now
		return bump()(now, r)
	})
	t.same("record given to fn", &seen, want)
	if at.Before(want.CreatedAt.Add(sec)) || res.Now.Before(at) {
		t.Errorf("fn ran at %v, the result is of %v, a second after %v", at, res.Now, want.CreatedAt)
	}
	want.Version, want.UpdatedAt = 2, at
	t.same("result", res.Record, want)
	t.unchanged("Get after Update", want)
	f.want(want.Event(sessiond.EventUpdated, sessiond.Actor{Sub: "editor"}, "change"))
}

func updateReplaces(t *tester) {
	t.create("s1", idle(10*mins))
	t.create("s2")
	res := t.update(key("s1"), change(func(r *sessiond.Record) {
		r.Labels = map[string]string{"device": "tablet", "ip": "192.0.2.1"}
		r.Data, r.DataKey = []byte("new\x00data"), 9
		r.ExpiresAt = r.ExpiresAt.Add(5 * hour)
		r.IdleTimeout = 20 * mins
		r.PreviousTokenHash, r.PreviousTokenUntil = r.TokenHash, r.CreatedAt.Add(mins)
		r.TokenHash[0] ^= 0xff
		r.CreateHash = [32]byte{}
	}))
	if res.Record.IdleTimeout != 20*mins || len(res.Record.Labels) != 2 || res.Record.DataKey != 9 {
		t.Errorf("result lacks the change: %+v", res.Record)
	}
	t.unchanged("after an update of everything", res.Record)
	res = t.update(key("s2"), change(func(r *sessiond.Record) { r.Labels, r.Data, r.DataKey = nil, nil, 0 }))
	t.unchanged("after an update to nothing", res.Record)
	if len(res.Record.Labels) != 0 || res.Record.Data != nil {
		t.Errorf("labels or data are left: %+v", res.Record)
	}
}

func updateFnError(t *tester) {
	before := clone(t.create("s1").Record)
	f := t.follow(tenant)
	refused := errors.New("refused by fn")
	res, err := t.store.Update(t.Context(), key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.Subject, r.Labels, r.Data = "mallory", nil, nil
		r.End(now, sessiond.EndRevoked, "", sessiond.Actor{})
		e := r.EndEvent("")
		return sessiond.Change{Event: &e}, refused
	})
	if err != refused {
		t.Fatalf("Update returned %v, want the error of fn itself", err)
	}
	if res.Record == nil || res.Now.IsZero() {
		t.Fatal("an error of fn comes without the record or its time")
	}
	t.same("record with the error", res.Record, before)
	t.unchanged("after the error", before)
	t.active(tenant, 1)
	f.want()
}

func updateWithoutEvent(t *tester) {
	t.create("s1")
	f := t.follow(tenant)
	res := t.update(key("s1"), func(_ time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.TokenHash[0] ^= 0xff
		return sessiond.Change{}, nil
	})
	if res.Record.Version != 1 {
		t.Errorf("version is %d, fn left it at 1", res.Record.Version)
	}
	t.unchanged("after an update without event", res.Record)
	f.want()
}

// never is a function for updates that must not get so far.
func never(time.Time, *sessiond.Record) (sessiond.Change, error) {
	return sessiond.Change{}, errors.New("fn was called")
}

func updateUnknown(t *tester) {
	t.create("s1")
	for _, k := range []sessiond.Key{key("s2"), {Tenant: "other", ID: "s1"}} {
		_, err := t.store.Update(t.Context(), k, never)
		t.wantErr("Update of an unknown session", err, sessiond.ErrNotFound)
	}
}

func updateEnded(t *tester) {
	t.create("revoked")
	t.create("absolute", lifetime(mins))
	t.create("idle", idle(mins))
	t.update(key("revoked"), revoke("note"))
	t.advance(2 * mins)
	f := t.follow(tenant)
	check := func() {
		for id, reason := range map[string]sessiond.EndReason{
			"revoked": sessiond.EndRevoked, "absolute": sessiond.EndAbsolute, "idle": sessiond.EndIdle,
		} {
			before := t.get(key(id)).Record
			res, err := t.store.Update(t.Context(), key(id), never)
			t.wantEnded("Update of "+id, res, err, reason)
			t.same("record with ErrEnded", res.Record, before)
			t.unchanged("after the refused update", before)
		}
	}
	check()
	f.want()
	t.sweep(keepAll())
	check()
}

func updateEnds(t *tester) {
	before := t.create("s1").Record
	f := t.follow(tenant)
	t.advance(sec)
	res := t.update(key("s1"), revoke("stolen"))
	r := res.Record
	if r.Version != 2 || r.EndNote != "stolen" || r.EndedBy != (sessiond.Actor{Sub: "support", Client: "desk"}) ||
		r.Data != nil || r.DataKey != 0 || !r.EndedAt.After(before.CreatedAt) {
		t.Errorf("revoked record: %+v", r)
	}
	t.unchanged("after the revocation", r)
	f.want(r.EndEvent("revoke"))
	t.advance(10 * hour) // its deadline does not end it again
	if res := t.sweep(keepAll()); res.Absolute+res.Idle+res.Removed != 0 {
		t.Errorf("sweep acted on a revoked session: %+v", res)
	}
	t.unchanged("after the deadline of a revoked session", r)
	f.want()
}

func updateMergesActivity(t *tester) {
	created := t.create("s1", idle(10*mins)).Record
	t.advance(5 * mins)
	touched := t.touch(key("s1")).Record
	if !touched.LastActiveAt.After(created.LastActiveAt) {
		t.Fatal("Touch did not move the last activity")
	}
	// fn has seen the record as it was before the touch.
	res := t.update(key("s1"), change(func(r *sessiond.Record) { r.LastActiveAt = created.LastActiveAt }))
	if !res.Record.LastActiveAt.Equal(touched.LastActiveAt) {
		t.Errorf("an update moved the last activity back from %v to %v", touched.LastActiveAt, res.Record.LastActiveAt)
	}
	t.unchanged("after an update with older activity", res.Record)
	t.advance(mins)
	res = t.update(key("s1"), change(func(r *sessiond.Record) { r.LastActiveAt = r.LastActiveAt.Add(mins) }))
	if !res.Record.LastActiveAt.Equal(touched.LastActiveAt.Add(mins)) {
		t.Errorf("an update did not move the last activity forward: %v", res.Record.LastActiveAt)
	}
	t.unchanged("after an update with newer activity", res.Record)
}

func eraseLive(t *tester) {
	r := clone(t.create("s1").Record)
	t.create("s2")
	f := t.follow(tenant)
	t.advance(sec)
	var seen *sessiond.Record
	var want []sessiond.Event
	err := t.store.Erase(t.Context(), key("s1"), func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		seen = r
		var err error
		want, err = eraseFunc(now, r)
		return want, err
	})
	if err != nil || len(want) != 2 {
		t.Fatalf("Erase: %v, fn made %d events", err, len(want))
	}
	t.same("record given to fn", seen, r)
	t.gone(key("s1"))
	t.active(tenant, 1)
	f.want(want...)
	t.get(key("s2"))
}

func eraseEnded(t *tester) {
	t.create("revoked")
	t.create("overdue", lifetime(mins))
	t.create("swept", lifetime(mins))
	t.update(key("revoked"), revoke(""))
	t.advance(2 * mins)
	f := t.follow(tenant)
	for id, events := range map[string]int{"revoked": 1, "overdue": 2} { // the expiry is still to be told
		var want []sessiond.Event
		err := t.store.Erase(t.Context(), key(id), func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
			var err error
			want, err = eraseFunc(now, r)
			return want, err
		})
		if err != nil {
			t.Fatalf("Erase of %s: %v", id, err)
		}
		if len(want) != events {
			t.Errorf("Erase of %s had fn make %d events, want %d", id, len(want), events)
		}
		t.gone(key(id))
		f.want(want...)
	}
	t.sweep(keepAll())
	t.erase(key("swept"))
	t.gone(key("swept"))
	t.advance(2000 * hour)
	t.sweep(keepAll()) // nothing of them is left to trip over
}

func eraseFnError(t *tester) {
	before := t.create("s1").Record
	f := t.follow(tenant)
	refused := errors.New("refused by fn")
	err := t.store.Erase(t.Context(), key("s1"), func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		events, _ := eraseFunc(now, r)
		return events, refused
	})
	if err != refused {
		t.Fatalf("Erase returned %v, want the error of fn itself", err)
	}
	t.unchanged("after the refused erase", before)
	f.want()
}

func eraseUnknown(t *tester) {
	t.create("s1")
	for _, k := range []sessiond.Key{key("s2"), {Tenant: "other", ID: "s1"}} {
		t.wantErr("Erase of an unknown session", t.store.Erase(t.Context(), k, eraseFunc), sessiond.ErrNotFound)
	}
	t.get(key("s1"))
}

func statsActive(t *tester) {
	for i := range 4 {
		t.create(fmt.Sprintf("s%d", i), lifetime(mins))
	}
	t.create("s0", inTenant("other"))
	t.active(tenant, 4)
	t.active("other", 1)
	t.update(key("s0"), revoke(""))
	t.active(tenant, 3)
	t.update(key("s1"), bump())
	t.touch(key("s1"))
	t.active(tenant, 3)
	t.erase(key("s0")) // has ended before
	t.active(tenant, 3)
	t.erase(key("s1"))
	t.active(tenant, 2)
	t.advance(2 * mins)
	t.sweep(keepAll())
	t.active(tenant, 0)
	t.active("other", 1)
}

func timeMoves(t *tester) {
	first := t.create("s1").Now
	last := first
	check := func(now time.Time) {
		t.Helper()
		if now.Before(last) {
			t.Errorf("the store's time went back from %v to %v", last, now)
		}
		if err := checkTime(now); err != nil {
			t.Errorf("the store's time: %v", err)
		}
		last = now
	}
	check(t.get(key("s1")).Now)
	check(t.touch(key("s1")).Now)
	check(t.update(key("s1"), bump()).Now)
	check(t.page(sessiond.Query{Limit: 1}).Now)
	check(t.now())
	t.advance(hour)
	check(t.now())
	if passed := last.Sub(first); passed < hour || passed > hour+mins {
		t.Errorf("Advance(1h) moved the store's clock by %v", passed)
	}
}
