package sessiond_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

// A path is a way to meet a session. It returns nil for a live session and an
// EndedError, or errInactive, for one that has ended.
type path struct {
	name string
	meet func(e *env, id sessiond.ID, token sessiond.Token) error
}

var errInactive = errors.New("inactive")

var paths = []path{
	{"get", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		_, err := e.Get(e.ctx, id)
		return err
	}},
	{"update", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		_, err := e.Update(e.ctx, id, sessiond.UpdateParams{ExpiresIn: new(time.Hour), IdleTimeout: new(time.Hour)})
		return err
	}},
	{"patch", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		_, err := e.patch(id, `{"expires_in":3600,"idle_timeout":3600}`)
		return err
	}},
	{"touch", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		_, err := e.Touch(e.ctx, id)
		return err
	}},
	{"rotate", func(e *env, id sessiond.ID, token sessiond.Token) error {
		_, _, err := e.Rotate(e.ctx, id, sessiond.RotateParams{Token: token})
		return err
	}},
	{"verify", func(e *env, _ sessiond.ID, token sessiond.Token) error {
		v := e.verify(token)
		if !v.Active && v.Reason == "" {
			e.t.Error("verify gives no reason to who holds the token")
		}
		return inactiveUnless(v.Active)
	}},
	{"list", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		filters := []sessiond.Filter{
			{Subject: string(id), ActiveOnly: true}, {Subject: string(id), Status: sessiond.StatusActive},
		}
		for _, f := range filters {
			if len(e.list(sessiond.ListParams{Filter: f})) != 1 {
				return errInactive
			}
		}
		return nil
	}},
	{"revoke", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		e.revoke(id, sessiond.RevokeParams{})
		return inactiveUnless(e.ended(id).Status == sessiond.StatusRevoked)
	}},
	{"revoke-token", func(e *env, id sessiond.ID, token sessiond.Token) error {
		if err := e.RevokeToken(e.ctx, token); err != nil {
			return err
		}
		return inactiveUnless(e.ended(id).EndReason == sessiond.EndLogout)
	}},
	{"revoke-matching", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		n, complete, err := e.RevokeMatching(e.ctx, sessiond.RevokeMatchingParams{
			Filter: sessiond.Filter{Subject: string(id)},
		})
		if err != nil || !complete {
			e.t.Errorf("RevokeMatching: complete %t, %v", complete, err)
		}
		return inactiveUnless(n == 1)
	}},
	{"create-again", func(e *env, id sessiond.ID, _ sessiond.Token) error {
		_, _, err := e.Create(e.ctx, sessiond.CreateParams{
			ID: id, Subject: string(id), ExpiresIn: new(time.Minute), IdleTimeout: idleOf(id), IdempotencyKey: string(id),
		})
		if errors.Is(err, sessiond.ErrExists) {
			return errInactive
		}
		return err
	}},
}

func inactiveUnless(live bool) error {
	if live {
		return nil
	}
	return errInactive
}

// idleOf gives the sessions of the idle half an idle timeout of a minute.
func idleOf(id sessiond.ID) *time.Duration {
	if id[0] == 'i' {
		return new(30 * time.Second)
	}
	return new(time.Duration(0))
}

// TestDeadlineOnEveryPath meets each session once: a millisecond before its
// deadline, or exactly at it, so that no path is helped by an earlier one.
func TestDeadlineOnEveryPath(t *testing.T) {
	t.Parallel()
	for kind, reason := range map[string]sessiond.EndReason{
		"idle": sessiond.EndIdle, "absolute": sessiond.EndAbsolute,
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			tokens := map[sessiond.ID]sessiond.Token{}
			before := func(p path) sessiond.ID { return sessiond.ID(kind + "-before-" + p.name) }
			at := func(p path) sessiond.ID { return sessiond.ID(kind + "-at-" + p.name) }
			var deadline time.Time
			for _, p := range paths {
				for _, id := range []sessiond.ID{before(p), at(p)} {
					s, token := e.create(sessiond.CreateParams{
						ID: id, Subject: string(id), ExpiresIn: new(time.Minute), IdleTimeout: idleOf(id),
						IdempotencyKey: string(id),
					})
					tokens[id], deadline = token, s.Deadline()
				}
			}
			time.Sleep(time.Until(deadline) - ms)
			for _, p := range paths {
				if err := p.meet(e, before(p), tokens[before(p)]); err != nil {
					t.Errorf("%s, %s a millisecond before the deadline: %v", kind, p.name, err)
				}
			}
			time.Sleep(ms)
			for _, p := range paths {
				id := at(p)
				err := p.meet(e, id, tokens[id])
				if !errors.Is(err, errInactive) {
					if s := endedSession(t, err); s.EndReason != reason {
						t.Errorf("%s, %s: ended with %q", kind, p.name, s.EndReason)
					}
				}
				if s := e.ended(id); s.Status != sessiond.StatusExpired || s.EndReason != reason || s.Version != 2 ||
					!s.EndedAt.Equal(deadline) || !s.UpdatedAt.Equal(deadline) || s.Data != nil || !s.EndedBy.IsZero() {
					t.Errorf("%s, after %s at the deadline: %+v", kind, p.name, s)
				}
			}
		})
	}
}

