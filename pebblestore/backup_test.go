package pebblestore_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

func backup(t *testing.T, s *pebblestore.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := s.Backup(t.Context(), &b, "test"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// wantEmpty fails the test if a directory has more in it than a lock.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "LOCK" {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// TestBackupUnderLoad takes backups while sessions are created, and wants each to
// hold all that was acknowledged before it began.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, pebblestore.Options{})
	start := end(t, s)
	var (
		mu    sync.Mutex
		acked []sessiond.Key
		wg    sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(t.Context())
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c := creation(strings.Repeat("s", w+1)+time.Unix(int64(i), 0).UTC().Format("150405"), "user", 0)
				res, err := s.Create(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked = append(acked, res.Record.Key)
				mu.Unlock()
			}
		})
	}
	for i := range 3 {
		time.Sleep(30 * time.Millisecond)
		mu.Lock()
		before := acked[:len(acked):len(acked)]
		mu.Unlock()
		archive := backup(t, s)
		target := filepath.Join(t.TempDir(), "restored")
		m, err := pebblestore.Restore(t.Context(), pebblestore.RestoreParams{Source: bytes.NewReader(archive), Dir: target})
		if err != nil {
			t.Fatal(err)
		}
		restored := open(t, target, pebblestore.Options{})
		for _, k := range before {
			if _, err := restored.Get(t.Context(), k); err != nil {
				t.Fatalf("backup %d with %d sessions: %s: %v", i, len(before), k.ID, err)
			}
		}
		stats, err := restored.Stats(t.Context())
		if err != nil || stats.Active[tenant] < int64(len(before)) || stats.Now.Before(m.Time) {
			t.Errorf("%+v, %v", stats, err)
		}
		batch, err := restored.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, After: start, Limit: 1})
		if err != nil || !batch.Reset {
			t.Errorf("a position of before: %+v, %v", batch, err)
		}
		closeStore(t, restored)
	}
	cancel()
	wg.Wait()
	closeStore(t, s)
	leftovers, err := filepath.Glob(filepath.Join(dir, "sessiond-*"))
	if err != nil || len(leftovers) != 0 {
		t.Errorf("left behind %v, %v", leftovers, err)
	}
}

