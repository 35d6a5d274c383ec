package pgstore_test

import (
	"context"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultmatrix"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

// TestFaults runs every operation under every fault of the server and of the
// way to it.
func TestFaults(t *testing.T) {
	faultmatrix.Run(t, func(t testing.TB) faultmatrix.Target { return faultTarget(t) })
}

// TestFaultsOverHTTP looks at some of them from outside of the service.
func TestFaultsOverHTTP(t *testing.T) {
	faultmatrix.RunHTTP(t, func(t testing.TB) faultmatrix.Target {
		return faultTarget(t).Only("refused", "black-hole")
	})
}

// TestFaultsBehindPooler does it through a pooler, which has errors of its own.
func TestFaultsBehindPooler(t *testing.T) {
	faultmatrix.Run(t, func(t testing.TB) faultmatrix.Target {
		server := testserver.StartPostgres(t, testserver.PostgresOptions{})
		pooler := testserver.StartPgBouncer(t, server)
		target := faultTargetOf(t, server, pooler.NewDatabase(t), pooler.Addr())
		target.Cuts = nil // the pooler passes them on as they are
		return target.Only("reset", "black-hole", "stopped", "crashed")
	})
}

func faultTarget(t testing.TB) faultmatrix.Target {
	server := testserver.StartPostgres(t, testserver.PostgresOptions{})
	return faultTargetOf(t, server, server.NewDatabase(t), server.Addr())
}

// faultTargetOf disturbs the server, and the way to addr, which url names.
func faultTargetOf(t testing.TB, server *testserver.Postgres, url, addr string) faultmatrix.Target {
	migrate(t, url)
	proxy := testserver.NewProxy(t, addr)
	through := testserver.URLThrough(t, url, proxy.Addr())
	const timeout = time.Second
	return faultmatrix.Target{
		Open: func(ctx context.Context) (sessiond.Store, error) {
			return pgstore.Open(ctx, through, &pgstore.Options{Timeout: timeout})
		},
		Observe:     func(ctx context.Context) (sessiond.Store, error) { return pgstore.Open(ctx, url, nil) },
		Timeout:     timeout,
		Patience:    3*time.Second + timeout, // for a connection, and for an answer
		Connections: proxy.Connections,
		Lasting:     append(faultmatrix.LastingOfProxies(timeout, proxy), faultmatrix.LastingOfServer(server)...),
		Cuts:        faultmatrix.CutsOfProxies(proxy),
	}
}