// TestViewBeforeAndAfterSweep: the sweeper changes nothing that can be seen,
// and tells of the end in time.
func TestViewBeforeAndAfterSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.SweepInterval = 10 * time.Second }))
		stop := e.run()
		defer stop()
		synctest.Wait()
		time.Sleep(ms) // so that deadlines lie between two passes
		for _, p := range []sessiond.CreateParams{
			{ID: "absolute", ExpiresIn: new(time.Minute), IdleTimeout: new(time.Hour), Subject: "alice"},
			{ID: "idle", ExpiresIn: new(time.Hour), IdleTimeout: new(time.Minute), Labels: map[string]string{"a": "b"}},
			{ID: "both", ExpiresIn: new(time.Minute), IdleTimeout: new(time.Minute), Data: data(`{"a":1}`)},
		} {
			e.create(p)
		}
		from := e.position()
		time.Sleep(time.Minute)
		view := func() (all []*sessiond.Session) {
			for _, id := range []sessiond.ID{"absolute", "idle", "both"} {
				all = append(all, e.ended(id))
			}
			return append(all, e.list(sessiond.ListParams{IncludeData: true})...)
		}
		before := view()
		for b, err := range e.Events(e.ctx, sessiond.EventParams{After: from, Heartbeat: ms}) {
			if err != nil || len(b.Events) > 0 {
				t.Fatalf("the sweeper was there before: %+v, %v", b, err)
			}
			break
		}
		stats, err := e.Stats(e.ctx)
		if err != nil || stats.Active[sessiond.DefaultTenant] != 3 {
			t.Errorf("before the sweep: %+v, %v", stats, err)
		}

		time.Sleep(10*time.Second + time.Second)
		events := e.wantTypes(from, sessiond.EventExpired, sessiond.EventExpired, sessiond.EventExpired)
		if diff := cmp.Diff(before, view()); diff != "" {
			t.Errorf("the sweep changed the view (-before +after):\n%s", diff)
		}
		for i, id := range []sessiond.ID{"absolute", "both", "idle"} {
			s, ev := e.ended(id), events[i]
			if ev.SessionID != id || ev.Version != 2 || ev.Reason != s.EndReason || !ev.Time.Equal(s.EndedAt) ||
				!ev.Actor.IsZero() || ev.Subject != s.Subject {
				t.Errorf("event of %s is %+v", id, ev)
			}
		}
		if stats, err = e.Stats(e.ctx); err != nil || stats.Active[sessiond.DefaultTenant] != 0 {
			t.Errorf("after the sweep: %+v, %v", stats, err)
		}
		if reason := e.ended("both").EndReason; reason != sessiond.EndAbsolute {
			t.Errorf("both deadlines at once end with %q", reason)
		}
	})
}

func TestRetentionFreesTheID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.Retention = time.Minute }))
		defer e.run()()
		first, _ := e.create(sessiond.CreateParams{ID: "revoked"})
		e.create(sessiond.CreateParams{ID: "expired", ExpiresIn: new(3 * time.Second)})
		e.revoke("revoked", sessiond.RevokeParams{})
		time.Sleep(time.Minute - ms)
		for _, id := range []sessiond.ID{"revoked", "expired"} {
			_, _, err := e.Create(e.ctx, sessiond.CreateParams{ID: id})
			wantErr(t, "create over retained "+string(id), err, sessiond.ErrExists)
		}
		time.Sleep(time.Second + ms)
		_, err := e.Get(e.ctx, "revoked")
		wantErr(t, "get after the retention", err, sessiond.ErrNotFound)
		e.ended("expired") // it ended later
		time.Sleep(4 * time.Second)
		_, err = e.Get(e.ctx, "expired")
		wantErr(t, "get after the retention", err, sessiond.ErrNotFound)

		second, _ := e.create(sessiond.CreateParams{ID: "revoked"})
		if second.Version != 1 || second.ETag == first.ETag {
			t.Errorf("the second session of an id has version %d and ETag %s, the first had %s",
				second.Version, second.ETag, first.ETag)
		}
		_, err = e.Update(e.ctx, "revoked", sessiond.UpdateParams{Data: data(`{}`), IfMatch: []sessiond.ETag{first.ETag}})
		wantErr(t, "update with the ETag of an earlier session", err, sessiond.ErrVersion)
	})
}

// TestActivityStopsAtTheAbsoluteDeadline: touching keeps an idle deadline away
// but never the absolute one.
func TestActivityStopsAtTheAbsoluteDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		s, _ := e.create(sessiond.CreateParams{
			ID: "s", ExpiresIn: new(time.Minute), IdleTimeout: new(20 * time.Second),
		})
		for range 5 {
			time.Sleep(11 * time.Second)
			touched, err := e.Touch(e.ctx, "s")
			if err != nil {
				t.Fatal(err)
			}
			if !touched.ExpiresAt.Equal(s.ExpiresAt) || touched.Version != 1 || touched.ETag != s.ETag ||
				!touched.UpdatedAt.Equal(s.UpdatedAt) || !touched.LastActiveAt.Equal(time.Now()) ||
				!touched.IdleExpiresAt.Equal(time.Now().Add(20*time.Second)) {
				t.Errorf("touched: %+v", touched)
			}
		}
		time.Sleep(5 * time.Second)
		if end := e.ended("s"); end.EndReason != sessiond.EndAbsolute || !end.EndedAt.Equal(s.ExpiresAt) {
			t.Errorf("ended %+v", end)
		}
	})
}
