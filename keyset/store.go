package keyset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	tinkkeyset "github.com/tink-crypto/tink-go/v2/keyset"
)

// maxFile is the largest keyset file read; a key takes about 250 bytes.
const maxFile = 1 << 20

// Load reads a keyset file. It refuses a file that is not regular, that its group or others may access, that is over
// 1 MiB, or that does not hold a usable keyset; the error names the file and what to do. Symbolic links are followed.
func Load(path string) (*Keyset, error) {
	k, _, err := load(path)
	return k, err
}

// load also describes the file that was read.
func load(path string) (*Keyset, fs.FileInfo, error) {
	text, info, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	k, err := parse(text)
	clear(text)
	if err != nil {
		return nil, nil, fmt.Errorf("keyset file %s %w", path, err)
	}
	return k, info, nil
}

func read(path string) ([]byte, fs.FileInfo, error) {
	// O_NONBLOCK: opening a named pipe must not wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("keyset file %s: %w: create it with `sessiond keyset create`", path, fs.ErrNotExist)
		}
		return nil, nil, fmt.Errorf("open keyset file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("open keyset file: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("keyset file %s is not a regular file: name the file that holds the keyset", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, nil, fmt.Errorf("keyset file %s is open to its group or others (mode %#o): run chmod 600 on it, "+
			"and replace the keys if they may have been read", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read keyset file: %w", err)
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("keyset file %s is over %d bytes: name the file that holds the keyset", path, maxFile)
	}
	return text, info, nil
}

// WriteFile writes the keyset to a new file with mode 0600, durably and all or nothing. It fails with an error that
// is [fs.ErrExist] when something of that name exists.
func (k *Keyset) WriteFile(path string) error {
	// Unlike a rename, a link never replaces a file.
	return k.write(path, os.Link)
}

// ReplaceFile is WriteFile, but replaces a file of that name, whose owner and group stay: who replaces it as root does
// not take it from the server. Whoever opens the name sees the old or the new keyset whole, also after a crash.
func (k *Keyset) ReplaceFile(path string) error {
	return k.write(path, func(from, to string) error {
		if err := keepOwner(from, to); err != nil {
			return err
		}
		return os.Rename(from, to)
	})
}

// keepOwner gives a file the owner and group of another, if that exists.
func keepOwner(file, like string) error {
	old, err := os.Stat(like)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	want, ok := old.Sys().(*syscall.Stat_t)
	if !ok || int(want.Uid) == os.Geteuid() { // the group can't use the file anyway
		return nil
	}
	return os.Chown(file, int(want.Uid), int(want.Gid))
}

func (k *Keyset) write(path string, publish func(from, to string) error) error {
	if err := k.writeDurably(path, publish); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keyset file %s: %w: choose another name, or move it away (data sealed with "+
				"its keys needs them)", path, fs.ErrExist)
		}
		return fmt.Errorf("write keyset file %s: %w", path, err)
	}
	return nil
}

func (k *Keyset) writeDurably(path string, publish func(from, to string) error) (err error) {
	var text bytes.Buffer
	if err := tinkkeyset.NewJSONWriter(&text).Write(k.keys); err != nil {
		return errors.New("encode keyset") // the encoder's error may quote key material
	}
	text.WriteByte('\n')
	defer clear(text.Bytes())

	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		// After a rename the name is gone already, and that is fine.
		if e := os.Remove(temp.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	_, err = temp.Write(text.Bytes())
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if err := publish(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
