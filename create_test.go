package sessiond_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

func TestCreateExists(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, token := e.create(sessiond.CreateParams{ID: "s", Subject: "alice", Data: data(`{"a":1}`)})
	from := e.position()
	_, _, err := e.Create(e.ctx, sessiond.CreateParams{ID: "s", Subject: "alice", Data: data(`{"a":1}`)})
	wantErr(t, "second create", err, sessiond.ErrExists)
	if diff := cmp.Diff(s, e.get("s")); diff != "" || !e.verify(token).Active {
		t.Errorf("the refused create changed the session:\n%s", diff)
	}
	e.wantTypes(from)
	e.revoke("s", sessiond.RevokeParams{})
	_, _, err = e.Create(e.ctx, sessiond.CreateParams{ID: "s"})
	wantErr(t, "create over an ended session", err, sessiond.ErrExists)
	e.revoke("s", sessiond.RevokeParams{Erase: true})
	again, second := e.create(sessiond.CreateParams{ID: "s"})
	if again.ETag == s.ETag || again.Version != 1 {
		t.Errorf("%+v", again)
	}
	if e.verify(token).Active || !e.verify(second).Active {
		t.Error("the token of an erased session opens its successor")
	}
}

func TestIdempotentCreate(t *testing.T) {
	t.Parallel()
	for _, id := range []sessiond.ID{"", "chosen"} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t).as("shop", sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "web"})
			p := sessiond.CreateParams{
				ID: id, Subject: "alice", Data: data(`{"a":1}`), Labels: map[string]string{"k": "v", "l": "w"},
				ExpiresIn: new(time.Hour), IdleTimeout: new(time.Minute), IdempotencyKey: "key-1",
			}
			s, first := e.create(p)
			if id == "" && (len(s.ID) != 36 || s.ID[14] != '8') {
				t.Errorf("derived id %s is not a UUIDv8", s.ID)
			}
			time.Sleep(time.Second)
			from := e.position()
			again := p
			again.Data = data(` { "a" : 1 } `)
			got, second := e.create(again)
			if diff := cmp.Diff(s, got); diff != "" {
				t.Errorf("the repeated create differs:\n%s", diff)
			}
			if v := e.verify(first); v != (sessiond.Verification{}) || !e.verify(second).Active || first == second {
				t.Errorf("the lost token: %+v", v)
			}
			// A touch is no change: the create may still be repeated.
			if _, err := e.Touch(e.ctx, s.ID); err != nil {
				t.Fatal(err)
			}
			_, third := e.create(p)
			e.wantTypes(from)

			// Another client of the same credential is the same creator.
			_, fourth := e.as("shop", sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "app"}).create(p)
			if e.verify(third).Active || !e.verify(fourth).Active {
				t.Error("a repeat through another client did not replace the token")
			}
			if _, err := e.patch(s.ID, `{"data":{"b":1}}`); err != nil {
				t.Fatal(err)
			}
			_, _, err := e.Create(e.ctx, p)
			wantErr(t, "create of a session that has changed", err, sessiond.ErrExists)
			if !e.verify(fourth).Active {
				t.Error("the refused create replaced the token")
			}
		})
	}
}

