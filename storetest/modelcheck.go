package storetest

import (
	"maps"

	"sessiond.example/sessiond"
)

// query chooses a filter, a limit and a place to begin.
func (m *model) query() sessiond.Query {
	q := sessiond.Query{Tenant: pick(m, modelTenants...), Limit: 1 + m.rng.IntN(5)}
	f := &q.Filter
	if m.rng.IntN(2) == 0 {
		f.Subject = pick(m, modelSubjects...)
	}
	if m.rng.IntN(3) == 0 {
		f.Labels = map[string]string{"k": pick(m, modelLabels...)}
	}
	f.Status = pick(m, "", "", sessiond.StatusActive, sessiond.StatusExpired, sessiond.StatusRevoked)
	f.ActiveOnly = m.rng.IntN(5) == 0
	if m.rng.IntN(4) == 0 {
		f.CreatedAfter = m.refNow.Add(-pick(m, ms, sec, mins, hour))
	}
	if m.rng.IntN(4) == 0 {
		f.CreatedBefore = m.refNow.Add(-pick(m, 0, 1, ms, sec, mins))
	}
	if m.rng.IntN(4) == 0 {
		f.ExpiresBefore = m.refNow.Add(pick(m, 0, ms, mins, hour))
	}
	if m.rng.IntN(3) == 0 {
		q.After = &sessiond.Cursor{CreatedAt: m.refNow.Add(-pick(m, 0, ms, sec, mins)), ID: pick(m, modelIDs...)}
	}
	return q
}

// list reads all pages of both stores side by side. The two may see the end at
// different pages, but there is nothing in the pages that only one has.
func (m *model) list(q sessiond.Query) {
	m.note("list %+v", q)
	ours, theirs := q, q
	for first := true; first || ours.After != nil || theirs.After != nil; first = false {
		var got, want sessiond.Page
		var err error
		if first || ours.After != nil {
			if got, err = m.store.List(m.t.Context(), ours); err != nil {
				m.fatalf("List: %v", err)
			}
			m.refNow = got.Now
			ours.After = got.Next
		}
		if first || theirs.After != nil {
			if want, err = m.ref.List(m.t.Context(), theirs); err != nil {
				m.fatalf("List of the reference: %v", err)
			}
			theirs.After = want.Next
		}
		if diff := difference(want.Records, got.Records); diff != "" {
			m.fatalf("page differs (-want +got):\n%s", diff)
		}
	}
}

func (m *model) events(s sessiond.Store, q sessiond.EventQuery) sessiond.EventBatch {
	m.t.Helper()
	batch, err := s.Events(m.t.Context(), q)
	if err != nil {
		m.fatalf("Events: %v", err)
	}
	return batch
}

// refEvents is what the reference has after a position.
func (m *model) refEvents(q sessiond.EventQuery) (events []sessiond.Event, reset bool, at sessiond.Position) {
	for {
		batch := m.events(m.ref, q)
		events = append(events, batch.Events...)
		reset = reset || batch.Reset
		q.After = batch.Position
		if len(batch.Events) == 0 {
			return events, reset, q.After
		}
	}
}

// storeEvents waits until the store has shown n events.
func (m *model) storeEvents(q sessiond.EventQuery, n int) (events []sessiond.Event, reset bool, at sessiond.Position) {
	for {
		q.Wait = 0
		if len(events) < n {
			q.Wait = patience()
		}
		batch := m.events(m.store, q)
		events = append(events, batch.Events...)
		reset = reset || batch.Reset
		q.After = batch.Position
		if len(batch.Events) == 0 {
			return events, reset, q.After
		}
	}
}

// compareEvents reads what is new in the feeds. Only the order of events of one
// session is promised.
func (m *model) compareEvents() {
	m.t.Helper()
	for tenant, f := range m.feeds {
		want, refReset, refAt := m.refEvents(sessiond.EventQuery{Tenant: tenant, After: f.refAt, Limit: 100})
		got, reset, at := m.storeEvents(sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 100}, len(want))
		if reset || refReset {
			m.fatalf("Reset, though all events were read: %t, reference %t", reset, refReset)
		}
		if diff := difference(bySession(want), bySession(got)); diff != "" {
			m.fatalf("events of %s differ (-want +got):\n%s", tenant, diff)
		}
		f.at, f.refAt = at, refAt
	}
}

// replay reads a feed again from the beginning, or from no valid place, in
// batches of random size.
func (m *model) replay() {
	tenant := pick(m, modelTenants...)
	f := *m.feeds[tenant]
	if m.rng.IntN(2) == 0 {
		f.start, f.refStart = "malformed", "malformed"
	}
	limit := 1 + m.rng.IntN(7)
	m.note("events of %s after %q, limit %d", tenant, f.start, limit)
	want, refReset, _ := m.refEvents(sessiond.EventQuery{Tenant: tenant, After: f.refStart, Limit: limit})
	got, reset, _ := m.storeEvents(sessiond.EventQuery{Tenant: tenant, After: f.start, Limit: limit}, len(want))
	if reset != refReset {
		m.fatalf("Reset is %t, want %t", reset, refReset)
	}
	if diff := difference(bySession(want), bySession(got)); diff != "" {
		m.fatalf("events of %s differ (-want +got):\n%s", tenant, diff)
	}
}

// compareAll compares everything that there is.
func (m *model) compareAll() {
	m.t.Helper()
	for _, tenant := range modelTenants {
		m.list(sessiond.Query{Tenant: tenant, Limit: 3})
		for _, id := range modelIDs {
			k := sessiond.Key{Tenant: tenant, ID: id}
			m.note("get %v", k)
			got, err := m.store.Get(m.t.Context(), k)
			m.at(got)
			want, wantErr := m.ref.Get(m.t.Context(), k)
			m.compare(got, err, want, wantErr)
		}
	}
	got, err := m.store.Stats(m.t.Context())
	if err != nil {
		m.fatalf("Stats: %v", err)
	}
	want, err := m.ref.Stats(m.t.Context())
	if err != nil {
		m.fatalf("Stats of the reference: %v", err)
	}
	isZero := func(_ string, n int64) bool { return n == 0 }
	maps.DeleteFunc(got.Active, isZero)
	maps.DeleteFunc(want.Active, isZero)
	if diff := difference(want.Active, got.Active); diff != "" {
		m.fatalf("active sessions differ (-want +got):\n%s", diff)
	}
	if diff := difference(want.DataKeys, got.DataKeys); diff != "" {
		m.fatalf("records by data key differ (-want +got):\n%s", diff)
	}
	m.walk(1 + m.rng.IntN(8))
}

// walk compares all records, in steps of limit.
func (m *model) walk(limit int) {
	m.note("scan in steps of %d", limit)
	var after sessiond.Key
	for {
		got, err := m.store.Scan(m.t.Context(), after, limit)
		if err != nil {
			m.fatalf("Scan after %v: %v", after, err)
		}
		m.follow()
		want, err := m.ref.Scan(m.t.Context(), after, limit)
		if err != nil {
			m.fatalf("Scan of the reference: %v", err)
		}
		keys := func(records []*sessiond.Record) (all []sessiond.Key) {
			for _, r := range records {
				all = append(all, r.Key)
			}
			return all
		}
		if diff := difference(keys(want), keys(got)); diff != "" {
			m.fatalf("Scan after %v differs (-want +got):\n%s", after, diff)
		}
		if len(got) < limit {
			return
		}
		after = got[limit-1].Key
	}
}
