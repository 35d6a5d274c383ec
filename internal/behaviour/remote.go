package behaviour

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/server"
)

// A Remote is a server on the network, and a client of it.
type Remote struct {
	*client.Client
	URL       string
	Transport *http.Transport // of the client
}

// Serve starts a server as cfg says, in which everybody is [Actor] with every
// permission. It ends with the test.
func Serve(t testing.TB, cfg server.Config) *Remote {
	t.Helper()
	cfg.Verifier = everybody{}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		s.Shutdown()
		transport.CloseIdleConnections()
		ts.Close()
	})
	c, err := client.New(client.Config{Server: ts.URL, Token: client.StaticToken("credential"), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return &Remote{c, ts.URL, transport}
}

// everybody is Actor, with every permission but that for other tenants.
type everybody struct{}

func (everybody) Verify(context.Context, string) (*auth.Principal, error) {
	return &auth.Principal{
		Issuer: Actor.Issuer, Subject: Actor.Sub, Client: Actor.Client, Tenant: sessiond.DefaultTenant,
		Permissions: auth.AllPermissions &^ auth.AnyTenant,
	}, nil
}
