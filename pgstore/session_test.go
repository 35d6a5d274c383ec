package pgstore_test

import (
	"crypto/rand"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pgstore"
)

const tenant = "acme"

func key(id string) sessiond.Key { return sessiond.Key{Tenant: tenant, ID: sessiond.ID(id)} }

// creation is a session of an hour.
func creation(id string) sessiond.Creation {
	r := &sessiond.Record{
		Key: key(id), Subject: "alice", Labels: map[string]string{"device": "phone"},
		Data: []byte("sealed"), DataKey: 7, Version: 1, IdleTimeout: 30 * time.Minute,
	}
	rand.Read(r.Incarnation[:])
	rand.Read(r.TokenHash[:])
	return sessiond.Creation{Record: r, Lifetime: time.Hour}
}

func create(t testing.TB, s *pgstore.Store, id string) sessiond.Result {
	t.Helper()
	res, err := s.Create(t.Context(), creation(id))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// bump is a change of the version only.
func bump(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.Version++
	r.UpdatedAt = now
	e := r.Event(sessiond.EventUpdated, sessiond.Actor{Sub: "editor"}, "")
	return sessiond.Change{Event: &e}, nil
}

func update(t testing.TB, s *pgstore.Store, id string) {
	t.Helper()
	if _, err := s.Update(t.Context(), key(id), bump); err != nil {
		t.Fatal(err)
	}
}

// end is the position of the end of the feed.
func end(t testing.TB, s *pgstore.Store) sessiond.Position {
	t.Helper()
	return events(t, s, "", 1).Position
}

func events(t testing.TB, s *pgstore.Store, after sessiond.Position, limit int) sessiond.EventBatch {
	t.Helper()
	batch, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: after, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// ids are the sessions of all events after a position, read in batches, and the last position.
func ids(t testing.TB, s *pgstore.Store, after sessiond.Position, limit int) (ids []sessiond.ID, at sessiond.Position) {
	t.Helper()
	for {
		batch := events(t, s, after, limit)
		if batch.Reset {
			t.Fatal("unexpected Reset")
		}
		if after = batch.Position; len(batch.Events) == 0 {
			return ids, after
		}
		for _, e := range batch.Events {
			ids = append(ids, e.SessionID)
		}
	}
}
