// Package pebblestore keeps sessions in a directory of this machine, in the
// log-structured engine Pebble. It needs no other program; one process at a time
// owns the directory.
//
//	store, err := pebblestore.Open(ctx, "/var/lib/sessiond", nil)
//
// Every write is on disk when it returns, and nothing is shown that a power cut
// could take back. Writes that come together share one sync. README.md tells the
// life of a session here.
package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/steadyclock"
)

// Options of a [Store]. The zero value, and nil, are fine.
type Options struct {
	// FS is the file system of the directory. Default: that of the machine, on which
	// new directories and files are accessible to their owner only.
	FS vfs.FS
	// Clock is read for the store's time. Default: the machine's clocks.
	Clock steadyclock.Source
	// Logger gets what goes wrong behind a call. Default: nothing is logged.
	Logger *slog.Logger
	// BlockCache is the size in bytes of the cache of file blocks. Default: 128 MiB.
	BlockCache int64
	// RecordCache is the size in bytes, by estimate, of the cache of records, which makes
	// reads of sessions in use cheap. A fifth of it is for those read most, decoded; in the
	// rest a session takes some 60 bytes more than on the disk. Default: 160 MiB.
	RecordCache int64
	// MinFree is the free disk space in bytes below which creates, updates and
	// touches fail with ErrUnavailable. Ends, erasures and sweeps go on down to
	// half of it, reads always. It is checked once a second. Negative: no
	// check. Default: 64 MiB.
	MinFree int64
	// NewEpoch begins a new epoch of the feed, for a directory that was put back from
	// a copy: positions from before would otherwise mean other events. Readers that
	// come with one get a batch with Reset.
	NewEpoch bool
	// NotBefore is a time that the store's clock has reached. Default: it starts at
	// the machine's time, or at the latest that the store has served.
	NotBefore time.Time
	// MustExist makes Open fail with ErrNoStore instead of making a store.
	MustExist bool
	// OnFatal is called once, when the engine has failed such that neither its log
	// nor what it shows in memory can be trusted. It should end the process;
	// the next start recovers what is durable. If it returns, all
	// calls fail, those under way may never return, and the directory stays locked. Default: log
	// and exit with status 1.
	OnFatal func(error)
}

// A Store is a [sessiond.Store] in a directory, safe for concurrent use.
type Store struct {
	db    *pebble.DB
	fs    *guardedFS
	dir   string
	log   *slog.Logger
	clock *steadyclock.Clock
	epoch uint64 // marks positions of this store's feed
	// layout is the version of keys and values that the store is kept in.
	layout atomic.Uint64
	seed   maphash.Seed
	cache  *cache
	disk   diskGauge

	gate        sync.RWMutex // held for reading by calls under way, for writing by Close
	closed      bool         // under gate
	closing     chan struct{}
	flushFailed chan struct{}
	failed      atomic.Pointer[error]
	onFatal     func(error)

	txs sync.Pool // of *tx

	stripes  [stripeCount]stripe
	subjects [subjectCount]sync.Mutex // taken before stripes
	sweeping sync.Mutex
	overdue  int // entries of the due index that the last pass left, at least; guarded by sweeping

	pacer pacer

	// Commits are made one after the other, so that what has a number or is
	// counted is in the log in that order.
	commitMu  sync.Mutex // taken after stripes
	counters  map[counter]int64
	nextEvent uint64
	appended  int64 // time of the last event
	clockAt   int64 // the clock as it was last written
	due       frontier
	ended     frontier

	last      atomic.Pointer[commit] // the newest commit; never nil
	unsettled atomic.Int64           // commits that were applied and not yet settled
	synced    atomic.Uint64          // number of a commit that is durable, as are all before it
	firstKept atomic.Uint64          // number of the oldest event
	feed      feed
}

var (
	errClosed = fmt.Errorf("%w: the store is closed", sessiond.ErrUnavailable)
	errFailed = fmt.Errorf("%w: the storage engine has failed", sessiond.ErrUnavailable)
)

// ErrNoStore is the error of an Open that must not make a store where there is none.
var ErrNoStore = errors.New("there is no store in the directory")

const defaultMinFree = 64 << 20

// Open opens the store in dir, and makes it when dir does not exist or is empty. It refuses
// a directory that another process uses, that holds something else, or that a
// newer program has written. ctx only guards the beginning of the call.
func Open(ctx context.Context, dir string, opts *Options) (*Store, error) {
	s, err := open(ctx, dir, opts)
	if err != nil {
		return nil, fmt.Errorf("pebblestore: open %s: %w", dir, err)
	}
	return s, nil
}

