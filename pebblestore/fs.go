package pebblestore

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A guardedFS is the file system that Pebble works on, with what this package
// needs beyond it:
//
//   - A new MANIFEST is in its directory durably before anything refers to it.
//     Pebble leaves that to the next sync of the directory, and a crash in between
//     can keep the reference and lose the file.
//   - A failed operation on a log, or sync of a directory, stops the store in an orderly
//     way. Pebble would report it to waiting commits, if there are any, and
//     panic with locks held when it comes to the end of the log.
//   - Only the owner can read the files.
//   - A log has its length before it is written, which makes syncs cheaper. What is
//     not written are zeros, that Pebble takes for the end as it does the rest of a log that it uses again.
type guardedFS struct {
	vfs.FS
	private bool        // set the mode of new files
	home    string      // the store's directory; what is below it are copies, whose failures are no one else's
	serving atomic.Bool // from here on failures are fatal; before, Open reports them
	store   *Store
}

// errInUse marks the failure to lock the directory.
type errInUse struct{ error }

func (e errInUse) Unwrap() error { return e.error }

const (
	manifestPrefix = "MANIFEST-"
	logSuffix      = ".log"
)

// must does not return after an error.
func (fs *guardedFS) must(err error) error {
	if err != nil && fs.serving.Load() {
		fs.store.fatal(err)
	}
	return err
}

// told stops the store after an error, and lets Pebble tell those who wait.
func (fs *guardedFS) told(err error) error {
	if err != nil && fs.serving.Load() {
		fs.store.fail(err)
	}
	return err
}

func (fs *guardedFS) own(name string) error {
	if !fs.private {
		return nil
	}
	return os.Chmod(name, 0o600)
}

// Create implements [vfs.FS].
func (fs *guardedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err == nil {
		err = fs.own(name)
	}
	base := fs.PathBase(name)
	if err == nil && strings.HasPrefix(base, manifestPrefix) {
		err = syncDir(fs.FS, fs.PathDir(name))
	}
	if f, err = fs.created(f, name, err); err != nil {
		return nil, err
	}
	switch category {
	case "pebble-compaction":
		return &tableFile{File: f, pacer: &fs.store.pacer}, nil
	case "pebble-memtable-flush":
		return &tableFile{File: f, pacer: &fs.store.pacer, flush: true}, nil
	}
	return f, nil
}

// ReuseForWrite implements [vfs.FS].
func (fs *guardedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(oldname, newname, category)
	return fs.created(f, newname, err)
}

// OpenReadWrite implements [vfs.FS].
func (fs *guardedFS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, category, opts...)
	if err == nil {
		err = fs.own(name)
	}
	return fs.created(f, name, err)
}

// created passes on a file that was opened for writing, or closes it after an error.
func (fs *guardedFS) created(f vfs.File, name string, err error) (vfs.File, error) {
	isLog := strings.HasSuffix(name, logSuffix) && fs.PathDir(name) == fs.home
	if err != nil {
		if f != nil {
			_ = f.Close() // the error at hand says more
		}
		if isLog {
			err = fs.must(err)
		}
		return nil, err
	}
	if isLog {
		return logFile{f, fs}, nil
	}
	return f, nil
}

// A tableFile is a table that is being written, with what the store's pacer wants to know.
type tableFile struct {
	vfs.File
	pacer   *pacer
	flush   bool
	written int
}

// Write implements [vfs.File].
func (f *tableFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.written += n
	switch {
	case f.flush && f.written >= flushStep:
		f.written = 0
		f.pacer.flushed()
	case !f.flush && f.written >= compactionStep:
		f.written = 0
		f.pacer.compacted()
	}
	return n, err
}

type logFile struct {
	vfs.File
	fs *guardedFS
}

func (f logFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, f.fs.told(err)
}

// Preallocate is a hint, whose failure Pebble ignores.
func (f logFile) Preallocate(offset, length int64) error {
	if !f.fs.private {
		return f.File.Preallocate(offset, length)
	}
	return preallocate(f.Fd(), offset, length)
}

func (f logFile) Sync() error     { return f.fs.told(f.File.Sync()) }
func (f logFile) SyncData() error { return f.fs.told(f.File.SyncData()) }

// Close is where Pebble would panic after an earlier error.
func (f logFile) Close() error {
	if err := f.fs.store.failed.Load(); err != nil {
		return f.fs.must(*err)
	}
	return f.fs.must(f.File.Close())
}

// OpenDir implements [vfs.FS].
func (fs *guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil || fs.PathJoin(name) != fs.home {
		return f, err
	}
	return dirFile{f, fs}, nil
}

type dirFile struct {
	vfs.File
	fs *guardedFS
}

func (f dirFile) Sync() error { return f.fs.must(f.File.Sync()) }

// Lock implements [vfs.FS].
func (fs *guardedFS) Lock(name string) (io.Closer, error) {
	c, err := fs.FS.Lock(name)
	if err != nil {
		return nil, errInUse{err}
	}
	return c, nil
}

// MkdirAll implements [vfs.FS].
func (fs *guardedFS) MkdirAll(dir string, _ os.FileMode) error { return fs.FS.MkdirAll(dir, 0o700) }

// Unwrap implements [vfs.FS].
func (fs *guardedFS) Unwrap() vfs.FS { return fs.FS }

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("opening directory: %w", err)
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the error at hand says more
		return fmt.Errorf("syncing directory: %w", err)
	}
	return d.Close()
}
