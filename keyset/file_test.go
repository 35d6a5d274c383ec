package keyset_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/keyset"
)

func openFile(t *testing.T, path string, logger *slog.Logger) *keyset.File {
	t.Helper()
	f, err := keyset.OpenFile(path, logger)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, k *keyset.Keyset, path string) {
	t.Helper()
	if err := k.ReplaceFile(path); err != nil {
		t.Fatal(err)
	}
}

// lockedBuffer is a log destination that may be read while it is written to.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if _, err := keyset.OpenFile(path, nil); err == nil {
		t.Error("OpenFile of a missing file succeeded")
	}
	first := create(t)
	write(t, first, path)
	f := openFile(t, path, nil)
	old, id, err := f.Seal([]byte("old"), nil)
	if err != nil || id != first.Primary() {
		t.Fatalf("sealed with key %d, %v", id, err)
	}
	if changed, err := f.Reload(); changed || err != nil {
		t.Errorf("Reload of the same file = %v, %v", changed, err)
	}
	write(t, first, path)
	if changed, err := f.Reload(); changed || err != nil {
		t.Errorf("Reload of the same keys in another file = %v, %v", changed, err)
	}

	added, newID, err := first.Add()
	if err != nil {
		t.Fatal(err)
	}
	promoted, err := added.Promote(newID)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*keyset.Keyset{added, promoted} {
		write(t, k, path)
		if changed, err := f.Reload(); !changed || err != nil {
			t.Errorf("Reload of changed keys = %v, %v", changed, err)
		}
		if f.Keyset().Primary() != k.Primary() {
			t.Errorf("primary %d, want %d", f.Keyset().Primary(), k.Primary())
		}
	}
	if opened, err := f.Open(old, nil); err != nil || string(opened) != "old" {
		t.Errorf("Open with the old key = %q, %v", opened, err)
	}

	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := f.Reload(); changed || err == nil {
		t.Errorf("Reload of a bad file = %v, %v", changed, err)
	}
	if f.Keyset().Primary() != newID {
		t.Error("a bad file replaced the keys in use")
	}
}

func TestRunFollowsTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "keyset.json")
		first, second := create(t), create(t)
		write(t, first, path)
		var log lockedBuffer
		f := openFile(t, path, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()

		expect := func(when string, want *keyset.Keyset, lines int) {
			t.Helper()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := f.Keyset().Primary(); got != want.Primary() {
				t.Errorf("%s: primary %d, want %d", when, got, want.Primary())
			}
			if got := strings.Count(log.String(), "\n"); got != lines {
				t.Errorf("%s: %d log lines, want %d:\n%s", when, got, lines, log.String())
			}
		}
		expect("unchanged", first, 0)
		write(t, second, path)
		expect("replaced", second, 1)
		expect("unchanged again", second, 1)
		if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect("damaged", second, 2)
		expect("still damaged", second, 2)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("removed", second, 3)
		write(t, second, path)
		expect("restored", second, 3)
		write(t, first, path)
		expect("replaced again", first, 4)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("removed again", first, 5)

		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if strings.Contains(log.String(), "garbage") {
			t.Error("the log quotes the file")
		}
	})
}

func TestUseDuringReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	first := create(t)
	second, _, err := first.Add()
	if err != nil {
		t.Fatal(err)
	}
	write(t, first, path)
	f := openFile(t, path, nil)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				sealed, _, err := f.Seal([]byte("data"), nil)
				if err == nil {
					_, err = f.Open(sealed, nil)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 10 {
		write(t, []*keyset.Keyset{second, first}[i%2], path)
		if changed, err := f.Reload(); !changed || err != nil {
			t.Errorf("Reload = %v, %v", changed, err)
		}
	}
	close(done)
	wg.Wait()
}
