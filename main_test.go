package sessiond_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

// An env is a manager over a store in memory whose calls can be spoiled.
type env struct {
	*sessiond.Manager
	t     testing.TB
	ctx   context.Context
	store *faultstore.Store
}

// newEnv makes an env with the default policy, changed by edit.
func newEnv(t testing.TB, edit ...func(*sessiond.Config)) *env {
	t.Helper()
	store := faultstore.New(memstore.New(memstore.Options{}))
	cfg := sessiond.Config{Store: store, Sealer: sessiond.NoSealing{}, Policy: sessiond.DefaultPolicy()}
	for _, e := range edit {
		e(&cfg)
	}
	m, err := sessiond.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &env{Manager: m, t: t, ctx: t.Context(), store: store}
}

// as is the same env in another tenant and actor.
func (e *env) as(tenant string, actor sessiond.Actor) *env {
	o := *e
	o.Manager = e.As(tenant, actor)
	return &o
}

// run starts the background work and returns a function that ends it.
func (e *env) run() (stop func()) {
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	return func() {
		e.t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			e.t.Errorf("Run returned %v", err)
		}
	}
}

func (e *env) create(p sessiond.CreateParams) (*sessiond.Session, sessiond.Token) {
	e.t.Helper()
	s, token, err := e.Create(e.ctx, p)
	if err != nil {
		e.t.Fatalf("Create: %v", err)
	}
	return s, token
}

func (e *env) get(id sessiond.ID) *sessiond.Session {
	e.t.Helper()
	s, err := e.Get(e.ctx, id)
	if err != nil {
		e.t.Fatalf("Get %s: %v", id, err)
	}
	return s
}

// ended is the view of an ended session.
func (e *env) ended(id sessiond.ID) *sessiond.Session {
	e.t.Helper()
	_, err := e.Get(e.ctx, id)
	return endedSession(e.t, err)
}

func endedSession(t testing.TB, err error) *sessiond.Session {
	t.Helper()
	var ended *sessiond.EndedError
	if !errors.As(err, &ended) || !errors.Is(err, sessiond.ErrEnded) {
		t.Fatalf("got %v, want an EndedError", err)
	}
	return ended.Session
}

func (e *env) patch(id sessiond.ID, patch string) (*sessiond.Session, error) {
	return e.Patch(e.ctx, id, sessiond.PatchParams{Patch: jsontext.Value(patch)})
}

func (e *env) rotate(id sessiond.ID, p sessiond.RotateParams) (*sessiond.Session, sessiond.Token) {
	e.t.Helper()
	s, token, err := e.Rotate(e.ctx, id, p)
	if err != nil {
		e.t.Fatalf("Rotate %s: %v", id, err)
	}
	return s, token
}

func (e *env) revoke(id sessiond.ID, p sessiond.RevokeParams) {
	e.t.Helper()
	if err := e.Revoke(e.ctx, id, p); err != nil {
		e.t.Fatalf("Revoke %s: %v", id, err)
	}
}

// verify asks without leaving a trace.
func (e *env) verify(token sessiond.Token) sessiond.Verification {
	e.t.Helper()
	v, err := e.Verify(e.ctx, token, sessiond.VerifyParams{NoTouch: true})
	if err != nil {
		e.t.Fatalf("Verify: %v", err)
	}
	if v.Active != (v.Session != nil) {
		e.t.Fatalf("Verify: active %t with session %v", v.Active, v.Session)
	}
	return v
}

// list is all pages of a filter.
func (e *env) list(p sessiond.ListParams) (all []*sessiond.Session) {
	e.t.Helper()
	for {
		page, err := e.List(e.ctx, p)
		if err != nil {
			e.t.Fatalf("List: %v", err)
		}
		all = append(all, page.Sessions...)
		if p.Cursor = page.NextCursor; p.Cursor == "" {
			return all
		}
	}
}

// position is the end of the feed.
func (e *env) position() sessiond.Position {
	e.t.Helper()
	for b, err := range e.Events(e.ctx, sessiond.EventParams{}) {
		if err != nil || len(b.Events) > 0 || b.Reset || b.Position == "" {
			e.t.Fatalf("first batch: %+v, %v", b, err)
		}
		return b.Position
	}
	e.t.Fatal("no first batch")
	return ""
}

// since is the events after a position, up to now.
func (e *env) since(after sessiond.Position) (all []sessiond.Event) {
	e.t.Helper()
	for b, err := range e.Events(e.ctx, sessiond.EventParams{After: after, Heartbeat: ms}) {
		switch {
		case err != nil || b.Reset:
			e.t.Fatalf("events: %+v, %v", b, err)
		case len(b.Events) == 0:
			return all
		}
		all = append(all, b.Events...)
	}
	return all
}

// wantTypes checks which events came after a position.
func (e *env) wantTypes(after sessiond.Position, want ...sessiond.EventType) []sessiond.Event {
	e.t.Helper()
	events := e.since(after)
	same := len(events) == len(want)
	for i := range want {
		same = same && events[i].Type == want[i]
	}
	if !same {
		e.t.Errorf("events are %+v, want types %v", events, want)
	}
	return events
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// wantInvalid checks that an error points to a member.
func wantInvalid(t testing.TB, what string, err error, pointer string) {
	t.Helper()
	var bad *sessiond.InvalidError
	if !errors.As(err, &bad) || !errors.Is(err, sessiond.ErrInvalid) {
		t.Errorf("%s: got error %v, want an InvalidError", what, err)
		return
	}
	for _, f := range bad.Fields {
		if f.Pointer == pointer && f.Detail != "" {
			return
		}
	}
	t.Errorf("%s: got fields %+v, want one for %q", what, bad.Fields, pointer)
}

func policy(edit func(*sessiond.Policy)) func(*sessiond.Config) {
	return func(c *sessiond.Config) { edit(&c.Policy) }
}

func data(s string) jsontext.Value { return jsontext.Value(s) }
