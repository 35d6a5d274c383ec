package redisstore

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// connectTime bounds how long a connection may take to be made and greeted. An outage must
// not hold up the attempt after it.
const connectTime = time.Second

// A notConnected is the error of a connection before the server has said anything on
// it. The client greets first, so no command of ours was sent.
type notConnected struct{ err error }

func (e *notConnected) Error() string { return "connecting: " + e.err.Error() }

// Unwrap is missing on purpose: the client takes some errors for those of the command.

// conns are the open connections of a store.
type conns struct {
	dropped  atomic.Int64 // time of the last drop, in nanoseconds of Unix time
	troubled atomic.Int64 // time of the last error or lost connection

	mu   sync.Mutex
	open map[*conn]struct{}
	gone chan struct{} // closed when one is closed
}

func newConns() *conns { return &conns{open: make(map[*conn]struct{}), gone: make(chan struct{})} }

// A conn is a connection that knows whether the server has said anything.
type conn struct {
	net.Conn
	set    *conns
	heard  atomic.Bool
	closed atomic.Bool
}

// dial connects. The caller's context does not end it: others wait for the same connection.
func (s *conns) dial(ctx context.Context, addr string, _ *net.Dialer, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime)
	defer cancel()
	dialer := &net.Dialer{KeepAlive: time.Second}
	var c net.Conn
	var err error
	if config != nil {
		c, err = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", addr)
	} else {
		c, err = dialer.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, &notConnected{err}
	}
	ours := &conn{Conn: c, set: s}
	s.mu.Lock()
	s.open[ours] = struct{}{}
	s.mu.Unlock()
	return ours, nil
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !c.closed.Load() {
		c.set.trouble() // lost
	}
	if c.heard.Load() {
		return n, err
	}
	if n > 0 {
		c.heard.Store(true)
		return n, err
	}
	if err != nil {
		err = &notConnected{err}
	}
	return n, err
}

func (c *conn) Close() error {
	s := c.set
	c.closed.Store(true)
	s.mu.Lock()
	if _, ok := s.open[c]; ok {
		delete(s.open, c)
		close(s.gone)
		s.gone = make(chan struct{})
	}
	s.mu.Unlock()
	return c.Conn.Close()
}

// drop closes all connections, so that the next ones find the server that the address
// leads to now. It does so once a second at most.
func (s *conns) drop() {
	now := time.Now().UnixNano()
	last := s.dropped.Load()
	if now-last < int64(time.Second) || !s.dropped.CompareAndSwap(last, now) {
		return
	}
	s.mu.Lock()
	var open []*conn
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Conn.Close() // the client notices by its reads, and closes it too
	}
}

// trouble notes an error.
func (s *conns) trouble() { s.troubled.Store(time.Now().UnixNano()) }

// settle waits until the client has no look at the topology of a cluster ahead. It takes one
// up to a second after an error, and can't be told not to.
func (s *conns) settle() {
	const longest = 1100 * time.Millisecond
	if since := time.Duration(time.Now().UnixNano() - s.troubled.Load()); since < longest {
		time.Sleep(longest - since)
	}
}

// drained waits until all connections are closed, but not for ever.
func (s *conns) drained() {
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	for {
		s.mu.Lock()
		n, gone := len(s.open), s.gone
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-gone:
		case <-patience.C:
			return
		}
	}
}
