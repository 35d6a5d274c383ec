package storetest

import (
	"crypto/rand"
	"slices"
	"time"

	"sessiond.example/sessiond"
)

// importing is sessions that come from another store with their times.
var importing = []test{
	{"keeps", importKeeps},
	{"event", importEvent},
	{"exists", importExists},
	{"lists", importLists},
	{"deadlines", importDeadlines},
	{"late", importLate},
	{"touch", importTouch},
	{"limit", importLimit},
	{"newer", importNewer},
}

// imported is a session that is so old, in its version 7, and was touched two
// minutes ago.
func (t *tester) imported(id string, age time.Duration, opts ...option) sessiond.Creation {
	t.Helper()
	now := t.now()
	c := newCreation(id, append([]option{idle(10 * mins)}, opts...)...)
	r := c.Record
	c.Imported, c.Lifetime = true, 0
	c.RequestID = "import-" + id
	r.CreatedAt, r.UpdatedAt, r.LastActiveAt = now.Add(-age), now.Add(-age/2), now.Add(-2*mins)
	r.ExpiresAt, r.Version = now.Add(hour), 7
	rand.Read(r.PreviousTokenHash[:])
	r.PreviousTokenUntil = r.UpdatedAt.Add(sec)
	return c
}

func importKeeps(t *tester) {
	for _, age := range []time.Duration{3 * mins, 1000 * hour} {
		c := t.imported(age.String(), age)
		want := clone(c.Record)
		res := t.created(c)
		if res.Evicted != 0 || res.Now.Before(want.LastActiveAt.Add(2*mins)) {
			t.Errorf("Create at %v, evicted %d", res.Now, res.Evicted)
		}
		t.same("Create", res.Record, want)
		t.unchanged("Get after Create", want)
	}
	bare := t.imported("bare", hour, idle(0), subject(""), labels())
	r := bare.Record
	r.Data, r.DataKey, r.CreatedBy, r.CreateHash = nil, 0, sessiond.Actor{}, [32]byte{}
	r.PreviousTokenHash, r.PreviousTokenUntil = sessiond.TokenHash{}, time.Time{}
	want := clone(r)
	t.created(bare)
	t.unchanged("without what may be absent", want)
	t.active(tenant, 3)
	if got := t.stats().DataKeys[7]; got != 2 {
		t.Errorf("%d records with key 7, want 2", got)
	}
	if got := len(t.walk(2)); got != 3 {
		t.Errorf("a walk finds %d records", got)
	}
}

func importEvent(t *tester) {
	f := t.follow(tenant)
	res := t.created(t.imported("s1", hour))
	want := res.Record.Event(sessiond.EventCreated, res.Record.CreatedBy, "import-s1")
	want.Time = res.Now
	f.want(want)
}

func importExists(t *tester) {
	t.create("live")
	t.create("ended")
	t.update(key("ended"), revoke("gone"))
	f := t.follow(tenant)
	for _, id := range []string{"live", "ended"} {
		before := t.get(key(id)).Record
		res, err := t.store.Create(t.Context(), t.imported(id, hour))
		t.wantErr("import of "+id, err, sessiond.ErrExists)
		if res.Record == nil {
			t.Fatal("ErrExists comes without the holder of the key")
		}
		t.same("holder", res.Record, before)
		t.unchanged("after the import", before)
	}
	t.active(tenant, 1)
	f.want()
}

// importLists looks for sessions of one subject in the order of their age.
func importLists(t *tester) {
	ids := func(f sessiond.Filter) (ids []string) {
		t.Helper()
		for _, r := range t.pages(sessiond.Query{Filter: f, Limit: 2}) {
			ids = append(ids, string(r.ID))
		}
		return ids
	}
	t.create("new")
	t.created(t.imported("oldest", 1000*hour))
	t.created(t.imported("younger", 5*mins))
	t.created(t.imported("older", 500*hour, subject("bob")))
	t.advance(sec)
	t.create("newest")
	for what, tt := range map[string]struct {
		filter sessiond.Filter
		want   []string
	}{
		"all":     {sessiond.Filter{}, []string{"newest", "new", "younger", "older", "oldest"}},
		"subject": {sessiond.Filter{Subject: "alice"}, []string{"newest", "new", "younger", "oldest"}},
		"before":  {sessiond.Filter{CreatedBefore: t.now().Add(-hour)}, []string{"older", "oldest"}},
		"after":   {sessiond.Filter{CreatedAfter: t.now().Add(-501 * hour)}, []string{"newest", "new", "younger", "older"}},
		"expires": {sessiond.Filter{ExpiresBefore: t.now().Add(20 * mins)}, []string{"younger", "older", "oldest"}},
	} {
		if got := ids(tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", what, got, tt.want)
		}
	}
}

