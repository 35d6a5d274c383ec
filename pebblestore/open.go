package pebblestore

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// comparerName marks a directory as ours: Pebble refuses to open a database that
// was made with a comparer of another name, before it changes anything.
const comparerName = "sessiond.pebblestore"

func pebbleOptions(fs vfs.FS, o *Options, logger *engineLogger, unsettled *atomic.Int64) *pebble.Options {
	comparer := *pebble.DefaultComparer
	comparer.Name = comparerName
	po := &pebble.Options{
		FS:       fs,
		Comparer: &comparer,
		Merger:   tailMerger,
		Logger:   logger,
		// The newest format that does not change how values are stored. A newer one
		// is a step of its own, since older programs can't open it.
		FormatMajorVersion: pebble.FormatTableFormatV6,

		// These bound both the memory and what a restart after a crash has to replay. In
		// quiet times there are two memtables; under load flushes may fall behind.
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 6,
		// Start compacting early: reads by key look into every file of level 0.
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 64,
		LBaseMaxBytes:         64 << 20,
		// Not more than leaves a processor for requests, which would wait for a turn otherwise.
		CompactionConcurrencyRange: func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
		MaxOpenFiles:               4096,
		CacheSize:                  o.BlockCache,
		BytesPerSync:               1 << 20,
		WALMinSyncInterval:         syncInterval(unsettled),
		TargetByteDeletionRate:     256 << 20, // removing files must not hold up syncs

		EventListener: &pebble.EventListener{
			BackgroundError: logger.background,
			DataCorruption:  logger.corruption,
		},
	}
	po.Experimental.SpanPolicyFunc = splitByKind
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return po
}

// syncInterval is the least time from one sync of the log to the next. A sync costs about as much
// processor time as a create, so that many writers do more when more of them wait for the
// same one; few would only wait longer.
func syncInterval(unsettled *atomic.Int64) func() time.Duration {
	const (
		many     = 8
		interval = 300 * time.Microsecond
	)
	return func() time.Duration {
		if unsettled.Load() < many {
			return 0
		}
		return interval
	}
}

// splitByKind has a table end where the next kind of keys begins. New keys of most kinds
// come after the old ones, or before them. A table that went from the newest of one
// kind to the newest of another would span the old ones between, and compacting it would write them again.
func splitByKind(start []byte) (policy pebble.SpanPolicy, end []byte, err error) {
	kind := start[0]
	if kind >= keyData && kind <= keyActive {
		kind = keyActive // a few keys, that may share a table
	}
	return policy, []byte{kind + 1}, nil
}

// openEngine opens Pebble, which panics on some failed syncs after it has cleaned up.
func openEngine(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("engine panicked: %v", r)
		}
	}()
	return pebble.Open(dir, o)
}

// checkDirectory refuses to make a store among files that are not ours. Sockets
// and such, which have "sessiond" in their names, may be there.
func checkDirectory(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		if _, statErr := fs.Stat(dir); statErr != nil {
			return nil // to be made
		}
		return fmt.Errorf("reading directory: %w", err)
	}
	var strange []string
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "marker.manifest."):
			return nil // a database; Pebble checks whose
		case name == "LOCK", name == "lost+found", strings.Contains(name, "sessiond"),
			strings.HasPrefix(name, "marker."), strings.HasPrefix(name, manifestPrefix),
			strings.HasSuffix(name, ".dbtmp"):
			// also left behind by a crash while a store was made
		default:
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		return fmt.Errorf("the directory is not empty and holds no store (%d other files, such as %q)",
			len(strange), strange[0])
	}
	return nil
}

// holdsDatabase reports whether there is anything to open in dir.
func holdsDatabase(fs vfs.FS, dir string) bool {
	names, err := fs.List(dir)
	return err == nil && slices.ContainsFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "marker.manifest.")
	})
}

// openError makes an error of opening say what to do about it.
func openError(err error) error {
	var inUse errInUse
	switch {
	case errors.As(err, &inUse):
		return fmt.Errorf("the directory is in use; another sessiond runs on it: %w", err)
	case strings.Contains(err.Error(), "comparer name from file"):
		return fmt.Errorf("the directory holds a database that is not a session store: %w", err)
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("the store is damaged; restore it from a backup: %w", err)
	default:
		return err
	}
}

// facts are what an existing store says about itself.
type facts struct {
	layout    uint64
	epoch     uint64
	clock     time.Time // a time that has been served; zero: none
	firstKept uint64    // number of the oldest event
	next      uint64    // number of the next event
	counters  map[counter]int64
}

