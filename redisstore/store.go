// Package redisstore keeps sessions in Redis or Valkey: one server, a cluster, or a master
// that sentinels watch over. Redis 7.0 or Valkey 7.2 is the oldest that will do.
//
// Whether it is durable is up to the server's settings; [Store.Guarantee] says what they
// amount to. README.md in this directory tells how the store works and how to set up the server.
package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// layoutVersion is the newest layout that this program knows.
const layoutVersion = 1

// Options of a [Store]. Nil and the zero value are fine.
type Options struct {
	// Skew moves the store's clock, for tests. It must not decrease. Default: the
	// server's clock as it is
	Skew func() time.Duration
	// Timeout is how long an answer is waited for, over what the URL says. Default: the
	// URL's timeout option, or 3 s
	Timeout time.Duration
	shift   func() shift // in place of Skew
}

// A Store is a [sessiond.Store] in Redis, safe for concurrent use.
type Store struct {
	target  *target
	layout  *layout
	conns   *conns
	client  valkey.Client
	shift   func() shift
	token   string // of the sweeper's lease
	feed    feed
	readers readers
	waiting chan struct{} // holds a token for each write that waits for replicas
	later   chan struct{} // holds a token for each repair under way
	sweeps  sync.Mutex
	leased  atomic.Bool

	mu      sync.Mutex
	closed  bool
	closing chan struct{} // closed by Close
	calls   sync.WaitGroup
}

var errClosed = fmt.Errorf("%w: closed", sessiond.ErrUnavailable)

// Open connects to the store that url names and founds it if there is none.
//
//	redis://[user:password@]host[:port][/db]
//	redis+cluster://[user:password@]host:port,host:port,...
//	redis+sentinel://[user:password@]host:port,host:port,.../master[/db]
//
// With rediss in place of redis connections are encrypted. Options are prefix (of all
// keys, "sessiond:" if not given), timeout, wait_replicas or wait_aof, wait_timeout, ca_file,
// cert_file and key_file, sentinel_username and sentinel_password, db; others are refused.
//
// The error wraps [sessiond.ErrUnavailable] when the server can't be reached or does not
// answer. A store of a newer layout, a server too old, and one that may evict keys are
// refused with other errors. No error has a password in it.
func Open(ctx context.Context, url string, opts *Options) (*Store, error) {
	s, err := open(ctx, url, opts)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, url string, opts *Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Timeout > 0 {
		t.timeout = o.Timeout
		if err := t.check(); err != nil {
			return nil, err
		}
	}
	s := &Store{
		target: t, layout: newLayout(t.prefix), conns: newConns(), shift: o.shift, token: rand.Text(),
		waiting: make(chan struct{}, 64), later: make(chan struct{}, 32), closing: make(chan struct{}),
	}
	s.feed.init()
	if s.shift == nil {
		s.shift = func() shift { return shift{} }
		if o.Skew != nil {
			s.shift = func() shift { return shift{ms: o.Skew().Milliseconds()} }
		}
	}
	if s.client, err = t.connect(s.conns); err != nil {
		return nil, err
	}
	err = s.checkServers(ctx)
	if err == nil {
		_, err = s.found(ctx)
	}
	if err != nil {
		s.client.Close()
		s.conns.drained()
		return nil, err
	}
	return s, nil
}

// found founds the store if there is none, checks its facts, and returns the epoch of its feed.
func (s *Store) found(ctx context.Context) (epoch string, err error) {
	var random [8]byte
	rand.Read(random[:])
	answer, err := s.write(ctx, &call{foundScript, []string{s.layout.meta}, []string{
		strconv.Itoa(layoutVersion), strconv.Itoa(partitions), hex.EncodeToString(random[:]),
	}})
	if err != nil {
		return "", err
	}
	facts, err := answer.AsStrSlice()
	if err != nil || len(facts) != 3 {
		return "", corrupt("no facts about the store")
	}
	version, err := strconv.Atoi(facts[0])
	switch {
	case err != nil || version < 1:
		return "", corrupt("layout version %.20q", facts[0])
	case version > layoutVersion:
		return "", fmt.Errorf("the store has layout version %d, and this program knows versions up to %d: "+
			"it was written by a newer sessiond", version, layoutVersion)
	case facts[1] != strconv.Itoa(partitions):
		return "", fmt.Errorf("the store has %.20s partitions, and this program knows stores with %d only",
			facts[1], partitions)
	case len(facts[2]) != 2*len(random):
		return "", corrupt("epoch of the feed")
	}
	return facts[2], nil
}

// clock is what scripts get to know about the time.
func (s *Store) clock() string { return s.shift().arg() }

// begin starts a method: end has to follow, unless there is an error.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) end() { s.calls.Done() }

// afterwards runs fn beside the caller, or, when many such run already, at once. It is for
// repairs that readers would make otherwise, within a call to a method.
func (s *Store) afterwards(fn func(ctx context.Context)) {
	ctx := context.Background()
	select {
	case s.later <- struct{}{}:
	default:
		fn(ctx)
		return
	}
	s.calls.Add(1)
	go func() {
		defer s.calls.Done()
		defer func() { <-s.later }()
		fn(ctx)
	}()
}

// Close implements [sessiond.Store]. The sessions stay.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("redisstore: closed twice")
	}
	s.closed = true
	close(s.closing)
	s.mu.Unlock()
	s.calls.Wait()
	s.releaseLease()
	if s.target.kind == cluster {
		s.conns.settle()
	}
	s.client.Close()
	s.conns.drained()
	return nil
}

// The statuses that create and change return.
const (
	statusDone  = 0
	statusOther = 1 // create: the key is taken; change: the record is another one by now
	statusStale = 2 // the entry in the subject index is too old
)

// parseStatus reads what create and change return.
func parseStatus(answer valkey.ValkeyMessage) (status int64, rest []valkey.ValkeyMessage, err error) {
	a, err := answer.ToArray()
	if err != nil || len(a) == 0 {
		return 0, nil, corrupt("answer of a script")
	}
	if status, err = a[0].AsInt64(); err != nil {
		return 0, nil, corrupt("answer of a script")
	}
	return status, a[1:], nil
}

// parseTime reads a time in milliseconds.
func parseTime(m valkey.ValkeyMessage) (time.Time, error) {
	ms, err := m.AsInt64()
	if err != nil {
		return time.Time{}, corrupt("time in the answer of a script")
	}
	return fromMS(ms), nil
}
