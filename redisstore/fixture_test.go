package redisstore_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

const tenant = "acme"

func key(id string) sessiond.Key { return sessiond.Key{Tenant: tenant, ID: sessiond.ID(id)} }

// session is a creation with an hour to live.
func session(id, subject string) sessiond.Creation {
	r := &sessiond.Record{
		Key: key(id), Subject: subject, Version: 1, Labels: map[string]string{"device": "phone"},
		Data: []byte("sealed data of " + id), DataKey: 7, IdleTimeout: 30 * time.Minute,
	}
	rand.Read(r.Incarnation[:])
	rand.Read(r.TokenHash[:])
	return sessiond.Creation{Record: r, Lifetime: time.Hour, RequestID: "create-" + id}
}

func create(t testing.TB, s *redisstore.Store, id, subject string) *sessiond.Record {
	t.Helper()
	res, err := s.Create(t.Context(), session(id, subject))
	if err != nil {
		t.Fatalf("Create of %s: %v", id, err)
	}
	return res.Record
}

func get(t testing.TB, s *redisstore.Store, id string) *sessiond.Record {
	t.Helper()
	res, err := s.Get(t.Context(), key(id))
	if err != nil {
		t.Fatalf("Get of %s: %v", id, err)
	}
	return res.Record
}

type updateFunc = func(time.Time, *sessiond.Record) (sessiond.Change, error)

func bump(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.Version++
	r.UpdatedAt = now
	e := r.Event(sessiond.EventUpdated, sessiond.Actor{}, "")
	return sessiond.Change{Event: &e}, nil
}

func revoke(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
	r.End(now, sessiond.EndRevoked, "", sessiond.Actor{})
	e := r.EndEvent("")
	return sessiond.Change{Event: &e}, nil
}

func bindTo(subject string, max int) updateFunc {
	return func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
		r.Subject = subject
		c, err := bump(now, r)
		c.Limit.Max = max
		return c, err
	}
}

func update(t testing.TB, s *redisstore.Store, id string, fn updateFunc) *sessiond.Record {
	t.Helper()
	res, err := s.Update(t.Context(), key(id), fn)
	if err != nil {
		t.Fatalf("Update of %s: %v", id, err)
	}
	return res.Record
}

// list is the IDs of a subject's sessions, sorted.
func list(t testing.TB, s *redisstore.Store, f sessiond.Filter) (ids []string) {
	t.Helper()
	q := sessiond.Query{Tenant: tenant, Filter: f, Limit: 3}
	for {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		for _, r := range page.Records {
			ids = append(ids, string(r.ID))
		}
		if q.After = page.Next; q.After == nil {
			slices.Sort(ids)
			return ids
		}
	}
}

func sweep(t testing.TB, s *redisstore.Store) (total sessiond.SweepResult) {
	t.Helper()
	for {
		res, err := s.Sweep(t.Context(), sessiond.SweepParams{
			Limit: 100, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 1000,
		})
		if err != nil {
			t.Fatalf("Sweep: %v", err)
		}
		total.Idle += res.Idle
		total.Absolute += res.Absolute
		total.Removed += res.Removed
		if !res.More {
			return total
		}
	}
}

// end is the position of the end of the feed.
func end(t testing.TB, s *redisstore.Store) sessiond.Position {
	t.Helper()
	return batch(t, s, "").Position
}

func batch(t testing.TB, s *redisstore.Store, after sessiond.Position) sessiond.EventBatch {
	t.Helper()
	b, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: after, Limit: 1000})
	if err != nil {
		t.Fatalf("Events: %v", err)
	}
	return b
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%s does not come", what)
		}
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

// do sends a command to the server.
func do(t testing.TB, r *testserver.Redis, command ...string) any {
	t.Helper()
	reply, err := r.Do(command...)
	if err != nil {
		t.Fatalf("%s: %v", command[0], err)
	}
	return reply
}

// keys are the keys of a store, sorted.
func keys(t testing.TB, r *testserver.Redis, prefix string) (keys []string) {
	t.Helper()
	for _, pattern := range []string{prefix + "*", "{" + prefix + "*"} {
		for _, k := range do(t, r, "KEYS", pattern).([]any) {
			keys = append(keys, k.(string))
		}
	}
	slices.Sort(keys)
	return keys
}

// prefixOf is the prefix of a URL made by withPrefix.
func prefixOf(url string) string {
	_, after, _ := strings.Cut(url, "prefix=")
	prefix, _, _ := strings.Cut(after, "&")
	return prefix
}

func ids(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("s%02d", i))
	}
	return ids
}
