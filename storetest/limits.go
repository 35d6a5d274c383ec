package storetest

import (
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

// limits is the bound on the live sessions of a subject.
var limits = []test{
	{"reject", limitReject},
	{"evict", limitEvict},
	{"evict-several", limitEvictSeveral},
	{"none", limitNone},
	{"guests", limitGuests},
	{"per-subject", limitPerSubject},
	{"overdue", limitOverdue},
	{"freed", limitFreed},
	{"bind", limitBind},
	{"bind-reject", limitBindReject},
	{"bind-evict", limitBindEvict},
}

var (
	reject2 = sessiond.SubjectLimit{Max: 2}
	evict2  = sessiond.SubjectLimit{
		Max: 2, Evict: true, By: sessiond.Actor{Sub: "signin", Client: "web"}, RequestID: "third",
	}
)

// spaced creates sessions of different age.
func (t *tester) spaced(ids []string, opts ...option) (records []*sessiond.Record) {
	t.Helper()
	for _, id := range ids {
		records = append(records, clone(t.create(id, opts...).Record))
		t.advance(sec)
	}
	return records
}

func limitReject(t *tester) {
	t.spaced([]string{"s1", "s2"}, limit(reject2))
	f := t.follow(tenant)
	_, err := t.store.Create(t.Context(), newCreation("s3", limit(reject2)))
	t.wantErr("Create over the limit", err, sessiond.ErrLimit)
	t.gone(key("s3"))
	t.active(tenant, 2)
	f.want()
	_, err = t.store.Create(t.Context(), newCreation("s1", limit(reject2)))
	t.wantErr("Create of a taken ID over the limit", err, sessiond.ErrExists)
}

func limitEvict(t *tester) {
	old := t.spaced([]string{"s2", "s1", "s3"})
	t.touch(key("s2")) // the oldest by creation goes, whatever its activity
	f := t.follow(tenant)
	evict3 := evict2
	evict3.Max = 3
	res := t.create("s4", limit(evict3))
	if res.Evicted != 1 {
		t.Errorf("Evicted = %d, want 1", res.Evicted)
	}
	got := t.get(key("s2")).Record
	want := old[0]
	want.LastActiveAt = got.LastActiveAt
	want.End(got.EndedAt, sessiond.EndLimit, "", evict2.By)
	t.same("evicted", got, want)
	if got.EndedAt.Before(old[2].CreatedAt) || got.EndedAt.After(res.Now) {
		t.Errorf("evicted at %v, the new session is of %v", got.EndedAt, res.Now)
	}
	t.get(key("s1"))
	t.active(tenant, 3)
	events := bySession(f.drain())
	if n := len(events["s2"]); n != 1 || events["s2"][0] != want.EndEvent("third") {
		t.Errorf("events of the eviction: %+v", events["s2"])
	}
	if len(events) != 2 || len(events["s4"]) != 1 {
		t.Errorf("events: %+v", events)
	}
}

func limitEvictSeveral(t *tester) {
	t.spaced([]string{"s1", "s2", "s3", "s4"})
	if res := t.create("s5", limit(evict2)); res.Evicted != 3 {
		t.Errorf("Evicted = %d, want 3", res.Evicted)
	}
	for i := 1; i <= 5; i++ {
		r := t.get(key(fmt.Sprintf("s%d", i))).Record
		if live := r.EndedAt.IsZero(); live != (i >= 4) {
			t.Errorf("%s is live: %t", r.ID, live)
		}
	}
}

func limitNone(t *tester) {
	for i := range 5 {
		t.create(fmt.Sprintf("s%d", i), limit(sessiond.SubjectLimit{}))
	}
	t.active(tenant, 5)
}

func limitGuests(t *tester) {
	one := sessiond.SubjectLimit{Max: 1}
	for i := range 3 {
		t.create(fmt.Sprintf("s%d", i), subject(""), limit(one))
	}
	one.Evict = true
	if res := t.create("s3", subject(""), limit(one)); res.Evicted != 0 {
		t.Errorf("%d guests were evicted", res.Evicted)
	}
	t.active(tenant, 4)
}

func limitPerSubject(t *tester) {
	one := sessiond.SubjectLimit{Max: 1}
	for i, s := range []string{"a", "A", "ab", "a ", "b"} {
		t.create(fmt.Sprintf("s%d", i), subject(s), limit(one))
	}
	t.create("s0", inTenant("other"), subject("a"), limit(one))
	t.create("s0", inTenant("othe"), subject("ra"), limit(one))
	_, err := t.store.Create(t.Context(), newCreation("s9", subject("ab"), limit(one)))
	t.wantErr("second Create", err, sessiond.ErrLimit)
}

// limitOverdue counts only what is live, whether the sweeper has been there or not.
func limitOverdue(t *tester) {
	t.spaced([]string{"s1", "s2"}, lifetime(mins))
	t.spaced([]string{"s3"})
	t.advance(2 * mins)
	t.create("s4", limit(reject2))
	t.update(key("s4"), revoke(""))
	if res := t.create("s5", limit(evict2)); res.Evicted != 0 {
		t.Errorf("Evicted = %d, though only one session was live", res.Evicted)
	}
	t.sweep(keepAll())
	if res := t.create("s6", limit(evict2)); res.Evicted != 1 {
		t.Errorf("Evicted = %d, want 1", res.Evicted)
	}
	if r := t.get(key("s1")).Record; r.EndReason != sessiond.EndAbsolute {
		t.Errorf("an overdue session ended with %q", r.EndReason)
	}
}

func limitFreed(t *tester) {
	t.spaced([]string{"s1", "s2"}, limit(reject2))
	t.update(key("s1"), revoke(""))
	t.create("s3", limit(reject2))
	t.erase(key("s2"))
	t.create("s4", limit(reject2))
	_, err := t.store.Create(t.Context(), newCreation("s5", limit(reject2)))
	t.wantErr("Create over the limit", err, sessiond.ErrLimit)
}

// bind gives a guest session its subject.
func bind(to string, l sessiond.SubjectLimit) updateFunc {
	return func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		c, err := change(func(r *sessiond.Record) { r.Subject = to })(now, r)
		c.Limit = l
		return c, err
	}
}

