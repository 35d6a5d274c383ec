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

// merge merges operands, and a record if it is the last, as the engine may: from the oldest and from the newest.
func merge(t *testing.T, newest ...[]byte) []byte {
	t.Helper()
	m, err := pebblestore.TailMerger.Merge(nil, newest[0])
	for _, older := range newest[1:] {
		if err == nil {
			err = m.MergeOlder(older)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := m.Finish(true)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pebblestore.TailMerger.Merge(nil, newest[len(newest)-1])
	for i := len(newest) - 2; i >= 0; i-- {
		if err == nil {
			err = other.MergeNewer(newest[i])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := other.Finish(true); err != nil || !bytes.Equal(value, again) {
		t.Errorf("from the newest: %x; from the oldest: %x, %v", value, again, err)
	}
	return value
}

// TestTailsMerge merges a record and the tails after it as the engine may: in any
// grouping, from the oldest or from the newest.
func TestTailsMerge(t *testing.T) {
	t.Parallel()
	stored := func(n int64) pebblestore.Stored {
		at := epoch.Add(time.Duration(n) * time.Second)
		return pebblestore.Stored{Filed: n, Record: &sessiond.Record{
			Version: 1, CreatedAt: epoch, ExpiresAt: epoch, LastActiveAt: at, Data: []byte("sealed"),
		}}
	}
	record := pebblestore.EncodeRecord(stored(0))
	tail := func(n int64) []byte { return pebblestore.EncodeTail(stored(n)) }
	for _, got := range [][]byte{
		merge(t, tail(3), tail(2), tail(1), record),
		merge(t, tail(3), merge(t, tail(2), merge(t, tail(1), record))),
		merge(t, merge(t, merge(t, tail(3), tail(2)), tail(1)), record),
		merge(t, merge(t, tail(3), tail(2)), merge(t, tail(1), record)),
	} {
		st, err := pebblestore.DecodeRecord(sessiond.Key{}, got)
		if err != nil || len(got) != len(record) {
			t.Fatalf("%d bytes, the record has %d: %v", len(got), len(record), err)
		}
		if diff := cmp.Diff(stored(3), st); diff != "" {
			t.Error(diff)
		}
	}
}

// TestEndsMerge merges a record, tails and the end after them.
func TestEndsMerge(t *testing.T) {
	t.Parallel()
	live := pebblestore.Stored{Filed: 5, Record: &sessiond.Record{
		Version: 3, CreatedAt: epoch, UpdatedAt: epoch, ExpiresAt: epoch.Add(time.Hour), LastActiveAt: epoch,
		Subject: "alice", Labels: map[string]string{"a": "b"}, Data: []byte("sealed"), DataKey: 7,
		TokenHash: sessiond.TokenHash{1}, PreviousTokenHash: sessiond.TokenHash{2}, PreviousTokenUntil: epoch,
	}}
	record := pebblestore.EncodeRecord(live)
	touched := *live.Record
	touched.Touch(epoch.Add(time.Minute))
	tail := pebblestore.EncodeTail(pebblestore.Stored{Record: &touched, Filed: 5})
	over := touched
	over.Expire()
	end := pebblestore.EncodeEnd(pebblestore.Stored{Record: &over})
	for i, got := range [][]byte{
		merge(t, end, tail, record),
		merge(t, end, merge(t, tail, record)),
		merge(t, merge(t, end, tail), record),
		merge(t, end, record),
	} {
		st, err := pebblestore.DecodeRecord(sessiond.Key{}, got)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if diff := cmp.Diff(pebblestore.Stored{Record: &over}, st); diff != "" {
			t.Errorf("%d: %s", i, diff)
		}
		if bytes.Contains(got, live.Record.Data) {
			t.Errorf("%d: the data is still there", i)
		}
	}
	m, err := pebblestore.TailMerger.Merge(nil, end)
	if err == nil {
		err = m.MergeNewer(end)
	}
	if err == nil {
		t.Error("an end after an end was merged")
	}
}

func TestTailsOfOtherSizesAreRefused(t *testing.T) {
	t.Parallel()
	tail, record := make([]byte, 16), make([]byte, 40)
	for _, bad := range [][2][]byte{{tail, nil}, {tail, tail[:15]}, {record, tail}, {record, record}, {nil, record}} {
		m, err := pebblestore.TailMerger.Merge(nil, bad[0])
		if err == nil {
			err = m.MergeOlder(bad[1])
		}
		if err == nil {
			t.Errorf("%d bytes on %d were merged", len(bad[0]), len(bad[1]))
		}
	}
	for _, bad := range [][2][]byte{{record, nil}, {record, tail[:15]}, {record, record}, {nil, tail}} {
		m, err := pebblestore.TailMerger.Merge(nil, bad[0])
		if err == nil {
			err = m.MergeNewer(bad[1])
		}
		if err == nil {
			t.Errorf("%d bytes after %d were merged", len(bad[1]), len(bad[0]))
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
