package consistency

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

// OverHTTP is a [Config].Over: a client of a server over m, by HTTP.
func OverHTTP(t testing.TB, m *sessiond.Manager) Sessions {
	t.Helper()
	s, err := server.New(server.Config{Manager: m, Verifier: everybody{}})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(func() {
		s.Shutdown()
		transport.CloseIdleConnections()
		ts.Close()
	})
	c, err := client.New(client.Config{Server: ts.URL, Token: client.StaticToken("credential"), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// everybody is Actor, with every permission.
type everybody struct{}

func (everybody) Verify(context.Context, string) (*auth.Principal, error) {
	return &auth.Principal{
		Issuer: Actor.Issuer, Subject: Actor.Sub, Client: Actor.Client, Tenant: sessiond.DefaultTenant,
		Permissions: auth.Create | auth.Read | auth.Inspect | auth.Update | auth.Delete | auth.Verify | auth.Admin,
	}, nil
}
