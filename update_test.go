package sessiond_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

func TestUpdateReplacesOnlyWhatIsGiven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Issuer: "https://id", Sub: "svc", Client: "web"})
		want, _ := e.create(sessiond.CreateParams{
			ID: "s", Subject: "alice", Data: data(`{"a":1}`), Labels: map[string]string{"ip": "192.0.2.1"},
			ExpiresIn: new(time.Hour), IdleTimeout: new(10 * time.Minute),
		})
		from := e.position()
		steps := []struct {
			name string
			p    sessiond.UpdateParams
			set  func(*sessiond.Session)
		}{
			{"data", sessiond.UpdateParams{Data: data(` { "b" : 2.0 } `)}, func(s *sessiond.Session) {
				s.Data = data(`{"b":2.0}`)
			}},
			{"labels", sessiond.UpdateParams{Labels: map[string]string{"device": "phone"}}, func(s *sessiond.Session) {
				s.Labels = map[string]string{"device": "phone"}
			}},
			{"no labels", sessiond.UpdateParams{Labels: map[string]string{}}, func(s *sessiond.Session) {
				s.Labels = map[string]string{}
			}},
			{"expires_in", sessiond.UpdateParams{ExpiresIn: new(2 * time.Hour)}, func(s *sessiond.Session) {
				s.ExpiresAt = time.Now().Add(2 * time.Hour).UTC()
			}},
			{"idle_timeout", sessiond.UpdateParams{IdleTimeout: new(time.Hour)}, func(s *sessiond.Session) {
				s.IdleTimeout, s.IdleExpiresAt = time.Hour, s.LastActiveAt.Add(time.Hour)
			}},
			{"no idle_timeout", sessiond.UpdateParams{IdleTimeout: new(time.Duration(0))}, func(s *sessiond.Session) {
				s.IdleTimeout, s.IdleExpiresAt = 0, time.Time{}
			}},
		}
		for _, step := range steps {
			time.Sleep(time.Second)
			got, err := e.Update(e.ctx, "s", step.p)
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			step.set(want)
			want.Version++
			want.UpdatedAt = time.Now().UTC()
			if got.ETag == want.ETag {
				t.Errorf("%s left the ETag", step.name)
			}
			want.ETag = got.ETag
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.name, diff)
			}
			if diff := cmp.Diff(got, e.get("s")); diff != "" {
				t.Errorf("%s: Get shows something else:\n%s", step.name, diff)
			}
		}
		for i, ev := range e.since(from) {
			want := sessiond.Event{
				ID: ev.ID, Type: sessiond.EventUpdated, Time: ev.Time, Tenant: sessiond.DefaultTenant, SessionID: "s",
				Subject: "alice", Version: int64(i + 2), Actor: sessiond.Actor{Sub: "svc", Client: "web"},
			}
			if diff := cmp.Diff(want, ev); diff != "" {
				t.Errorf("event %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

func TestChangeThatChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		s, _ := e.create(sessiond.CreateParams{
			ID: "s", Data: data(`{"a":[1,{"b":null}],"c":1.50}`), Labels: map[string]string{"k": "v"},
			ExpiresIn: new(time.Hour), IdleTimeout: new(time.Minute),
		})
		from := e.position()
		for name, p := range map[string]sessiond.UpdateParams{
			"nothing": {},
			"the same": {
				Data: data("{\"a\" : [1,{\"b\":null}],\n\"c\":1.50}"), Labels: map[string]string{"k": "v"},
				ExpiresIn: new(time.Hour), IdleTimeout: new(time.Minute),
			},
		} {
			got, err := e.Update(e.ctx, "s", p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, got); diff != "" {
				t.Errorf("update with %s:\n%s", name, diff)
			}
		}
		time.Sleep(time.Second)
		for _, patch := range []string{
			`{}`, `{"data":{}}`, `{"labels":{}}`, `{"data":{"x":null},"labels":{"x":null},"idle_timeout":60}`,
			`{"data":{"c":1.50}}`, `{"labels":{"k":"v"}}`,
		} {
			got, err := e.patch("s", patch)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, got); diff != "" {
				t.Errorf("patch %s:\n%s", patch, diff)
			}
		}
		e.wantTypes(from)
		// The same number written otherwise is another number, digit for digit.
		if got, err := e.patch("s", `{"data":{"c":1.5}}`); err != nil || got.Version != 2 {
			t.Errorf("1.5 for 1.50: %+v, %v", got, err)
		}
	})
}

func TestExpiresInCountsFromNowUpToTheCap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, policy(func(p *sessiond.Policy) {
			p.MaxLifetime, p.DefaultLifetime, p.DefaultIdleTimeout = time.Hour, time.Hour, 0
		}))
		s, _ := e.create(sessiond.CreateParams{ID: "s", ExpiresIn: new(10 * time.Minute)})
		time.Sleep(5 * time.Minute)
		for in, want := range map[time.Duration]time.Time{
			time.Second:      time.Now().Add(time.Second),
			30 * time.Minute: time.Now().Add(30 * time.Minute),
			time.Hour:        s.CreatedAt.Add(time.Hour),
		} {
			got, err := e.Update(e.ctx, "s", sessiond.UpdateParams{ExpiresIn: &in})
			if err != nil || !got.ExpiresAt.Equal(want) {
				t.Errorf("expires in %v: %v, %v, want %v", in, got.ExpiresAt, err, want)
			}
		}
		_, err := e.Update(e.ctx, "s", sessiond.UpdateParams{ExpiresIn: new(time.Hour + time.Second)})
		wantInvalid(t, "more than the longest life", err, "/expires_in")
	})
}

func TestShorterIdleTimeoutEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		idle  time.Duration
		lives bool
	}{{59 * time.Second, false}, {60 * time.Second, false}, {61 * time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Issuer: "https://id", Sub: "svc"})
			_, token := e.create(sessiond.CreateParams{ID: "s", IdleTimeout: new(time.Hour), Data: data(`{"a":1}`)})
			time.Sleep(time.Minute)
			from := e.position()
			got, err := e.Update(e.ctx, "s", sessiond.UpdateParams{IdleTimeout: &tt.idle})
			if err != nil {
				t.Fatal(err)
			}
			if tt.lives {
				if got.Status != sessiond.StatusActive {
					t.Errorf("%v: %+v", tt.idle, got)
				}
				e.wantTypes(from, sessiond.EventUpdated)
				return
			}
			if got.Status != sessiond.StatusExpired || got.EndReason != sessiond.EndIdle || got.Version != 2 ||
				!got.EndedAt.Equal(time.Now()) || got.Data != nil {
				t.Errorf("%v: %+v", tt.idle, got)
			}
			if v := e.verify(token); v.Active || v.Reason != sessiond.EndIdle {
				t.Errorf("verify: %+v", v)
			}
			ev := e.wantTypes(from, sessiond.EventExpired)
			if len(ev) != 1 || ev[0].Actor != (sessiond.Actor{Sub: "svc"}) || ev[0].Reason != sessiond.EndIdle {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// TestShorterMaxLifetime: a policy that was tightened after the creation ends
// sessions with the true reason when an update meets it.
func TestShorterMaxLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.create(sessiond.CreateParams{ID: "s", ExpiresIn: new(10 * time.Hour), IdleTimeout: new(5 * time.Hour)})
		p := e.Policy()
		p.DefaultLifetime, p.MaxLifetime = time.Hour, time.Hour
		tight, err := sessiond.New(sessiond.Config{Store: e.store, Sealer: sessiond.NoSealing{}, Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		got, err := tight.Update(e.ctx, "s", sessiond.UpdateParams{ExpiresIn: new(time.Minute)})
		if err != nil || got.EndReason != sessiond.EndAbsolute {
			t.Errorf("update: %+v, %v", got, err)
		}
	})
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, token := e.create(sessiond.CreateParams{ID: "s", Subject: "alice"})
	other, _ := e.create(sessiond.CreateParams{ID: "other"})
	bad := []sessiond.ETag{other.ETag, `"x"`, sessiond.ETag(`W/` + string(s.ETag))}
	writes := map[string]func(tags []sessiond.ETag) error{
		"update": func(tags []sessiond.ETag) error {
			_, err := e.Update(e.ctx, "s", sessiond.UpdateParams{Data: data(`{"n":1}`), IfMatch: tags})
			return err
		},
		"patch": func(tags []sessiond.ETag) error {
			_, err := e.Patch(e.ctx, "s", sessiond.PatchParams{Patch: data(`{"data":{"m":1}}`), IfMatch: tags})
			return err
		},
		"rotate": func(tags []sessiond.ETag) error {
			_, _, err := e.Rotate(e.ctx, "s", sessiond.RotateParams{IfMatch: tags})
			return err
		},
		"revoke": func(tags []sessiond.ETag) error {
			return e.Revoke(e.ctx, "s", sessiond.RevokeParams{IfMatch: tags})
		},
		"erase": func(tags []sessiond.ETag) error {
			return e.Revoke(e.ctx, "s", sessiond.RevokeParams{IfMatch: tags, Erase: true})
		},
	}
	from := e.position()
	for name, write := range writes {
		wantErr(t, name, write(bad), sessiond.ErrVersion)
	}
	e.wantTypes(from)
	if !e.verify(token).Active || e.get("s").Version != 1 {
		t.Error("a write with the wrong ETag did something")
	}
	for _, name := range []string{"update", "patch", "rotate"} {
		for _, tags := range [][]sessiond.ETag{append(bad, e.get("s").ETag), {sessiond.AnyETag}, nil} {
			if err := writes[name](tags); err != nil {
				t.Errorf("%s with %v: %v", name, tags, err)
			}
		}
	}
	if err := writes["revoke"](append(bad, e.get("s").ETag)); err != nil {
		t.Errorf("revoke: %v", err)
	}
	// For an ended session the condition is ignored by revoke, and the end is
	// what the others tell of.
	wantErr(t, "revoke again", writes["revoke"](bad), nil)
	for _, name := range []string{"update", "patch", "rotate"} {
		wantErr(t, name+" after the end", writes[name](bad), sessiond.ErrEnded)
	}
	wantErr(t, "erase after the end", writes["erase"](bad), nil)
	wantErr(t, "get after the erase", func() error { _, err := e.Get(e.ctx, "s"); return err }(), sessiond.ErrNotFound)
}
