package testserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The roles of a Postgres. They log in without a password.
const (
	superuser = "postgres"
	owner     = "sessiond" // owns the databases of tests; nothing more
)

// PostgresOptions are the options of [StartPostgres].
type PostgresOptions struct {
	// Settings are server parameters as in postgresql.conf. They win over those
	// that the package sets.
	Settings map[string]string
}

// A Postgres is a PostgreSQL server. Its defaults are those that catch mistakes:
// text does not sort bytewise and the time zone is Nepal's. Its methods may be
// called from several goroutines, but a stop, start, kill or pause is one at a
// time.
type Postgres struct {
	dir      folder
	as       *account
	port     int
	settings map[string]string
	t        testing.TB // its owner; nil when it is shared

	mu     sync.Mutex
	proc   *process
	paused *pause
}

// fast are settings for servers that never crash.
var fast = map[string]string{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

// SharedPostgres returns the server of the test process. It does not survive
// the crash of its machine, and can't be stopped.
func SharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	return sharedPostgres.get(t, func() (*Postgres, error) { return newPostgres(fast) })
}

// StartPostgres starts a server for this test alone. It is durable unless
// opts.Settings say otherwise.
func StartPostgres(t testing.TB, opts PostgresOptions) *Postgres {
	t.Helper()
	p, err := newPostgres(opts.Settings)
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	t.Cleanup(func() {
		if err := p.remove(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newPostgres(settings map[string]string) (*Postgres, error) {
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := newFolder(as)
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir, as: as, settings: map[string]string{
		"listen_addresses":           "127.0.0.1",
		"unix_socket_directories":    "",
		"max_connections":            "300",
		"shared_buffers":             "48MB",
		"min_wal_size":               "32MB",
		"max_wal_size":               "512MB",
		"dynamic_shared_memory_type": "mmap", // in the data folder: nothing stays in /dev/shm after a kill
		"TimeZone":                   "Asia/Kathmandu",
		"log_timezone":               "UTC",
		"log_line_prefix":            "%m [%p] %q%a ",
		"log_checkpoints":            "off",
		"autovacuum_naptime":         "5s",
	}}
	maps.Copy(p.settings, settings)
	err = p.initialize()
	if err == nil {
		err = onFreePort(func(port int) error {
			p.port = port
			return p.launch()
		})
	}
	if err == nil {
		err = p.admin("CREATE ROLE " + owner + " LOGIN")
	}
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

func (p *Postgres) data() string { return p.dir.file("data") }

// initialize makes the cluster of databases.
func (p *Postgres) initialize() error {
	path, err := findPostgres("initdb")
	if err != nil {
		return err
	}
	err = run(program{path: path, dir: p.dir, as: p.as, deathSignal: syscall.SIGKILL, args: []string{
		"-D", p.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "-T", "simple",
		"--locale-provider=icu", "--icu-locale=en-US", "--locale=C",
		"--no-sync", "--no-instructions", "--wal-segsize=4",
	}})
	if err != nil {
		return fmt.Errorf("initdb: %w; its log:\n%s", err, p.dir.tail())
	}
	return nil
}

func findPostgres(name string) (string, error) {
	return find(name, "postgresql", "/usr/lib/postgresql/*/bin", "/usr/local/opt/postgresql*/bin")
}

// launch starts the server on its port and waits until it answers.
func (p *Postgres) launch() error {
	path, err := findPostgres("postgres")
	if err != nil {
		return err
	}
	args := []string{"-D", p.data(), "-p", strconv.Itoa(p.port)}
	for _, name := range slices.Sorted(maps.Keys(p.settings)) {
		args = append(args, "-c", name+"="+p.settings[name])
	}
	// On SIGQUIT the server ends its processes and removes its shared memory.
	proc, err := launch(program{path: path, args: args, dir: p.dir, as: p.as, deathSignal: syscall.SIGQUIT})
	if err != nil {
		return err
	}
	err = proc.await(p.dir, func() error {
		var folder string
		err := p.query(&folder, "SHOW data_directory")
		if err == nil && folder != p.data() {
			return fmt.Errorf("another server answers on port %d", p.port)
		}
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proc = proc
	return nil
}

// URL names the database of the role that owns the databases of tests. It has
// none of its own; see NewDatabase.
func (p *Postgres) URL() string { return postgresURL(owner, p.Addr(), superuser) }

// SuperURL is a URL for the superuser, who may do everything.
func (p *Postgres) SuperURL() string { return postgresURL(superuser, p.Addr(), superuser) }

// Addr is host and port of the server.
func (p *Postgres) Addr() string { return local(p.port) }

// URLThrough is url with another address: that of a proxy.
func URLThrough(t testing.TB, serverURL, addr string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	return u.String()
}

func postgresURL(role, addr, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// NewDatabase makes an empty database and returns its URL. It goes at the end
// of the test, whoever is still connected.
func (p *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	return postgresURL(owner, p.Addr(), p.newDatabase(t))
}

func (p *Postgres) newDatabase(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())
	if err := p.admin("CREATE DATABASE " + name + " OWNER " + owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.down() {
			return // and goes with all its files
		}
		if err := p.admin("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop the database of the test: %v", err)
		}
	})
	return name
}

// Admin runs a statement as superuser.
func (p *Postgres) Admin(t testing.TB, statement string) {
	t.Helper()
	if err := p.admin(statement); err != nil {
		t.Fatal(err)
	}
}

func (p *Postgres) admin(statement string) error { return p.query(nil, statement) }

// query runs a statement as superuser and scans its first column if into is
// not nil.
func (p *Postgres) query(into any, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.SuperURL()+"&application_name=testserver")
	if err != nil {
		return err
	}
	if into == nil {
		_, err = conn.Exec(ctx, statement, args...)
	} else {
		err = conn.QueryRow(ctx, statement, args...).Scan(into)
	}
	return errors.Join(err, conn.Close(ctx))
}

// down reports whether the server does not run, or is paused.
func (p *Postgres) down() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc == nil || p.paused != nil || p.proc.exited()
}

// remove ends the server and removes its folder.
func (p *Postgres) remove() error {
	err := p.stop(syscall.SIGQUIT) // at once: nothing is kept
	return errors.Join(err, removeSharedMemory(p.data()), p.dir.remove())
}

// removeSharedMemory removes the interlock that a killed server leaves behind,
// which only its next start would take over. Its id is in a line of the file
// postmaster.pid that a server which has stopped removes.
func removeSharedMemory(data string) error {
	file, err := os.ReadFile(data + "/postmaster.pid")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(file), "\n")
	if len(lines) < 7 {
		return nil
	}
	fields := strings.Fields(lines[6]) // key and id
	if len(fields) != 2 {
		return nil
	}
	id, err := strconv.Atoi(fields[1])
	if err != nil {
		return fmt.Errorf("postmaster.pid: %w", err)
	}
	return removeSegment(id)
}
