package pebblestore_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

var (
	genText = rapid.StringMatching(`[a-z~é日]{0,40}`)
	genTime = rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMilli(rapid.Int64Range(-1<<40, 1<<45).Draw(t, "ms")).UTC()
	})
	genMaybeTime = rapid.OneOf(rapid.Just(time.Time{}), genTime)
	genActor     = rapid.Custom(func(t *rapid.T) sessiond.Actor {
		return sessiond.Actor{Sub: genText.Draw(t, "sub"), Client: genText.Draw(t, "client")}
	})
)

func genHash(t *rapid.T) (h [32]byte) {
	if rapid.Bool().Draw(t, "has") {
		copy(h[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
	}
	return h
}

func genRecord(t *rapid.T) *sessiond.Record {
	r := &sessiond.Record{
		Key:         sessiond.Key{Tenant: "t", ID: "i"},
		Subject:     genText.Draw(t, "subject"),
		CreatedAt:   genTime.Draw(t, "created"),
		UpdatedAt:   genTime.Draw(t, "updated"),
		ExpiresAt:   genTime.Draw(t, "expires"),
		IdleTimeout: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "idle")) * time.Millisecond,
		Version:     rapid.Int64Range(1, 1<<62).Draw(t, "version"),
		CreatedBy:   genActor.Draw(t, "by"),
		TokenHash:   genHash(t), PreviousTokenHash: genHash(t), CreateHash: genHash(t),
		PreviousTokenUntil: genMaybeTime.Draw(t, "until"),
		LastActiveAt:       genMaybeTime.Draw(t, "active"),
		EndedAt:            genMaybeTime.Draw(t, "ended"),
		EndReason:          sessiond.EndReason(genText.Draw(t, "reason")),
		EndNote:            genText.Draw(t, "note"),
		EndedBy:            genActor.Draw(t, "ender"),
		DataKey:            rapid.Uint32().Draw(t, "datakey"),
	}
	if labels := rapid.MapOfN(genText, genText, 0, 5).Draw(t, "labels"); len(labels) > 0 {
		r.Labels = labels
	}
	if data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data"); len(data) > 0 {
		r.Data = data
	}
	copy(r.Incarnation[:], rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "incarnation"))
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := pebblestore.Stored{Record: genRecord(t), Filed: rapid.Int64().Draw(t, "filed")}
		if rapid.Bool().Draw(t, "newer") {
			in.Unknown = protowire.AppendString(protowire.AppendTag(nil, 200, protowire.BytesType), "from the future")
		}
		out, err := pebblestore.DecodeRecord(in.Record.Key, pebblestore.EncodeRecord(in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestEventRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord(t)
		in := r.Event(sessiond.EventType(genText.Draw(t, "type")), genActor.Draw(t, "actor"), genText.Draw(t, "request"))
		out, err := pebblestore.DecodeEvent(pebblestore.EncodeEvent(in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatal(diff)
		}
	})
}

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