func open(ctx context.Context, dir string, opts *Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o := withDefaults(opts)
	s := &Store{
		dir: dir, log: o.Logger, seed: maphash.MakeSeed(),
		closing: make(chan struct{}), flushFailed: make(chan struct{}, 1), onFatal: o.OnFatal,
		pacer: pacer{epoch: time.Now()},
	}
	s.fs = &guardedFS{FS: o.FS, private: o.FS == vfs.Default, store: s}
	if err := checkDirectory(o.FS, dir); err != nil {
		return nil, err
	}
	if o.MustExist && !holdsDatabase(o.FS, dir) {
		return nil, ErrNoStore
	}
	s.fs.home = o.FS.PathJoin(dir)
	db, err := openEngine(dir, pebbleOptions(s.fs, o, &engineLogger{o.Logger, s.fatal, s.flushFailed}, &s.unsettled))
	if err != nil {
		return nil, openError(err)
	}
	facts, err := readFacts(db)
	if err == nil && o.NewEpoch {
		facts.epoch, err = newEpoch(db)
	}
	if err == nil {
		err = s.removeLeftovers()
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.db = db
	if facts.clock.Before(o.NotBefore) {
		facts.clock = o.NotBefore
	}
	s.clock = steadyclock.New(o.Clock, facts.clock)
	s.layout.Store(facts.layout)
	decoded := o.RecordCache / 5
	s.cache = newCache(decoded, o.RecordCache-decoded, s.now, &s.synced)
	s.disk = diskGauge{fs: o.FS, dir: dir, minFree: o.MinFree, log: o.Logger}
	s.epoch, s.counters, s.nextEvent = facts.epoch, facts.counters, facts.next
	s.firstKept.Store(facts.firstKept)
	s.feed.synced.Store(facts.next)
	s.last.Store(&commit{})
	for i := range s.stripes {
		s.stripes[i].pending = make(map[sessiond.Key]*change)
	}
	s.fs.serving.Store(true)
	return s, nil
}

func withDefaults(opts *Options) *Options {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = steadyclock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BlockCache <= 0 {
		o.BlockCache = 128 << 20
	}
	if o.RecordCache <= 0 {
		o.RecordCache = 160 << 20
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) { os.Exit(1) }
	}
	return &o
}

// now reads the store's clock.
func (s *Store) now() time.Time { return s.clock.Now().Truncate(time.Millisecond) }

// begin admits a call, which has to call s.gate.RUnlock when it is done.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.gate.RLock()
	switch {
	case s.closed:
		s.gate.RUnlock()
		return errClosed
	case s.failed.Load() != nil:
		s.gate.RUnlock()
		return errFailed
	}
	return nil
}

// fail stops the store for good, and normally the process.
func (s *Store) fail(err error) {
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("the storage engine has failed; stopping", "err", err, "dir", s.dir)
		s.onFatal(err)
		s.feed.wake()
	}
}

// fatal is fail for callers that can't go on, and keeps what locks they hold.
func (s *Store) fatal(err error) {
	s.fail(err)
	select {}
}

// unavailable is the error of a read that failed.
func unavailable(err error) error { return fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err) }

// Stats implements [sessiond.Store].
func (s *Store) Stats(ctx context.Context) (sessiond.Stats, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Stats{}, err
	}
	defer s.gate.RUnlock()
	s.commitMu.Lock()
	stats := sessiond.Stats{Active: make(map[string]int64), DataKeys: make(map[uint32]int64)}
	for c, n := range s.counters {
		if c.key == 0 {
			stats.Active[c.tenant] = n
		} else {
			stats.DataKeys[c.key] = n
		}
	}
	last := s.last.Load()
	stats.Now = s.now()
	s.commitMu.Unlock()
	if err := last.wait(); err != nil {
		return sessiond.Stats{}, err
	}
	stats.ClockOffset = s.clock.Offset()
	return stats, nil
}

// Guarantee tells that what was acknowledged has been synced to the disk, and
// that there is one copy of it.
func (s *Store) Guarantee(context.Context) (sessiond.Guarantee, error) {
	return sessiond.Guarantee{
		Class:    sessiond.Durable,
		Findings: []string{"There is one copy, on the disk of this machine; backups make more."},
	}, nil
}

// Close implements [sessiond.Store]. It writes everything into place, so that the
// next Open has nothing to replay.
func (s *Store) Close() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return errors.New("pebblestore: closed twice")
	}
	s.closed = true
	close(s.closing)
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("pebblestore: the storage engine has failed: %w", *err)
	}
	err := errors.Join(s.writeClock(), s.flush())
	s.fs.serving.Store(false)
	if err = errors.Join(err, s.db.Close()); err != nil {
		return fmt.Errorf("pebblestore: close: %w", err)
	}
	return nil
}

// flush writes memory to tables, or gives up after a while: what can't be flushed
// now is in the log.
func (s *Store) flush() error {
	select {
	case <-s.flushFailed: // an old one
	default:
	}
	done, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
	case <-s.flushFailed:
		s.log.Warn("closing without a flush", "dir", s.dir)
	case <-time.After(flushPatience):
		s.log.Warn("closing without a flush", "dir", s.dir)
	}
	return nil
}

const flushPatience = 10 * time.Second
