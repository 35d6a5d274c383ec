package sessiond_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "web"})
		s, first := e.create(sessiond.CreateParams{ID: "s", Subject: "alice", Data: data(`{"a":1}`)})
		time.Sleep(time.Second)
		from := e.position()
		rotated, second := e.rotate("s", sessiond.RotateParams{Token: first})
		if rotated.Version != 2 || rotated.ETag == s.ETag || !rotated.ExpiresAt.Equal(s.ExpiresAt) ||
			!rotated.LastActiveAt.Equal(s.LastActiveAt) || !rotated.UpdatedAt.Equal(time.Now()) ||
			string(rotated.Data) != `{"a":1}` || second == first {
			t.Errorf("%+v", rotated)
		}
		ev := e.wantTypes(from, sessiond.EventRotated)
		if len(ev) == 1 && (ev[0].Actor != sessiond.Actor{Sub: "svc", Client: "web"} || ev[0].Version != 2) {
			t.Errorf("%+v", ev[0])
		}
		if v := e.verify(first); v != (sessiond.Verification{}) {
			t.Errorf("the old token: %+v", v)
		}
		if !e.verify(second).Active {
			t.Error("the new token is not active")
		}
		_, _, err := e.Rotate(e.ctx, "s", sessiond.RotateParams{Token: first})
		wantErr(t, "rotate with the old token", err, sessiond.ErrToken)
		_, other := e.create(sessiond.CreateParams{ID: "other"})
		for _, wrong := range []sessiond.Token{other, "sst_", "s"} {
			_, _, err = e.Rotate(e.ctx, "s", sessiond.RotateParams{Token: wrong})
			wantErr(t, "rotate with a wrong token", err, sessiond.ErrToken)
		}
		ended, of := e.create(sessiond.CreateParams{ID: "ended"})
		_, _, err = e.Rotate(e.ctx, "-no-id", sessiond.RotateParams{})
		wantErr(t, "rotate of what is no id", err, sessiond.ErrNotFound)
		if err := e.Revoke(e.ctx, ended.ID, sessiond.RevokeParams{}); err != nil {
			t.Fatal(err)
		}
		_, _, err = e.Rotate(e.ctx, ended.ID, sessiond.RotateParams{Token: of})
		wantErr(t, "rotate of an ended session", err, sessiond.ErrEnded)
		_, forged := newEnv(t).create(sessiond.CreateParams{ID: ended.ID}) // names the session, with another secret
		_, _, err = e.Rotate(e.ctx, ended.ID, sessiond.RotateParams{Token: forged})
		wantErr(t, "rotate of an ended session with a wrong token", err, sessiond.ErrToken)
		_, _, err = e.Rotate(e.ctx, "unknown", sessiond.RotateParams{})
		wantErr(t, "rotate of an unknown session", err, sessiond.ErrNotFound)
		if s := e.get("s"); s.Version != 2 || !e.verify(second).Active {
			t.Errorf("refused rotates did something: %+v", s)
		}
		wantErr(t, "RevokeToken with the old token", e.RevokeToken(e.ctx, first), nil)
		if !e.verify(second).Active {
			t.Error("the old token ended the session")
		}
	})
}

func TestRotationOverlap(t *testing.T) {
	t.Parallel()
	for _, revoke := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, policy(func(p *sessiond.Policy) {
				p.RotationOverlap, p.RevokeOnReuse = 10*time.Second, revoke
			}))
			_, first := e.create(sessiond.CreateParams{ID: "s"})
			_, second := e.rotate("s", sessiond.RotateParams{})
			time.Sleep(10*time.Second - ms)
			if !e.verify(first).Active || !e.verify(second).Active {
				t.Error("one of the tokens is not accepted within the overlap")
			}
			_, _, err := e.Rotate(e.ctx, "s", sessiond.RotateParams{Token: first})
			wantErr(t, "rotate with the previous token", err, sessiond.ErrToken)
			from := e.position()
			time.Sleep(ms)
			if v := e.verify(first); v != (sessiond.Verification{}) {
				t.Errorf("the previous token after the overlap: %+v", v)
			}
			if !revoke {
				if !e.verify(second).Active {
					t.Error("the current token died")
				}
				e.wantTypes(from)
				return
			}
			if s := e.ended("s"); s.EndReason != sessiond.EndTokenReuse || s.Status != sessiond.StatusRevoked {
				t.Errorf("%+v", s)
			}
			if v := e.verify(second); v.Active || v.Reason != sessiond.EndTokenReuse {
				t.Errorf("the current token: %+v", v)
			}
			if v := e.verify(first); v != (sessiond.Verification{}) {
				t.Errorf("the previous token after the end: %+v", v)
			}
			e.wantTypes(from, sessiond.EventRevoked)
		})
	}
}

