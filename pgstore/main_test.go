package pgstore_test

import (
	"context"
	"crypto/rand"
	neturl "net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
	"sessiond.example/sessiond/storetest"
)

func TestMain(m *testing.M) { os.Exit(testserver.Main(m)) }

// A clock stands still until it is advanced.
type clock struct {
	mu  sync.Mutex
	now time.Duration // since 1970
}

func newClock() *clock {
	start := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	return &clock{now: time.Duration(start.UnixNano())}
}

func (c *clock) sinceEpoch() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

// newDatabase makes a database with our schema.
func newDatabase(t testing.TB) (url string) {
	url = testserver.SharedPostgres(t).NewDatabase(t)
	migrate(t, url)
	return url
}

// A database has our schema, and a connection to empty it with.
type database struct {
	url   string
	admin *pgx.Conn
}

// databases are those that tests have emptied and given back, by what was done to
// them. Making one takes much longer than emptying it.
var databases = struct {
	mu   sync.Mutex
	free map[string][]database
}{free: make(map[string][]database)}

// borrow is an empty database of the shared server until the end of the test.
func borrow(t testing.TB, kind string, prepare func(url string)) (url string) {
	t.Helper()
	databases.mu.Lock()
	var db database
	if free := databases.free[kind]; len(free) > 0 {
		db = free[len(free)-1]
		databases.free[kind] = free[:len(free)-1]
	}
	databases.mu.Unlock()
	if db.url == "" {
		pg := testserver.SharedPostgres(t)
		name := "borrowed_" + strings.ToLower(rand.Text())
		pg.Admin(t, "CREATE DATABASE "+name+" OWNER sessiond")
		u, err := neturl.Parse(pg.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + name
		db.url = u.String()
		migrate(t, db.url)
		prepare(db.url)
		if db.admin, err = pgx.Connect(t.Context(), db.url); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			return // whatever is in there
		}
		empty(t, db.admin)
		databases.mu.Lock()
		defer databases.mu.Unlock()
		databases.free[kind] = append(databases.free[kind], db)
	})
	return db.url
}

// empty removes everything, as if the schema had just been made.
func empty(t testing.TB, c *pgx.Conn) {
	const all = `DELETE FROM sessiond.session; DELETE FROM sessiond.event; DELETE FROM sessiond.delta;
		DELETE FROM sessiond.trimmed; DELETE FROM sessiond.counter; UPDATE sessiond.meta
		SET epoch = decode(md5(random()::text), 'hex'), trimmed_ord = 0, trimmed_txid = '0', forgotten_txid = '0';
		ALTER SEQUENCE sessiond.event_ord_seq RESTART`
	if _, err := c.Exec(context.Background(), all, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Error(err)
	}
}

func migrate(t testing.TB, url string) {
	t.Helper()
	if _, err := pgstore.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
}

// exec runs statements in a database.
func exec(t testing.TB, url string, statements ...string) {
	t.Helper()
	c := connect(t, url)
	defer c.Close(context.Background())
	for _, sql := range statements {
		if _, err := c.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// connect makes a connection, which the test closes or its end.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// value is the only value that a query gives.
func value[T any](t testing.TB, c *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func open(t testing.TB, url string, opts *pgstore.Options) *pgstore.Store {
	t.Helper()
	s, err := pgstore.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close() // the test may have closed it
	})
	return s
}

// standStill has the database's clock show what the store adds to it, and nothing else.
func standStill(t testing.TB, url string) {
	t.Helper()
	exec(t, url, `CREATE OR REPLACE FUNCTION sessiond.clock(low bigint, skew bigint) RETURNS bigint
		LANGUAGE sql VOLATILE AS $$ SELECT skew $$`)
}

// openStill is a store with a clock that stands still.
func openStill(t testing.TB) storetest.Fixture {
	return still(t, borrow(t, "still", func(url string) { standStill(t, url) }))
}

func still(t testing.TB, url string) storetest.Fixture {
	c := newClock()
	return storetest.Fixture{Store: open(t, small(url), &pgstore.Options{Skew: c.sinceEpoch, NoHints: true}), Advance: c.advance}
}

// small bounds the pool: a new connection costs the server more than most tests.
func small(url string) string { return url + "&pool_max_conns=6" }

// openRunning is a store with the server's clock.
func openRunning(t testing.TB) storetest.Fixture { return running(t, borrow(t, "", func(string) {})) }

func running(t testing.TB, url string) storetest.Fixture {
	c := new(clock)
	return storetest.Fixture{Store: open(t, small(url), &pgstore.Options{Skew: c.sinceEpoch, NoHints: true}), Advance: c.advance}
}
