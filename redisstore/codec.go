package redisstore

import (
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/recordcodec"
)

// A record is one value: the head, in a form that scripts can read and a touch can write a
// part of, and the body with everything else, as recordcodec writes it. No fact is in both,
// so they can't disagree.

// A state is what is stored of a session.
type state struct {
	rec     *sessiond.Record
	write   int64  // number of the write that made it; a touch is none
	unknown []byte // fields of the body that a newer version wrote
}

func fromMS(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func formatMS(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// encodeBody writes what is not in the head.
func encodeBody(r *sessiond.Record, unknown []byte) string {
	c := *r
	c.Incarnation = sessiond.Incarnation{}
	c.CreatedAt, c.UpdatedAt, c.LastActiveAt, c.ExpiresAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	c.EndedAt, c.IdleTimeout = time.Time{}, 0
	stored := recordcodec.Stored{Record: &c, Unknown: unknown}
	return string(recordcodec.AppendRecord(make([]byte, 0, 512+len(r.Data)), &stored))
}

// headSize is the size of a head: the incarnation, then seven numbers of eight bytes. head.lua
// has the layout.
const headSize = len(sessiond.Incarnation{}) + 7*8

// decodeState reads a record.
func decodeState(k sessiond.Key, m valkey.ValkeyMessage) (state, error) {
	text, err := m.ToString()
	if err != nil || len(text) < headSize {
		return state{}, corrupt("head of %s", k.ID)
	}
	stored, err := recordcodec.DecodeText(k, text[headSize:])
	if err != nil {
		return state{}, corrupt("body of %s: %v", k.ID, err)
	}
	r := stored.Record
	n := copy(r.Incarnation[:], text)
	var numbers [7]int64
	for i := range numbers {
		numbers[i] = number(text[n+8*i:])
	}
	r.CreatedAt, r.UpdatedAt, r.LastActiveAt = fromMS(numbers[1]), fromMS(numbers[2]), fromMS(numbers[3])
	r.ExpiresAt = fromMS(numbers[4])
	r.IdleTimeout = time.Duration(numbers[5]) * time.Millisecond
	if numbers[6] != 0 {
		r.EndedAt = fromMS(numbers[6])
	}
	if r.Version < 1 || r.IdleTimeout < 0 {
		return state{}, corrupt("head of %s", k.ID)
	}
	return state{rec: r, write: numbers[0], unknown: stored.Unknown}, nil
}

// Events in the feed are a version byte and the fields. An event without time happened
// when it was appended.
func encodeEvent(e *sessiond.Event) string {
	return string(recordcodec.AppendEvent(append(make([]byte, 0, 256), recordcodec.Version), e))
}

func decodeEvent(s string, appended time.Time) (sessiond.Event, error) {
	if s == "" || s[0] != recordcodec.Version {
		return sessiond.Event{}, corrupt("event of %d bytes", len(s))
	}
	e, err := recordcodec.DecodeEvent([]byte(s[1:]))
	if err != nil {
		return e, corrupt("event: %v", err)
	}
	if e.Time.IsZero() {
		e.Time = appended
	}
	return e, nil
}
