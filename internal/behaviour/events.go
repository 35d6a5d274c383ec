package behaviour

import (
	"context"
	"iter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sessiond.example/sessiond"
)

// collect reads n events.
func (t *tester) collect(
	next func() (sessiond.EventBatch, error, bool), n int,
) (all []sessiond.Event, last sessiond.Position) {
	t.Helper()
	for len(all) < n {
		b, err, ok := next()
		if err != nil || !ok || b.Position == "" {
			t.Fatalf("after %d events: %+v, %v", len(all), b, err)
		}
		all, last = append(all, b.Events...), b.Position
	}
	return all, last
}

func events(t *tester) {
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	next, stop := iter.Pull2(t.s.Events(ctx, sessiond.EventParams{}))
	defer stop()
	first, err, ok := next()
	if err != nil || !ok || len(first.Events) > 0 || first.Position == "" || first.Reset {
		t.Fatalf("first batch: %+v, %v", first, err)
	}
	s, _ := t.created(sessiond.CreateParams{ID: "s", Subject: "alice"})
	named := sessiond.WithRequestID(t.ctx, "request-1")
	if _, err := t.s.Patch(named, "s", sessiond.PatchParams{Patch: jsontext.Value(`{"data":{"a":1}}`)}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := t.s.Rotate(t.ctx, "s", sessiond.RotateParams{}); err != nil {
		t.Fatal(err)
	}
	t.created(sessiond.CreateParams{ID: "other", Subject: "bob"})
	t.end("s", sessiond.RevokeParams{Reason: sessiond.EndLogout, Note: "bye"})
	got, last := t.collect(next, 5)
	event := func(typ sessiond.EventType, version int64) sessiond.Event {
		return sessiond.Event{Type: typ, SessionID: "s", Subject: "alice", Version: version, Actor: by()}
	}
	want := []sessiond.Event{
		event(sessiond.EventCreated, 1), event(sessiond.EventUpdated, 2), event(sessiond.EventRotated, 3),
		{Type: sessiond.EventCreated, SessionID: "other", Subject: "bob", Version: 1, Actor: by()},
		event(sessiond.EventRevoked, 4),
	}
	want[4].Reason, want[4].Note = sessiond.EndLogout, "bye"
	if got[1].RequestID != "request-1" {
		t.Errorf("the request id is %q", got[1].RequestID)
	}
	loose := cmpopts.IgnoreFields(sessiond.Event{}, "ID", "Time", "Tenant", "RequestID")
	if diff := cmp.Diff(want, got, loose); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, e := range got {
		if e.ID == "" || e.Time.Before(s.CreatedAt) {
			t.Errorf("%+v", e)
		}
	}
	stop()

	// From the beginning again, and from the middle on with filters.
	resume := func(p sessiond.EventParams, n int) []sessiond.Event {
		next, stop := iter.Pull2(t.s.Events(ctx, p))
		defer stop()
		all, _ := t.collect(next, n)
		return all
	}
	if diff := cmp.Diff(got, resume(sessiond.EventParams{After: first.Position}, 5)); diff != "" {
		t.Errorf("again:\n%s", diff)
	}
	if diff := cmp.Diff(got[4:], resume(sessiond.EventParams{
		After: first.Position, Subject: "alice", Types: []sessiond.EventType{sessiond.EventRevoked, sessiond.EventErased},
	}, 1)); diff != "" {
		t.Errorf("filtered:\n%s", diff)
	}
	t.end("other", sessiond.RevokeParams{})
	rest := resume(sessiond.EventParams{After: last}, 1)
	if rest[0].SessionID != "other" || rest[0].Type != sessiond.EventRevoked {
		t.Errorf("resumed: %+v", rest)
	}
	for b, err := range t.s.Events(ctx, sessiond.EventParams{After: "nonsense"}) {
		if err != nil || !b.Reset {
			t.Errorf("a position that says nothing: %+v, %v", b, err)
		}
		break
	}
	ended, end := context.WithCancel(t.ctx)
	next, stop = iter.Pull2(t.s.Events(ended, sessiond.EventParams{}))
	defer stop()
	if _, err, _ := next(); err != nil {
		t.Fatal(err)
	}
	end()
	for range 3 { // an empty batch may be on its way
		if _, err, ok = next(); err != nil || !ok {
			break
		}
	}
	t.fails("events after the end of the context", err, context.Canceled)
}