func TestRestoreIsTheSame(t *testing.T) {
	t.Parallel()
	h := &hands{}
	s := open(t, t.TempDir(), pebblestore.Options{Clock: h})
	live := create(t, s, "live", "user", 10*time.Minute)
	create(t, s, "ended", "user", 0)
	if _, err := s.Update(t.Context(), key("ended"), revoke); err != nil {
		t.Fatal(err)
	}
	h.advance(time.Minute)
	if _, err := s.Touch(t.Context(), live.Key, live.Incarnation, time.Time{}); err != nil {
		t.Fatal(err)
	}
	archive := backup(t, s)
	before := []*sessiond.Record{get(t, s, "live"), get(t, s, "ended")}
	closeStore(t, s)

	// Into a directory that exists, and has what volumes have.
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	reports := 0
	m, err := pebblestore.Restore(t.Context(), pebblestore.RestoreParams{
		Source: bytes.NewReader(archive), Dir: dir, Clock: h,
		Report: func(done, total int64) { reports++ },
	})
	if err != nil || reports == 0 {
		t.Fatalf("%v, %d reports", err, reports)
	}
	s = open(t, dir, pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	after := []*sessiond.Record{get(t, s, "live"), get(t, s, "ended")}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if m.Sessiond != "test" || m.Layout != 1 {
		t.Errorf("manifest %+v", m)
	}

	// A second restore must not touch it.
	p := pebblestore.RestoreParams{Source: bytes.NewReader(archive), Dir: dir}
	if _, err := pebblestore.Restore(t.Context(), p); err == nil || !strings.Contains(err.Error(), "holds a store") {
		t.Errorf("restore over a store: %v", err)
	}
	get(t, s, "live")
}

func TestRestoreFailsWhole(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), pebblestore.Options{})
	create(t, s, "a", "user", 0)
	archive := backup(t, s)
	closeStore(t, s)
	dir := filepath.Join(t.TempDir(), "target")
	refused := errors.New("refused")
	_, err := pebblestore.Restore(t.Context(), pebblestore.RestoreParams{
		Source: bytes.NewReader(archive), Dir: dir,
		Prepare: func(context.Context, *pebblestore.Store, pebblestore.Manifest) error { return refused },
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory stays: %v", err)
	}

	// What a killed restore leaves is taken away by the next one, and by a start.
	for _, names := range [][]string{{"sessiond-restore-1/a.sst"}, {"sessiond-restore-1/a.sst", "OPTIONS-000001", "b.sst"}} {
		for _, name := range names {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if len(names) > 1 {
			if _, err := pebblestore.Open(t.Context(), dir, nil); err == nil {
				t.Fatal("half a store was opened")
			}
		}
		p := pebblestore.RestoreParams{Source: bytes.NewReader(archive), Dir: dir}
		if _, err := pebblestore.Restore(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, pebblestore.Options{})
		get(t, s, "a")
		closeStore(t, s)
		if names, err := filepath.Glob(filepath.Join(dir, "sessiond-*")); err != nil || len(names) != 0 {
			t.Errorf("left behind %v, %v", names, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{"notes.txt", "a.sst"} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		p := pebblestore.RestoreParams{Source: bytes.NewReader(archive), Dir: dir}
		if _, err := pebblestore.Restore(t.Context(), p); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("restore beside %s: %v", name, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStaleBackupIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeStore(t, open(t, dir, pebblestore.Options{}))
	stale := filepath.Join(dir, "sessiond-backup-0123")
	if err := errors.Join(os.Mkdir(stale, 0o700), os.WriteFile(filepath.Join(stale, "a.sst"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, open(t, dir, pebblestore.Options{}))
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a backup that was killed stays: %v", err)
	}
}

// entries are the files of an archive.
type entries []entry

type entry struct {
	h    tar.Header
	body []byte
}

func unpack(t testing.TB, archive []byte) (all entries) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry{*h, b})
	}
}

func (all entries) pack(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range all {
		if e.h.Typeflag == tar.TypeReg {
			e.h.Size = int64(len(e.body))
		}
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if e.h.Typeflag == tar.TypeReg {
			if _, err := w.Write(e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRestoreRefuses hostile archives, and wants nothing left of them.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), pebblestore.Options{})
	create(t, s, "a", "user", 0)
	good := backup(t, s)
	closeStore(t, s)

	changed := func(change func(entries) entries) []byte { return change(unpack(t, good)).pack(t) }
	manifest := func(change func(m map[string]any)) []byte {
		return changed(func(all entries) entries {
			var m map[string]any
			if err := json.Unmarshal(all[0].body, &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			var err error
			if all[0].body, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			return all
		})
	}
	first := func(change func(f map[string]any)) []byte {
		return manifest(func(m map[string]any) { change(m["files"].([]any)[0].(map[string]any)) })
	}
	// named renames the first file, in the manifest, too.
	named := func(name string) []byte {
		all := unpack(t, first(func(f map[string]any) { f["name"] = name }))
		all[1].h.Name = name
		return all.pack(t)
	}
	kind := func(flag byte) []byte {
		return changed(func(all entries) entries {
			all[1].h.Typeflag, all[1].h.Linkname, all[1].h.Size = flag, "/etc/passwd", 0
			return all
		})
	}
	for _, tt := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"empty", nil, "it is empty"},
		{"not an archive", bytes.Repeat([]byte("no archive "), 100), "malformed"},
		{"path traversal", named("../evil"), "can't be"},
		{"absolute name", named("/tmp/evil"), "can't be"},
		{"a directory in the name", named("a/b"), "can't be"},
		{"the lock", named("LOCK"), "can't be"},
		{"ours", named("sessiond.sock"), "can't be"},
		{"hidden", named(".x"), "can't be"},
		{"symbolic link", kind(tar.TypeSymlink), "no file"},
		{"hard link", kind(tar.TypeLink), "no file"},
		{"device", kind(tar.TypeChar), "no file"},
		{"pipe", kind(tar.TypeFifo), "no file"},
		{"directory", kind(tar.TypeDir), "no file"},
		{"renamed", changed(func(all entries) entries { all[1].h.Name = "../evil"; return all }), "belongs"},
		{"extra file", changed(func(all entries) entries { return append(all, all[1]) }), "does not name"},
		{"missing file", changed(func(all entries) entries { return all[:len(all)-1] }), "is missing"},
		{"no manifest", changed(func(all entries) entries { return all[1:] }), "does not begin with a manifest"},
		{"larger", changed(func(all entries) entries { all[1].body = append(all[1].body, 0); return all }), "by the manifest"},
		{"changed", changed(func(all entries) entries { all[1].body[0] ^= 1; return all }), "another content"},
		{"cut off", good[:len(good)/2], "cut off"},
		{"cut off in a header", good[:700], "cut off"},
		{"trailing bytes", append(bytes.Clone(good), 0), "follows"},
		{"newer format", manifest(func(m map[string]any) { m["format"] = 2 }), "newer sessiond"},
		{"older format", manifest(func(m map[string]any) { m["format"] = 0 }), "manifest"},
		{"newer layout", manifest(func(m map[string]any) { m["layout"] = 9 }), "newer sessiond"},
		{"unknown member", manifest(func(m map[string]any) { m["more"] = 1 }), "manifest"},
		{"clock ahead", manifest(func(m map[string]any) { m["time"] = "2999-01-01T00:00:00Z" }), "ahead"},
		{"huge", first(func(f map[string]any) { f["size"] = 1 << 39 }), "make room"},
		{"negative", first(func(f map[string]any) { f["size"] = -1 }), "can't be"},
		{"named twice", manifest(func(m map[string]any) {
			m["files"] = append(m["files"].([]any), m["files"].([]any)[0])
		}), "can't be"},
		{"no files", manifest(func(m map[string]any) { m["files"] = []any{} }), "names no files"},
		{"no store", changed(func(all entries) entries {
			marker := slices.IndexFunc(all, func(e entry) bool { return strings.HasPrefix(e.h.Name, "marker.manifest.") })
			var m map[string]any
			if err := json.Unmarshal(all[0].body, &m); err != nil {
				t.Fatal(err)
			}
			m["files"] = slices.Delete(m["files"].([]any), marker-1, marker)
			var err error
			if all[0].body, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			return slices.Delete(all, marker, marker+1)
		}), "no store"},
	} {
		dir := t.TempDir()
		_, err := pebblestore.Restore(t.Context(), pebblestore.RestoreParams{Source: bytes.NewReader(tt.archive), Dir: dir})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		wantEmpty(t, dir)
	}
	if _, err := os.Stat("/tmp/evil"); err == nil {
		t.Error("a file was written outside of the directory")
	}
}

func FuzzReadBackup(f *testing.F) {
	s, err := pebblestore.Open(context.Background(), f.TempDir(), nil)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := s.Backup(context.Background(), &b, "fuzz"); err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:1024])
	f.Fuzz(func(t *testing.T, archive []byte) {
		m, err := pebblestore.ReadBackup(t.Context(), bytes.NewReader(archive))
		if err == nil && len(m.Files) == 0 {
			t.Error("a backup without files was accepted")
		}
	})
}

// TestBackupFailsAlone fails every operation on a backup's own files, one after the
// other. None may stop the store.
func TestBackupFailsAlone(t *testing.T) {
	t.Parallel()
	var left atomic.Int64 // operations until the one that fails
	left.Store(math.MaxInt64)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "sessiond-backup-") && op.Kind != errorfs.OpRemoveAll && left.Add(-1) == 0 {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := open(t, "store", pebblestore.Options{FS: fs})
	defer closeStore(t, s)
	for n := int64(1); ; n++ {
		left.Store(n)
		_, err := s.Backup(t.Context(), io.Discard, "test")
		reached := left.Load() <= 0
		create(t, s, strconv.FormatInt(n, 10), "user", 0)
		names, errList := fs.List("store")
		if errList != nil || slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "sessiond-") }) {
			t.Errorf("after a failure: %v, %v", names, errList)
		}
		if !reached {
			if err != nil || n < 20 {
				t.Errorf("%d operations, %v", n, err)
			}
			return
		}
	}
}
