package pebblestore_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

func TestPlacesOrderAsLists(t *testing.T) {
	t.Parallel()
	gen := rapid.Custom(func(t *rapid.T) sessiond.Cursor {
		return sessiond.Cursor{
			CreatedAt: time.UnixMilli(rapid.Int64Range(-2, 2).Draw(t, "ms")).UTC(),
			ID:        sessiond.ID(rapid.StringMatching(`[a-bA-B~.-]{1,4}`).Draw(t, "id")),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		ka, kb := pebblestore.EncodePlace(a), pebblestore.EncodePlace(b)
		if a.Before(b) != (bytes.Compare(ka, kb) < 0) {
			t.Fatalf("%v and %v order differently as bytes", a, b)
		}
		if got, err := pebblestore.DecodePlace(ka); err != nil || got != a {
			t.Fatalf("%v came back as %v, %v", a, got, err)
		}
	})
}

func TestOtherVersionsAreRefused(t *testing.T) {
	t.Parallel()
	r := &sessiond.Record{Version: 1, CreatedAt: epoch, ExpiresAt: epoch}
	b := pebblestore.EncodeRecord(pebblestore.Stored{Record: r})
	for _, version := range []byte{0, 2, 255} {
		b[0] = version
		if _, err := pebblestore.DecodeRecord(r.Key, b); err == nil {
			t.Errorf("a record of version %d was read", version)
		}
	}
}

// FuzzDecode requires that bytes from the disk never panic, and that what is accepted
// as a record means the same when it is written again.
func FuzzDecode(f *testing.F) {
	r := &sessiond.Record{
		Version: 1, CreatedAt: epoch, ExpiresAt: epoch, Labels: map[string]string{"a": "b"},
		CreatedBy: sessiond.Actor{Sub: "s"}, Data: []byte("x"), TokenHash: sessiond.TokenHash{1},
	}
	f.Add(pebblestore.EncodeRecord(pebblestore.Stored{Record: r, Filed: 5}))
	f.Add(pebblestore.EncodeEvent(r.Event(sessiond.EventCreated, r.CreatedBy, "req")))
	f.Add(pebblestore.EncodePlace(r.Cursor()))
	f.Add([]byte(fmt.Sprintf("d%08dtenant\x00id", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		k := sessiond.Key{Tenant: "t", ID: "i"}
		if st, err := pebblestore.DecodeRecord(k, b); err == nil {
			again, err := pebblestore.DecodeRecord(k, pebblestore.EncodeRecord(st))
			if err != nil {
				t.Fatalf("written again: %v", err)
			}
			if diff := cmp.Diff(st, again); diff != "" {
				t.Fatal(diff)
			}
		}
		_, _ = pebblestore.DecodeEvent(b)
		_, _ = pebblestore.DecodePlace(b)
		_, _, _ = pebblestore.DecodeDue(b)
	})
}
