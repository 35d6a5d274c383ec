package pgstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A wire is the network side of one connection: what it has to know that the driver
// does not tell. Those who use the connection own it.
type wire struct {
	conn net.Conn // below everything
	// sent tells that something was written since it was last set to false.
	sent atomic.Bool
	// writing is set while a change is under way. It keeps the driver from asking the
	// server to cancel: PostgreSQL answers a cancelled wait for a standby with success, so that
	// an impatient caller would turn a replicated commit into one that is not.
	writing atomic.Bool
	// warned tells that the server gave a warning, such as the one that a commit may not have
	// been replicated.
	warned atomic.Bool
	// made is set when the connection exists. From then on dialing serves cancel requests only.
	made atomic.Bool
}

const wireKey = "sessiond"

var errNoCancel = errors.New("a change is not cancelled")

func wireOf(c *pgx.Conn) *wire { return c.PgConn().CustomData()[wireKey].(*wire) }

// attach gives the configuration of one connection a wire.
func attach(config *pgx.ConnConfig) {
	w := new(wire)
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !w.made.Load() {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			w.conn = c
			return &wiredConn{c, w}, nil
		}
		if w.writing.Load() {
			return nil, errNoCancel
		}
		ctx, cancel := context.WithTimeout(ctx, lastWords)
		defer cancel()
		c, err := dial(ctx, network, addr)
		if err == nil {
			err = c.SetDeadline(time.Now().Add(lastWords))
		}
		return c, err
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if strings.HasPrefix(n.Code, "01") || strings.HasPrefix(n.Code, "57P") {
			w.warned.Store(true)
		}
	}
	valid := config.ValidateConnect
	config.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		c.CustomData()[wireKey] = w
		if err := valid(ctx, c); err != nil {
			return err
		}
		w.made.Store(true)
		return nil
	}
}

// lastWords bounds what the driver does in the background with a connection that has failed, where
// it would take 15 seconds for each of two steps.
const lastWords = time.Second

// A wiredConn is a connection to the server.
type wiredConn struct {
	net.Conn
	wire *wire
}

func (c *wiredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.wire.sent.Store(true)
	}
	return n, err
}

// SetDeadline is called by the driver to end what is under way, or with the time until
// which a failed connection may take its leave.
func (c *wiredConn) SetDeadline(t time.Time) error {
	if latest := time.Now().Add(lastWords); t.After(latest) {
		t = latest
	}
	return c.Conn.SetDeadline(t)
}

const (
	connectTimeout = 2 * time.Second
	// pingIdle is how long a connection is idle before it is asked whether it
	// still works. What a look at the socket shows is noticed before.
	pingIdle = 30 * time.Second
)

// parseURL reads a connection URL. Connections go to a server that can write,
// unless the URL says otherwise.
func parseURL(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("connection URL: %w", err)
	}
	conn := config.ConnConfig
	if conn.ConnectTimeout == 0 || conn.ConnectTimeout > time.Minute {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { // of the pool
		attach(c)
		return nil
	}
	if _, ok := conn.RuntimeParams["application_name"]; !ok {
		conn.RuntimeParams["application_name"] = "sessiond"
	}
	return config, nil
}

// dial makes a connection outside of the pool.
func dial(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	config = config.Copy()
	attach(config)
	return pgx.ConnectConfig(ctx, config)
}

func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	_ = c.Close(ctx) // nothing is under way on it
}

// settings are what connections to a server itself ask for. A pooler refuses
// them, or gives them to whoever comes next.
func settings(config *pgx.ConnConfig, timeout time.Duration) {
	for k, v := range map[string]string{
		// A statement that waits for a row goes on with what the row has become.
		"default_transaction_isolation": "read committed",
		"default_transaction_read_only": "off",
		// The server ends what takes too long, just before nobody waits for it any more:
		// then it is known that nothing was applied.
		"statement_timeout":                   fmt.Sprint(timeout.Milliseconds() * 9 / 10),
		"idle_in_transaction_session_timeout": fmt.Sprint(2 * timeout.Milliseconds()),
		// Statements here are short and take the same way, by indexes, whatever their values are
		// and the server believes to know of the tables' sizes. Planning them each time, or
		// compiling them, takes longer than running them.
		"plan_cache_mode":   "force_generic_plan",
		"enable_seqscan":    "off",
		"enable_bitmapscan": "off",
		"jit":               "off",
	} {
		if _, ok := config.RuntimeParams[k]; !ok {
			config.RuntimeParams[k] = v
		}
	}
}

// usable is asked before a connection is used: one that the server has ended must
// not be given a write, of which the outcome would then be unknown.
func usable(ctx context.Context, c *pgx.Conn) bool {
	pending, err := peek(c.PgConn().Conn())
	if err != nil {
		return false
	}
	return !pending || c.Ping(ctx) == nil
}
