package pebblestore

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A backup is a tar archive: first the manifest, then the files that it names, in
// its order.
const (
	backupFormat    = 1
	manifestName    = "sessiond-backup.json"
	maxManifest     = 8 << 20 // bytes
	maxManifestFile = 1 << 40 // bytes of one file
)

// A Manifest says what is in a backup. It is the first file of the archive, in JSON.
type Manifest struct {
	Format   int            `json:"format"`   // of the archive
	Sessiond string         `json:"sessiond"` // version of the program that made it
	Layout   int            `json:"layout"`   // layout version of the store
	Epoch    string         `json:"epoch"`    // mark of the store's feed, 16 hexadecimal digits
	Time     time.Time      `json:"time"`     // of the store's clock, after everything in the backup
	Files    []ManifestFile `json:"files"`
}

// A ManifestFile is one file of a backup.
type ManifestFile struct {
	Name   string `json:"name"` // without directories
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Size is the sum of the sizes of all files in bytes.
func (m *Manifest) Size() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// errArchive marks a backup that is not what this package writes.
type errArchive string

func (e errArchive) Error() string {
	return "the backup is damaged or not a backup: " + string(e) + "; use another copy"
}

func badArchive(format string, args ...any) error { return errArchive(fmt.Sprintf(format, args...)) }

// validate completes what decoding has left to check.
func (m *Manifest) validate() error {
	if _, err := hex.DecodeString(m.Epoch); err != nil || len(m.Epoch) != 16 {
		return badArchive("the manifest has a malformed epoch")
	}
	if m.Time.IsZero() || m.Layout < 1 {
		return badArchive("the manifest has no time or no layout version")
	}
	seen := make(map[string]bool, len(m.Files))
	total := int64(0)
	for _, f := range m.Files {
		sum, err := hex.DecodeString(f.SHA256)
		switch {
		case !plainName(f.Name) || seen[f.Name]:
			return badArchive("the manifest names a file %.100q, which can't be", f.Name)
		case f.Size < 0 || f.Size > maxManifestFile || total > maxManifestFile:
			return badArchive("the manifest gives file %s a size that can't be", f.Name)
		case err != nil || len(sum) != sha256.Size:
			return badArchive("the manifest has a malformed hash of file %s", f.Name)
		}
		seen[f.Name] = true
		total += f.Size
	}
	if len(m.Files) == 0 {
		return badArchive("the manifest names no files")
	}
	return nil
}

// plainName reports whether a name is one that the engine gives files of a
// database.
func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 100 && !strings.Contains(s, "sessiond") && s != lockName
}

const lockName = "LOCK"

func (m *Manifest) encode() ([]byte, error) { return json.Marshal(m) }

func decodeManifest(b []byte) (m Manifest, err error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return m, badArchive("its manifest is not JSON")
	}
	if version.Format > backupFormat {
		return m, fmt.Errorf("the backup has format %d, and this program knows formats up to %d: "+
			"restore it with a newer sessiond", version.Format, backupFormat)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || d.More() || m.Format != backupFormat {
		return m, badArchive("its manifest is not that of a backup")
	}
	return m, m.validate()
}

// ReadBackup checks a backup to its last byte: that it has the files of its
// manifest and nothing else, and that they are whole. It says who made the
// archive no more than a checksum does.
func ReadBackup(ctx context.Context, r io.Reader) (Manifest, error) {
	return readArchive(ctx, r, func(*Manifest) error { return nil }, func(string) (io.WriteCloser, error) {
		return discard{}, nil
	})
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

// readArchive reads a backup. begin is called once the manifest is checked;
// create gives each file, of which the name is plain and unique, a place.
func readArchive(
	ctx context.Context, r io.Reader, begin func(*Manifest) error, create func(name string) (io.WriteCloser, error),
) (Manifest, error) {
	r = contextReader{ctx, r}
	t := tar.NewReader(r)
	m, err := readManifest(t)
	if err != nil {
		return m, err
	}
	if err := begin(&m); err != nil {
		return m, err
	}
	for i := range m.Files {
		if err := readFile(t, &m.Files[i], create); err != nil {
			return m, err
		}
	}
	if h, err := t.Next(); err == nil {
		return m, badArchive("it holds a file %.100q that its manifest does not name", h.Name)
	} else if err := archiveError(err, "its end"); !errors.Is(err, io.EOF) {
		return m, err
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 {
		return m, badArchive("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return m, err
	}
	return m, nil
}

func readManifest(t *tar.Reader) (m Manifest, err error) {
	h, err := t.Next()
	if errors.Is(err, io.EOF) {
		return m, badArchive("it is empty")
	}
	if err != nil {
		return m, archiveError(err, "its manifest")
	}
	if !plainHeader(h) || h.Name != manifestName || h.Size > maxManifest {
		return m, badArchive("it does not begin with a manifest")
	}
	b, err := io.ReadAll(t)
	if err != nil {
		return m, archiveError(err, "its manifest")
	}
	return decodeManifest(b)
}

func readFile(t *tar.Reader, f *ManifestFile, create func(string) (io.WriteCloser, error)) error {
	h, err := t.Next()
	switch {
	case errors.Is(err, io.EOF):
		return badArchive("file %s is missing", f.Name)
	case err != nil:
		return archiveError(err, "file "+f.Name)
	case !plainHeader(h):
		return badArchive("%.100q is a link, a device or another thing that is no file", h.Name)
	case h.Name != f.Name:
		return badArchive("it holds %.100q where file %s belongs", h.Name, f.Name)
	case h.Size != f.Size:
		return badArchive("file %s has %d bytes, and %d by the manifest", f.Name, h.Size, f.Size)
	}
	w, err := create(f.Name)
	if err != nil {
		return err
	}
	sum := sha256.New()
	from := errReader{r: t}
	_, err = io.Copy(io.MultiWriter(w, sum), &from)
	if from.err != nil {
		err = archiveError(from.err, "file "+f.Name)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return badArchive("file %s has another content than the manifest says", f.Name)
	}
	return nil
}

// plainHeader reports whether h is that of a file without more to it.
func plainHeader(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg && h.Linkname == "" && len(h.PAXRecords) == 0
}

// archiveError tells damage from failures to read.
func archiveError(err error, where string) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badArchive("it is cut off in %s", where)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
		return badArchive("%s is malformed", where)
	default:
		return err
	}
}

// errReader remembers why reading failed.
type errReader struct {
	r   io.Reader
	err error
}

func (e *errReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
