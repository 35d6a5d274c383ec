package behaviour_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/internal/behaviour"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _, _ behaviour.Sessions = (*sessiond.Manager)(nil), (*client.Client)(nil)

func manager(t *testing.T) *sessiond.Manager {
	t.Helper()
	store := memstore.New(memstore.Options{})
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: sessiond.NoSealing{}, Policy: behaviour.Policy()})
	if err != nil {
		t.Fatal(err)
	}
	return m.As(sessiond.DefaultTenant, behaviour.Actor)
}

// remote is a client of a server over m.
func remote(t *testing.T, m *sessiond.Manager) *client.Client {
	t.Helper()
	return behaviour.Serve(t, server.Config{Manager: m, Heartbeat: 50 * time.Millisecond}).Client
}

func TestManager(t *testing.T) {
	t.Parallel()
	behaviour.Run(t, func(t *testing.T) behaviour.Sessions { return manager(t) })
}

func TestClient(t *testing.T) {
	t.Parallel()
	behaviour.Run(t, func(t *testing.T) behaviour.Sessions {
		m := manager(t)
		return &compared{Client: remote(t, m), t: t, m: m}
	})
}

// compared holds what the client shows to what the manager has.
type compared struct {
	*client.Client
	t *testing.T
	m *sessiond.Manager
}

func (c *compared) check(s *sessiond.Session, err error) {
	c.t.Helper()
	if err != nil || s.Status != sessiond.StatusActive {
		return
	}
	want, err := c.m.Get(c.t.Context(), s.ID)
	if err != nil {
		c.t.Errorf("the manager says: %v", err)
		return
	}
	if diff := cmp.Diff(want, s, behaviour.Equal...); diff != "" {
		c.t.Errorf("the client shows something else than the manager (-manager +client):\n%s", diff)
	}
}

func (c *compared) Create(ctx context.Context, p sessiond.CreateParams) (*sessiond.Session, sessiond.Token, error) {
	s, token, err := c.Client.Create(ctx, p)
	c.check(s, err)
	return s, token, err
}

func (c *compared) Get(ctx context.Context, id sessiond.ID) (*sessiond.Session, error) {
	s, err := c.Client.Get(ctx, id)
	c.check(s, err)
	return s, err
}

func (c *compared) Update(ctx context.Context, id sessiond.ID, p sessiond.UpdateParams) (*sessiond.Session, error) {
	s, err := c.Client.Update(ctx, id, p)
	c.check(s, err)
	return s, err
}

func (c *compared) Patch(ctx context.Context, id sessiond.ID, p sessiond.PatchParams) (*sessiond.Session, error) {
	s, err := c.Client.Patch(ctx, id, p)
	c.check(s, err)
	return s, err
}

func (c *compared) Touch(ctx context.Context, id sessiond.ID) (*sessiond.Session, error) {
	s, err := c.Client.Touch(ctx, id)
	c.check(s, err)
	return s, err
}

func (c *compared) Rotate(
	ctx context.Context, id sessiond.ID, p sessiond.RotateParams,
) (*sessiond.Session, sessiond.Token, error) {
	s, token, err := c.Client.Rotate(ctx, id, p)
	c.check(s, err)
	return s, token, err
}

func (c *compared) List(ctx context.Context, p sessiond.ListParams) (*sessiond.SessionPage, error) {
	page, err := c.Client.List(ctx, p)
	if err != nil {
		return page, err
	}
	want, err := c.m.List(ctx, p)
	if diff := cmp.Diff(want, page, behaviour.Equal...); err != nil || diff != "" {
		c.t.Errorf("the client lists something else than the manager, %v (-manager +client):\n%s", err, diff)
	}
	return page, nil
}
