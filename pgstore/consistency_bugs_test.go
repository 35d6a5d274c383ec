package pgstore_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
	"sessiond.example/sessiond/pgstore"
)

// slowCommits makes commits take up to 6 ms longer after everything is decided and
// the numbers of the events are drawn: commits come in another order than the
// numbers, and deadlines pass meanwhile.
func slowCommits(t testing.TB, url string) {
	exec(t, url, `CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_sleep(random() * 0.006); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON sessiond.event DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION linger()`,
		`CREATE CONSTRAINT TRIGGER linger AFTER UPDATE ON sessiond.session DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION linger()`)
}

func TestConsistencySlowCommits(t *testing.T) {
	t.Parallel()
	consistency.Run(t, consistency.Config{For: 2 * time.Second, Least: 1000, Open: func(t testing.TB) (a, b sessiond.Store) {
		url := newDatabase(t)
		slowCommits(t, url)
		return replicas(t, url, url)
	}})
}

// TestConsistencyFindsBugs puts one known bug at a time into a store on a real server
// and wants it to be found.
func TestConsistencyFindsBugs(t *testing.T) {
	for name, bug := range map[string]struct {
		open func(t testing.TB, url string) (a, b sessiond.Store)
		rule consistency.Rule
		says string
	}{
		"numeric-cursor": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				slowCommits(t, url)
				s, _ := replicas(t, url, url)
				return numericCursor(t, url, s), numericCursor(t, url, s)
			},
			rule: consistency.Feed, says: `had no event between versions|told that nothing more had happened`,
		},
		"upsert": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				exec(t, url, `CREATE FUNCTION replace() RETURNS trigger LANGUAGE plpgsql AS $$
					BEGIN DELETE FROM sessiond.session WHERE tenant = NEW.tenant AND id = NEW.id; RETURN NEW; END $$`,
					`CREATE TRIGGER replace BEFORE INSERT ON sessiond.session FOR EACH ROW EXECUTE FUNCTION replace()`)
				return replicas(t, url, url)
			},
			rule: consistency.Linearizable, says: `is created twice|is created over a session that had ended`,
		},
		"clock-of-replica": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				wrong := func() time.Duration { return 300 * time.Millisecond }
				return open(t, url, nil), open(t, url, &pgstore.Options{Skew: wrong})
			},
			rule: consistency.Clock, says: `ran backwards|not one clock`,
		},
		"retried-writes": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				a, b = replicas(t, url, url)
				return &consistency.Retrying{Store: a}, &consistency.Retrying{Store: b}
			},
			rule: consistency.Feed, says: `was changed 2 times by one operation|for an operation that was answered as|which came again as`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			r := consistency.Check(consistency.Record(t, consistency.Config{
				For: time.Second, Least: 1500,
				Open: func(t testing.TB) (a, b sessiond.Store) { return bug.open(t, url) },
			}))
			says := regexp.MustCompile(bug.says)
			if !slices.ContainsFunc(r.Violations, func(v consistency.Violation) bool {
				return v.Rule == bug.rule && says.MatchString(v.Text)
			}) {
				t.Errorf("no violation of rule %q says %q: %v\n%v", bug.rule, bug.says, r, r.Err())
			}
		})
	}
}

// A numbered store reads its feed by the number of the last event that it has
// seen, as if commits came in the order of their numbers.
type numbered struct {
	sessiond.Store
	pool *pgxpool.Pool
}

func numericCursor(t testing.TB, url string, s sessiond.Store) sessiond.Store {
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &numbered{s, pool}
}

func (s *numbered) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	if q.After == "" {
		var last int64
		err := s.pool.QueryRow(ctx, "SELECT coalesce(max(ord), 0) FROM sessiond.event").Scan(&last)
		return sessiond.EventBatch{Position: sessiond.Position(strconv.FormatInt(last, 10))}, err
	}
	last, err := strconv.ParseInt(string(q.After), 10, 64)
	if err != nil {
		return sessiond.EventBatch{}, err
	}
	for until := time.Now().Add(q.Wait); ; time.Sleep(2 * time.Millisecond) {
		batch, err := s.page(ctx, q.Tenant, last, q.Limit)
		if err != nil || len(batch.Events) > 0 || time.Now().After(until) {
			return batch, err
		}
	}
}

func (s *numbered) page(ctx context.Context, tenant string, last int64, limit int) (sessiond.EventBatch, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT ord, tenant, session_id, id, type, at, subject, version, reason, note, sub, client, request_id
		FROM sessiond.event WHERE tenant = $1 AND ord > $2 ORDER BY ord LIMIT $3`, tenant, last, limit)
	if err != nil {
		return sessiond.EventBatch{}, fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err)
	}
	defer rows.Close()
	var batch sessiond.EventBatch
	for rows.Next() {
		var e sessiond.Event
		var at int64
		if err := rows.Scan(&last, &e.Tenant, &e.SessionID, &e.ID, &e.Type, &at, &e.Subject, &e.Version, &e.Reason,
			&e.Note, &e.Actor.Sub, &e.Actor.Client, &e.RequestID); err != nil {
			return sessiond.EventBatch{}, err
		}
		e.Time = time.UnixMilli(at).UTC()
		batch.Events = append(batch.Events, e)
	}
	batch.Position = sessiond.Position(strconv.FormatInt(last, 10))
	return batch, rows.Err()
}
