package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// feeds is the feed of events.
var feeds = []test{
	{"end", feedEnd},
	{"life", feedLife},
	{"batches", feedBatches},
	{"again", feedAgain},
	{"wait-wakes", feedWaitWakes},
	{"wait-ends", feedWaitEnds},
	{"wait-cancelled", feedWaitCancelled},
	{"tenants", feedTenants},
	{"skips-others", feedSkipsOthers},
	{"malformed", feedMalformed},
	{"foreign", feedForeign},
	{"trimmed-behind", feedTrimmedBehind},
	{"reused-id", feedReusedID},
}

func feedEnd(t *tester) {
	for range 2 {
		start := time.Now()
		batch := t.events(sessiond.EventQuery{Tenant: tenant, Limit: 10, Wait: patience()})
		if len(batch.Events) != 0 || batch.Reset || batch.Position == "" {
			t.Errorf("without a position: %+v", batch)
		}
		if waited := time.Since(start); waited > patience()/2 {
			t.Errorf("without a position Events waited %v", waited)
		}
		t.create("s1")
		batch = t.events(sessiond.EventQuery{Tenant: tenant, After: batch.Position, Limit: 10, Wait: patience()})
		if len(batch.Events) != 1 || batch.Reset {
			t.Errorf("after the end as it was: %+v", batch)
		}
		t.erase(key("s1"))
	}
}

// feedLife follows one session through everything that has an event.
func feedLife(t *tester) {
	f := t.follow(tenant)
	r := clone(t.create("s1", idle(mins)).Record)
	want := []sessiond.Event{r.Event(sessiond.EventCreated, r.CreatedBy, "create-s1")}
	for i := range 3 {
		t.advance(sec)
		now := t.update(key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			r.Version++
			r.UpdatedAt = now
			e := r.Event(sessiond.EventRotated, sessiond.Actor{Sub: "app"}, fmt.Sprint("rotate-", i))
			want = append(want, e)
			return sessiond.Change{Event: &e}, nil
		}).Record
		r = clone(now)
	}
	t.touch(key("s1"))
	r.LastActiveAt = t.get(key("s1")).Record.LastActiveAt
	t.advance(2 * mins)
	t.sweep(keepAll())
	r.Expire()
	want = append(want, r.EndEvent(""))
	err := t.store.Erase(t.Context(), key("s1"), func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
		events, err := eraseFunc(now, r)
		want = append(want, events...)
		return events, err
	})
	if err != nil {
		t.Fatalf("Erase: %v", err)
	}
	got := f.drain()
	if diff := difference(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, e := range got {
		if err := checkTime(e.Time); err != nil {
			t.Errorf("time of event %s: %v", e.Type, err)
		}
	}
	checkOrder(t, got)
}