func limitBind(t *tester) {
	t.create("s1", limit(reject2))
	t.create("guest", subject(""))
	res := t.update(key("guest"), bind("alice", reject2))
	if res.Record.Subject != "alice" || res.Evicted != 0 {
		t.Errorf("subject %q, evicted %d", res.Record.Subject, res.Evicted)
	}
	t.unchanged("after binding", res.Record)
	page := t.page(sessiond.Query{Filter: sessiond.Filter{Subject: "alice"}, Limit: 10})
	if len(page.Records) != 2 {
		t.Errorf("the subject has %d sessions in its list, want 2", len(page.Records))
	}
	_, err := t.store.Create(t.Context(), newCreation("s3", limit(reject2)))
	t.wantErr("Create after a bound session", err, sessiond.ErrLimit)
	t.update(key("guest"), revoke(""))
	t.create("s3", limit(reject2))
}

func limitBindReject(t *tester) {
	t.spaced([]string{"s1", "s2"})
	guest := t.create("guest", subject("")).Record
	f := t.follow(tenant)
	_, err := t.store.Update(t.Context(), key("guest"), bind("alice", reject2))
	t.wantErr("binding over the limit", err, sessiond.ErrLimit)
	t.unchanged("after the refused binding", guest)
	f.want()
	// A session that has its subject is not a new one.
	t.update(key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		c, err := bump()(now, r)
		c.Limit = sessiond.SubjectLimit{Max: 1}
		return c, err
	})
}

func limitBindEvict(t *tester) {
	t.spaced([]string{"guest"}, subject(""))
	t.spaced([]string{"s1", "s2"})
	f := t.follow(tenant)
	res := t.update(key("guest"), bind("alice", evict2))
	if res.Evicted != 1 {
		t.Errorf("Evicted = %d, want 1", res.Evicted)
	}
	if r := t.get(key("guest")).Record; !r.EndedAt.IsZero() {
		t.Error("binding ended the session itself, the oldest")
	}
	evicted := t.get(key("s1")).Record
	if evicted.EndReason != sessiond.EndLimit || evicted.EndedBy != evict2.By {
		t.Errorf("s1 ended with %q by %v", evicted.EndReason, evicted.EndedBy)
	}
	t.get(key("s2"))
	events := bySession(f.drain())
	if len(events) != 2 || len(events["s1"]) != 1 || events["s1"][0] != evicted.EndEvent("third") {
		t.Errorf("events: %+v", events)
	}
	t.active(tenant, 3) // guest, s2 and the marker of the feed
}
