package sessiond_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
)

// keys is a sealer whose keyset a test can change.
type keys struct{ *keyset.Keyset }

// opened is a manager with a real keyset, over an empty store.
func opened(t *testing.T) (*sessiond.Manager, sessiond.Store, *keys) {
	t.Helper()
	first, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	k := &keys{first}
	store := memstore.New(memstore.Options{})
	t.Cleanup(func() { store.Close() })
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: k})
	if err != nil {
		t.Fatal(err)
	}
	return m, store, k
}

// addKey adds a key to the keyset and makes it primary.
func (k *keys) addKey(t *testing.T) {
	t.Helper()
	more, id, err := k.Add()
	if err != nil {
		t.Fatal(err)
	}
	if k.Keyset, err = more.Promote(id); err != nil {
		t.Fatal(err)
	}
}

func TestReencrypt(t *testing.T) {
	m, store, k := opened(t)
	first := k.Primary()
	const n = 1200 // more than two batches
	before := make(map[sessiond.ID]*sessiond.Session)
	for i := range n {
		tenant := m.As(fmt.Sprintf("tenant-%d", i%3), sessiond.Actor{})
		s, _, err := tenant.Create(t.Context(), sessiond.CreateParams{
			ID: sessiond.ID(fmt.Sprintf("s%d", i)), Data: jsontext.Value(fmt.Sprintf(`{"n":%d}`, i)),
		})
		if err != nil {
			t.Fatal(err)
		}
		before[s.ID] = s
	}
	if err := m.As("tenant-0", sessiond.Actor{}).Revoke(t.Context(), "s0", sessiond.RevokeParams{}); err != nil {
		t.Fatal(err)
	}
	end := position(t, store)
	k.addKey(t)

	reports := 0
	p, err := m.Reencrypt(t.Context(), sessiond.WalkParams{Pace: 1 << 30, Report: func(sessiond.Progress) { reports++ }})
	if err != nil || p.Seen != n || p.Changed != n-1 || p.Failed != 0 {
		t.Fatalf("Reencrypt: %+v, %v; want all of %d but the ended one changed", p, err, n)
	}
	if reports != 3 {
		t.Errorf("progress was reported %d times, want once for each of 3 batches", reports)
	}
	stats, err := store.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.DataKeys[first] != 0 || stats.DataKeys[k.Primary()] != n-1 {
		t.Errorf("records by key are %v, want all under %d", stats.DataKeys, k.Primary())
	}
	for id, want := range before {
		if id == "s0" {
			continue
		}
		got, err := m.As(want.Tenant, sessiond.Actor{}).Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Data) != string(want.Data) || got.ETag != want.ETag || !got.UpdatedAt.Equal(want.UpdatedAt) {
			t.Fatalf("%s changed: %+v, was %+v", id, got, want)
		}
	}
	if now := position(t, store); now != end {
		t.Errorf("the feed moved from %s to %s", end, now)
	}
	if p, err := m.Reencrypt(t.Context(), sessiond.WalkParams{}); err != nil || p.Changed != 0 {
		t.Errorf("a second run changed something: %+v, %v", p, err)
	}
}

// position is the end of the feed.
func position(t *testing.T, store sessiond.Store) sessiond.Position {
	t.Helper()
	batch, err := store.Events(t.Context(), sessiond.EventQuery{Tenant: "x", Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	return batch.Position
}

// A record that can't be opened is counted and left alone; the others go on.
func TestReencryptUnreadable(t *testing.T) {
	m, store, k := opened(t)
	for _, id := range []sessiond.ID{"a", "b", "c"} {
		if _, _, err := m.Create(t.Context(), sessiond.CreateParams{ID: id, Data: jsontext.Value(`{"x":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := store.Update(t.Context(), sessiond.Key{Tenant: "default", ID: "b"},
		func(_ time.Time, r *sessiond.Record) (sessiond.Change, error) {
			r.Data = append([]byte(nil), r.Data...)
			r.Data[len(r.Data)-1] ^= 1
			return sessiond.Change{}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	k.addKey(t)
	p, err := m.Reencrypt(t.Context(), sessiond.WalkParams{})
	if err != nil || p.Changed != 2 || p.Failed != 1 || p.Seen != 3 {
		t.Errorf("Reencrypt: %+v, %v; want 2 changed and 1 failed", p, err)
	}
}

// A walk that was cut off goes on where it ended.
func TestWalkResumes(t *testing.T) {
	m, _, k := opened(t)
	for i := range 10 {
		p := sessiond.CreateParams{ID: sessiond.ID(fmt.Sprintf("s%d", i)), Data: jsontext.Value(`{"x":1}`)}
		if _, _, err := m.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	k.addKey(t)
	after := sessiond.Key{Tenant: "default", ID: "s6"}
	p, err := m.Reencrypt(t.Context(), sessiond.WalkParams{After: after})
	if err != nil || p.Seen != 3 || p.Changed != 3 || p.After.ID != "s9" {
		t.Errorf("a walk from %v: %+v, %v; want the 3 sessions after it", after, p, err)
	}
}

func TestFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store, _ := opened(t)
		create := func(tenant string, id sessiond.ID) *sessiond.Session {
			s, _, err := m.As(tenant, sessiond.Actor{}).Create(t.Context(), sessiond.CreateParams{ID: id})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		create("default", "old")
		create("other", "old")
		time.Sleep(time.Second)
		border := create("default", "border")

		p, err := m.As("default", sessiond.Actor{Sub: "operator"}).Fence(t.Context(), sessiond.FenceParams{
			Before: border.CreatedAt, Reason: sessiond.EndRestored, Note: "backup of yesterday",
		})
		if err != nil || p.Seen != 3 || p.Changed != 2 {
			t.Fatalf("Fence: %+v, %v; want 2 of 3 ended", p, err)
		}
		for _, tenant := range []string{"default", "other"} {
			res, err := store.Get(t.Context(), sessiond.Key{Tenant: tenant, ID: "old"})
			if err != nil {
				t.Fatal(err)
			}
			if r := res.Record; r.EndReason != sessiond.EndRestored || r.EndNote != "backup of yesterday" || r.EndedBy.Sub != "operator" {
				t.Errorf("%s: ended with %s by %v, note %q", tenant, r.EndReason, r.EndedBy, r.EndNote)
			}
		}
		if _, err := m.Get(t.Context(), "border"); err != nil {
			t.Errorf("the session that was created at the time is gone: %v", err)
		}
	})
}

func TestFenceRefuses(t *testing.T) {
	m, _, _ := opened(t)
	for name, p := range map[string]sessiond.FenceParams{
		"no time":    {},
		"odd reason": {Before: time.Now(), Reason: sessiond.EndLimit},
		"odd note":   {Before: time.Now(), Note: "a\nb"},
	} {
		if _, err := m.Fence(t.Context(), p); !errors.Is(err, sessiond.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
