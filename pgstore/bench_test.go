package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pgstore"
)

// BenchmarkCalls measures calls from one caller and from 64 at the same time. Page is
// what an application pays that keeps its sessions in a table by itself, one
// plain query for each page: the measure for Get.
//
//	go test ./pgstore -run '^$' -bench Calls/.*/64
func BenchmarkCalls(b *testing.B) {
	url := newDatabase(b)
	s := open(b, url, nil)
	page := pages(b, url)
	const sessions = 10_000
	name := func(i int) string { return fmt.Sprintf("01980000-0000-7000-8000-%012d", i) }
	inParallel(b, 64, sessions, func(i int) error { return largeSession(s, name(i)) })
	var created atomic.Int64
	hot := func(int) int { return 0 }
	random := func(int) int { return rand.IntN(sessions) }
	for _, bb := range []struct {
		name string
		do   func(which int) error
		pick func(i int) int
	}{
		{"PageHot", page, hot},
		{"GetHot", func(i int) error { return get(s, name(i)) }, hot},
		{"PageRandom", page, random},
		{"GetRandom", func(i int) error { return get(s, name(i)) }, random},
		{"Create", func(int) error { return largeSession(s, fmt.Sprint("new-", created.Add(1))) }, hot},
		{"Update", func(i int) error {
			_, err := s.Update(context.Background(), key(name(i)), bump)
			return err
		}, random},
		{"Touch", func(i int) error {
			_, err := s.Touch(context.Background(), key(name(i)), sessiond.Incarnation{}, time.Time{})
			return err
		}, random},
	} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", bb.name, callers), func(b *testing.B) {
				b.ReportAllocs()
				inParallel(b, callers, b.N, func(i int) error { return bb.do(bb.pick(i)) })
			})
		}
	}
}

// inParallel calls fn for 0 to n-1 from several callers.
func inParallel(b *testing.B, callers, n int, fn func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// dataSize is the size of a session's data, in bytes.
const dataSize = 400

func largeSession(s *pgstore.Store, id string) error {
	c := creation(id)
	c.Record.Subject = "subject-" + id[len(id)-1:]
	c.Record.Data = make([]byte, dataSize)
	_, err := s.Create(context.Background(), c)
	return err
}

// get reads with a context that can end, as that of a request.
func get(s *pgstore.Store, id string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := s.Get(ctx, key(id))
	return err
}

// pages gives a function that reads one session of a plain table.
func pages(b *testing.B, url string) func(i int) error {
	exec(b, url, "CREATE TABLE sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry timestamptz NOT NULL)",
		"CREATE INDEX ON sessions (expiry)", fmt.Sprintf(`INSERT INTO sessions
		SELECT 'token-of-forty-three-characters-' || lpad(i::text, 11, '0'), decode(repeat('ab', %d), 'hex'), now() + '1 day'
		FROM generate_series(0, 9999) i`, dataSize), "VACUUM ANALYZE sessions")
	pool, err := pgxpool.New(b.Context(), url+"&pool_max_conns=16")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return func(i int) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		token := fmt.Sprintf("token-of-forty-three-characters-%011d", i)
		var data []byte
		const find = "SELECT data FROM sessions WHERE token = $1 AND current_timestamp < expiry"
		return pool.QueryRow(ctx, find, token).Scan(&data)
	}
}
