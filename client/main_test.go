package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve makes a client of a server that is only a handler.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	ts := httptest.NewServer(h)
	c := newClient(t, ts.URL)
	t.Cleanup(ts.Close)
	return c
}

func newClient(t *testing.T, url string) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Config{Server: url, Token: client.StaticToken("credential"), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// calls are the client's methods that get one answer.
var calls = []struct {
	name  string
	write bool
	call  func(t *testing.T, ctx context.Context, c *client.Client) error
}{
	{"create", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		s, token, err := c.Create(ctx, sessiond.CreateParams{})
		if err != nil && (s != nil || token != "") {
			t.Error("create: a result comes with an error")
		}
		return err
	}},
	{"get", false, func(t *testing.T, ctx context.Context, c *client.Client) error {
		_, err := c.Get(ctx, "s")
		return err
	}},
	{"update", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		_, err := c.Update(ctx, "s", sessiond.UpdateParams{Data: jsontext.Value("{}")})
		return err
	}},
	{"patch", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		_, err := c.Patch(ctx, "s", sessiond.PatchParams{Patch: jsontext.Value("{}")})
		return err
	}},
	{"touch", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		_, err := c.Touch(ctx, "s")
		return err
	}},
	{"rotate", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		s, token, err := c.Rotate(ctx, "s", sessiond.RotateParams{})
		if err != nil && (s != nil || token != "") {
			t.Error("rotate: a result comes with an error")
		}
		return err
	}},
	{"revoke", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		return c.Revoke(ctx, "s", sessiond.RevokeParams{})
	}},
	{"revoke-matching", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		_, complete, err := c.RevokeMatching(ctx, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "a"}})
		if err != nil && complete {
			t.Error("revoke-matching: complete comes with an error")
		}
		return err
	}},
	{"list", false, func(t *testing.T, ctx context.Context, c *client.Client) error {
		_, err := c.List(ctx, sessiond.ListParams{})
		return err
	}},
	{"verify", false, func(t *testing.T, ctx context.Context, c *client.Client) error {
		v, err := c.Verify(ctx, "sst_x", sessiond.VerifyParams{})
		if err != nil && v != (sessiond.Verification{}) {
			t.Error("verify: an answer comes with an error")
		}
		return err
	}},
	{"revoke-token", true, func(t *testing.T, ctx context.Context, c *client.Client) error {
		return c.RevokeToken(ctx, "sst_x")
	}},
	{"events", false, func(t *testing.T, ctx context.Context, c *client.Client) error {
		for _, err := range c.Events(ctx, sessiond.EventParams{}) {
			return err
		}
		return nil
	}},
}

// unsure checks that an error tells of an outcome that is not known, and of
// nothing else.
func unsure(t *testing.T, what string, err error, write bool) {
	t.Helper()
	want := sessiond.ErrUnavailable
	if write {
		want = sessiond.ErrUnknown
	}
	only(t, what, err, want)
}

// only checks that an error matches one sentinel and no other.
func only(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
	for _, other := range []error{
		sessiond.ErrNotFound, sessiond.ErrExists, sessiond.ErrLimit, sessiond.ErrEnded, sessiond.ErrVersion,
		sessiond.ErrInvalid,
		sessiond.ErrMalformed, sessiond.ErrCursor, sessiond.ErrToken, sessiond.ErrUnavailable, sessiond.ErrUnknown,
		sessiond.ErrSealed, client.ErrUnauthenticated, client.ErrDenied,
	} {
		if other != want && errors.Is(err, other) {
			t.Errorf("%s: %v is also %v", what, err, other)
		}
	}
}
