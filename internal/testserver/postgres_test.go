package testserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sessiond.example/sessiond/internal/testserver"
)

// ask runs a query that gives one value, over a connection of its own.
func ask[T any](t *testing.T, url, query string, args ...any) (T, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var v T
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return v, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, query, args...).Scan(&v)
	return v, err
}

func must[T any](t *testing.T, url, query string, args ...any) T {
	t.Helper()
	v, err := ask[T](t, url, query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestPostgresCatchesMistakes(t *testing.T) {
	t.Parallel()
	pg := testserver.SharedPostgres(t)
	if testserver.SharedPostgres(t) != pg {
		t.Error("a second call starts a second server")
	}
	url := pg.NewDatabase(t)
	if got := must[string](t, url, "SHOW TimeZone"); got != "Asia/Kathmandu" {
		t.Errorf("time zone is %s", got)
	}
	if !must[bool](t, url, "SELECT 'a' < 'B'") {
		t.Error("text sorts bytewise")
	}
	if must[bool](t, url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") {
		t.Error("the role of URLs is a superuser")
	}
	if got := must[string](t, url, "SHOW server_encoding"); got != "UTF8" {
		t.Errorf("encoding is %s", got)
	}
	run(t, url, "CREATE TABLE mine (a int)")
	if _, err := ask[int](t, pg.NewDatabase(t), "SELECT count(*) FROM mine"); err == nil {
		t.Error("a table of one database is in another")
	}
}

// run runs statements.
func run(t *testing.T, url, statements string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresIsDurable(t *testing.T) {
	t.Parallel()
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{})
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if got := must[string](t, pg.URL(), "SHOW "+setting); got != "on" {
			t.Errorf("%s is %s", setting, got)
		}
	}
}

func TestPostgresComesBack(t *testing.T) {
	t.Parallel()
	// Without fsync the recoveries are quick, and still survive what is killed here.
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{Settings: map[string]string{"fsync": "off"}})
	url := pg.NewDatabase(t)
	if got := must[string](t, url, "SHOW fsync"); got != "off" {
		t.Errorf("fsync is %s, not what the test wants", got)
	}
	run(t, url, "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)")

	refused := func(what string) {
		t.Helper()
		if _, err := ask[int](t, url, "SELECT 1"); err == nil {
			t.Fatalf("%s: the server answers", what)
		}
	}
	kept := func(what string) {
		t.Helper()
		if n, err := ask[int](t, url, "SELECT count(*) FROM kept"); err != nil || n != 1 {
			t.Fatalf("%s: count is %d, error is %v", what, n, err)
		}
	}
	pg.Stop()
	refused("stopped")
	pg.Start()
	kept("started")

	// A client that is connected keeps the old server's memory in use.
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	pg.Kill()
	refused("killed")
	pg.Start()
	kept("started after a kill")

	pg.Pause()
	began := time.Now()
	refused("paused")
	if time.Since(began) < time.Second {
		t.Error("a paused server refuses at once instead of hanging")
	}
	pg.Resume()
	kept("resumed")

	pg.Pause()
	pg.Kill()
	pg.Start()
	kept("killed while it was paused")

	const checkpointer = "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
	before := must[time.Time](t, pg.SuperURL(), checkpointer)
	conn2, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn2.Close(context.Background()) }()
	pg.KillBackend(int(conn2.PgConn().PID()))
	if err := conn2.Ping(t.Context()); err == nil {
		t.Error("the killed process still answers")
	}
	kept("recovered")
	after := must[time.Time](t, pg.SuperURL(), checkpointer)
	if !after.After(before) {
		t.Error("the server did not recover from a crash")
	}
}

func TestPgBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	pg := testserver.SharedPostgres(t)
	url := testserver.StartPgBouncer(t, pg).NewDatabase(t)
	simple := url + "&default_query_exec_mode=simple_protocol"
	run(t, simple, "CREATE TABLE x (a int)")

	// Two clients that take turns get the same server process.
	first := must[int](t, simple, "SELECT pg_backend_pid()")
	second := must[int](t, simple, "SELECT pg_backend_pid()")
	if first != second {
		t.Errorf("two connections in turn use two server processes: %d, %d", first, second)
	}
}
