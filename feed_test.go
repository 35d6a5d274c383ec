package sessiond_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
)

func TestEventsOfALife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		actor := sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "web"}
		e := newEnv(t).as("shop", actor)
		e.ctx = sessiond.WithRequestID(e.ctx, "req-1")
		from, start := e.position(), time.Now()
		_, token := e.create(sessiond.CreateParams{ID: "s", Data: data(`{"top":"secret"}`)})
		if _, err := e.patch("s", `{"data":{"more":"secret"}}`); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Touch(e.ctx, "s"); err != nil {
			t.Fatal(err)
		}
		_, second := e.rotate("s", sessiond.RotateParams{Subject: "alice"})
		e.revoke("s", sessiond.RevokeParams{Reason: sessiond.EndLogout, Note: "bye"})
		e.revoke("s", sessiond.RevokeParams{Erase: true})
		got := e.wantTypes(from, sessiond.EventCreated, sessiond.EventUpdated, sessiond.EventRotated,
			sessiond.EventRevoked, sessiond.EventErased)
		seen := map[string]bool{}
		for i, ev := range got {
			want := sessiond.Event{
				ID: ev.ID, Type: ev.Type, Time: start.UTC(), Tenant: "shop", SessionID: "s", Version: int64(i + 1),
				Actor: sessiond.Actor{Sub: "svc", Client: "web"}, RequestID: "req-1",
			}
			if i >= 2 {
				want.Subject = "alice"
			}
			if i >= 3 {
				want.Reason = sessiond.EndLogout
			}
			if i == 3 {
				want.Note = "bye"
			}
			if diff := cmp.Diff(want, ev); diff != "" {
				t.Errorf("event %d (-want +got):\n%s", i, diff)
			}
			if seen[ev.ID] {
				t.Errorf("id %s twice", ev.ID)
			}
			seen[ev.ID] = true
			text := fmt.Sprintf("%#v", ev)
			for _, secret := range []string{"secret", string(token), string(second)} {
				if strings.Contains(text, secret) {
					t.Errorf("event %d shows a secret", i)
				}
			}
		}
		if diff := cmp.Diff(got, e.since(from)); diff != "" {
			t.Errorf("delivered again, the events differ:\n%s", diff)
		}
	})
}

// TestEventsResume follows with a reader that leaves after every batch while
// writers go on.
func TestEventsResume(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	from := e.position()
	const writers, changes = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			id := sessiond.ID(fmt.Sprint("s", w))
			e.create(sessiond.CreateParams{ID: id})
			for i := range changes {
				if _, err := e.patch(id, fmt.Sprintf(`{"data":{"n":%d}}`, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	version := map[sessiond.ID]int64{}
	for n := 0; n < writers*(changes+1); {
		for b, err := range e.Events(e.ctx, sessiond.EventParams{After: from}) {
			if err != nil || b.Reset || len(b.Events) == 0 {
				t.Fatalf("%+v, %v", b, err)
			}
			for _, ev := range b.Events {
				if version[ev.SessionID]++; ev.Version != version[ev.SessionID] {
					t.Fatalf("%s: version %d, want %d", ev.SessionID, ev.Version, version[ev.SessionID])
				}
			}
			n += len(b.Events)
			from = b.Position
			break
		}
	}
	wg.Wait()
	e.wantTypes(from)
}

func TestEventFiltersAndBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		next, stop := iter.Pull2(e.Events(e.ctx, sessiond.EventParams{
			Subject: "alice", Types: []sessiond.EventType{sessiond.EventCreated, sessiond.EventRevoked},
			Heartbeat: 10 * time.Second,
		}))
		defer stop()
		batch := func(after time.Duration, want ...sessiond.ID) {
			t.Helper()
			start := time.Now()
			b, err, ok := next()
			if err != nil || !ok || b.Reset || b.Position == "" {
				t.Fatalf("%+v, %v, %t", b, err, ok)
			}
			if d := time.Since(start); d != after {
				t.Errorf("the batch came after %v, want %v", d, after)
			}
			var got []sessiond.ID
			for _, ev := range b.Events {
				got = append(got, ev.SessionID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("batch (-want +got):\n%s", diff)
			}
		}
		batch(0) // the beginning
		batch(10 * time.Second)
		e.create(sessiond.CreateParams{ID: "a", Subject: "alice"})
		batch(0, "a")

		// What nobody asked for does not put the beat off.
		go func() {
			for i := range 5 {
				time.Sleep(3 * time.Second)
				e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("b", i)), Subject: "bob"})
				e.as("other", sessiond.Actor{}).create(sessiond.CreateParams{Subject: "alice"})
				if _, err := e.patch("a", fmt.Sprintf(`{"data":{"n":%d}}`, i)); err != nil {
					t.Error(err)
				}
			}
			e.revoke("a", sessiond.RevokeParams{})
		}()
		batch(10 * time.Second)
		batch(5*time.Second, "a")
	})
}

func TestEventsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		last := func(p sessiond.EventParams, ctx context.Context) error {
			var last error
			for _, err := range e.Events(ctx, p) {
				last = err
			}
			return last
		}
		wantInvalid(t, "subject", last(sessiond.EventParams{Subject: "\x00"}, e.ctx), "/subject")
		wantInvalid(t, "type", last(sessiond.EventParams{Types: []sessiond.EventType{"session.x"}}, e.ctx), "/type")
		ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
		defer cancel()
		wantErr(t, "patience", last(sessiond.EventParams{}, ctx), context.DeadlineExceeded)
		e.store.FailNth(faultstore.Events, 3, faultstore.Refused)
		wantErr(t, "store away", last(sessiond.EventParams{}, e.ctx), sessiond.ErrUnavailable)
	})
}

// TestEventsReset: a position that says nothing goes on from the oldest event.
func TestEventsReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.EventRetention = time.Minute }))
		old := e.position()
		e.create(sessiond.CreateParams{ID: "gone"})
		defer e.run()()
		time.Sleep(2 * time.Minute)
		e.create(sessiond.CreateParams{ID: "kept"})
		for _, p := range []sessiond.Position{old, "x", "\x00", sessiond.Position(strings.Repeat("0", 32))} {
			for b, err := range e.Events(e.ctx, sessiond.EventParams{After: p}) {
				if err != nil || !b.Reset || len(b.Events) != 1 || b.Events[0].SessionID != "kept" {
					t.Errorf("after %q: %+v, %v", p, b, err)
				}
				break
			}
		}
	})
}
