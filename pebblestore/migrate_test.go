package pebblestore_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// TestTwoBuilds has this build and its successor, with a layout version and a field
// more, work on one directory in turn.
func TestTwoBuilds(t *testing.T) {
	t.Parallel()
	next := filepath.Join(t.TempDir(), "next")
	build := exec.Command("go", "build", "-tags", "sessiond_next_layout", "-o", next, "./testdata/nextbuild")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	then := func(op, id, want string) {
		t.Helper()
		out, err := exec.Command(next, dir, op, id).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Fatalf("the next build: %s %s: %v, %q, want %q", op, id, err, got, want)
		}
	}
	now := func(do func(*pebblestore.Store)) {
		t.Helper()
		s := open(t, dir, pebblestore.Options{})
		defer closeStore(t, s)
		if layout, newest := s.Layout(); layout != 1 || newest != 1 {
			t.Errorf("layout %d, newest %d", layout, newest)
		}
		do(s)
	}

	now(func(s *pebblestore.Store) { create(t, s, "ours", "user", 0) })
	then("look", "ours", "1 false")
	then("update", "ours", "1 true")
	then("create", "theirs", "1 true")
	now(func(s *pebblestore.Store) { // which keeps the field, and doesn't know it
		for _, id := range []string{"ours", "theirs"} {
			r := get(t, s, id)
			if _, err := s.Update(t.Context(), r.Key, change); err != nil {
				t.Error(err)
			}
			if _, err := s.Touch(t.Context(), r.Key, sessiond.Incarnation{}, time.Time{}); err != nil {
				t.Error(err)
			}
		}
		create(t, s, "more", "user", 0)
		if err := s.Finalize(t.Context()); err != nil { // nothing to do yet
			t.Error(err)
		}
	})
	then("look", "ours", "1 true")
	then("look", "theirs", "1 true")
	then("look", "more", "1 false")
	then("finalize", "ours", "2 true")
	then("finalize", "ours", "2 true")
	if _, err := pebblestore.Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "newer sessiond") {
		t.Errorf("a finalized store was opened: %v", err)
	}
	then("look", "theirs", "2 true")
}
