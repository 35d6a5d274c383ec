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

// endMark is the first byte of the operand of an end, where a record has its version and a tail the
// sign of a time. Then come the fields that the end changes and the tail.
const endMark = 'e'

func appendEnd(dst []byte, st *state) []byte {
	dst = recordcodec.AppendEnd(append(dst, endMark), st.rec)
	return appendTail(dst, st)
}

// tailMerger makes one value of a record and the operands that were written after it: the
// newest tail takes the place of the record's own, and an end its fields. The data that the end takes away
// is gone from what is read at once, and from the disk when the engine compacts both, as it would be if the record had been
// written anew. The engine keeps the name on the disk.
var tailMerger = &pebble.Merger{
	Name: "sessiond.tail",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		return &tailMerge{bytes.Clone(value)}, nil
	},
}

// A tailMerge has what was merged so far: a tail, an end, or a record with them.
type tailMerge struct{ value []byte }

// MergeNewer implements [pebble.ValueMerger].
func (m *tailMerge) MergeNewer(operand []byte) (err error) {
	m.value, err = fold(m.value, operand)
	return err
}

// MergeOlder implements [pebble.ValueMerger].
func (m *tailMerge) MergeOlder(value []byte) (err error) {
	m.value, err = fold(value, m.value)
	return err
}

// fold returns what a newer operand makes of a record or an older operand, in memory of its own.
func fold(older, newer []byte) ([]byte, error) {
	fields, change := len(older)-tailSize, len(newer)-tailSize
	switch {
	case fields < 0:
		return nil, corrupt("record or operand of %d bytes", len(older))
	case change < 0 || change > 0 && newer[0] != endMark:
		return nil, corrupt("operand of %d bytes", len(newer))
	case change == 0 || fields == 0:
		// A tail takes the place of the tail, and an end that of one.
		return append(older[:fields:fields], newer...), nil
	}
	return recordcodec.AppendEnded(make([]byte, 0, len(older)+len(newer)), older[:fields], newer[1:])
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
