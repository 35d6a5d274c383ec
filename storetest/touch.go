package storetest

import (
	"crypto/rand"
	"time"

	"sessiond.example/sessiond"
)

// touching is the recording of activity.
var touching = []test{
	{"present", touchPresent},
	{"given-time", touchGivenTime},
	{"future", touchFuture},
	{"past", touchPast},
	{"precision", touchPrecision},
	{"incarnation", touchIncarnation},
	{"unknown", touchUnknown},
	{"ended", touchEnded},
	{"late", touchLate},
	{"absolute-deadline", touchAbsoluteDeadline},
	{"no-idle-timeout", touchWithoutIdleTimeout},
	{"then-update", touchThenUpdate},
}

// touchAt touches s1 at a time and checks that nothing but the last activity
// is new, and which it is: want, or the present when want is zero.
func (t *tester) touchAt(at, want time.Time) {
	t.Helper()
	expected := clone(t.get(key("s1")).Record)
	res, err := t.store.Touch(t.Context(), key("s1"), anyIncarnation, at)
	if err != nil {
		t.Fatalf("Touch at %v: %v", at, err)
	}
	expected.LastActiveAt = want
	if want.IsZero() {
		expected.LastActiveAt = res.Now
	}
	t.same("Touch", res.Record, expected)
	t.unchanged("Get after Touch", expected)
}

func touchPresent(t *tester) {
	t.create("s1", idle(10*mins))
	f := t.follow(tenant)
	for range 3 {
		t.advance(5 * mins)
		t.touchAt(time.Time{}, time.Time{})
	}
	f.want() // no event
	t.active(tenant, 2)
}

func touchGivenTime(t *tester) {
	created := t.create("s1", idle(10*mins)).Now
	t.advance(5 * mins)
	t.touchAt(created.Add(3*mins), created.Add(3*mins))
	t.touchAt(created.Add(3*mins+ms), created.Add(3*mins+ms))
}

func touchFuture(t *tester) {
	created := t.create("s1", idle(10*mins)).Now
	t.advance(mins)
	t.touchAt(created.Add(9*mins), time.Time{})
	t.touchAt(created.Add(1000*hour), time.Time{})
}

func touchPast(t *tester) {
	t.create("s1", idle(10*mins))
	t.advance(5 * mins)
	last := t.touch(key("s1")).Record.LastActiveAt
	t.advance(mins)
	t.touchAt(last, last)
	t.touchAt(last.Add(-ms), last)
	t.touchAt(last.Add(-hour), last)
	t.touchAt(time.Unix(0, 0), last)
}

func touchPrecision(t *tester) {
	created := t.create("s1", idle(10*mins)).Now
	t.advance(5 * mins)
	at := created.Add(2*mins + 700*time.Microsecond).In(time.FixedZone("east", 2*60*60))
	t.touchAt(at, created.Add(2*mins))
}

func touchIncarnation(t *tester) {
	r := t.create("s1", idle(10*mins)).Record
	t.advance(mins)
	var other sessiond.Incarnation
	rand.Read(other[:])
	_, err := t.store.Touch(t.Context(), key("s1"), other, time.Time{})
	t.wantErr("Touch of another incarnation", err, sessiond.ErrNotFound)
	t.unchanged("after Touch of another incarnation", r)
	res, err := t.store.Touch(t.Context(), key("s1"), r.Incarnation, time.Time{})
	if err != nil || !res.Record.LastActiveAt.Equal(res.Now) {
		t.Errorf("Touch of the right incarnation: %v, last activity %v", err, res.Record.LastActiveAt)
	}
}

func touchUnknown(t *tester) {
	t.create("s1")
	for _, k := range []sessiond.Key{key("s2"), {Tenant: "other", ID: "s1"}} {
		_, err := t.store.Touch(t.Context(), k, anyIncarnation, time.Time{})
		t.wantErr("Touch of an unknown session", err, sessiond.ErrNotFound)
		t.gone(k)
	}
}

func touchEnded(t *tester) {
	t.create("s1")
	t.update(key("s1"), revoke("stolen"))
	before := t.get(key("s1")).Record
	f := t.follow(tenant)
	t.advance(sec)
	for _, inc := range []sessiond.Incarnation{anyIncarnation, before.Incarnation} {
		res, err := t.store.Touch(t.Context(), key("s1"), inc, time.Time{})
		t.wantEnded("Touch of a revoked session", res, err, sessiond.EndRevoked)
		t.same("record with ErrEnded", res.Record, before)
	}
	t.unchanged("after Touch of a revoked session", before)
	t.active(tenant, 0)
	f.want()
}

// touchLate records activity from before the deadline after it.
func touchLate(t *tester) {
	created := t.create("s1", idle(mins)).Now
	t.create("s2", lifetime(mins), idle(30*mins))
	t.advance(2 * mins)
	check := func(id string, reason sessiond.EndReason) {
		t.Helper()
		before := t.get(key(id)).Record
		res, err := t.store.Touch(t.Context(), key(id), anyIncarnation, created.Add(30*sec))
		t.wantEnded("late Touch of "+id, res, err, reason)
		t.same("record with ErrEnded", res.Record, before)
		t.unchanged("after a late Touch", before)
	}
	for range 2 { // before and after the sweeper has seen it
		check("s1", sessiond.EndIdle)
		check("s2", sessiond.EndAbsolute)
		t.sweep(keepAll())
	}
}

func touchAbsoluteDeadline(t *tester) {
	created := t.create("s1", idle(10*mins), lifetime(15*mins)).Record
	t.advance(8 * mins)
	res := t.touch(key("s1"))
	if !res.Record.ExpiresAt.Equal(created.ExpiresAt) || !res.Record.Deadline().Equal(created.ExpiresAt) {
		t.Errorf("Touch moved the absolute deadline from %v to %v", created.ExpiresAt, res.Record.ExpiresAt)
	}
	t.advance(7 * mins)
	res, err := t.store.Touch(t.Context(), key("s1"), anyIncarnation, time.Time{})
	t.wantEnded("Touch at the absolute deadline", res, err, sessiond.EndAbsolute)
}

func touchWithoutIdleTimeout(t *tester) {
	t.create("s1")
	t.advance(5 * mins)
	t.touchAt(time.Time{}, time.Time{})
}

func touchThenUpdate(t *tester) {
	t.create("s1", idle(10*mins))
	t.advance(5 * mins)
	touched := t.touch(key("s1")).Record
	t.advance(mins)
	res := t.update(key("s1"), change(func(r *sessiond.Record) {
		if !r.LastActiveAt.Equal(touched.LastActiveAt) {
			t.Errorf("fn sees the last activity at %v, want %v", r.LastActiveAt, touched.LastActiveAt)
		}
	}))
	if !res.Record.LastActiveAt.Equal(touched.LastActiveAt) {
		t.Errorf("the last activity is %v after an update, want %v", res.Record.LastActiveAt, touched.LastActiveAt)
	}
	t.unchanged("after Touch and Update", res.Record)
}
