package recordcodec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/recordcodec"
)

// Generators remember their names when they are first used, so the tests that share
// these don't run side by side.
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
	rapid.Check(t, func(t *rapid.T) {
		in := recordcodec.Stored{Record: genRecord(t)}
		if rapid.Bool().Draw(t, "newer") {
			in.Unknown = protowire.AppendString(protowire.AppendTag(nil, 200, protowire.BytesType), "from the future")
		}
		out, err := recordcodec.DecodeRecord(in.Record.Key, recordcodec.AppendRecord(nil, &in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestEndedIsAsWrittenAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := genRecord(t)
		live.EndedAt, live.EndReason, live.EndNote, live.EndedBy = time.Time{}, "", "", sessiond.Actor{}
		unknown := protowire.AppendString(protowire.AppendTag(nil, 200, protowire.BytesType), "from the future")
		before := recordcodec.AppendRecord(nil, &recordcodec.Stored{Record: live, Unknown: unknown})
		ended := *live
		ended.End(genTime.Draw(t, "at"), "reason", genText.Draw(t, "why"), genActor.Draw(t, "who"))
		after, err := recordcodec.AppendEnded(nil, before, recordcodec.AppendEnd(nil, &ended))
		if err != nil {
			t.Fatal(err)
		}
		got, err := recordcodec.DecodeRecord(live.Key, after)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(recordcodec.Stored{Record: &ended, Unknown: unknown}, got); diff != "" {
			t.Fatal(diff)
		}
		if anew := recordcodec.AppendRecord(nil, &got); len(anew) != len(after) {
			t.Fatalf("%d bytes, %d when written anew", len(after), len(anew))
		}
	})
}

func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord(t)
		in := r.Event(sessiond.EventType(genText.Draw(t, "type")), genActor.Draw(t, "actor"), genText.Draw(t, "request"))
		out, err := recordcodec.DecodeEvent(recordcodec.AppendEvent(nil, &in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatal(diff)
		}
	})
}

// sample is a record with most of its parts.
func sample() *sessiond.Record {
	at := time.UnixMilli(1_893_553_445_678).UTC()
	return &sessiond.Record{
		Key: sessiond.Key{Tenant: "t", ID: "i"}, Incarnation: sessiond.Incarnation{1, 2, 3}, Subject: "s",
		Version: 1, CreatedAt: at, UpdatedAt: at, LastActiveAt: at, ExpiresAt: at.Add(time.Hour),
		Labels: map[string]string{"b": "2", "a": ""}, CreatedBy: sessiond.Actor{Sub: "by"},
		Data: []byte("x"), DataKey: 7, TokenHash: sessiond.TokenHash{9}, IdleTimeout: time.Minute,
	}
}

// TestBytesStay holds the bytes, which stores have on disk.
func TestBytesStay(t *testing.T) {
	t.Parallel()
	r := sample()
	e := r.Event(sessiond.EventCreated, r.CreatedBy, "req")
	for name, tt := range map[string]struct {
		got  []byte
		want string
	}{
		"record": {recordcodec.AppendRecord(nil, &recordcodec.Stored{Record: r}), wantRecord},
		"event":  {recordcodec.AppendEvent(nil, &e), wantEvent},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s is written as\n%s, want\n%s", name, got, tt.want)
		}
	}
}

const (
	wantRecord = "010a0c0102030000000000000000001201731a030a01611a060a0162120132220178280730aeb6d2848e3738aeb6d2848e37" +
		"40aeb6d2848e3748ae93ae868e3750e0d403580162040a0262796a20090000000000000000000000000000000000000000000000" +
		"0000000000000000"
	wantEvent = "0a12415149444141414141414141414141412e31120f73657373696f6e2e6372656174656418aeb6d2848e372201742a016932" +
		"0173380152040a0262795a03726571"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	good := recordcodec.AppendRecord(nil, &recordcodec.Stored{Record: sample()})
	bad := map[string][]byte{"empty": nil, "cut off": good[:len(good)-1]}
	for _, version := range []byte{0, 2, 255} {
		b := bytes.Clone(good)
		b[0] = version
		bad["version "+string('0'+version%10)] = b
	}
	bad["type"] = protowire.AppendVarint(protowire.AppendTag([]byte{1}, 1, protowire.VarintType), 1)
	bad["length of a hash"] = protowire.AppendBytes(protowire.AppendTag([]byte{1}, 13, protowire.BytesType), []byte("short"))
	bad["data key"] = protowire.AppendVarint(protowire.AppendTag([]byte{1}, 5, protowire.VarintType), 1<<32)
	for name, b := range bad {
		_, err := recordcodec.DecodeRecord(sample().Key, b)
		if e := recordcodec.Error(""); !errors.As(err, &e) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// FuzzDecode requires that no bytes panic, and that what is accepted as a record
// means the same when it is written again.
func FuzzDecode(f *testing.F) {
	r := sample()
	e := r.Event(sessiond.EventCreated, r.CreatedBy, "req")
	f.Add(recordcodec.AppendRecord(nil, &recordcodec.Stored{Record: r}))
	f.Add(recordcodec.AppendEvent(nil, &e))
	f.Add([]byte("\x01\"\x00")) // data of no bytes
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := recordcodec.DecodeRecord(r.Key, b); err == nil {
			again, err := recordcodec.DecodeRecord(r.Key, recordcodec.AppendRecord(nil, &s))
			if err != nil {
				t.Fatalf("written again: %v", err)
			}
			if diff := cmp.Diff(s, again); diff != "" {
				t.Fatal(diff)
			}
		}
		if e, err := recordcodec.DecodeEvent(b); err == nil {
			again, err := recordcodec.DecodeEvent(recordcodec.AppendEvent(nil, &e))
			if err != nil || again != e {
				t.Fatalf("%+v became %+v, %v", e, again, err)
			}
		}
	})
}
