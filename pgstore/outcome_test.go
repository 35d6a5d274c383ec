package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	pg := func(code, severity string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code, Severity: severity, SeverityUnlocalized: severity})
	}
	for _, tt := range []struct {
		name        string
		sent        bool
		err         error
		write, read error // nil: neither unavailable nor unknown
	}{
		{"not sent", false, io.ErrUnexpectedEOF, sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"connection lost", true, io.ErrUnexpectedEOF, sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"too late", true, context.DeadlineExceeded, sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"serialization", true, pg("40001", "ERROR"), sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"deadlock", true, pg("40P01", "ERROR"), sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"read-only", true, pg("25006", "ERROR"), sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"disk full", true, pg("53100", "ERROR"), sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"statement timeout", true, pg("57014", "ERROR"), sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"no table", true, pg("42P01", "ERROR"), sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"shutdown", true, pg("57P01", "FATAL"), sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"crash", true, pg("57P02", "WARNING"), sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"fatal", true, pg("53300", "FATAL"), sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"panic", true, pg("XX000", "PANIC"), sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"pooler lost the server", true, pg("08P01", "ERROR"), sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"completion unknown", true, pg("40003", "ERROR"), sessiond.ErrUnknown, sessiond.ErrUnavailable},
		{"rolled back", true, pgx.ErrTxCommitRollback, sessiond.ErrUnavailable, sessiond.ErrUnavailable},
		{"not UTF-8", true, pg("22021", "ERROR"), nil, nil},
	} {
		for what, got := range map[string][2]error{
			"write": {pgstore.WriteError(tt.sent, tt.err), tt.write}, "read": {pgstore.ReadError(tt.err), tt.read},
		} {
			err, want := got[0], got[1]
			if err == nil || !errors.Is(err, tt.err) {
				t.Errorf("%s, %s: the cause is lost: %v", tt.name, what, err)
			}
			for _, e := range []error{sessiond.ErrUnavailable, sessiond.ErrUnknown} {
				if errors.Is(err, e) != (want == e) {
					t.Errorf("%s, %s: %v, want %v", tt.name, what, err, want)
				}
			}
		}
	}
}

// TestStrayText has text that no caller should give: the server refuses it.
func TestStrayText(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t), nil)
	for i, stray := range []string{"a\xffb", "a\x00b"} {
		for where, put := range map[string]func(c *sessiond.Creation){
			"subject": func(c *sessiond.Creation) { c.Record.Subject = stray },
			"label":   func(c *sessiond.Creation) { c.Record.Labels = map[string]string{"k": stray} },
			"actor":   func(c *sessiond.Creation) { c.Record.CreatedBy.Sub = stray },
			"request": func(c *sessiond.Creation) { c.RequestID = stray },
			"limited": func(c *sessiond.Creation) { c.Record.Subject, c.Limit.Max = stray, 1 },
		} {
			c := creation(fmt.Sprintf("s%d-%s", i, where))
			put(&c)
			k := c.Record.Key
			_, err := s.Create(t.Context(), c)
			if err == nil || errors.Is(err, sessiond.ErrUnavailable) || errors.Is(err, sessiond.ErrUnknown) {
				t.Errorf("%s %q: %v", where, stray, err)
			}
			if _, err := s.Get(t.Context(), k); !errors.Is(err, sessiond.ErrNotFound) {
				t.Errorf("%s %q: Get gives %v", where, stray, err)
			}
		}
		_, err := s.Get(t.Context(), sessiond.Key{Tenant: tenant, ID: sessiond.ID(stray)})
		if err == nil || errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("Get of %q: %v", stray, err)
		}
		_, err = s.List(t.Context(), sessiond.Query{Tenant: tenant, Limit: 1, Filter: sessiond.Filter{Subject: stray}})
		if err == nil {
			t.Errorf("List of %q: %v", stray, err)
		}
	}
	create(t, s, "s") // and goes on
}

