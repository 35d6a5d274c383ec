//go:build !race

package sessiond_test

import (
	"path/filepath"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/pebblestore"
)

// What the calls that programs make all the time allocate, with data that is
// sealed as in production. Not parallel, as AllocsPerRun wants it.
func TestAllocations(t *testing.T) {
	pebble, err := pebblestore.Open(t.Context(), filepath.Join(t.TempDir(), "data"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pebble.Close()
	t.Run("memory", func(t *testing.T) { testAllocations(t, memstore.New(memstore.Options{})) })
	t.Run("pebble", func(t *testing.T) { testAllocations(t, pebble) })
}

func testAllocations(t *testing.T, store sessiond.Store) {
	keys, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	p := sessiond.CreateParams{
		Subject: "user-4711", Labels: map[string]string{"device": "phone", "client": "web"},
		Data: []byte(`{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB"}`),
	}
	s, token, err := m.Create(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, most float64, f func() error) {
		t.Helper()
		got := testing.AllocsPerRun(200, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
		if got > most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, most)
		}
	}
	check("Get", 4, func() error {
		_, err := m.Get(ctx, s.ID)
		return err
	})
	check("Get without data", 2, func() error {
		_, err := m.WithoutData().Get(ctx, s.ID)
		return err
	})
	check("Verify", 6, func() error {
		v, err := m.Verify(ctx, token, sessiond.VerifyParams{})
		if !v.Active {
			t.Fatal("not active")
		}
		return err
	})
	if _, ok := store.(*memstore.Store); !ok {
		return // background work of other stores allocates as well while they write
	}
	check("Create", 15, func() error {
		_, _, err := m.Create(ctx, p)
		return err
	})
}

// BenchmarkManager is the calls of an embedding program on the embedded store.
func BenchmarkManager(b *testing.B) {
	store, err := pebblestore.Open(b.Context(), filepath.Join(b.TempDir(), "data"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	keys, err := keyset.Create()
	if err != nil {
		b.Fatal(err)
	}
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys})
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	s, token, err := m.Create(ctx, sessiond.CreateParams{Subject: "user-4711", Data: []byte(`{"cart":["apple","pear"]}`)})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Get(ctx, s.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Verify(ctx, token, sessiond.VerifyParams{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