// readFacts reads the facts of the store in db, or founds a new one there.
func readFacts(db *pebble.DB) (facts, error) {
	f := facts{counters: make(map[counter]int64)}
	format, ok, err := readNumber(db, metaFormat)
	switch {
	case err != nil:
		return f, err
	case !ok:
		return found(db)
	case format > newestLayout:
		return f, fmt.Errorf("the store has layout version %d, and this program knows versions up to %d: "+
			"it was written by a newer sessiond", format, newestLayout)
	case format < oldestLayout:
		return f, corrupt("layout version %d", format)
	}
	f.layout = format
	if f.epoch, ok, err = readNumber(db, metaEpoch); err != nil || !ok {
		return f, errors.Join(err, corrupt("no feed epoch"))
	}
	clock, ok, err := readNumber(db, metaClock)
	if err != nil {
		return f, err
	}
	if ok {
		f.clock = time.UnixMilli(int64(clock)).UTC()
	}
	if f.firstKept, ok, err = readNumber(db, metaFeed); err != nil || !ok {
		return f, errors.Join(err, corrupt("no begin of the feed"))
	}
	if f.next, err = nextEvent(db, f.firstKept); err != nil {
		return f, err
	}
	return f, readCounters(db, f.counters)
}

// found makes an empty database a store.
func found(db *pebble.DB) (facts, error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return facts{}, err
	}
	used := it.First() && !bytes.Equal(it.Key(), metaEpoch) // which is there when founding was cut off
	if err := it.Close(); err != nil {
		return facts{}, err
	}
	if used {
		return facts{}, errors.New("the directory holds a database that is not a session store")
	}
	f := facts{layout: newestLayout, firstKept: 1, next: 1, counters: make(map[counter]int64)}
	if f.epoch, err = newEpoch(db); err != nil {
		return f, err
	}
	b := db.NewBatch()
	err = errors.Join(
		b.Set(metaFormat, bigEndian(newestLayout), nil),
		b.Set(metaFeed, bigEndian(f.firstKept), nil),
	)
	if err == nil {
		err = b.Commit(pebble.Sync)
	}
	return f, errors.Join(err, b.Close())
}

// newEpoch marks the positions of the feed from now on.
func newEpoch(db *pebble.DB) (uint64, error) {
	var random [8]byte
	rand.Read(random[:])
	return binary.BigEndian.Uint64(random[:]), db.Set(metaEpoch, random[:], pebble.Sync)
}

func bigEndian(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// readNumber reads a number of 8 bytes.
func readNumber(r pebble.Reader, key []byte) (n uint64, ok bool, err error) {
	err = readValue(r, key, func(v []byte) error {
		if len(v) != 8 {
			return corrupt("%d bytes for a number", len(v))
		}
		n, ok = binary.BigEndian.Uint64(v), true
		return nil
	})
	return n, ok, err
}

// readValue calls fn with the value of key, which fn must not keep, if there is one.
func readValue(r pebble.Reader, key []byte, fn func([]byte) error) error {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(v), closer.Close())
}

// nextEvent is the number after the last event. firstKept is it when there are no
// events, since trimming writes that.
func nextEvent(db *pebble.DB, firstKept uint64) (uint64, error) {
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound: appendEventKey(nil, firstKept), UpperBound: []byte{keyEvent + 1},
	})
	if err != nil {
		return 0, err
	}
	next := firstKept
	if it.Last() {
		if len(it.Key()) != 9 {
			return 0, errors.Join(corrupt("feed key"), it.Close())
		}
		last := binary.BigEndian.Uint64(it.Key()[1:])
		if last == math.MaxUint64 {
			return 0, errors.Join(corrupt("feed is full"), it.Close())
		}
		next = last + 1
	}
	return next, it.Close()
}

func readCounters(db *pebble.DB, counters map[counter]int64) error {
	for _, kind := range []byte{keyActive, keyData} {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			c, err := parseCounter(it.Key())
			v, errValue := it.ValueAndErr()
			if err = errors.Join(err, errValue); err == nil && len(v) != 8 {
				err = corrupt("counter of %d bytes", len(v))
			}
			if err != nil {
				return errors.Join(err, it.Close())
			}
			counters[c] = int64(binary.BigEndian.Uint64(v))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return err
		}
	}
	return nil
}
