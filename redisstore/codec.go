package redisstore

import (
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/recordcodec"
)

// A record is two keys. The head is a small hash with what scripts decide on; the body is
// everything else, as recordcodec writes it. No fact is in both, so they can't disagree.

// A state is what is stored of a session.
type state struct {
	rec     *sessiond.Record
	write   string // number of the write that made it; a touch is none
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

// The fields of a head, in the order in which scripts return them.
const (
	headIncarnation = iota
	headWrite
	headCreated
	headUpdated
	headActive
	headExpires
	headIdle
	headEnded
	headFields
)

// decodeState reads a record from its head and body.
func decodeState(k sessiond.Key, head, body valkey.ValkeyMessage) (state, error) {
	h, err := head.ToArray()
	if err != nil || len(h) != headFields {
		return state{}, corrupt("head of %s", k.ID)
	}
	text, err := body.ToString()
	if err != nil {
		return state{}, corrupt("no body of %s", k.ID)
	}
	stored, err := recordcodec.DecodeRecord(k, []byte(text))
	if err != nil {
		return state{}, corrupt("body of %s: %v", k.ID, err)
	}
	d := headDecoder{h: h}
	r := stored.Record
	st := state{rec: r, unknown: stored.Unknown, write: d.text(headWrite)}
	inc := d.text(headIncarnation)
	if len(inc) != len(r.Incarnation) {
		d.bad = true
	}
	copy(r.Incarnation[:], inc)
	r.CreatedAt, r.UpdatedAt = d.time(headCreated), d.time(headUpdated)
	r.LastActiveAt, r.ExpiresAt = d.time(headActive), d.time(headExpires)
	r.IdleTimeout = time.Duration(d.number(headIdle)) * time.Millisecond
	if !h[headEnded].IsNil() {
		r.EndedAt = d.time(headEnded)
	}
	if d.bad || r.Version < 1 || r.IdleTimeout < 0 {
		return state{}, corrupt("head of %s", k.ID)
	}
	return st, nil
}

// A headDecoder reads fields and remembers whether one was bad.
type headDecoder struct {
	h   []valkey.ValkeyMessage
	bad bool
}

func (d *headDecoder) text(field int) string {
	s, err := d.h[field].ToString()
	if err != nil {
		d.bad = true
	}
	return s
}

func (d *headDecoder) number(field int) int64 {
	n, err := strconv.ParseInt(d.text(field), 10, 64)
	if err != nil {
		d.bad = true
	}
	return n
}

func (d *headDecoder) time(field int) time.Time { return fromMS(d.number(field)) }

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