// importDeadlines: what counts is the last activity in the other store.
func importDeadlines(t *tester) {
	idled := t.imported("idle", hour)
	absolute := t.imported("absolute", hour, idle(0))
	absolute.Record.ExpiresAt = t.now().Add(9 * mins)
	want := []*sessiond.Record{clone(idled.Record), clone(absolute.Record)}
	t.created(idled)
	t.created(absolute)
	f := t.follow(tenant)
	t.advance(8*mins - 5*sec)
	if res := t.sweep(keepAll()); res != (sessiond.SweepResult{}) {
		t.Errorf("sweep before the deadlines: %+v", res)
	}
	t.unchanged("before its deadline", want[0])
	t.advance(5 * sec)
	if res := t.sweep(keepAll()); res.Idle != 1 || res.Absolute != 0 {
		t.Errorf("sweep at the idle deadline: %+v", res)
	}
	t.advance(mins)
	if res := t.sweep(keepAll()); res.Idle != 0 || res.Absolute != 1 {
		t.Errorf("sweep at the absolute deadline: %+v", res)
	}
	var events []sessiond.Event
	for _, r := range want {
		r.Expire()
		t.unchanged("swept", r)
		events = append(events, r.EndEvent(""))
	}
	f.want(events...)
	t.active(tenant, 1) // the marker of the feed
}

// importLate imports a session whose deadline passes on the way.
func importLate(t *tester) {
	c := t.imported("s1", hour)
	want := clone(c.Record)
	t.advance(9 * mins)
	t.created(c)
	want.Expire()
	t.unchanged("past its deadline", want)
	res, err := t.store.Touch(t.Context(), key("s1"), anyIncarnation, time.Time{})
	t.wantEnded("touch", res, err, sessiond.EndIdle)
	if res := t.sweep(keepAll()); res.Idle != 1 {
		t.Errorf("sweep: %+v", res)
	}
	t.unchanged("swept", want)
	t.active(tenant, 0)
}

func importTouch(t *tester) {
	want := clone(t.created(t.imported("s1", hour)).Record)
	at := want.LastActiveAt.Add(mins)
	if _, err := t.store.Touch(t.Context(), key("s1"), want.Incarnation, at); err != nil {
		t.Fatal(err)
	}
	want.LastActiveAt = at
	t.unchanged("touched in the past", want)
	want.LastActiveAt = t.touch(key("s1")).Now
	t.unchanged("touched now", want)
}

// importLimit: an import has no limit, and what it brings counts by its age.
func importLimit(t *tester) {
	t.create("first")
	t.advance(sec)
	for _, id := range []string{"oldest", "older"} {
		age := map[string]time.Duration{"oldest": 100 * hour, "older": 50 * hour}[id]
		if res := t.created(t.imported(id, age)); res.Evicted != 0 {
			t.Errorf("%s evicts %d", id, res.Evicted)
		}
	}
	_, err := t.store.Create(t.Context(), newCreation("refused", limit(sessiond.SubjectLimit{Max: 3})))
	t.wantErr("Create over the limit", err, sessiond.ErrLimit)
	if res := t.create("second", limit(sessiond.SubjectLimit{Max: 3, Evict: true})); res.Evicted != 1 {
		t.Errorf("evicted %d", res.Evicted)
	}
	for id, live := range map[string]bool{"first": true, "oldest": false, "older": true, "second": true} {
		if got := t.get(key(id)).Record.EndedAt.IsZero(); got != live {
			t.Errorf("%s is live: %t", id, got)
		}
	}
}

// importNewer brings a later version of a session that was imported before.
func importNewer(t *tester) {
	t.created(t.imported("s1", hour, subject("")))
	f := t.follow(tenant)
	var want *sessiond.Record
	var told sessiond.Event
	res := t.update(key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.Subject, r.Labels = "bob", map[string]string{"device": "tablet"}
		r.Data, r.DataKey = []byte("newer"), 8
		r.Version, r.UpdatedAt = 12, now.Add(-mins)
		r.LastActiveAt, r.ExpiresAt, r.IdleTimeout = now.Add(-sec), now.Add(2*hour), hour
		r.PreviousTokenHash, r.PreviousTokenUntil = r.TokenHash, now.Add(-sec)
		rand.Read(r.TokenHash[:])
		rand.Read(r.CreateHash[:])
		want = clone(r)
		told = r.Event(sessiond.EventUpdated, sessiond.Actor{Client: "mover"}, "import")
		told.Time = now
		e := told
		return sessiond.Change{Event: &e}, nil
	})
	t.same("Update", res.Record, want)
	t.unchanged("after the update", want)
	f.want(told)
	found := t.pages(sessiond.Query{Filter: sessiond.Filter{Subject: "bob"}, Limit: 10})
	if len(found) != 1 || found[0].Version != 12 {
		t.Errorf("by its subject: %v", found)
	}
	if keys := t.stats().DataKeys; keys[8] != 1 {
		t.Errorf("keys: %v", keys)
	}
}
