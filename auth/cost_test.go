//go:build !race

package auth_test

import "testing"

// A credential that was verified before costs no allocation. Not parallel, as AllocsPerRun wants it.
func TestAllocations(t *testing.T) {
	f := newFakeIssuer(t, jwk("k", p256()))
	v := ready(t, f.config())
	raw := sign("ES256", "k", p256(), f.claims())
	accept(t, v, raw)
	if got := testing.AllocsPerRun(200, func() {
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("Verify of a cached credential: %v allocations", got)
	}
}
