package pgstore_test

import (
	"testing"

	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
	"sessiond.example/sessiond/storetest"
)

// TestPgBouncer runs the suite through a pooler, where each transaction may meet another
// server connection.
func TestPgBouncer(t *testing.T) {
	bouncer := testserver.StartPgBouncer(t, testserver.SharedPostgres(t))
	through := func(url string) string { return testserver.URLThrough(t, url, bouncer.Addr()) }
	still := func(t testing.TB) storetest.Fixture {
		return still(t, through(borrow(t, "still", func(url string) { standStill(t, url) })))
	}
	running := func(t testing.TB) storetest.Fixture {
		return running(t, through(borrow(t, "", func(string) {})))
	}
	t.Run("Store", func(t *testing.T) { storetest.Run(t, running) })
	t.Run("Concurrent", func(t *testing.T) { storetest.RunConcurrent(t, running) })
	t.Run("Model", func(t *testing.T) { storetest.RunModel(t, still) })
}

func TestPoolerIsNoticed(t *testing.T) {
	t.Parallel()
	pg := testserver.SharedPostgres(t)
	bouncer := testserver.StartPgBouncer(t, pg)
	url := bouncer.NewDatabase(t)
	migrate(t, url)
	if !open(t, url, nil).Pooled() {
		t.Error("the pooler is taken for a server")
	}
	if open(t, testserver.URLThrough(t, url, pg.Addr()), nil).Pooled() {
		t.Error("the server is taken for a pooler")
	}
}

// TestPoolerIsolation refuses a pooler whose transactions would not go on with what a
// row has become.
func TestPoolerIsolation(t *testing.T) {
	t.Parallel()
	pg := testserver.SharedPostgres(t)
	bouncer := testserver.StartPgBouncer(t, pg)
	url := bouncer.NewDatabase(t)
	migrate(t, url)
	direct := testserver.URLThrough(t, url, pg.Addr())
	name := value[string](t, connect(t, direct), "SELECT current_database()")
	exec(t, direct, "ALTER DATABASE "+name+" SET default_transaction_isolation = 'repeatable read'")
	open(t, direct, nil) // asks for what it needs
	bouncer2 := testserver.StartPgBouncer(t, pg)
	s, err := pgstore.Open(t.Context(), testserver.URLThrough(t, url, bouncer2.Addr()), nil)
	if err == nil {
		s.Close()
		t.Error("a pooler with another isolation level is accepted")
	}
}
