//go:build !race

package pgstore_test

import (
	"testing"

	"sessiond.example/sessiond/pgstore"
)

// TestGetAllocations bounds what a read costs that has no company.
func TestGetAllocations(t *testing.T) { // not parallel, as AllocsPerRun wants it
	s := open(t, newDatabase(t), &pgstore.Options{NoHints: true})
	create(t, s, "s1")
	get := func() {
		if _, err := s.Get(t.Context(), key("s1")); err != nil {
			t.Fatal(err)
		}
	}
	get() // prepares the statement
	if got := testing.AllocsPerRun(200, get); got > 40 {
		t.Errorf("Get takes %v allocations, want at most 40", got)
	}
}
