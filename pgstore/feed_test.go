package pgstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

// tell inserts an event as a store does.
func tell(t testing.TB, tx pgx.Tx, id string, version int) {
	t.Helper()
	_, err := tx.Exec(t.Context(), `INSERT INTO sessiond.event
		(told_at, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id)
		VALUES (1, $1, $2, $2 || '.' || $3::bigint, 'session.updated', 1, '', $3::bigint, '', '', '', '', '')`, tenant, id, version)
	if err != nil {
		t.Fatal(err)
	}
}

func begin(t testing.TB, url string) pgx.Tx {
	t.Helper()
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func commit(t testing.TB, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestFeedLateCommit commits a lower number after a higher one was read.
func TestFeedLateCommit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			url := newDatabase(t)
			s := open(t, url, nil)
			at := end(t, s)
			early := begin(t, url)
			tell(t, early, "late", 1)
			create(t, s, "s1")
			create(t, s, "s2")
			got, at := ids(t, s, at, limit)
			if want := []sessiond.ID{"s1", "s2"}; !slices.Equal(got, want) {
				t.Fatalf("before the commit: %v, want %v", got, want)
			}
			create(t, s, "s3")
			first := events(t, s, at, limit) // may be in the middle of a stretch when the commit comes
			commit(t, early)
			got, _ = ids(t, s, first.Position, limit)
			if want := []sessiond.ID{"late"}; !slices.Equal(got, want) {
				t.Errorf("after the commit: %v, want %v", got, want)
			}
		})
	}
}

// TestFeedOrder has a transaction with a smaller id write the later version of a session.
func TestFeedOrder(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, nil)
	at := end(t, s)
	early := begin(t, url)
	var id string
	if err := early.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&id); err != nil {
		t.Fatal(err)
	}
	create(t, s, "s1")
	update(t, s, "s1")
	tell(t, early, "s1", 3)
	commit(t, early)
	for limit := 1; limit <= 4; limit++ {
		var versions []int64
		for after := at; ; {
			batch := events(t, s, after, limit)
			if after = batch.Position; len(batch.Events) == 0 {
				break
			}
			for _, e := range batch.Events {
				versions = append(versions, e.Version)
			}
		}
		if want := []int64{1, 2, 3}; !slices.Equal(versions, want) {
			t.Errorf("limit %d: versions %v", limit, versions)
		}
	}
}

// TestFeedCrash rolls back a transaction, reads, and crashes the server before its log has the
// rollback: the server gives the transaction's id to the next one, whose event must come
// all the same.
func TestFeedCrash(t *testing.T) {
	t.Parallel()
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{
		Settings: map[string]string{"wal_writer_delay": "10s", "bgwriter_delay": "10s"},
	})
	url := pg.NewDatabase(t)
	migrate(t, url)
	s := open(t, url, &pgstore.Options{NoHints: true})
	create(t, s, "s")
	at := end(t, s)
	reused := 0
	for i := range 4 {
		back := begin(t, url)
		tell(t, back, "rolled-back", 1)
		var lost string
		err := back.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&lost)
		if err == nil {
			err = back.Rollback(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		_, at = ids(t, s, at, 10)
		pg.KillBackend(0)
		id := fmt.Sprintf("s%d", i)
		for deadline := time.Now().Add(10 * time.Second); ; {
			_, err := s.Create(t.Context(), creation(id))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		const txid = "SELECT txid::text FROM sessiond.event WHERE session_id = $1"
		if value[string](t, connect(t, url), txid, id) == lost {
			reused++
		}
		var got []sessiond.ID
		if got, at = ids(t, s, at, 10); !slices.Equal(got, []sessiond.ID{sessiond.ID(id)}) {
			t.Errorf("after crash %d: %v, want %s", i, got, id)
		}
	}
	if reused == 0 {
		t.Error("the server never gave out an id again, so that this shows nothing")
	}
}

// TestFeedLongTransaction has an old transaction of someone else run all the time: it keeps nobody
// from reading, and trimming does not reset readers that have seen all.
func TestFeedLongTransaction(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, nil)
	old := begin(t, url)
	if _, err := old.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	at := end(t, s)
	for i := range 5 {
		id := fmt.Sprintf("s%d", i)
		create(t, s, id)
		var got []sessiond.ID
		if got, at = ids(t, s, at, 10); !slices.Equal(got, []sessiond.ID{sessiond.ID(id)}) {
			t.Fatalf("got %v, want %s", got, id)
		}
	}
	p := sessiond.SweepParams{Limit: 10, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 1}
	res, err := s.Sweep(t.Context(), p)
	if err != nil || res.Trimmed != 4 {
		t.Fatalf("sweep: %+v, %v", res, err)
	}
	create(t, s, "last")
	if got, _ := ids(t, s, at, 10); !slices.Equal(got, []sessiond.ID{"last"}) {
		t.Errorf("after the trim: %v", got)
	}
	commit(t, old)
}