func feedBatches(t *tester) {
	f := t.follow(tenant)
	start := f.at
	for i := range 7 {
		t.create(fmt.Sprintf("s%d", i))
	}
	all := f.take(7)
	checkOrder(t, all)
	for limit := 1; limit <= 8; limit++ {
		q := sessiond.EventQuery{Tenant: tenant, After: start, Limit: limit, Wait: patience()}
		var got []sessiond.Event
		for len(got) < 7 {
			batch := t.events(q)
			if len(batch.Events) == 0 || batch.Reset {
				t.Fatalf("limit %d, after %d events: %+v", limit, len(got), batch)
			}
			got = append(got, batch.Events...)
			q.After = batch.Position
		}
		if diff := difference(all, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

func feedAgain(t *tester) {
	f := t.follow(tenant)
	start := f.at
	for i := range 3 {
		t.create(fmt.Sprintf("s%d", i))
	}
	first := f.take(3)
	f.at = start
	if diff := difference(first, f.take(3)); diff != "" {
		t.Errorf("second delivery differs (-first +second):\n%s", diff)
	}
	checkOrder(t, first)
}

func feedWaitWakes(t *tester) {
	f := t.follow(tenant)
	type answer struct {
		batch sessiond.EventBatch
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		batch, err := t.store.Events(t.Context(),
			sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10, Wait: 10 * patience()})
		got <- answer{batch, err}
	}()
	time.Sleep(20 * ms) // the wait has most likely begun
	t.create("s0", inTenant("other"))
	t.create("s1")
	select {
	case a := <-got:
		if a.err != nil || len(a.batch.Events) != 1 || a.batch.Events[0].SessionID != "s1" {
			t.Errorf("the waiting reader got %+v, %v", a.batch, a.err)
		}
	case <-time.After(patience()):
		t.Fatal("a new event does not wake a waiting reader")
	}
}

// feedWaitEnds waits for nothing, though another tenant has an event.
func feedWaitEnds(t *tester) {
	f := t.follow(tenant)
	created := make(chan error, 1)
	go func() {
		time.Sleep(10 * ms)
		_, err := t.store.Create(t.Context(), newCreation("s0", inTenant("other")))
		created <- err
	}()
	const wait = 50 * ms
	start := time.Now()
	batch, err := t.store.Events(t.Context(),
		sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10, Wait: wait})
	waited := time.Since(start)
	if err := <-created; err != nil {
		t.Errorf("Create: %v", err)
	}
	if err != nil || len(batch.Events) != 0 || batch.Reset || batch.Position == "" {
		t.Fatalf("a wait for nothing gives %+v, %v", batch, err)
	}
	if waited < wait-5*ms || waited > patience() {
		t.Errorf("a wait of %v took %v", wait, waited)
	}
	f.at = batch.Position
	t.create("s1")
	if got := f.take(1); got[0].SessionID != "s1" {
		t.Errorf("after the wait: %+v", got)
	}
}

func feedWaitCancelled(t *tester) {
	f := t.follow(tenant)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*ms, cancel)
	start := time.Now()
	_, err := t.store.Events(ctx, sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10, Wait: 10 * patience()})
	t.wantErr("Events under a context that is cancelled", err, context.Canceled)
	if waited := time.Since(start); waited > patience() {
		t.Errorf("Events returned %v after the cancellation", waited)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*ms)
	defer cancel()
	_, err = t.store.Events(ctx, sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10, Wait: 10 * patience()})
	t.wantErr("Events under a context that runs out", err, context.DeadlineExceeded)
}

func feedTenants(t *tester) {
	names := []string{"a", "ab", "b"}
	var following []*feed
	for _, name := range names {
		following = append(following, t.follow(name))
	}
	for i := range 3 {
		for _, name := range names {
			t.create(fmt.Sprintf("%s-%d", name, i), inTenant(name))
		}
	}
	for i, name := range names {
		events := following[i].drain()
		if len(events) != 3 {
			t.Errorf("tenant %s has %d events, want 3", name, len(events))
		}
		for j, e := range events {
			if e.Tenant != name || e.SessionID != sessiond.ID(fmt.Sprintf("%s-%d", name, j)) {
				t.Errorf("event %d of tenant %s is of %s of tenant %s", j, name, e.SessionID, e.Tenant)
			}
		}
	}
}

// feedSkipsOthers has a reader keep up though only another tenant has events.
func feedSkipsOthers(t *tester) {
	f := t.follow(tenant)
	other := t.follow("other")
	for i := range 30 {
		t.create(fmt.Sprintf("s%d", i), inTenant("other"))
	}
	other.take(30)
	for last := sessiond.Position(""); last != f.at; {
		batch := t.events(sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10})
		if len(batch.Events) != 0 || batch.Reset {
			t.Fatalf("events of another tenant: %+v", batch)
		}
		last, f.at = f.at, batch.Position
	}
	p := keepAll()
	p.MaxEvents = 1
	t.sweep(p)
	f.want() // no Reset: the position has passed what was trimmed
}

