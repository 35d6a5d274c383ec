package testserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A PgBouncer is a connection pooler in transaction mode before a [Postgres]:
// two statements of one client may run in different server sessions.
type PgBouncer struct {
	pg   *Postgres
	dir  folder
	port int
	proc *process
}

// StartPgBouncer starts a pooler before pg for this test alone.
func StartPgBouncer(t testing.TB, pg *Postgres) *PgBouncer {
	t.Helper()
	b, err := newPgBouncer(pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.remove(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func newPgBouncer(pg *Postgres) (*PgBouncer, error) {
	path, err := find("pgbouncer", "pgbouncer", "/usr/sbin", "/usr/local/sbin", "/usr/local/opt/pgbouncer/bin")
	if err != nil {
		return nil, err
	}
	dir, err := newFolder(pg.as)
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{pg: pg, dir: dir}
	users := fmt.Sprintf("%q \"\"\n%q \"\"\n", superuser, owner)
	err = dir.write("users.txt", users)
	if err == nil {
		err = onFreePort(func(port int) error {
			b.port = port
			return b.launch(path)
		})
	}
	if err != nil {
		return nil, errors.Join(err, b.remove())
	}
	return b, nil
}

func (b *PgBouncer) launch(path string) error {
	conf := strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=127.0.0.1 port=%d", b.pg.port),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		fmt.Sprintf("listen_port = %d", b.port),
		"unix_socket_dir =",
		"auth_type = trust",
		"auth_file = " + b.dir.file("users.txt"),
		"admin_users = " + superuser,
		"pool_mode = transaction",
		"max_client_conn = 1000",
		"default_pool_size = 20",
		"server_login_retry = 1",
		"log_connections = 0",
		"log_disconnections = 0",
		"",
	}, "\n")
	if err := b.dir.write("pgbouncer.ini", conf); err != nil {
		return err
	}
	proc, err := launch(program{
		path: path, args: []string{b.dir.file("pgbouncer.ini")}, dir: b.dir, as: b.pg.as, deathSignal: syscall.SIGKILL,
	})
	if err != nil {
		return err
	}
	b.proc = proc
	return proc.await(b.dir, b.probe)
}

// probe asks the pooler for its configuration, to be sure that it is this one.
func (b *PgBouncer) probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL(superuser, b.Addr(), "pgbouncer")+"&default_query_exec_mode=simple_protocol")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the answer is here
	rows, err := conn.Query(ctx, "SHOW CONFIG")
	if err != nil {
		return err
	}
	defer rows.Close()
	found := false
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		found = found || len(values) > 1 && values[0] == "auth_file" && values[1] == b.dir.file("users.txt")
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("another pooler answers on port %d", b.port)
	}
	return nil
}

// Addr is host and port of the pooler.
func (b *PgBouncer) Addr() string { return local(b.port) }

// NewDatabase makes an empty database and returns its URL through the pooler.
// It goes at the end of the test.
func (b *PgBouncer) NewDatabase(t testing.TB) string {
	t.Helper()
	return postgresURL(owner, b.Addr(), b.pg.newDatabase(t))
}

func (b *PgBouncer) remove() error {
	var err error
	if b.proc != nil {
		err = b.proc.end(syscall.SIGKILL)
	}
	return errors.Join(err, b.dir.remove())
}
