package pebblestore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

const tenant = "default"

func key(id string) sessiond.Key { return sessiond.Key{Tenant: tenant, ID: sessiond.ID(id)} }

// creation is a session of a subject with an hour to live.
func creation(id, subject string, idle time.Duration) sessiond.Creation {
	r := &sessiond.Record{
		Key: key(id), Subject: subject, Version: 1, IdleTimeout: idle,
		Data: []byte("sealed"), DataKey: 7, Labels: map[string]string{"device": "phone"},
	}
	rand.Read(r.Incarnation[:])
	rand.Read(r.TokenHash[:])
	return sessiond.Creation{Record: r, Lifetime: time.Hour}
}

func create(t *testing.T, s *pebblestore.Store, id, subject string, idle time.Duration) *sessiond.Record {
	t.Helper()
	res, err := s.Create(t.Context(), creation(id, subject, idle))
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return res.Record
}

func get(t *testing.T, s *pebblestore.Store, id string) *sessiond.Record {
	t.Helper()
	res, err := s.Get(t.Context(), key(id))
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return res.Record
}

// change is an update that raises the version.
func change(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.Version++
	r.UpdatedAt = now
	e := r.Event(sessiond.EventUpdated, sessiond.Actor{}, "")
	return sessiond.Change{Event: &e}, nil
}

// revoke is an update that ends the session.
func revoke(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.End(now, sessiond.EndRevoked, "", sessiond.Actor{})
	e := r.EndEvent("")
	return sessiond.Change{Event: &e}, nil
}

func erase(now time.Time, r *sessiond.Record) ([]sessiond.Event, error) {
	c := *r
	c.Version++
	c.UpdatedAt = now
	return []sessiond.Event{c.Event(sessiond.EventErased, sessiond.Actor{}, "")}, nil
}

// keepAll are sweeps that remove nothing.
var keepAll = sessiond.SweepParams{
	Limit: 1000, Retention: 1000 * time.Hour, EventRetention: 1000 * time.Hour, MaxEvents: 1 << 40,
}

// end is the position of the end of the feed.
func end(t *testing.T, s *pebblestore.Store) sessiond.Position {
	t.Helper()
	b, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, Limit: 1})
	if err != nil {
		t.Fatalf("Events: %v", err)
	}
	return b.Position
}

// eventsAfter are all events after a position, which must be kept.
func eventsAfter(ctx context.Context, s *pebblestore.Store, after sessiond.Position) ([]sessiond.Event, error) {
	var all []sessiond.Event
	for {
		b, err := s.Events(ctx, sessiond.EventQuery{Tenant: tenant, After: after, Limit: 500})
		switch {
		case err != nil:
			return nil, err
		case b.Reset:
			return nil, errors.New("the feed was reset")
		case len(b.Events) == 0:
			return all, nil
		}
		all = append(all, b.Events...)
		after = b.Position
	}
}