func feedMalformed(t *tester) {
	var want []sessiond.ID
	for i := range 3 {
		id := fmt.Sprintf("s%d", i)
		t.create(id)
		want = append(want, sessiond.ID(id))
	}
	end := string(t.follow(tenant).at)
	bad := []string{
		"garbage", " ", "0", "-1", "\x00", "\xff\xfe", "é", strings.Repeat("9", 10_000),
		end + "0", end + " ", " " + end, end[:len(end)-1], strings.Repeat("%", len(end)),
	}
	for _, after := range bad {
		start := time.Now()
		q := sessiond.EventQuery{Tenant: tenant, After: sessiond.Position(after), Limit: 100, Wait: patience()}
		batch := t.events(q)
		if time.Since(start) > patience()/2 {
			t.Errorf("position %.40q: Events waited", after)
		}
		var got []sessiond.ID
		for _, e := range batch.Events {
			got = append(got, e.SessionID)
		}
		if diff := difference(want, got); !batch.Reset || diff != "" {
			t.Errorf("position %.40q: Reset %t, events (-want +got):\n%s", after, batch.Reset, diff)
		}
		f := &feed{t, tenant, batch.Position}
		f.want() // goes on without another Reset
		// The marker of each round is there in the next.
		want = append(want, sessiond.ID(fmt.Sprintf("marker-%d", t.markers.Load())))
	}
}

// feedForeign gives a store the position of another.
func feedForeign(t *tester) {
	second := t.open(t)
	there := &tester{T: t.T, store: second.Store, advance: second.Advance, open: t.open}
	here := t.follow(tenant)
	foreign := there.follow(tenant)
	for i := range 3 {
		t.create(fmt.Sprintf("here-%d", i))
		there.create(fmt.Sprintf("there-%d", i))
	}
	here.take(3)
	foreign.take(2)
	batch := t.events(sessiond.EventQuery{Tenant: tenant, After: foreign.at, Limit: 10, Wait: patience()})
	if !batch.Reset || len(batch.Events) != 3 || batch.Events[0].SessionID != "here-0" {
		t.Errorf("position of another store: %+v", batch)
	}
	// An empty store has a Reset to tell, too.
	third := t.open(t)
	batch, err := third.Store.Events(t.Context(),
		sessiond.EventQuery{Tenant: tenant, After: foreign.at, Limit: 10, Wait: patience()})
	if err != nil || !batch.Reset || len(batch.Events) != 0 || batch.Position == "" {
		t.Errorf("position of another store in an empty one: %+v, %v", batch, err)
	}
}

// feedTrimmedBehind trims everything that a reader has already seen.
func feedTrimmedBehind(t *tester) {
	f := t.follow(tenant)
	t.create("s1")
	t.create("s2")
	f.take(2)
	t.advance(10 * mins)
	p := keepAll()
	p.EventRetention = mins
	if res := t.sweep(p); res.Trimmed != 2 {
		t.Errorf("trimmed %d events, want 2", res.Trimmed)
	}
	batch := t.events(sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 10})
	if batch.Reset || len(batch.Events) != 0 {
		t.Errorf("a reader that has seen all: %+v", batch)
	}
	f.want()
	batch = t.events(sessiond.EventQuery{Tenant: tenant, Limit: 10})
	if batch.Reset || batch.Position == "" {
		t.Errorf("end of the feed: %+v", batch)
	}
}

// feedReusedID has two sessions of one ID, whose events have different IDs.
func feedReusedID(t *tester) {
	f := t.follow(tenant)
	t.create("s1")
	t.erase(key("s1"))
	t.create("s1")
	t.update(key("s1"), bump())
	events := f.drain()
	if len(events) != 5 {
		t.Fatalf("%d events, want 5: %+v", len(events), events)
	}
	seen := make(map[string]bool)
	for _, e := range events {
		if seen[e.ID] {
			t.Errorf("event ID %s came twice", e.ID)
		}
		seen[e.ID] = true
	}
}
