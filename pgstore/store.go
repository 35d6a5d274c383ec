// Package pgstore keeps sessions in PostgreSQL, version 13 or later, which any
// number of processes may share.
//
//	if _, err := pgstore.Migrate(ctx, url); err != nil { ... } // once for each new version
//	store, err := pgstore.Open(ctx, url, nil)
//
// Every operation is one statement where that is possible, decided by the
// server's clock. Nothing is retried behind the caller's back, and a write of
// which the outcome is not certain says so. README.md tells the life of a
// session here.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sessiond.example/sessiond"
)

// Options of a [Store]. The zero value, and nil, are fine.
type Options struct {
	// Timeout bounds what one call waits for the server once its statement was
	// sent. After it a write is ErrUnknown, a read ErrUnavailable. Default: 5s
	Timeout time.Duration
	// Logger gets what goes wrong behind a call. Default: nothing is logged.
	Logger *slog.Logger
	// Skew is added to the server's clock. It is for tests and must not go back.
	// Default: nothing is added
	Skew func() time.Duration
	// NoHints keeps the store from using NOTIFY and LISTEN, with which events written
	// by other processes arrive in some milliseconds instead of up to PollInterval. They
	// need up to two connections beside the pool, and are not used behind a pooler.
	NoHints bool
	// PollInterval is how often the feed is asked for what other processes have
	// written, while somebody waits for it. Default: 150ms
	PollInterval time.Duration
}

// A Store is a [sessiond.Store] in PostgreSQL, safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	pooled bool // behind a pooler
	// prepares tells that statements are prepared on each connection, under names.
	prepares bool
	log      *slog.Logger
	timeout  time.Duration
	skew     func() time.Duration
	clock    watermark
	reads    reads
	feed     *feed

	gate     sync.RWMutex // held for reading by calls under way, for writing by Close
	closed   bool         // under gate
	closing  chan struct{}
	stop     sync.Once
	sweeping sync.Mutex
}

// Open connects to the database of url, a connection URL or key=value string of
// libpq; pool_max_conns and the other pool_ and default_query_exec_mode
// parameters of pgx are understood too. It does not make or change the schema: when that is
// missing or of a version that this program does not know, the error matches
// [ErrSchema].
//
// Behind a pooler, which it notices, it works without prepared statements and
// without settings of the session, so that transaction pooling is fine.
func Open(ctx context.Context, url string, opts *Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pgstore: open: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := open(bounded, url, opts)
	switch {
	case err == nil:
		return s, nil
	case bounded.Err() != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("pgstore: open: %w: no answer within %v: %w", sessiond.ErrUnavailable, openTimeout, err)
	default:
		return nil, fmt.Errorf("pgstore: open: %w", err)
	}
}

// openTimeout bounds Open.
const openTimeout = 3 * time.Second

func open(ctx context.Context, url string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.setDefaults()
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	pooled, err := inspect(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	s := &Store{
		pooled: pooled, log: o.Logger, timeout: o.Timeout, skew: o.Skew, closing: make(chan struct{}),
	}
	s.prepares = !pooled && config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
	s.configure(config, strings.Contains(url, "default_query_exec_mode"), strings.Contains(url, "pool_max_conns"))
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	s.reads.read = s.readGroup
	s.feed = newFeed(s, config.ConnConfig, &o)
	if err := s.check(ctx); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

func (o *Options) setDefaults() {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Skew == nil {
		o.Skew = func() time.Duration { return 0 }
	}
	if o.PollInterval <= 0 {
		o.PollInterval = 150 * time.Millisecond
	}
}

// configure adapts the pool to what is there: the server or a pooler.
func (s *Store) configure(config *pgxpool.Config, ownMode, ownSize bool) {
	if s.pooled {
		if !ownMode {
			// Transactions may meet another server connection each: no statement has a name there.
			config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
	} else {
		settings(config.ConnConfig, s.timeout)
	}
	if !ownSize {
		config.MaxConns = max(16, 4*int32(runtime.GOMAXPROCS(0)))
	}
	config.PingTimeout = connectTimeout
	config.PrepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) { return usable(ctx, c), nil }
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > pingIdle }
}

// inspect makes a connection to see whether it leads to a pooler: then the process
// that works for it is not the one that the connection was told of.
func inspect(ctx context.Context, config *pgx.ConnConfig) (pooled bool, err error) {
	c, err := dial(ctx, config)
	if err != nil {
		return false, fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err)
	}
	defer closeConn(c)
	var pid uint32
	var isolation string
	const ask = "SELECT pg_backend_pid(), current_setting('default_transaction_isolation')"
	if err := c.QueryRow(ctx, ask, pgx.QueryExecModeExec).Scan(&pid, &isolation); err != nil {
		return false, fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err)
	}
	if pooled = pid != c.PgConn().PID(); pooled && isolation != "read committed" {
		return false, fmt.Errorf("behind a pooler default_transaction_isolation must be 'read committed', not %q: "+
			"set it for the role or the database", isolation)
	}
	return pooled, nil
}

// check makes sure that the schema is one that this program knows.
func (s *Store) check(ctx context.Context) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	status, err := readStatus(ctx, c.Conn())
	if err != nil {
		return err
	}
	return status.usable()
}

// begin admits a call, which has to call s.gate.RUnlock when it is done.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.gate.RLock()
	if s.closed {
		s.gate.RUnlock()
		return errClosed
	}
	return nil
}

// at takes note of a time of the store.
func (s *Store) at(ms int64) time.Time {
	s.clock.saw(ms)
	return fromMS(ms)
}

// Close implements [sessiond.Store]. Calls that wait for events return at once.
func (s *Store) Close() error {
	s.stop.Do(func() { close(s.closing) })
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return errors.New("pgstore: closed twice")
	}
	s.closed = true
	s.feed.stop()
	s.reads.wait()
	s.pool.Close()
	return nil
}

// Stats implements [sessiond.Store].
func (s *Store) Stats(ctx context.Context) (sessiond.Stats, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Stats{}, err
	}
	defer s.gate.RUnlock()
	stats := sessiond.Stats{Active: make(map[string]int64), DataKeys: make(map[uint32]int64)}
	before := time.Now()
	err := s.read(ctx, s.timed(statsSQL), func(r *row) error {
		stats.Now = s.at(r.int())
		kind, key, n := r.text(), r.text(), r.int()
		switch kind {
		case "active":
			stats.Active[key] = n
		case "data_key":
			var k uint32
			if _, err := fmt.Sscan(key, &k); err != nil {
				return fmt.Errorf("counter of data key %q: %w", key, err)
			}
			stats.DataKeys[k] = n
		}
		return nil
	})
	if err != nil {
		return sessiond.Stats{}, err
	}
	half := time.Since(before) / 2
	stats.ClockOffset = before.Add(half).Sub(stats.Now).Truncate(time.Millisecond)
	return stats, nil
}