// TestFeedTrimmedLate has transactions run while a position is taken, and trims everything after
// their end. A reader misses something only if one of them had an event.
func TestFeedTrimmedLate(t *testing.T) {
	t.Parallel()
	for _, forgotten := range []bool{false, true} {
		for _, tells := range []bool{false, true} {
			t.Run(fmt.Sprintf("tells=%t,forgotten=%t", tells, forgotten), func(t *testing.T) {
				t.Parallel()
				url := newDatabase(t)
				s := open(t, url, nil)
				early := begin(t, url)
				if _, err := early.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
					t.Fatal(err)
				}
				create(t, s, "s1")
				at := end(t, s)
				if tells {
					tell(t, early, "late", 1)
				}
				commit(t, early)
				p := sessiond.SweepParams{Limit: 10, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 0}
				if res, err := s.Sweep(t.Context(), p); err != nil || res.Trimmed == 0 {
					t.Fatalf("sweep: %+v, %v", res, err)
				}
				if forgotten {
					exec(t, url, "DELETE FROM sessiond.trimmed", "UPDATE sessiond.meta SET forgotten_txid = trimmed_txid")
				}
				batch := events(t, s, at, 10)
				if batch.Reset != (tells || forgotten) || len(batch.Events) != 0 {
					t.Errorf("batch %+v", batch)
				}
			})
		}
	}
}

// TestFeedTrimmedInStretch trims what a reader in the middle of a stretch was not given.
func TestFeedTrimmedInStretch(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t), nil)
	at := end(t, s)
	for i := range 6 {
		create(t, s, fmt.Sprintf("s%d", i))
	}
	one, three := events(t, s, at, 1).Position, events(t, s, at, 3).Position
	p := sessiond.SweepParams{Limit: 10, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 4}
	if res, err := s.Sweep(t.Context(), p); err != nil || res.Trimmed != 2 {
		t.Fatalf("sweep: %+v, %v", res, err)
	}
	if batch := events(t, s, one, 10); !batch.Reset || len(batch.Events) != 4 {
		t.Errorf("after one event: %+v", batch)
	}
	if batch := events(t, s, three, 10); batch.Reset || len(batch.Events) != 3 {
		t.Errorf("after three events, of which two are trimmed: %+v", batch)
	}
}

// TestFeedFarBehind reads a long feed of another tenant with one event at its end.
func TestFeedFarBehind(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, nil)
	at := end(t, s)
	fill(t, url, 9000)
	exec(t, url, "UPDATE sessiond.event SET tenant = 'other'")
	create(t, s, "needle")
	batch, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: at, Limit: 10})
	if err != nil || batch.Reset || len(batch.Events) != 1 || batch.Events[0].SessionID != "needle" {
		t.Errorf("batch %+v, %v", batch, err)
	}
	n := 0
	for after := at; ; n++ {
		batch, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: "other", After: after, Limit: 500})
		if err != nil || batch.Reset {
			t.Fatalf("batch %d: %v, Reset %t", n, err, batch.Reset)
		}
		if after = batch.Position; len(batch.Events) == 0 {
			break
		}
	}
	if n != 18 {
		t.Errorf("9000 events came in %d batches of 500", n)
	}
}

// TestFeedWakes has a second process write what the first waits for: by a hint, and by
// asking again.
func TestFeedWakes(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	for name, opts := range map[string]pgstore.Options{
		"hint": {PollInterval: time.Hour},
		"poll": {PollInterval: 50 * time.Millisecond, NoHints: true},
	} {
		t.Run(name, func(t *testing.T) {
			reader, writer := open(t, url, &opts), open(t, url, nil)
			at := end(t, reader)
			got := make(chan sessiond.EventBatch, 1)
			go func() {
				q := sessiond.EventQuery{Tenant: tenant, After: at, Limit: 10, Wait: time.Minute}
				batch, err := reader.Events(t.Context(), q)
				if err != nil {
					t.Error(err)
				}
				got <- batch
			}()
			c := connect(t, url)
			for deadline := time.Now().Add(10 * time.Second); name == "hint" && time.Now().Before(deadline); {
				const listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
				if value[int](t, c, listening) > 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			create(t, writer, "of-"+name)
			select {
			case batch := <-got:
				if len(batch.Events) != 1 {
					t.Errorf("woken with %+v", batch)
				}
			case <-time.After(10 * time.Second):
				t.Error("not woken")
			}
		})
	}
}

func FuzzPosition(f *testing.F) {
	long := pgstore.LongestPosition()
	f.Add(string(long))
	f.Add("AQAAAAAAAAAA")
	f.Add("AgMEBQYHCAkKAQAB")
	f.Add("")
	if len(long) > 25_000 {
		f.Errorf("the longest position has %d characters", len(long))
	}
	if _, ok := pgstore.Reparse(long); !ok {
		f.Error("the longest position is refused")
	}
	f.Fuzz(func(t *testing.T, s string) {
		again, ok := pgstore.Reparse(sessiond.Position(s))
		if ok && string(again) != s {
			t.Errorf("%q is accepted as %q", s, again)
		}
	})
}

// TestPositionLength looks at a position as it is most of the time.
func TestPositionLength(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t), nil)
	create(t, s, "s1")
	at := end(t, s)
	if len(at) > 100 || strings.ContainsAny(string(at), " \r\n+/=") {
		t.Errorf("position %q", at)
	}
}
