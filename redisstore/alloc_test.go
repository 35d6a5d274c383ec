//go:build !race

package redisstore_test

import (
	"testing"

	"sessiond.example/sessiond/internal/testserver"
)

// TestGetAllocations holds what a Get costs that shares its request with nobody.
func TestGetAllocations(t *testing.T) { // not parallel, as AllocsPerRun wants it
	s := open(t, withPrefix(testserver.SharedRedis(t).URL()), nil)
	create(t, s, "s1", "alice")
	ctx, k := t.Context(), key("s1")
	got := testing.AllocsPerRun(500, func() {
		if _, err := s.Get(ctx, k); err != nil {
			t.Fatal(err)
		}
	})
	if most := 27.0; got > most {
		t.Errorf("Get allocates %.0f times, want at most %.0f", got, most)
	}
}
