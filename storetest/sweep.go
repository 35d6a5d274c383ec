package storetest

import (
	"fmt"

	"sessiond.example/sessiond"
)

// sweeping is the work of the sweeper.
var sweeping = []test{
	{"empty", sweepEmpty},
	{"ends", sweepEnds},
	{"spares-live", sweepSparesLive},
	{"touched", sweepTouched},
	{"touched-for-long", sweepTouchedForLong},
	{"extended", sweepExtended},
	{"shortened", sweepShortened},
	{"limit", sweepLimit},
	{"tenants", sweepTenants},
	{"removes", sweepRemoves},
	{"removes-overdue", sweepRemovesOverdue},
	{"removes-limit", sweepRemovesLimit},
	{"removal-frees-id", sweepFreesID},
	{"trims-by-age", sweepTrimsByAge},
	{"trims-by-count", sweepTrimsByCount},
}

func sweepEmpty(t *tester) {
	if res := t.sweep(keepAll()); res != (sessiond.SweepResult{}) {
		t.Errorf("sweep of an empty store: %+v", res)
	}
}

func sweepEnds(t *tester) {
	absolute := clone(t.create("absolute", lifetime(mins)).Record)
	idled := clone(t.create("idle", idle(2*mins)).Record)
	f := t.follow(tenant)
	t.advance(3 * mins)
	res := t.sweep(keepAll())
	if res != (sessiond.SweepResult{Idle: 1, Absolute: 1}) {
		t.Errorf("sweep: %+v", res)
	}
	events := bySession(f.drain())
	for _, r := range []*sessiond.Record{absolute, idled} {
		r.Expire()
		t.unchanged("swept", r)
		if got := events[r.ID]; len(got) != 1 || got[0] != r.EndEvent("") {
			t.Errorf("events of %s: %+v, want %+v", r.ID, got, r.EndEvent(""))
		}
	}
	t.active(tenant, 1) // the marker of the feed
	if res := t.sweep(keepAll()); res != (sessiond.SweepResult{}) {
		t.Errorf("second sweep: %+v", res)
	}
	f.want()
}

func sweepSparesLive(t *tester) {
	absolute := t.create("absolute", lifetime(mins)).Record
	idled := t.create("idle", idle(mins)).Record
	t.advance(mins - 5*sec)
	for range 3 {
		if res := t.sweep(keepAll()); res != (sessiond.SweepResult{}) {
			t.Errorf("sweep before the deadlines: %+v", res)
		}
	}
	t.unchanged("before its deadline", absolute)
	t.unchanged("before its deadline", idled)
	t.advance(5 * sec)
	if res := t.sweep(keepAll()); res.Idle != 1 || res.Absolute != 1 {
		t.Errorf("sweep at the deadlines: %+v", res)
	}
}

func sweepTouched(t *tester) {
	t.create("s1", idle(10*mins))
	f := t.follow(tenant)
	t.advance(8 * mins)
	touched := clone(t.touch(key("s1")).Record)
	t.advance(4 * mins) // past the deadline it was created with
	if res := t.sweep(keepAll()); res.Idle+res.Absolute+res.Backlog != 0 || res.Lag != 0 {
		t.Errorf("sweep after a touch: %+v", res)
	}
	t.unchanged("touched", touched)
	t.advance(6 * mins)
	if res := t.sweep(keepAll()); res.Idle != 1 {
		t.Errorf("sweep at the deadline after the touch: %+v", res)
	}
	touched.Expire()
	t.unchanged("after its deadline", touched)
	f.want(touched.EndEvent(""))
}

func sweepTouchedForLong(t *tester) {
	t.create("s1", idle(10*mins), lifetime(hour))
	t.create("s2", idle(10*mins), lifetime(hour))
	for range 7 {
		t.advance(8 * mins)
		last := t.touch(key("s1")).Record
		t.sweep(keepAll())
		t.unchanged("touched", last)
	}
	if r := t.get(key("s2")).Record; r.EndReason != sessiond.EndIdle {
		t.Errorf("the untouched session ended with %q", r.EndReason)
	}
	t.advance(4 * mins) // its hour is over, though the touch was 4 minutes ago
	if res := t.sweep(keepAll()); res.Absolute != 1 || res.Idle != 0 {
		t.Errorf("sweep at the absolute deadline: %+v", res)
	}
}

