package storetest

import (
	"fmt"
	"testing"

	"sessiond.example/sessiond"
)

// A feed follows the events of a tenant from the place where it was made.
type feed struct {
	t      *tester
	tenant string
	at     sessiond.Position
}

func (t *tester) follow(tenant string) *feed {
	t.Helper()
	batch := t.events(sessiond.EventQuery{Tenant: tenant, Limit: 10})
	if batch.Position == "" {
		t.Fatal("Events without a position gives none")
	}
	return &feed{t, tenant, batch.Position}
}

func (t *tester) events(q sessiond.EventQuery) sessiond.EventBatch {
	t.Helper()
	batch, err := t.store.Events(t.Context(), q)
	if err != nil {
		t.Fatalf("Events(%+v): %v", q, err)
	}
	if len(batch.Events) > q.Limit {
		t.Fatalf("Events: %d events in a batch with limit %d", len(batch.Events), q.Limit)
	}
	return batch
}

// take waits for the next n events.
func (f *feed) take(n int) []sessiond.Event {
	f.t.Helper()
	var events []sessiond.Event
	for len(events) < n {
		q := sessiond.EventQuery{Tenant: f.tenant, After: f.at, Limit: n - len(events), Wait: patience()}
		batch := f.t.events(q)
		switch {
		case batch.Reset:
			f.t.Fatalf("unexpected Reset after %d events", len(events))
		case len(batch.Events) == 0:
			f.t.Fatalf("only %d of %d events came: %v", len(events), n, events)
		}
		events = append(events, batch.Events...)
		f.at = batch.Position
	}
	return events
}

// drain is all events since the last call. It creates one more session to know
// when they are all there, so that it also sees that there are none.
func (f *feed) drain() []sessiond.Event {
	f.t.Helper()
	marker := sessiond.ID(fmt.Sprintf("marker-%d", f.t.markers.Add(1)))
	f.t.create(string(marker), inTenant(f.tenant), subject(""), lifetime(1000*hour))
	var events []sessiond.Event
	q := sessiond.EventQuery{Tenant: f.tenant, Limit: 7, Wait: patience()}
	for {
		q.After = f.at
		batch := f.t.events(q)
		f.at = batch.Position
		switch {
		case batch.Reset:
			f.t.Fatalf("unexpected Reset after %d events", len(events))
		case len(batch.Events) > 0:
		case q.Wait == 0:
			return events
		default:
			f.t.Fatalf("the event of a new session did not come, only %v", events)
		}
		for _, e := range batch.Events {
			if e.SessionID != marker {
				events = append(events, e)
				continue
			}
			q.Wait = 0 // it was the last, unless another came out of turn
		}
	}
}

// want checks that the events since the last call are these.
func (f *feed) want(want ...sessiond.Event) {
	f.t.Helper()
	if diff := difference(want, f.drain()); diff != "" {
		f.t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

// bySession orders events by session, keeping the order within each.
func bySession(events []sessiond.Event) map[sessiond.ID][]sessiond.Event {
	m := make(map[sessiond.ID][]sessiond.Event)
	for _, e := range events {
		m[e.SessionID] = append(m[e.SessionID], e)
	}
	return m
}

// checkOrder checks that the events have different IDs and that those of each
// session, which had one incarnation only, are in order of version.
func checkOrder(t testing.TB, events []sessiond.Event) {
	t.Helper()
	ids := make(map[string]bool)
	last := make(map[sessiond.Key]int64)
	for _, e := range events {
		if ids[e.ID] {
			t.Errorf("event %s of %s came twice", e.ID, e.SessionID)
		}
		ids[e.ID] = true
		k := sessiond.Key{Tenant: e.Tenant, ID: e.SessionID}
		if e.Version <= last[k] {
			t.Errorf("event of version %d of %s came after that of version %d", e.Version, e.SessionID, last[k])
		}
		last[k] = e.Version
	}
}
