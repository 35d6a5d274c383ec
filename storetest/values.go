package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// values is what databases disagree on: case, spaces, normal forms, lengths,
// bytes, times.
var values = []test{
	{"id", valueID},
	{"tenant-and-id", valueTenantAndID},
	{"subject", valueSubject},
	{"label", valueLabel},
	{"largest", valueLargest},
	{"smallest", valueSmallest},
	{"data", valueData},
	{"round-trip", valueRoundTrip},
	{"round-trip-ended", valueRoundTripEnded},
	{"deadlines", valueDeadlines},
	{"event", valueEvent},
}

func valueID(t *tester) {
	names := []string{"a", "A", "aA", "Aa", "a-b", "a.b", "a_b", "a~b", "ab", "a-", "a.", "0", "00", "1e0", "NULL", "a--b"}
	for _, id := range names {
		t.create(id, subject("of "+id))
	}
	for _, id := range names {
		if r := t.get(key(id)).Record; r.ID != sessiond.ID(id) || r.Subject != "of "+id {
			t.Errorf("Get(%q) gives %q of %q", id, r.ID, r.Subject)
		}
	}
	t.update(key("a"), revoke(""))
	t.erase(key("A"))
	for _, id := range names[2:] {
		if r := t.get(key(id)).Record; !r.EndedAt.IsZero() {
			t.Errorf("the end of %q ended %q", "a", id)
		}
	}
}

// valueTenantAndID has pairs that are the same when they are only put together.
func valueTenantAndID(t *tester) {
	keys := []sessiond.Key{
		{Tenant: "a", ID: "b-c"}, {Tenant: "a-b", ID: "c"}, {Tenant: "a", ID: "b.c"}, {Tenant: "ab", ID: "c"},
		{Tenant: "a", ID: "bc"}, {Tenant: "a-", ID: "b-c"}, {Tenant: "a", ID: "a-b-c"},
	}
	for i, k := range keys {
		t.create(string(k.ID), inTenant(k.Tenant), subject(fmt.Sprint("s", i)))
	}
	for i, k := range keys {
		if r := t.get(k).Record; r.Key != k || r.Subject != fmt.Sprint("s", i) {
			t.Errorf("Get(%v) gives %v of %s", k, r.Key, r.Subject)
		}
	}
	t.erase(keys[0])
	t.gone(keys[0])
	for _, k := range keys[1:] {
		t.get(k)
	}
}

// lookalikes differ, though one database or another takes some for the same.
var lookalikes = []string{
	"a", "A", "a ", " a", "ab", "aa", "\u00e9", "e\u0301", "e", "\u00c9", "ss", "\u00df",
	"i", "\u0131", "I", "\u0130", "k", "\u212a", "%", "_", "a%", "a_", "*", "\\", "\\\\", "'", "\"", "a'b",
	"null", "NULL", "0", "00", "1", "1.0", "{}", "{a}", "}", "$1", "-",
	"\u200b", "a\u200b", "\U0001f600", "\U0001f601", "\u4e2d", "a:b", "a|b", "a/b", "a\u00a0", "~", "\ufffd",
}

func valueSubject(t *tester) {
	one := sessiond.SubjectLimit{Max: 1}
	for i, s := range lookalikes {
		t.create(fmt.Sprint("s", i), subject(s), limit(one))
	}
	for i, s := range lookalikes {
		id := fmt.Sprint("s", i)
		if r := t.get(key(id)).Record; r.Subject != s {
			t.Errorf("subject %q came back as %q", s, r.Subject)
		}
		got := ids(t.pages(sessiond.Query{Filter: sessiond.Filter{Subject: s}, Limit: 2}))
		if diff := difference([]string{id}, got); diff != "" {
			t.Errorf("sessions of subject %q (-want +got):\n%s", s, diff)
		}
	}
}

func valueLabel(t *tester) {
	for i, v := range lookalikes {
		t.create(fmt.Sprint("s", i), labels("k", v, "k.1", "x", "k_1", "y"))
	}
	for i, v := range lookalikes {
		f := sessiond.Filter{Labels: map[string]string{"k": v}}
		got := ids(t.pages(sessiond.Query{Filter: f, Limit: 100}))
		if diff := difference([]string{fmt.Sprint("s", i)}, got); diff != "" {
			t.Errorf("sessions with label value %q (-want +got):\n%s", v, diff)
		}
	}
	f := sessiond.Filter{Labels: map[string]string{"k.1": "x", "k_1": "y"}}
	if got := len(t.pages(sessiond.Query{Filter: f, Limit: 100})); got != len(lookalikes) {
		t.Errorf("%d sessions with the common labels, want %d", got, len(lookalikes))
	}
}

// text is n bytes of UTF-8 with characters of every length.
func text(n int) string {
	s := strings.Repeat("\U0001f511\u4e2d\u00e9z", n/10)
	return s + strings.Repeat("x", n-len(s))
}