func sweepExtended(t *tester) {
	t.create("s1", lifetime(10*mins))
	t.create("s2", idle(10*mins))
	t.update(key("s1"), change(func(r *sessiond.Record) { r.ExpiresAt = r.ExpiresAt.Add(20 * mins) }))
	t.update(key("s2"), change(func(r *sessiond.Record) { r.IdleTimeout = 0 }))
	t.advance(12 * mins)
	if res := t.sweep(keepAll()); res.Idle+res.Absolute+res.Backlog != 0 {
		t.Errorf("sweep at the deadlines of before the updates: %+v", res)
	}
	t.advance(20 * mins)
	if res := t.sweep(keepAll()); res.Absolute != 1 || res.Idle != 0 {
		t.Errorf("sweep at the deadline of after the update: %+v", res)
	}
	t.active(tenant, 1)
}

func sweepShortened(t *tester) {
	t.create("s1")
	t.create("s2")
	t.create("s3", idle(30*mins))
	t.update(key("s1"), change(func(r *sessiond.Record) { r.ExpiresAt = r.CreatedAt.Add(10 * mins) }))
	t.update(key("s2"), change(func(r *sessiond.Record) { r.IdleTimeout = 10 * mins }))
	t.advance(5 * mins)
	t.touch(key("s3"))
	t.update(key("s3"), change(func(r *sessiond.Record) { r.IdleTimeout = 5 * mins }))
	t.advance(6 * mins)
	if res := t.sweep(keepAll()); res.Absolute != 1 || res.Idle != 2 {
		t.Errorf("sweep at the new deadlines: %+v", res)
	}
	t.active(tenant, 0)
}

func sweepLimit(t *tester) {
	for i := range 5 {
		t.create(fmt.Sprintf("s%d", i), lifetime(mins))
		t.advance(sec)
	}
	t.advance(2 * mins)
	p := keepAll()
	p.Limit = 2
	now := t.now()
	first := t.get(key("s0")).Record.ExpiresAt
	for left := 3; left >= -1; left -= 2 {
		res, err := t.store.Sweep(t.Context(), p)
		if err != nil {
			t.Fatalf("Sweep: %v", err)
		}
		want := min(2, left+2)
		backlog := max(left, 0)
		if res.Absolute != want || res.Backlog != backlog || res.More != (backlog > 0) {
			t.Errorf("sweep with %d left: %+v, want %d ended", backlog, res, want)
		}
		if lag := res.Lag; (lag > 0) != (backlog > 0) || lag > now.Sub(first)+mins {
			t.Errorf("sweep with %d left: lag is %v, the first deadline was %v ago", backlog, lag, now.Sub(first))
		}
	}
	t.active(tenant, 0)
}

func sweepTenants(t *tester) {
	for _, name := range []string{"a", "b", "c"} {
		t.create("s1", inTenant(name), lifetime(mins))
		t.create("s2", inTenant(name))
	}
	t.advance(2 * mins)
	if res := t.sweep(keepAll()); res.Absolute != 3 {
		t.Errorf("sweep: %+v", res)
	}
	for _, name := range []string{"a", "b", "c"} {
		t.active(name, 1)
		if r := t.get(sessiond.Key{Tenant: name, ID: "s1"}).Record; r.EndReason != sessiond.EndAbsolute {
			t.Errorf("s1 of %s ended with %q", name, r.EndReason)
		}
	}
}

// retain is keepAll with a retention of ended records.
func retain() sessiond.SweepParams {
	p := keepAll()
	p.Retention = hour
	return p
}

func sweepRemoves(t *tester) {
	t.create("expired", lifetime(10*mins), idle(hour))
	t.create("revoked", lifetime(100*hour))
	t.create("live", lifetime(100*hour))
	t.advance(20 * mins)
	t.sweep(retain()) // ends one
	t.update(key("revoked"), revoke(""))
	t.advance(40 * mins)
	if res := t.sweep(retain()); res.Removed != 0 {
		t.Errorf("removed %d before the retention was over", res.Removed)
	}
	t.advance(11 * mins) // an hour after the deadline, not after the sweep
	if res := t.sweep(retain()); res.Removed != 1 {
		t.Errorf("removed %d, want the expired one", res.Removed)
	}
	t.gone(key("expired"))
	t.get(key("revoked"))
	t.advance(10 * mins)
	if res := t.sweep(retain()); res.Removed != 1 {
		t.Errorf("removed %d, want the revoked one", res.Removed)
	}
	t.gone(key("revoked"))
	t.get(key("live"))
	t.active(tenant, 1)
	t.wantList("what is left", sessiond.Filter{}, "live")
	t.wantList("what is left of the subject", sessiond.Filter{Subject: "alice"}, "live")
}

