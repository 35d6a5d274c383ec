package consistency

import (
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/behaviour"
	"sessiond.example/sessiond/server"
)

// OverHTTP is a [Config].Over: a client of a server over m, by HTTP.
func OverHTTP(t testing.TB, m *sessiond.Manager) Sessions {
	t.Helper()
	return behaviour.Serve(t, server.Config{Manager: m})
}
