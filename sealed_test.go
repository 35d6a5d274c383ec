package sessiond_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
)

func TestTenantsAreIsolated(t *testing.T) {
	t.Parallel()
	a := newEnv(t).as("a", sessiond.Actor{Sub: "x"})
	b := a.as("b", sessiond.Actor{Sub: "x"})
	s, token := a.create(sessiond.CreateParams{ID: "s", Subject: "alice", Data: data(`{"t":"a"}`)})
	fromB := b.position()
	for name, err := range map[string]error{
		"get":    func() error { _, err := b.Get(b.ctx, "s"); return err }(),
		"update": func() error { _, err := b.Update(b.ctx, "s", sessiond.UpdateParams{Data: data("{}")}); return err }(),
		"patch":  func() error { _, err := b.patch("s", `{"data":null}`); return err }(),
		"touch":  func() error { _, err := b.Touch(b.ctx, "s"); return err }(),
		"rotate": func() error { _, _, err := b.Rotate(b.ctx, "s", sessiond.RotateParams{}); return err }(),
		"revoke": b.Revoke(b.ctx, "s", sessiond.RevokeParams{}),
		"erase":  b.Revoke(b.ctx, "s", sessiond.RevokeParams{Erase: true}),
	} {
		_, unknown := b.Get(b.ctx, "unknown")
		if err == nil || err.Error() != unknown.Error() {
			t.Errorf("%s in another tenant: %v, an unknown id: %v", name, err, unknown)
		}
		wantErr(t, name, err, sessiond.ErrNotFound)
	}
	if v := b.verify(token); v != (sessiond.Verification{}) {
		t.Errorf("%+v", v)
	}
	wantErr(t, "RevokeToken", b.RevokeToken(b.ctx, token), nil)
	p := sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}}
	if n, _, err := b.RevokeMatching(b.ctx, p); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if len(b.list(sessiond.ListParams{})) != 0 {
		t.Error("listed in another tenant")
	}
	b.wantTypes(fromB)

	_, other := b.create(sessiond.CreateParams{ID: "s", Subject: "alice", Data: data(`{"t":"b"}`)})
	if diff := cmp.Diff(s, a.get("s")); diff != "" {
		t.Errorf("the same id in another tenant changed it:\n%s", diff)
	}
	_, _, err := a.Rotate(a.ctx, "s", sessiond.RotateParams{Token: other})
	wantErr(t, "rotate with the other tenant's token", err, sessiond.ErrToken)
	b.revoke("s", sessiond.RevokeParams{Erase: true})
	if !a.verify(token).Active {
		t.Error("ended from another tenant")
	}
	if a.Tenant() != "a" || b.Tenant() != "b" {
		t.Error("the handles name the wrong tenants")
	}
}

// A counting sealer counts what it is asked.
type counting struct {
	sessiond.Sealer
	mu           sync.Mutex
	seals, opens int
}

func (c *counting) Seal(p, ad []byte) ([]byte, uint32, error) {
	c.mu.Lock()
	c.seals++
	c.mu.Unlock()
	return c.Sealer.Seal(p, ad)
}

func (c *counting) Open(p, ad []byte) ([]byte, error) {
	c.mu.Lock()
	c.opens++
	c.mu.Unlock()
	return c.Sealer.Open(p, ad)
}