func valueLargest(t *tester) {
	long := strings.Repeat("t", sessiond.MaxTenant)
	id := strings.Repeat("i", sessiond.MaxIDLength)
	kv := make([]string, 0, 2*sessiond.MaxLabels)
	for i := range sessiond.MaxLabels {
		k := fmt.Sprintf("%02d", i) + strings.Repeat("k", sessiond.MaxLabelKey-2)
		kv = append(kv, k, text(sessiond.MaxText))
	}
	data := bytes.Repeat([]byte{0, 1, 0xff, '"'}, 64<<10/4)
	c := newCreation(id, inTenant(long), subject(text(sessiond.MaxText)), labels(kv...), idle(mins))
	c.Record.Data, c.Record.DataKey = data, 1<<32-1
	c.Record.CreatedBy = sessiond.Actor{Sub: text(sessiond.MaxText), Client: text(sessiond.MaxText)}
	c.RequestID = strings.Repeat("r", 128)
	f := t.follow(long)
	r := clone(t.created(c).Record)
	t.unchanged("largest record", r)
	r = clone(t.update(r.Key, change(func(r *sessiond.Record) { r.PreviousTokenHash = r.TokenHash })).Record)
	t.touch(r.Key)
	q := sessiond.Query{Tenant: long, Limit: 10}
	q.Filter = sessiond.Filter{Subject: r.Subject, Labels: r.Labels}
	if got := t.pages(q); len(got) != 1 || !bytes.Equal(got[0].Data, data) {
		t.Errorf("%d records in the list", len(got))
	}
	r = clone(t.update(r.Key, revoke(text(sessiond.MaxText))).Record)
	t.unchanged("largest ended record", r)
	events := f.drain()
	if len(events) != 3 || events[2] != r.EndEvent("revoke") || events[0].RequestID != c.RequestID {
		t.Errorf("events of the largest record: %+v", events)
	}
	// One byte more or less is another session.
	t.create(id[1:], inTenant(long))
	t.create(id, inTenant(long[1:]))
	t.unchanged("after its neighbours", r)
}

func valueSmallest(t *tester) {
	c := newCreation("s", inTenant("t"), subject(""))
	*c.Record = sessiond.Record{Key: c.Record.Key, Version: 1}
	c.RequestID = ""
	f := t.follow("t")
	r := clone(t.created(c).Record)
	t.unchanged("smallest record", r)
	if len(r.Labels) != 0 || r.Data != nil {
		t.Errorf("labels %v, data %v", r.Labels, r.Data)
	}
	f.want(sessiond.Event{
		ID: sessiond.Incarnation{}.String() + ".1", Type: sessiond.EventCreated, Time: r.CreatedAt,
		Tenant: "t", SessionID: "s", Version: 1,
	})
	r = clone(t.update(r.Key, change(func(r *sessiond.Record) { r.Labels = map[string]string{} })).Record)
	t.unchanged("record with an empty map", r)
}

func valueData(t *tester) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i, data := range [][]byte{
		{0}, {0, 0, 0}, []byte("\x00after"), []byte("before\x00"), every, bytes.Repeat(every, 200), []byte("\xff\xfe"),
		[]byte("'"),
		bytes.Repeat([]byte("a"), 1<<16-1),
	} {
		c := newCreation(fmt.Sprint("s", i))
		c.Record.Data = slices.Clone(data)
		k := t.created(c).Record.Key
		if got := t.get(k).Record.Data; !bytes.Equal(got, data) {
			t.Errorf("data %.20q came back as %.20q (%d bytes)", data, got, len(got))
		}
	}
}

func valueRoundTrip(t *tester) {
	c := newCreation("s1", subject("süß"), idle(90*sec), lifetime(3*hour))
	c.Record.PreviousTokenHash[3] = 1
	c.Record.PreviousTokenUntil = t.now().Add(1234 * ms)
	c.Record.Version = 1<<62 + 1
	r := clone(t.created(c).Record)
	t.unchanged("created", r)
	t.advance(1234 * ms)
	r = clone(t.update(r.Key, change(func(r *sessiond.Record) { r.IdleTimeout = 0 })).Record)
	t.unchanged("updated", r)
	t.same("in a list", t.page(sessiond.Query{Limit: 1}).Records[0], r)
	t.same("touched", t.touch(r.Key).Record, t.get(r.Key).Record)
}

func valueRoundTripEnded(t *tester) {
	for i, reason := range []sessiond.EndReason{
		sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity, sessiond.EndLimit,
		sessiond.EndTokenReuse, sessiond.EndRestored, sessiond.EndIdle, sessiond.EndAbsolute,
	} {
		id := fmt.Sprint("s", i)
		t.create(id)
		t.advance(7 * ms)
		res := t.update(key(id), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
			r.End(now, reason, "note 'of' \U0001f511", sessiond.Actor{Sub: "by \"x\"", Client: "c"})
			e := r.EndEvent("")
			return sessiond.Change{Event: &e}, nil
		})
		t.unchanged("ended with "+string(reason), res.Record)
		t.same("in a list", t.page(sessiond.Query{Limit: 1}).Records[0], res.Record)
	}
}

// valueDeadlines uses the longest and the shortest.
func valueDeadlines(t *tester) {
	const longest = (1<<31 - 1) * sec // 68 years
	long := clone(t.create("long", lifetime(longest), idle(longest)).Record)
	t.advance(ms)
	t.create("short", lifetime(sec), idle(sec))
	t.unchanged("longest", long)
	if want := long.CreatedAt.Add(longest); !long.ExpiresAt.Equal(want) || !long.Deadline().Equal(want) {
		t.Errorf("deadlines are %v and %v, want %v", long.ExpiresAt, long.IdleExpiresAt(), want)
	}
	t.advance(hour)
	t.touch(long.Key)
	if res := t.sweep(keepAll()); res.Absolute != 1 {
		t.Errorf("sweep: %+v", res)
	}
	before := sessiond.Filter{ExpiresBefore: long.ExpiresAt.Add(ms)}
	t.wantList("before the longest deadline", before, "short", "long")
	t.active(tenant, 1)
}

func valueEvent(t *tester) {
	t.create("s1", subject("süß '\"\\ \U0001f511"))
	f := t.follow(tenant)
	var want sessiond.Event
	t.update(key("s1"), func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.Version++
		r.UpdatedAt = now
		want = r.Event(sessiond.EventUpdated, sessiond.Actor{Sub: "a\u00e9", Client: "c\u4e2d"}, "req '\"\\")
		want.Note = "note \U0001f511"
		return sessiond.Change{Event: &want}, nil
	})
	f.want(want)
}
