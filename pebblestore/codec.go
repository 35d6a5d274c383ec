package pebblestore

import (
	"encoding/binary"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/recordcodec"
)

// codecVersion is the first byte of values.
const codecVersion = recordcodec.Version

// A state is what is stored of a session.
type state struct {
	rec     *sessiond.Record
	filed   int64  // time of its entry in the due index; unused once ended
	head    bool   // there is a head key
	unknown []byte // fields of the record that a newer version wrote
}

func appendRecord(dst []byte, st *state) []byte {
	return recordcodec.AppendRecord(dst, &recordcodec.Stored{Record: st.rec, Filed: st.filed, Unknown: st.unknown})
}

func decodeRecord(k sessiond.Key, b []byte) (state, error) {
	stored, err := recordcodec.DecodeRecord(k, b)
	if err != nil {
		return state{}, err
	}
	r := stored.Record
	if r.CreatedAt.IsZero() || r.ExpiresAt.IsZero() || r.Version < 1 {
		return state{}, corrupt("record without times or version")
	}
	return state{rec: r, filed: stored.Filed, unknown: stored.Unknown}, nil
}

// A head is the version byte, the last activity and the time in the due index.
const headSize = 17

func appendHead(dst []byte, lastActive, filed int64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, codecVersion), sortable(lastActive))
	return binary.BigEndian.AppendUint64(dst, sortable(filed))
}

// addHead brings st up to date with the head that was stored after it.
func (st *state) addHead(b []byte) error {
	if len(b) != headSize || b[0] != codecVersion {
		return corrupt("head of %d bytes", len(b))
	}
	st.head = true
	st.rec.Touch(time.UnixMilli(unsortable(binary.BigEndian.Uint64(b[1:]))).UTC())
	st.filed = unsortable(binary.BigEndian.Uint64(b[9:]))
	return nil
}

// Between the version byte and the fields of an event is the time at which it was
// appended, in 8 bytes, filled in when its number is known.
const eventHeader = 9

func appendEvent(dst []byte, ev *sessiond.Event) []byte {
	return recordcodec.AppendEvent(append(dst, codecVersion, 0, 0, 0, 0, 0, 0, 0, 0), ev)
}

func stampEvent(b []byte, appendedAt int64) {
	binary.BigEndian.PutUint64(b[1:], sortable(appendedAt))
}

func eventTime(b []byte) (appendedAt int64, err error) {
	if len(b) < eventHeader || b[0] != codecVersion {
		return 0, corrupt("event of %d bytes", len(b))
	}
	return unsortable(binary.BigEndian.Uint64(b[1:])), nil
}

func decodeEvent(b []byte) (sessiond.Event, error) {
	if _, err := eventTime(b); err != nil {
		return sessiond.Event{}, err
	}
	return recordcodec.DecodeEvent(b[eventHeader:])
}
