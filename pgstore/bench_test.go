package pgstore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"sessiond.example/sessiond/storetest"
)

// BenchmarkReads measures Get beside a plain query of a table for each page.
//
//	go test ./pgstore -run '^$' -bench Reads/.*/64
func BenchmarkReads(b *testing.B) {
	url := newDatabase(b)
	storetest.BenchReads(b, open(b, url, nil), pages(b, url))
}

// pages gives a function that reads one session of a plain table.
func pages(b *testing.B, url string) func(i int) error {
	exec(b, url, "CREATE TABLE sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry timestamptz NOT NULL)",
		"CREATE INDEX ON sessions (expiry)", fmt.Sprintf(`INSERT INTO sessions
		SELECT 'token-of-forty-three-characters-' || lpad((i - 1)::text, 11, '0'), decode(repeat('ab', %d), 'hex'), now() + '1 day'
		FROM generate_series(1, %d) i`, storetest.BenchPageSize, storetest.BenchPages), "VACUUM ANALYZE sessions")
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