// TestNotReplicated has a commit wait for a standby that does not exist. The
// driver must not break the wait off, whoever loses patience: the commit would become
// visible and be called a success.
func TestNotReplicated(t *testing.T) {
	t.Parallel()
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{})
	url := pg.NewDatabase(t)
	migrate(t, url)
	s := open(t, url, &pgstore.Options{Timeout: 500 * time.Millisecond, NoHints: true})
	observer := connect(t, url)
	pg.Admin(t, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	pg.Admin(t, "SELECT pg_reload_conf()")
	const waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	super := connect(t, pg.SuperURL())
	t.Cleanup(func() { // else nothing can be dropped
		pg.Admin(t, "ALTER SYSTEM RESET synchronous_standby_names")
		pg.Admin(t, "SELECT pg_reload_conf()")
	})
	for value[string](t, observer, "SHOW synchronous_standby_names") == "" {
		time.Sleep(5 * time.Millisecond)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Create(ctx, creation("s1")); !errors.Is(err, sessiond.ErrUnknown) {
		t.Errorf("a commit that waits: %v", err)
	}
	time.Sleep(300 * time.Millisecond) // for a cancel request to arrive, if there is one
	if n := value[int](t, super, waiting); n != 1 {
		t.Errorf("%d commits wait, want 1", n)
	}
	if _, err := s.Get(t.Context(), key("s1")); !errors.Is(err, sessiond.ErrNotFound) {
		t.Errorf("a commit that waits is visible: %v", err)
	}

	// Someone else breaks a wait off.
	done := make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), creation("s2"))
		done <- err
	}()
	for value[int](t, super, waiting) != 2 {
		time.Sleep(5 * time.Millisecond)
	}
	value[int](t, super, `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
	if err := <-done; !errors.Is(err, sessiond.ErrUnknown) {
		t.Errorf("a commit whose wait was broken off: %v", err)
	}
	if _, err := s.Get(t.Context(), key("s2")); err != nil {
		t.Errorf("a commit whose wait was broken off is not visible: %v", err)
	}
}

// TestRestart stops and starts the server under a pool of open connections: writes that
// come after it succeed, and none is unknown.
func TestRestart(t *testing.T) {
	t.Parallel()
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{})
	url := pg.NewDatabase(t)
	migrate(t, url)
	s := open(t, url, nil)
	write := func(round int) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 5 {
					if _, err := s.Create(t.Context(), creation(fmt.Sprintf("s-%d-%d-%d", round, w, i))); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				}
			})
		}
		wg.Wait()
	}
	write(0)
	for round := range 2 {
		if round == 0 {
			pg.Stop()
		} else {
			pg.Kill()
		}
		_, err := s.Create(t.Context(), creation(fmt.Sprint("down-", round)))
		if !errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("while the server is down: %v", err)
		}
		if _, err := s.Get(t.Context(), key("s-0-0-0")); !errors.Is(err, sessiond.ErrUnavailable) {
			t.Errorf("while the server is down: %v", err)
		}
		pg.Start()
		write(round + 1)
	}
}

// TestContextDuring ends the caller's context while the server is busy with a row.
func TestContextDuring(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, &pgstore.Options{Timeout: 300 * time.Millisecond})
	create(t, s, "s1")
	lock := begin(t, url)
	if _, err := lock.Exec(t.Context(), "SELECT FROM sessiond.session FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	// A write that waits for the row: its outcome is that of the server, or unknown.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := s.Touch(ctx, key("s1"), sessiond.Incarnation{}, time.Time{})
	if !errors.Is(err, sessiond.ErrUnknown) && !errors.Is(err, sessiond.ErrUnavailable) {
		t.Errorf("Touch of a locked row: %v", err)
	}
	// A read that waits for a table returns at once, and its connection stays of use.
	if _, err := lock.Exec(t.Context(), "LOCK TABLE sessiond.session"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := s.Get(ctx, key("s1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get from a locked table: %v", err)
	}
	if waited := time.Since(start); waited > 250*time.Millisecond {
		t.Errorf("Get returned %v after the start", waited)
	}
	if _, err := s.Get(t.Context(), key("s1")); !errors.Is(err, sessiond.ErrUnavailable) {
		t.Errorf("Get from a locked table without an end: %v", err)
	}
	commit(t, lock)
	if _, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{}); err != nil {
		t.Errorf("Touch: %v", err)
	}
}

// TestPoolExhausted waits for a connection as long as the context allows.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url+"&pool_max_conns=1", nil)
	create(t, s, "s1")
	c, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := s.Create(ctx, creation("s2")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Create without a connection: %v", err)
	}
	c.Release()
	create(t, s, "s2")
}
