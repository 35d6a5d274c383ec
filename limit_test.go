package sessiond_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
)

func TestLimitRejects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxPerSubject = 2 }))
		e.create(sessiond.CreateParams{ID: "a1", Subject: "alice"})
		e.create(sessiond.CreateParams{ID: "a2", Subject: "alice", ExpiresIn: new(time.Minute)})
		from := e.position()
		_, token, err := e.Create(e.ctx, sessiond.CreateParams{ID: "a3", Subject: "alice"})
		wantErr(t, "third session", err, sessiond.ErrLimit)
		if token != "" {
			t.Error("a refused create gave a token")
		}
		_, err = e.Get(e.ctx, "a3")
		wantErr(t, "get of the third", err, sessiond.ErrNotFound)
		e.wantTypes(from)

		// Neither other subjects, guests, other tenants nor the ended count.
		e.create(sessiond.CreateParams{Subject: "Alice"})
		for range 3 {
			e.create(sessiond.CreateParams{})
		}
		e.as("other", sessiond.Actor{}).create(sessiond.CreateParams{Subject: "alice"})
		time.Sleep(time.Minute) // expired, not yet swept
		e.create(sessiond.CreateParams{ID: "a3", Subject: "alice"})
		_, _, err = e.Create(e.ctx, sessiond.CreateParams{ID: "a4", Subject: "alice"})
		wantErr(t, "one too many", err, sessiond.ErrLimit)
		e.revoke("a1", sessiond.RevokeParams{})
		e.create(sessiond.CreateParams{ID: "a4", Subject: "alice"})
	})
}

func TestLimitEvictsTheOldest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxPerSubject, p.EvictOldest = 3, true }))
		by := e.as(sessiond.DefaultTenant, sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "web"})
		for i := range 3 {
			e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("a", i)), Subject: "alice"})
			time.Sleep(time.Second)
		}
		if _, err := e.Touch(e.ctx, "a0"); err != nil { // activity does not make it younger
			t.Fatal(err)
		}
		from := e.position()
		ctx := sessiond.WithRequestID(e.ctx, "req-1")
		if _, _, err := by.Create(ctx, sessiond.CreateParams{ID: "a3", Subject: "alice"}); err != nil {
			t.Fatal(err)
		}
		s := e.ended("a0")
		if s.EndReason != sessiond.EndLimit || s.Status != sessiond.StatusRevoked ||
			s.EndedBy != (sessiond.Actor{Sub: "svc", Client: "web"}) {
			t.Errorf("%+v", s)
		}
		ev := e.wantTypes(from, sessiond.EventRevoked, sessiond.EventCreated)
		if len(ev) == 2 && (ev[0].SessionID != "a0" || ev[0].Reason != sessiond.EndLimit || ev[0].RequestID != "req-1" ||
			ev[0].Actor != s.EndedBy || ev[1].RequestID != "req-1") {
			t.Errorf("%+v", ev)
		}
		active := e.list(sessiond.ListParams{Filter: sessiond.Filter{Subject: "alice", ActiveOnly: true}})
		if len(active) != 3 || active[0].ID != "a3" || active[2].ID != "a1" {
			t.Errorf("%d are left, first %s", len(active), active[0].ID)
		}

		// A smaller limit takes effect with the next create.
		p := e.Policy()
		p.MaxPerSubject = 1
		tight, err := sessiond.New(sessiond.Config{Store: e.store, Sealer: sessiond.NoSealing{}, Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tight.Create(e.ctx, sessiond.CreateParams{ID: "a4", Subject: "alice"}); err != nil {
			t.Fatal(err)
		}
		active = e.list(sessiond.ListParams{Filter: sessiond.Filter{Subject: "alice", ActiveOnly: true}})
		if len(active) != 1 || active[0].ID != "a4" {
			t.Errorf("%d are left", len(active))
		}
	})
}

func TestLimitIsExactUnderParallelCreates(t *testing.T) {
	t.Parallel()
	const limit, creators = 5, 50
	for _, evict := range []bool{false, true} {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxPerSubject, p.EvictOldest = limit, evict }))
		var created atomic.Int32
		var wg sync.WaitGroup
		for range creators {
			wg.Go(func() {
				_, _, err := e.Create(e.ctx, sessiond.CreateParams{Subject: "alice"})
				switch {
				case err == nil:
					created.Add(1)
				case evict || !errors.Is(err, sessiond.ErrLimit):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		active := e.list(sessiond.ListParams{Filter: sessiond.Filter{Subject: "alice", ActiveOnly: true}})
		want := int32(limit)
		if evict {
			want = creators
		}
		if len(active) != limit || created.Load() != want {
			t.Errorf("evict %t: %d created, %d active", evict, created.Load(), len(active))
		}
	}
}
