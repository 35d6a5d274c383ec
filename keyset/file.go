package keyset

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
)

// pollInterval is how often Run looks at the file.
const pollInterval = 2 * time.Second

// File is a keyset that follows its file. It is safe for concurrent use.
type File struct {
	path    string
	logger  *slog.Logger
	current atomic.Pointer[Keyset]

	mu     sync.Mutex  // serializes reloads
	loaded fs.FileInfo // the file current came from; nil after a failed reload
}

// OpenFile loads a keyset file, as [Load] does. Changes are followed while [File.Run] runs, which
// logs them, and failures to load a changed file, to logger; nil logs nothing.
func OpenFile(path string, logger *slog.Logger) (*File, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	k, info, err := load(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, logger: logger, loaded: info}
	f.current.Store(k)
	return f, nil
}

// Keyset returns the keyset now in use.
func (f *File) Keyset() *Keyset { return f.current.Load() }

// Seal is [Keyset.Seal] with the keyset now in use.
func (f *File) Seal(plaintext, associatedData []byte) (ciphertext []byte, keyID uint32, err error) {
	return f.Keyset().Seal(plaintext, associatedData)
}

// Open is [Keyset.Open] with the keyset now in use.
func (f *File) Open(ciphertext, associatedData []byte) ([]byte, error) {
	return f.Keyset().Open(ciphertext, associatedData)
}

// Reload reads the file and, if it holds another keyset, uses that from now on. If it cannot be loaded, for
// the reasons given at [Load], the keyset in use stays.
func (f *File) Reload() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, info, err := load(f.path)
	f.loaded = info
	if err != nil {
		return false, err
	}
	if proto.Equal(k.keys, f.Keyset().keys) {
		return false, nil
	}
	f.current.Store(k)
	return true, nil
}

// Run reloads the file when it changes, which it notices within 2 s, until ctx ends; it then returns nil. A file that
// cannot be loaded is logged once for each reason and tried again every 2 s.
func (f *File) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var failure string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !f.stale() {
			continue
		}
		changed, err := f.Reload()
		switch {
		case err != nil && err.Error() != failure:
			failure = err.Error()
			f.logger.LogAttrs(ctx, slog.LevelError, "keyset not reloaded, the loaded keys stay in use",
				slog.Any("err", err))
		case err == nil:
			failure = ""
			if changed {
				k := f.Keyset()
				f.logger.LogAttrs(ctx, slog.LevelInfo, "keyset reloaded", slog.String("keyset_file", f.path),
					slog.Uint64("primary_key_id", uint64(k.Primary())), slog.Int("keys", len(k.Keys())))
			}
		}
	}
}

// stale reports whether the file is not the one that was loaded, by identity, size and modification time.
func (f *File) stale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := os.Stat(f.path)
	return err != nil || f.loaded == nil || !os.SameFile(now, f.loaded) ||
		now.Size() != f.loaded.Size() || !now.ModTime().Equal(f.loaded.ModTime())
}
