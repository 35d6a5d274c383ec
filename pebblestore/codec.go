package pebblestore

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/recordcodec"
)

// codecVersion is the first byte of values.
const codecVersion = recordcodec.Version

// A state is what is stored of a session.
type state struct {
	rec     *sessiond.Record
	filed   int64  // time of its entry in the due index; unused once ended
	unknown []byte // fields of the record that a newer version wrote
	value   string // what it was read from, and its texts are parts of; empty when it was made by a change
}

// The value of a record ends in its tail: the last activity and the time in the due
// index. That is all that a touch writes, as an operand that the engine merges into the value.
const tailSize = 16

func appendTail(dst []byte, st *state) []byte {
	dst = binary.BigEndian.AppendUint64(dst, sortable(st.rec.LastActiveAt.UnixMilli()))
	return binary.BigEndian.AppendUint64(dst, sortable(st.filed))
}

func appendRecord(dst []byte, st *state) []byte {
	dst = recordcodec.AppendRecord(dst, &recordcodec.Stored{Record: st.rec, Unknown: st.unknown})
	return appendTail(dst, st)
}

func decodeRecord(k sessiond.Key, value string) (state, error) {
	if len(value) <= tailSize {
		return state{}, corrupt("record of %d bytes", len(value))
	}
	fields := value[:len(value)-tailSize]
	tail := []byte(value[len(fields):])
	stored, err := recordcodec.DecodeText(k, fields)
	if err != nil {
		return state{}, err
	}
	r := stored.Record
	if r.CreatedAt.IsZero() || r.ExpiresAt.IsZero() || r.Version < 1 {
		return state{}, corrupt("record without times or version")
	}
	r.Touch(time.UnixMilli(unsortable(binary.BigEndian.Uint64(tail))).UTC())
	return state{rec: r, filed: unsortable(binary.BigEndian.Uint64(tail[8:])), unknown: stored.Unknown, value: value}, nil
}

// tailMerger makes one value of a record and the tails that were written after it: the
// newest tail takes the place of the record's own. The engine keeps its name on the disk.
var tailMerger = &pebble.Merger{
	Name: "sessiond.tail",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		return &tailMerge{bytes.Clone(value)}, nil
	},
}

// A tailMerge has what was merged so far: a tail, or a record with it.
type tailMerge struct{ value []byte }

// MergeNewer implements [pebble.ValueMerger].
func (m *tailMerge) MergeNewer(tail []byte) error {
	if len(m.value) < tailSize || len(tail) != tailSize {
		return corrupt("tail of %d bytes", len(tail))
	}
	copy(m.value[len(m.value)-tailSize:], tail)
	return nil
}

// MergeOlder implements [pebble.ValueMerger].
func (m *tailMerge) MergeOlder(value []byte) error {
	if len(m.value) != tailSize || len(value) < tailSize {
		return corrupt("tail of %d bytes", len(m.value))
	}
	if fields := len(value) - tailSize; fields > 0 {
		m.value = append(append(make([]byte, 0, len(value)), value[:fields]...), m.value...)
	}
	return nil
}

// Finish implements [pebble.ValueMerger].
func (m *tailMerge) Finish(bool) ([]byte, io.Closer, error) { return m.value, nil, nil }

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