// TestReuseOnEveryPath: with RevokeOnReuse the previous token ends the session
// wherever it is presented; the one before it is only wrong.
func TestReuseOnEveryPath(t *testing.T) {
	t.Parallel()
	for name, present := range map[string]func(e *env, old sessiond.Token){
		"verify": func(e *env, old sessiond.Token) { e.verify(old) },
		"rotate": func(e *env, old sessiond.Token) {
			_, _, err := e.Rotate(e.ctx, "s", sessiond.RotateParams{Token: old})
			wantErr(e.t, "rotate", err, sessiond.ErrToken)
		},
		"revoke": func(e *env, old sessiond.Token) { wantErr(e.t, "RevokeToken", e.RevokeToken(e.ctx, old), nil) },
	} {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.RevokeOnReuse = true }))
		_, first := e.create(sessiond.CreateParams{ID: "s"})
		_, second := e.rotate("s", sessiond.RotateParams{})
		_, third := e.rotate("s", sessiond.RotateParams{})
		present(e, first)
		if !e.verify(third).Active {
			t.Errorf("%s: a token from before the previous one ended the session", name)
		}
		present(e, second)
		if s := e.ended("s"); s.EndReason != sessiond.EndTokenReuse {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestRotateBindsAGuestOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxPerSubject = 1 }))
	_, guest := e.create(sessiond.CreateParams{ID: "guest"})
	e.create(sessiond.CreateParams{ID: "guest-2"}) // guests are not counted
	for _, subject := range []string{"\x00", "\u202e", string(make([]byte, 257))} {
		_, _, err := e.Rotate(e.ctx, "guest", sessiond.RotateParams{Subject: subject})
		wantInvalid(t, "bad subject", err, "/subject")
	}
	s, token := e.rotate("guest", sessiond.RotateParams{Token: guest, Subject: "alice"})
	if s.Subject != "alice" || s.Version != 2 || e.verify(guest).Active || !e.verify(token).Active {
		t.Errorf("%+v", s)
	}
	if found := e.list(sessiond.ListParams{Filter: sessiond.Filter{Subject: "alice"}}); len(found) != 1 {
		t.Errorf("alice has %d sessions", len(found))
	}
	for _, subject := range []string{"alice", "bob"} {
		_, _, err := e.Rotate(e.ctx, "guest", sessiond.RotateParams{Subject: subject})
		wantInvalid(t, "binding again", err, "/subject")
	}
	e.rotate("guest", sessiond.RotateParams{})

	// The limit holds for those who come in by binding, too.
	_, _, err := e.Rotate(e.ctx, "guest-2", sessiond.RotateParams{Subject: "alice"})
	wantErr(t, "binding over the limit", err, sessiond.ErrLimit)
	if s := e.get("guest-2"); s.Subject != "" || s.Version != 1 {
		t.Errorf("the refused binding did something: %+v", s)
	}
	e.revoke("guest", sessiond.RevokeParams{})
	e.rotate("guest-2", sessiond.RotateParams{Subject: "alice"})
}

func TestBindingEvictsTheOldest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxPerSubject, p.EvictOldest = 2, true }))
		for _, id := range []sessiond.ID{"guest", "a1", "a2"} {
			p := sessiond.CreateParams{ID: id, Subject: "alice"}
			if id == "guest" {
				p.Subject = ""
			}
			e.create(p)
			time.Sleep(time.Second)
		}
		from := e.position()
		e.rotate("guest", sessiond.RotateParams{Subject: "alice"})
		if s := e.ended("a1"); s.EndReason != sessiond.EndLimit {
			t.Errorf("%+v", s)
		}
		e.get("a2")
		if s := e.get("guest"); s.Subject != "alice" {
			t.Errorf("%+v", s)
		}
		e.wantTypes(from, sessiond.EventRevoked, sessiond.EventRotated)
	})
}
