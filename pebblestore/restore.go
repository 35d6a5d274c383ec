package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sessiond.example/sessiond/internal/steadyclock"
)

// RestoreParams say what to restore, and where.
type RestoreParams struct {
	Source io.Reader // the archive that Backup wrote. Required
	Dir    string    // does not exist, or is empty. Required
	// Prepare is called with the store while nobody else can open it. If it fails,
	// Dir is left without a store. Default: nothing is to be done
	Prepare func(context.Context, *Store, Manifest) error
	Report  func(done, total int64) // called with bytes, from time to time. Default: none
	Clock   steadyclock.Source      // as in [Options]
	Logger  *slog.Logger            // as in [Options]
}

// clockAhead is how far the clock of a backup may be ahead of the machine's. The
// restored store begins at that time, and can't go back.
const clockAhead = 24 * time.Hour

// Restore makes a store in a directory from a backup, all or nothing. Its feed has
// a new epoch, so that readers that come with a position from before are told that
// they may have missed events, and its clock starts no earlier than the backup's.
//
// A process that is killed meanwhile leaves a directory that Open refuses, or
// takes for empty; Restore can be called again in both cases.
func Restore(ctx context.Context, p RestoreParams) (Manifest, error) {
	m, err := restore(ctx, p)
	if err != nil {
		return m, fmt.Errorf("pebblestore: restore to %s: %w", p.Dir, err)
	}
	return m, nil
}

func restore(ctx context.Context, p RestoreParams) (m Manifest, err error) {
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	if p.Clock == nil {
		p.Clock = steadyclock.System{}
	}
	if err := checkTarget(p.Dir); err != nil {
		return m, err
	}
	_, statErr := os.Stat(p.Dir)
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return m, err
	}
	lock, err := vfs.Default.Lock(filepath.Join(p.Dir, lockName))
	if err != nil {
		return m, fmt.Errorf("the directory is in use; stop the sessiond that runs on it: %w", err)
	}
	defer func() {
		if err != nil && errors.Is(statErr, fs.ErrNotExist) {
			// Only what is there besides the lock could make them fail.
			_ = os.Remove(filepath.Join(p.Dir, lockName))
			_ = os.Remove(p.Dir)
		}
		err = errors.Join(err, lock.Close())
	}()
	if err := removeInterrupted(p.Dir); err != nil {
		return m, err
	}
	staging, err := os.MkdirTemp(p.Dir, restorePrefix)
	if err != nil {
		return m, err
	}
	if m, err = p.fill(ctx, staging); err == nil {
		err = publish(staging, p.Dir)
	}
	return m, errors.Join(err, os.RemoveAll(staging))
}

// checkTarget refuses a directory that has something in it, apart from what an
// interrupted restore has left.
func checkTarget(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	interrupted, store, moved, strange := false, false, "", ""
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, restorePrefix):
			interrupted = true
		case strings.HasPrefix(name, "marker.manifest."):
			store = true
		case name == lockName, name == "lost+found", strings.Contains(name, "sessiond"):
		case engineName(name):
			moved = name
		default:
			strange = name
		}
	}
	if strange == "" && !interrupted {
		strange = moved
	}
	switch {
	case store:
		return errors.New("the directory holds a store; stop the server and move the directory away first")
	case strange != "":
		return fmt.Errorf("the directory is not empty (it holds %q); empty it or name another", strange)
	}
	return nil
}

// removeInterrupted removes the remains of a restore that was killed, after
// checkTarget and under the lock. What stands beside its staging directory came
// from there.
func removeInterrupted(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var staging, moved []string
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, restorePrefix):
			staging = append(staging, name)
		case engineName(name):
			moved = append(moved, name)
		}
	}
	if len(staging) == 0 {
		return nil
	}
	for _, name := range append(moved, staging...) { // staging last, for the same reason
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	return err
}

// engineName reports whether the engine gives files such a name.
func engineName(name string) bool {
	for _, prefix := range []string{"OPTIONS-", manifestPrefix, "marker."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") || strings.HasSuffix(name, logSuffix)
}

// fill makes the store in its staging directory.
func (p *RestoreParams) fill(ctx context.Context, staging string) (Manifest, error) {
	var done, total int64
	begin := func(m *Manifest) error {
		total = m.Size()
		if ahead := m.Time.Sub(p.Clock.Wall()); ahead > clockAhead {
			return fmt.Errorf("the backup was made at %s, which is %v ahead of this machine's clock: "+
				"set the clock right, or use another backup", m.Time.UTC().Format(time.RFC3339), ahead.Round(time.Minute))
		}
		return checkManifest(m, staging)
	}
	m, err := readArchive(ctx, p.Source, begin, func(name string) (io.WriteCloser, error) {
		f, err := os.OpenFile(filepath.Join(staging, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		return &restoredFile{f, func(n int) {
			if done += int64(n); p.Report != nil {
				p.Report(done, total)
			}
		}}, nil
	})
	if err != nil {
		return m, err
	}
	s, err := Open(ctx, staging, &Options{
		Clock: p.Clock, Logger: p.Logger, MustExist: true, NewEpoch: true, NotBefore: m.Time,
		OnFatal: func(error) {}, // what was called fails
	})
	if err != nil {
		return m, err
	}
	if p.Prepare != nil {
		err = p.Prepare(ctx, s, m)
	}
	return m, errors.Join(err, s.Close())
}

// checkManifest refuses a backup that this program or the disk can't take.
func checkManifest(m *Manifest, dir string) error {
	if m.Layout > newestLayout {
		return fmt.Errorf("the backup holds a store of layout version %d, and this program knows versions up to %d: "+
			"restore it with a newer sessiond", m.Layout, newestLayout)
	}
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return err
	}
	if need := uint64(m.Size()) + defaultMinFree; need > usage.AvailBytes {
		return fmt.Errorf("the backup needs %d MiB on the disk, where %d MiB are free: make room",
			need>>20, usage.AvailBytes>>20)
	}
	return nil
}

// A restoredFile is durable when it is closed.
type restoredFile struct {
	*os.File
	wrote func(int)
}

func (f *restoredFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.wrote(n)
	return n, err
}

func (f *restoredFile) Close() error { return errors.Join(f.File.Sync(), f.File.Close()) }

// publish moves a complete store out of its staging directory. Until the last name
// has moved, the one that makes files a database, the directory holds no store.
func publish(staging, dir string) error {
	entries, err := os.ReadDir(staging)
	if err != nil {
		return err
	}
	var first, then, last []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == lockName:
		case strings.HasPrefix(name, "marker.manifest."):
			last = append(last, name)
		case strings.HasPrefix(name, "OPTIONS-"): // makes Open refuse the directory from here on
			first = append(first, name)
		default:
			then = append(then, name)
		}
	}
	moved := []string{}
	for _, names := range [][]string{first, then, last} {
		for _, name := range names {
			if err == nil {
				err = os.Rename(filepath.Join(staging, name), filepath.Join(dir, name))
				moved = append(moved, name)
			}
		}
		if err == nil {
			err = syncDir(vfs.Default, dir) // so that it is the order on disk, too
		}
	}
	if err == nil {
		return nil
	}
	for i := len(moved) - 1; i >= 0; i-- {
		if e := os.Remove(filepath.Join(dir, moved[i])); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}
