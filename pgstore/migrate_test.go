package pgstore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

func refused(t *testing.T, url, why string) {
	t.Helper()
	s, err := pgstore.Open(t.Context(), url, nil)
	if err == nil {
		s.Close()
		t.Fatalf("Open works, though %s", why)
	}
	if !errors.Is(err, pgstore.ErrSchema) {
		t.Errorf("%s: %v", why, err)
	}
}

func TestOpenRefusesSchemas(t *testing.T) {
	t.Parallel()
	url := testserver.SharedPostgres(t).NewDatabase(t)
	refused(t, url, "there is no schema")
	_, err := pgstore.Open(t.Context(), url, nil)
	if err == nil || !strings.Contains(err.Error(), "run sessiond migrate") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	if status, err := pgstore.Status(t.Context(), url); err != nil || status.Current != 0 || status.Known < 1 {
		t.Errorf("status without schema: %+v, %v", status, err)
	}
	exec(t, url, "CREATE SCHEMA sessiond")
	refused(t, url, "the schema is empty")
	m, err := pgstore.Migrate(t.Context(), url)
	if err != nil || m.From != 0 || m.To < 1 || m.NewFeed {
		t.Fatalf("Migrate: %+v, %v", m, err)
	}
	open(t, url, nil)
	m, err = pgstore.Migrate(t.Context(), url)
	if err != nil || m.From != m.To || m.NewFeed {
		t.Errorf("second Migrate: %+v, %v", m, err)
	}

	// A newer version that older programs can use, until it is made final.
	exec(t, url, "INSERT INTO sessiond.migration (version_id, is_applied) VALUES (1000, true)")
	open(t, url, nil)
	if m, err = pgstore.Migrate(t.Context(), url); err != nil || m.To != 1000 {
		t.Errorf("Migrate of a newer schema: %+v, %v", m, err)
	}
	exec(t, url, "UPDATE sessiond.meta SET compatible = 1000")
	refused(t, url, "the schema is too new")
}

func TestFinalize(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	exec(t, url, "UPDATE sessiond.meta SET compatible = 0")
	if err := pgstore.Finalize(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	status, err := pgstore.Status(t.Context(), url)
	if err != nil || status.Compatible != status.Known || status.Current != status.Known {
		t.Errorf("status %+v, %v", status, err)
	}
}

// TestMigrateTogether has several processes migrate one database, some through a pooler.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	pg := testserver.SharedPostgres(t)
	bouncer := testserver.StartPgBouncer(t, pg)
	url := pg.NewDatabase(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			through := url
			if i%2 == 0 {
				through = testserver.URLThrough(t, url, bouncer.Addr())
			}
			if _, err := pgstore.Migrate(t.Context(), through); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	open(t, url, nil)
	if n := value[int](t, connect(t, url), "SELECT count(*) FROM sessiond.migration WHERE version_id = 1"); n != 1 {
		t.Errorf("the first version was made %d times", n)
	}
}

// TestMoved opens a database that came from another cluster, whose transaction ids are in its feed.
func TestMoved(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	store := open(t, url, nil)
	create(t, store, "s1")
	before := end(t, store)
	exec(t, url, "UPDATE sessiond.meta SET system = system + 1", "UPDATE sessiond.event SET txid = '9999999999'")
	refused(t, url, "the database comes from elsewhere")
	m, err := pgstore.Migrate(t.Context(), url)
	if err != nil || !m.NewFeed {
		t.Fatalf("Migrate: %+v, %v", m, err)
	}
	store = open(t, url, nil)
	if batch := events(t, store, before, 10); !batch.Reset || len(batch.Events) != 0 {
		t.Errorf("a position of the former feed: %+v", batch)
	}
	create(t, store, "s2")
	if batch := events(t, store, before, 10); !batch.Reset || len(batch.Events) != 1 {
		t.Errorf("a position of the former feed: %+v", batch)
	}
}

func TestNewEpoch(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, nil)
	create(t, s, "s1")
	at := end(t, s)
	if err := pgstore.NewEpoch(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	batch := events(t, s, at, 10)
	if !batch.Reset || len(batch.Events) != 1 {
		t.Errorf("a position of the epoch before: %+v", batch)
	}
	if batch = events(t, s, batch.Position, 10); batch.Reset || len(batch.Events) != 0 {
		t.Errorf("a position of this epoch: %+v", batch)
	}
}

func TestMigrateUnreachable(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://127.0.0.1:1/x", "::", "postgres://127.0.0.1:1/x?connect_timeout=x"} {
		if _, err := pgstore.Migrate(t.Context(), url); err == nil {
			t.Errorf("Migrate of %s works", url)
		}
		if _, err := pgstore.Status(t.Context(), url); err == nil {
			t.Errorf("Status of %s works", url)
		}
		if _, err := pgstore.Open(t.Context(), url, nil); err == nil {
			t.Errorf("Open of %s works", url)
		}
		if err := pgstore.NewEpoch(t.Context(), url); err == nil {
			t.Errorf("NewEpoch of %s works", url)
		}
		if err := pgstore.Finalize(t.Context(), url); err == nil {
			t.Errorf("Finalize of %s works", url)
		}
	}
}
