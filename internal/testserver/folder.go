package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// folderPattern is how the folders of servers are named.
const folderPattern = "sessiond-testserver-*"

// A folder is a temporary one of a server. The lock in it lives as long as the
// test process, so that others know an abandoned folder.
type folder struct {
	path string
	lock *os.File
}

// cleanOnce removes the folders of killed test processes.
var cleanOnce sync.Once

// newFolder makes a folder that as owns, nil for whoever runs the tests.
// t.TempDir is closed to other accounts, so it can't be used here.
func newFolder(as *account) (folder, error) {
	cleanOnce.Do(removeAbandoned)
	path, err := os.MkdirTemp("", folderPattern)
	if err != nil {
		return folder{}, err
	}
	d := folder{path: path}
	d.lock, err = os.Create(d.lockFile())
	if err != nil {
		return folder{}, errors.Join(err, os.RemoveAll(path))
	}
	if !tryLock(d.lock) {
		return folder{}, errors.Join(errors.New("can't lock "+d.lockFile()), d.remove())
	}
	if as != nil {
		if err := os.Chown(path, int(as.uid), int(as.gid)); err != nil {
			return folder{}, errors.Join(err, d.remove())
		}
	}
	return d, nil
}

func (d folder) lockFile() string        { return filepath.Join(d.path, "lock") }
func (d folder) log() string             { return filepath.Join(d.path, "log") }
func (d folder) file(name string) string { return filepath.Join(d.path, name) }

func (d folder) remove() error { return errors.Join(os.RemoveAll(d.path), d.lock.Close()) }

// write writes a file that everybody may read.
func (d folder) write(name, text string) error {
	return os.WriteFile(d.file(name), []byte(text), 0o644)
}

// tail is the end of the log, for people.
func (d folder) tail() string {
	const most = 8 << 10
	log, err := os.ReadFile(d.log())
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	if len(log) > most {
		log = log[len(log)-most:]
	}
	return string(log)
}

// removeAbandoned removes folders whose lock nobody holds. What can't be
// removed stays: it may be another user's.
func removeAbandoned() {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), folderPattern))
	if err != nil {
		return
	}
	for _, path := range found {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue // perhaps about to be locked
		}
		d := folder{path: path}
		d.lock, err = os.OpenFile(d.lockFile(), os.O_RDWR, 0)
		if err != nil {
			continue // another user's
		}
		if tryLock(d.lock) {
			_ = os.RemoveAll(path)
		}
		_ = d.lock.Close()
	}
}

// An account is a user of the system.
type account struct{ uid, gid uint32 }

// unprivileged is the account for programs that refuse to be run by root: nil
// unless root runs the tests.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &account{uint32(uid), uint32(gid)}, nil
	}
	return nil, errors.New("root can't run PostgreSQL, and there is neither a user postgres nor nobody")
}