func newKeyset(t *testing.T) *keyset.Keyset {
	t.Helper()
	k, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWithoutDataNeverOpens(t *testing.T) {
	t.Parallel()
	sealer := &counting{Sealer: newKeyset(t)}
	e := newEnv(t, func(c *sessiond.Config) { c.Sealer = sealer })
	with := *e
	e.Manager = e.WithoutData()
	s, token := e.create(sessiond.CreateParams{ID: "s", Subject: "alice", Data: data(`{"a":1}`)})
	check := func(name string, s *sessiond.Session, err error) {
		t.Helper()
		if err != nil || s.Data != nil {
			t.Errorf("%s: data %s, %v", name, s.Data, err)
		}
	}
	check("create", s, nil)
	check("get", e.get("s"), nil)
	check("verify", e.verify(token).Session, nil)
	got, err := e.Touch(e.ctx, "s")
	check("touch", got, err)
	got, err = e.Update(e.ctx, "s", sessiond.UpdateParams{ExpiresIn: new(time.Hour)})
	check("update", got, err)
	got, err = e.patch("s", `{"labels":{"a":"b"}}`)
	check("patch", got, err)
	got, _ = e.rotate("s", sessiond.RotateParams{})
	check("rotate", got, nil)
	check("list", e.list(sessiond.ListParams{IncludeData: true})[0], nil)
	if sealer.opens != 0 || sealer.seals != 1 {
		t.Errorf("%d times opened, %d times sealed", sealer.opens, sealer.seals)
	}
	got, err = e.patch("s", `{"data":{"b":2}}`)
	check("patch of data", got, err)
	if got := with.get("s").Data; string(got) != `{"a":1,"b":2}` {
		t.Errorf("data is %s", got)
	}
	// An empty object needs no key.
	seals := sealer.seals
	with.create(sessiond.CreateParams{ID: "empty", Data: data(" { } ")})
	if string(with.get("empty").Data) != "{}" || sealer.seals != seals {
		t.Error("an empty object was sealed")
	}
}

// put changes a stored record behind the manager's back.
func (e *env) put(id sessiond.ID, change func(r *sessiond.Record)) {
	e.t.Helper()
	_, err := e.store.Update(e.ctx, sessiond.Key{Tenant: e.Tenant(), ID: id},
		func(_ time.Time, r *sessiond.Record) (sessiond.Change, error) {
			change(r)
			return sessiond.Change{}, nil
		})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) record(id sessiond.ID) *sessiond.Record {
	e.t.Helper()
	res, err := e.store.Get(e.ctx, sessiond.Key{Tenant: e.Tenant(), ID: id})
	if err != nil {
		e.t.Fatal(err)
	}
	return res.Record
}

// TestMovedDataDoesNotOpen moves ciphertexts to where they don't belong, and
// checks that only the session hit is out of reach, and only its data.
func TestMovedDataDoesNotOpen(t *testing.T) {
	t.Parallel()
	keys := newKeyset(t)
	e := newEnv(t, func(c *sessiond.Config) { c.Sealer = keys })
	other := e.as("other", sessiond.Actor{})
	secret := data(`{"secret":"hunter2"}`)
	e.create(sessiond.CreateParams{ID: "source", Data: secret})
	other.create(sessiond.CreateParams{ID: "target", Data: secret})
	if r := e.record("source"); bytes.Contains(r.Data, []byte("hunter2")) || r.DataKey != keys.Primary() {
		t.Fatalf("the store sees %q under key %d", r.Data, r.DataKey)
	}
	damaged := bytes.Clone(e.record("source").Data)
	damaged[len(damaged)-1] ^= 1
	for name, moved := range map[string][]byte{
		"session": e.record("source").Data, "tenant": other.record("target").Data,
		"damaged": damaged, "short": {1, 2}, "empty": {},
	} {
		_, token := e.create(sessiond.CreateParams{ID: "target", Data: data(`{"a":1}`)})
		e.put("target", func(r *sessiond.Record) { r.Data = moved })
		from := e.position()
		_, err := e.Get(e.ctx, "target")
		wantErr(t, name+": get", err, sessiond.ErrSealed)
		_, err = e.Verify(e.ctx, token, sessiond.VerifyParams{})
		wantErr(t, name+": verify", err, sessiond.ErrSealed)
		_, err = e.patch("target", `{"data":{"b":1}}`)
		wantErr(t, name+": patch", err, sessiond.ErrSealed)
		// Writes whose result could not show the data are refused before they
		// take effect: a rotate would lose its token otherwise.
		_, err = e.patch("target", `{"labels":{"b":"c"}}`)
		wantErr(t, name+": patch of labels", err, sessiond.ErrSealed)
		_, _, err = e.Rotate(e.ctx, "target", sessiond.RotateParams{})
		wantErr(t, name+": rotate", err, sessiond.ErrSealed)
		e.wantTypes(from)
		plain := *e
		plain.Manager = e.WithoutData()
		if s := plain.get("target"); s.Version != 1 || !plain.verify(token).Active {
			t.Errorf("%s: %+v", name, s)
		}
		if _, again := plain.rotate("target", sessiond.RotateParams{Token: token}); !plain.verify(again).Active {
			t.Errorf("%s: a rotate without data lost the token", name)
		}
		for _, s := range e.list(sessiond.ListParams{IncludeData: true}) {
			if (s.ID == "target") != (s.Data == nil) {
				t.Errorf("%s: the list shows %s for %s", name, s.Data, s.ID)
			}
		}
		if got := e.get("source").Data; string(got) != string(secret) {
			t.Errorf("%s: another session's data is %s", name, got)
		}
		s, err := e.Update(e.ctx, "target", sessiond.UpdateParams{Data: data(`{"new":1}`)})
		if err != nil || string(s.Data) != `{"new":1}` {
			t.Errorf("%s: replacing the data: %+v, %v", name, s, err)
		}
		e.revoke("target", sessiond.RevokeParams{Erase: true})
	}
}

func TestLostKey(t *testing.T) {
	t.Parallel()
	store := faultstore.New(memstore.New(memstore.Options{}))
	with := func(k *keyset.Keyset) *env {
		e := newEnv(t, func(c *sessiond.Config) { c.Store, c.Sealer = store, k })
		e.store = store
		return e
	}
	before := with(newKeyset(t))
	_, token := before.create(sessiond.CreateParams{ID: "old", Data: data(`{"a":1}`)})
	before.create(sessiond.CreateParams{ID: "empty"})
	after := with(newKeyset(t))
	_, err := after.Get(after.ctx, "old")
	wantErr(t, "get without the key", err, sessiond.ErrSealed)
	after.get("empty")
	after.create(sessiond.CreateParams{ID: "new", Data: data(`{"a":1}`)})
	after.get("new")
	wantErr(t, "revoke without the key", after.Revoke(after.ctx, "old", sessiond.RevokeParams{}), nil)
	if v := before.verify(token); v.Active {
		t.Error("not revoked")
	}
}

// TestNewRefuses: construction fails closed.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	store := memstore.New(memstore.Options{})
	for name, cfg := range map[string]sessiond.Config{
		"no store": {Sealer: sessiond.NoSealing{}}, "no sealer": {Store: store},
		"half a policy": {Store: store, Sealer: sessiond.NoSealing{}, Policy: sessiond.Policy{MaxLifetime: time.Hour}},
	} {
		if m, err := sessiond.New(cfg); err == nil || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(p *sessiond.Policy){
		"DefaultLifetime": func(p *sessiond.Policy) { p.DefaultLifetime = p.MaxLifetime + time.Second },
		"no lifetime":     func(p *sessiond.Policy) { p.DefaultLifetime = 0 },
		"half second":     func(p *sessiond.Policy) { p.DefaultLifetime = 1500 * ms },
		"MaxLifetime":     func(p *sessiond.Policy) { p.MaxLifetime = 1<<63 - 1 },
		"idle default":    func(p *sessiond.Policy) { p.MaxIdleTimeout, p.DefaultIdleTimeout = time.Hour, 0 },
		"idle over max":   func(p *sessiond.Policy) { p.MaxIdleTimeout = time.Minute },
		"negative idle":   func(p *sessiond.Policy) { p.DefaultIdleTimeout = -time.Second },
		"Retention":       func(p *sessiond.Policy) { p.Retention = time.Second - 1 },
		"SweepInterval":   func(p *sessiond.Policy) { p.SweepInterval = 0 },
		"TouchInterval":   func(p *sessiond.Policy) { p.TouchInterval = -1 },
		"RotationOverlap": func(p *sessiond.Policy) { p.RotationOverlap = time.Hour + 1 },
		"MaxPerSubject":   func(p *sessiond.Policy) { p.MaxPerSubject = -1 },
		"MaxData small":   func(p *sessiond.Policy) { p.MaxData = 1 },
		"MaxData large":   func(p *sessiond.Policy) { p.MaxData = 1<<20 + 1 },
		"EventRetention":  func(p *sessiond.Policy) { p.EventRetention = 0 },
		"MaxEvents":       func(p *sessiond.Policy) { p.MaxEvents = 0 },
	} {
		p := sessiond.DefaultPolicy()
		edit(&p)
		if _, err := sessiond.New(sessiond.Config{Store: store, Sealer: sessiond.NoSealing{}, Policy: p}); err == nil {
			t.Errorf("policy with bad %s is accepted", name)
		}
	}
	if got := sessiond.RequestID(context.Background()); got != "" {
		t.Errorf("request id %q out of nothing", got)
	}
}
