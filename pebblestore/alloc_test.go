//go:build !race

package pebblestore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// TestAllocations holds the budgets of the calls whose allocations are the same each time.
// It does not run beside other tests.
func TestAllocations(t *testing.T) {
	s := open(t, "data", pebblestore.Options{FS: vfs.NewMem(), Clock: &hands{}})
	defer closeStore(t, s)
	create(t, s, "s", "user", time.Hour)
	ctx, k, absent := t.Context(), key("s"), key("absent")
	for _, tt := range []struct {
		name string
		max  float64
		call func() (sessiond.Result, error)
	}{
		{"Get from the cache", 0, func() (sessiond.Result, error) { return s.Get(ctx, k) }},
		{"Touch without effect", 0, func() (sessiond.Result, error) {
			return s.Touch(ctx, k, sessiond.Incarnation{}, epoch)
		}},
		{"Get of nothing", 1, func() (sessiond.Result, error) {
			if _, err := s.Get(ctx, absent); !errors.Is(err, sessiond.ErrNotFound) {
				return sessiond.Result{}, err
			}
			return sessiond.Result{}, nil
		}},
	} {
		got := testing.AllocsPerRun(200, func() {
			if _, err := tt.call(); err != nil {
				t.Fatal(err)
			}
		})
		if got > tt.max {
			t.Errorf("%s allocates %v times, want at most %v", tt.name, got, tt.max)
		}
	}
}
