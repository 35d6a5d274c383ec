package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sessiond.example/sessiond"
)

// A diskGauge says whether there is space for a write.
type diskGauge struct {
	fs      vfs.FS
	dir     string
	minFree int64
	log     *slog.Logger

	checked atomic.Int64 // time of the last check in ms
	free    atomic.Uint64
	known   atomic.Bool
	mu      sync.Mutex
}

var errDiskFull = fmt.Errorf("%w: the disk is nearly full", sessiond.ErrUnavailable)

// An urgency divides writes by the space they may use up.
type urgency uint64

const (
	ordinary urgency = 1 // needs MinFree
	relief   urgency = 2 // needs half of it: ends and removals
)

// room fails when the disk has not the space for a write of urgency u.
func (g *diskGauge) room(now time.Time, u urgency) error {
	if g.minFree <= 0 {
		return nil
	}
	const interval = 1000
	if ms := now.UnixMilli(); ms-g.checked.Load() >= interval && g.mu.TryLock() {
		g.check()
		g.checked.Store(ms)
		g.mu.Unlock()
	}
	if g.known.Load() && g.free.Load() < uint64(g.minFree)/uint64(u) {
		return errDiskFull
	}
	return nil
}

func (g *diskGauge) check() {
	usage, err := g.fs.GetDiskUsage(g.dir)
	switch {
	case err == nil:
		g.free.Store(usage.AvailBytes)
		g.known.Store(true)
	case !errors.Is(err, vfs.ErrUnsupported):
		// What was known stays in force.
		g.log.Warn("free disk space can't be read", "dir", g.dir, "err", err)
	}
}