// sweepRemovesOverdue lets a deadline be older than the retention before the
// first sweep: the end is still told.
func sweepRemovesOverdue(t *tester) {
	r := clone(t.create("s1", lifetime(mins)).Record)
	f := t.follow(tenant)
	t.advance(10 * hour)
	if res := t.sweep(retain()); res.Absolute != 1 || res.Removed != 1 {
		t.Errorf("sweep: %+v", res)
	}
	t.gone(key("s1"))
	r.Expire()
	f.want(r.EndEvent(""))
}

func sweepRemovesLimit(t *tester) {
	for i := range 5 {
		id := fmt.Sprintf("s%d", i)
		t.create(id)
		t.update(key(id), revoke(""))
	}
	t.advance(2 * hour)
	p := retain()
	p.Limit = 2
	for _, want := range []int{2, 2, 1} {
		res, err := t.store.Sweep(t.Context(), p)
		if err != nil {
			t.Fatalf("Sweep: %v", err)
		}
		if res.Removed != want || res.More != (want == 2) {
			t.Errorf("sweep with limit 2: %+v, want %d removed", res, want)
		}
	}
}

func sweepFreesID(t *tester) {
	old := t.create("s1", lifetime(mins)).Record
	t.advance(2 * hour)
	t.sweep(retain())
	f := t.follow(tenant)
	fresh := t.create("s1", subject("bob")).Record
	t.unchanged("second session of the ID", fresh)
	f.want(fresh.Event(sessiond.EventCreated, fresh.CreatedBy, "create-s1"))
	if old.Incarnation == fresh.Incarnation {
		t.Error("the incarnation is the same")
	}
	t.wantList("of the former subject", sessiond.Filter{Subject: "alice"})
	t.advance(2 * mins) // the old deadline is forgotten
	t.sweep(retain())
	t.unchanged("after the former deadline", fresh)
}

func sweepTrimsByAge(t *tester) {
	f := t.follow(tenant)
	start := f.at
	t.create("s2", inTenant("other"))
	t.create("s1")
	f.take(1)
	t.advance(20 * mins)
	kept := t.create("s3").Record
	p := keepAll()
	p.EventRetention = 30 * mins
	if res := t.sweep(p); res.Trimmed != 0 {
		t.Errorf("trimmed %d events before their time", res.Trimmed)
	}
	t.advance(15 * mins)
	if res := t.sweep(p); res.Trimmed != 2 {
		t.Errorf("trimmed %d events, want 2", res.Trimmed)
	}
	batch := t.events(sessiond.EventQuery{Tenant: tenant, After: start, Limit: 10})
	if !batch.Reset || len(batch.Events) != 1 || batch.Events[0].SessionID != kept.ID {
		t.Errorf("from a trimmed position: %+v", batch)
	}
	// A reader that has seen all that was trimmed misses nothing.
	if got := f.take(1); got[0].SessionID != kept.ID {
		t.Errorf("after the trimmed events: %+v", got)
	}
	t.get(key("s1")) // only events go
}

func sweepTrimsByCount(t *tester) {
	f := t.follow(tenant)
	start := f.at
	for i := range 7 {
		t.create(fmt.Sprintf("s%d", i))
	}
	f.take(7)
	p := keepAll()
	p.MaxEvents = 3
	if res := t.sweep(p); res.Trimmed != 4 {
		t.Errorf("trimmed %d events, want 4", res.Trimmed)
	}
	batch := t.events(sessiond.EventQuery{Tenant: tenant, After: start, Limit: 2})
	if !batch.Reset || len(batch.Events) != 2 || batch.Events[0].SessionID != "s4" {
		t.Errorf("from a trimmed position: %+v", batch)
	}
	batch = t.events(sessiond.EventQuery{Tenant: tenant, After: batch.Position, Limit: 10})
	if batch.Reset || len(batch.Events) != 1 || batch.Events[0].SessionID != "s6" {
		t.Errorf("the batch after the Reset: %+v", batch)
	}
	f.want()
}
