package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"sessiond.example/sessiond/pebblestore"
)

const classDurable = "durable: what was acknowledged survives kill -9 and the loss of power of this machine"

func checkStore(ctx context.Context, d *doctor) []finding {
	if d.cfg.Store.Memory() {
		return []finding{warn("in memory: sessions end with the process; set store.url to pebble:///dir to keep them")}
	}
	if d.cfg.Store.Shared() {
		return checkShared(ctx, d)
	}
	dir, isPebble := d.cfg.Store.PebbleDir()
	if !isPebble {
		return []finding{fail("store.url: not a store that this version has")}
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return []finding{checkParent(dir)}
	}
	if err != nil {
		return []finding{fail("%v: make it readable for the user of the server", err)}
	}
	if !info.IsDir() {
		return []finding{fail("%s is not a directory: name one in store.url", dir)}
	}
	found := []finding{}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		found = append(found, warn("%s is open to its group or others (mode %#o): run chmod 700 on it", dir, perm))
	}
	if pid, held, err := lockHolder(dir); err != nil {
		return append(found, fail("%v: make it readable for the user of the server", err))
	} else if held {
		return append(found, ok("%s is in use by a running server (process %d). %s", dir, pid, classDurable))
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return append(found, fail("%s belongs to user %d and this is user %d: run doctor, and the server, as the owner "+
			"of the directory, or change its owner", dir, owner, os.Geteuid()))
	}
	return append(found, openAndClose(ctx, dir))
}

// checkParent judges a directory that the server will have to make.
func checkParent(dir string) finding {
	parent := existing(dir)
	if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
		return fail("%s does not exist and can't be made in %s (%v): make it, owned by the user of the server, mode 700",
			dir, parent, err)
	}
	return ok("%s does not exist yet; the first start makes it. %s", dir, classDurable)
}

// existing is dir or the nearest directory above it that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// lockHolder tells which process has the store in dir open.
func lockHolder(dir string) (pid int, held bool, err error) {
	f, err := os.Open(filepath.Join(dir, "LOCK"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close() // only asked
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, false, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return int(lock.Pid), lock.Type != unix.F_UNLCK, nil
}

// openAndClose opens the store as the server does.
func openAndClose(ctx context.Context, dir string) finding {
	s, err := pebblestore.Open(ctx, dir, &pebblestore.Options{
		Logger:  slog.New(slog.DiscardHandler),
		OnFatal: func(error) {}, // what was called fails
	})
	if err != nil {
		return fail("%v", err)
	}
	stats, err := s.Stats(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return fail("%s: %v", dir, err)
	}
	sessions, tenants := int64(0), 0
	for _, n := range stats.Active {
		if n > 0 {
			sessions += n
			tenants++
		}
	}
	return ok("%s opens: %d active sessions of %d tenants. %s", dir, sessions, tenants, classDurable)
}

const (
	slowSync = 20 * time.Millisecond // every write waits for at least one
	reserve  = 64 << 20              // below it the store refuses writes
	lowSpace = 1 << 30
)

func checkDisk(ctx context.Context, d *doctor) []finding {
	dir, isPebble := d.cfg.Store.PebbleDir()
	if !isPebble {
		return []finding{ok("not needed")}
	}
	dir = existing(dir)
	var found []finding
	switch median, err := syncTime(ctx, dir); {
	case err != nil:
		found = append(found, fail("writing to %s: %v: check its mode and owner, and the file system", dir, err))
	default:
		found = append(found, judgeSync(dir, median))
	}
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return append(found, warn("free space of %s can't be read: %v", dir, err))
	}
	return append(found, judgeSpace(dir, usage.AvailBytes))
}

func judgeSync(dir string, median time.Duration) finding {
	if median > slowSync {
		return warn("a synced write to %s takes %v (median of %d): every change waits for one; use a faster disk, "+
			"with a write cache that survives a loss of power", dir, median.Round(time.Microsecond), syncSamples)
	}
	return ok("a synced write to %s takes %v (median of %d)", dir, median.Round(time.Microsecond), syncSamples)
}

func judgeSpace(dir string, free uint64) finding {
	switch {
	case free < reserve:
		return fail("%d MiB are free on the disk of %s: below %d MiB creates and updates are refused; make room",
			free>>20, dir, reserve>>20)
	case free < lowSpace:
		return warn("%d MiB are free on the disk of %s: make room; below %d MiB creates and updates are refused",
			free>>20, dir, reserve>>20)
	default:
		return ok("%d MiB are free on the disk of %s", free>>20, dir)
	}
}

const syncSamples = 50

// syncTime is the median time that a small synced write takes in dir, as in the
// store's log. It stops early when ctx ends.
func syncTime(ctx context.Context, dir string) (median time.Duration, err error) {
	name := filepath.Join(dir, fmt.Sprintf(".sessiond-doctor-%d", os.Getpid()))
	f, err := vfs.Default.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	block := make([]byte, 4<<10)
	times := make([]time.Duration, 0, syncSamples)
	for len(times) < syncSamples && (ctx.Err() == nil || len(times) == 0) {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.SyncData(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// memoryLimit is what the control group of this process allows it, in bytes.
// root is the root of the file system.
func memoryLimit(root fs.FS) (limit int64, limited bool) {
	group := "/"
	if text, err := fs.ReadFile(root, "proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(text)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				group = path
			}
		}
	}
	least := func(name string) {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return // no such control group, or none at all
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		const unlimited = 1 << 60 // version 1 writes a number of about this size, version 2 "max"
		if err == nil && n > 0 && n < unlimited && (!limited || n < limit) {
			limit, limited = n, true
		}
	}
	for { // each group above can be narrower
		least(filepath.Join("sys/fs/cgroup", group, "memory.max"))
		if group == "/" || group == "." {
			break
		}
		group = filepath.Dir(group)
	}
	least("sys/fs/cgroup/memory/memory.limit_in_bytes")
	return limit, limited
}
