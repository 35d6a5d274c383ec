package pebblestore

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// Directories within the store's, left behind by a crash while they were in use.
const (
	backupPrefix  = "sessiond-backup-"
	restorePrefix = "sessiond-restore-"
)

// Backup writes an archive of the store to w, which [Restore] puts back. Everything
// that was acknowledged before the call is in it, and nothing that Backup did not
// wait to be durable. Other calls go on meanwhile. program is the version of the
// caller, for the manifest.
//
// The copy takes little space at first, as files are shared with the store, but
// holds on to what the store gives up until w has taken all of it.
func (s *Store) Backup(ctx context.Context, w io.Writer, program string) (m Manifest, err error) {
	var random [8]byte
	rand.Read(random[:])
	dir := s.fs.PathJoin(s.dir, backupPrefix+hex.EncodeToString(random[:]))
	defer func() {
		if e := s.fs.RemoveAll(dir); e != nil {
			s.log.Warn("the files of a backup stay until the next start", "dir", dir, "err", e)
		}
	}()
	at, err := s.checkpoint(ctx, dir)
	if err != nil {
		return m, fmt.Errorf("pebblestore: backup: %w", err)
	}
	m = Manifest{
		Format: backupFormat, Sessiond: program, Layout: int(s.layout.Load()),
		Epoch: hex.EncodeToString(bigEndian(s.epoch)), Time: at,
	}
	if err = s.writeArchive(ctx, w, dir, &m); err != nil {
		return m, fmt.Errorf("pebblestore: backup: %w", err)
	}
	return m, nil
}

// checkpoint makes a copy of the store in dir and returns a time after everything
// in it.
func (s *Store) checkpoint(ctx context.Context, dir string) (time.Time, error) {
	if err := s.begin(ctx); err != nil {
		return time.Time{}, err
	}
	defer s.gate.RUnlock()
	if err := s.disk.room(s.now(), ordinary); err != nil {
		return time.Time{}, err
	}
	if err := checkpoint(s.db, dir); err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err)
	}
	return s.now(), nil
}

// checkpoint has Pebble make the copy. It panics when a directory of the copy can't
// be synced, at a point where it holds no locks.
func checkpoint(db *pebble.DB, dir string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("engine panicked: %v", r)
		}
	}()
	return db.Checkpoint(dir, pebble.WithFlushedWAL())
}

func (s *Store) writeArchive(ctx context.Context, w io.Writer, dir string, m *Manifest) error {
	names, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		f := ManifestFile{Name: name}
		sum := sha256.New()
		if f.Size, err = s.copyFile(ctx, sum, s.fs.PathJoin(dir, name)); err != nil {
			return err
		}
		f.SHA256 = hex.EncodeToString(sum.Sum(nil))
		m.Files = append(m.Files, f)
	}
	if err := m.validate(); err != nil {
		return err
	}
	content, err := m.encode()
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(archiveHeader(manifestName, int64(len(content)), m.Time)); err != nil {
		return err
	}
	if _, err := t.Write(content); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := t.WriteHeader(archiveHeader(f.Name, f.Size, m.Time)); err != nil {
			return err
		}
		if _, err := s.copyFile(ctx, t, s.fs.PathJoin(dir, f.Name)); err != nil {
			return err
		}
	}
	return t.Close()
}

func archiveHeader(name string, size int64, at time.Time) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: at.Truncate(time.Second),
		Format: tar.FormatUSTAR,
	}
}

func (s *Store) copyFile(ctx context.Context, w io.Writer, name string) (n int64, err error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return 0, err
	}
	n, err = io.CopyBuffer(onlyWriter{w}, contextReader{ctx, f}, make([]byte, 256<<10))
	return n, errors.Join(err, f.Close())
}

// onlyWriter keeps [io.CopyBuffer] to the buffer.
type onlyWriter struct{ io.Writer }

// removeLeftovers removes what backups and restores that were cut off have left in
// the store's directory. The caller has locked it.
func (s *Store) removeLeftovers() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, backupPrefix) || strings.HasPrefix(name, restorePrefix) {
			err = errors.Join(err, s.fs.RemoveAll(s.fs.PathJoin(s.dir, name)))
		}
	}
	return err
}