func TestIdempotentCreateRefused(t *testing.T) {
	t.Parallel()
	actor := sessiond.Actor{Issuer: "https://id", Sub: "svc"}
	base := sessiond.CreateParams{
		ID: "s", Subject: "alice", Data: data(`{"a":1}`), Labels: map[string]string{"k": "v"},
		ExpiresIn: new(time.Hour), IdleTimeout: new(time.Minute), IdempotencyKey: "key-1",
	}
	for name, change := range map[string]func(p *sessiond.CreateParams, a *sessiond.Actor){
		"subject":      func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Subject = "bob" },
		"guest":        func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Subject = "" },
		"data":         func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Data = data(`{"a":1.0}`) },
		"no data":      func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Data = nil },
		"label":        func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Labels = map[string]string{"k": "w"} },
		"more labels":  func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Labels = map[string]string{"k": "v", "l": ""} },
		"no labels":    func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.Labels = nil },
		"expires_in":   func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.ExpiresIn = new(2 * time.Hour) },
		"idle_timeout": func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.IdleTimeout = nil },
		"key":          func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.IdempotencyKey = "key-2" },
		"no key":       func(p *sessiond.CreateParams, _ *sessiond.Actor) { p.IdempotencyKey = "" },
		"actor":        func(_ *sessiond.CreateParams, a *sessiond.Actor) { a.Sub = "other" },
		"issuer":       func(_ *sessiond.CreateParams, a *sessiond.Actor) { a.Issuer = "https://other" },
	} {
		e := newEnv(t).as(sessiond.DefaultTenant, actor)
		s, token := e.create(base)
		p, a := base, actor
		change(&p, &a)
		_, _, err := e.as(sessiond.DefaultTenant, a).Create(e.ctx, p)
		wantErr(t, "create with another "+name, err, sessiond.ErrExists)
		if diff := cmp.Diff(s, e.get("s")); diff != "" || !e.verify(token).Active {
			t.Errorf("%s: the refused create changed the session:\n%s", name, diff)
		}
		_, again := e.create(base)
		if !e.verify(again).Active {
			t.Errorf("%s: the true repeat is refused afterwards", name)
		}
	}

	for name, end := range map[string]func(e *env){
		"revoked": func(e *env) { e.revoke("s", sessiond.RevokeParams{}) },
		"rotated": func(e *env) { e.rotate("s", sessiond.RotateParams{}) },
		"bound": func(e *env) {
			e.revoke("s", sessiond.RevokeParams{Erase: true})
			p := base
			p.Subject = ""
			e.create(p)
			e.rotate("s", sessiond.RotateParams{Subject: "alice"})
		},
	} {
		e := newEnv(t).as(sessiond.DefaultTenant, actor)
		e.create(base)
		end(e)
		_, _, err := e.Create(e.ctx, base)
		wantErr(t, "repeat of a "+name+" session's create", err, sessiond.ErrExists)
	}
}

// TestDerivedID: the id of an idempotent create without one depends on tenant,
// issuer, subject and key, and on nothing else.
func TestDerivedID(t *testing.T) {
	t.Parallel()
	base := sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "web"}
	id := func(tenant string, a sessiond.Actor, key, subject string) sessiond.ID {
		s, _ := newEnv(t).as(tenant, a).create(sessiond.CreateParams{IdempotencyKey: key, Subject: subject})
		return s.ID
	}
	want := id("shop", base, "k", "alice")
	for _, same := range []sessiond.ID{
		id("shop", base, "k", "bob"), id("shop", sessiond.Actor{Issuer: "https://id", Sub: "svc"}, "k", "alice"),
	} {
		if same != want {
			t.Errorf("%s, want %s", same, want)
		}
	}
	seen := map[sessiond.ID]bool{want: true}
	for _, other := range []sessiond.ID{
		id("shop2", base, "k", "alice"), id("shop", base, "k2", "alice"),
		id("shop", sessiond.Actor{Issuer: "https://i", Sub: "dsvc"}, "k", "alice"),
		id("shop", sessiond.Actor{Issuer: "https://id", Sub: "svck"}, "k", "alice"),
		id("shop", sessiond.Actor{Issuer: "https://id", Sub: "sv"}, "ck", "alice"),
	} {
		if seen[other] {
			t.Errorf("%s twice", other)
		}
		seen[other] = true
	}
}

func TestIdempotentCreateAtTheLimit(t *testing.T) {
	t.Parallel()
	e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxPerSubject = 1 }))
	p := sessiond.CreateParams{Subject: "alice", IdempotencyKey: "k"}
	s, _ := e.create(p)
	again, token := e.create(p)
	if again.ID != s.ID || !e.verify(token).Active {
		t.Errorf("%+v", again)
	}
}
