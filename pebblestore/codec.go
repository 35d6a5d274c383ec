package pebblestore

import (
	"encoding/binary"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"sessiond.example/sessiond"
)

// Values begin with a version byte. What follows is in protocol buffer wire
// format, with the field numbers below; numbers are never used again for
// something else. Times are milliseconds of Unix time as varints. A reader keeps
// fields of records that it doesn't know and skips those of events.
const codecVersion = 1

// Fields of a record. Tenant and ID are in the key.
const (
	recIncarnation   = 1 // 12 bytes
	recSubject       = 2
	recLabel         = 3 // pair, repeated, by key
	recData          = 4
	recDataKey       = 5
	recCreatedAt     = 6
	recUpdatedAt     = 7
	recLastActiveAt  = 8
	recExpiresAt     = 9
	recIdleTimeout   = 10 // milliseconds
	recVersion       = 11
	recCreatedBy     = 12 // pair: subject, client
	recTokenHash     = 13 // 32 bytes
	recPreviousHash  = 14 // 32 bytes
	recPreviousUntil = 15
	recCreateHash    = 16 // 32 bytes
	recEndedAt       = 17
	recEndReason     = 18
	recEndNote       = 19
	recEndedBy       = 20 // pair: subject, client
	recFiled         = 21 // time of the record's entry in the due index
)

// Fields of an event.
const (
	evID        = 1
	evType      = 2
	evTime      = 3
	evTenant    = 4
	evSession   = 5
	evSubject   = 6
	evVersion   = 7
	evReason    = 8
	evNote      = 9
	evActor     = 10 // pair: subject, client
	evRequestID = 11
)

// A state is what is stored of a session.
type state struct {
	rec     *sessiond.Record
	filed   int64  // time of its entry in the due index; unused once ended
	head    bool   // there is a head key
	unknown []byte // fields of the record that a newer version wrote
}

type encoder []byte

func (e *encoder) bytes(n protowire.Number, b []byte) {
	if len(b) > 0 {
		*e = protowire.AppendBytes(protowire.AppendTag(*e, n, protowire.BytesType), b)
	}
}

func (e *encoder) text(n protowire.Number, s string) {
	if s != "" {
		*e = protowire.AppendString(protowire.AppendTag(*e, n, protowire.BytesType), s)
	}
}

func (e *encoder) number(n protowire.Number, v int64) {
	if v != 0 {
		*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.VarintType), uint64(v))
	}
}

// time writes all times but the zero time, also the beginning of Unix time.
func (e *encoder) time(n protowire.Number, t time.Time) {
	if !t.IsZero() {
		*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.VarintType), uint64(t.UnixMilli()))
	}
}

// pair writes a message of two texts. An empty pair is written if always is set.
func (e *encoder) pair(n protowire.Number, a, b string, always bool) {
	if a == "" && b == "" && !always {
		return
	}
	size := 0
	for _, s := range [...]string{a, b} {
		if s != "" {
			size += protowire.SizeTag(1) + protowire.SizeBytes(len(s))
		}
	}
	*e = protowire.AppendVarint(protowire.AppendTag(*e, n, protowire.BytesType), uint64(size))
	e.text(1, a)
	e.text(2, b)
}

func (e *encoder) hash(n protowire.Number, h [32]byte) {
	if h != ([32]byte{}) {
		e.bytes(n, h[:])
	}
}

func appendRecord(dst []byte, st *state) []byte {
	r := st.rec
	e := encoder(append(dst, codecVersion))
	if r.Incarnation != (sessiond.Incarnation{}) {
		e.bytes(recIncarnation, r.Incarnation[:])
	}
	e.text(recSubject, r.Subject)
	if len(r.Labels) > 0 {
		var few [sessiond.MaxLabels]string
		keys := few[:0]
		for k := range r.Labels {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			e.pair(recLabel, k, r.Labels[k], true)
		}
	}
	e.bytes(recData, r.Data)
	e.number(recDataKey, int64(r.DataKey))
	e.time(recCreatedAt, r.CreatedAt)
	e.time(recUpdatedAt, r.UpdatedAt)
	e.time(recLastActiveAt, r.LastActiveAt)
	e.time(recExpiresAt, r.ExpiresAt)
	e.number(recIdleTimeout, r.IdleTimeout.Milliseconds())
	e.number(recVersion, r.Version)
	e.pair(recCreatedBy, r.CreatedBy.Sub, r.CreatedBy.Client, false)
	e.hash(recTokenHash, r.TokenHash)
	e.hash(recPreviousHash, r.PreviousTokenHash)
	e.time(recPreviousUntil, r.PreviousTokenUntil)
	e.hash(recCreateHash, r.CreateHash)
	e.time(recEndedAt, r.EndedAt)
	e.text(recEndReason, string(r.EndReason))
	e.text(recEndNote, r.EndNote)
	e.pair(recEndedBy, r.EndedBy.Sub, r.EndedBy.Client, false)
	e.number(recFiled, st.filed)
	return append(e, st.unknown...)
}

// A field is one field of a message, as it was read.
type field struct {
	num protowire.Number
	typ protowire.Type
	n   uint64 // value of a varint
	s   string // value of a text or of bytes
	raw string // the whole field
}

// nextField cuts the first field off *s.
func nextField(s *string) (f field, err error) {
	b := []byte(*s) // the compiler does not copy it, since nothing keeps or changes it
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, corrupt("field tag: %v", protowire.ParseError(n))
	}
	size := n + protowire.ConsumeFieldValue(num, typ, b[n:])
	if size < n {
		return f, corrupt("field %d is cut off or malformed", num)
	}
	f = field{num: num, typ: typ, raw: (*s)[:size]}
	switch typ {
	case protowire.VarintType:
		f.n, _ = protowire.ConsumeVarint(b[n:])
	case protowire.BytesType:
		length, m := protowire.ConsumeVarint(b[n:])
		f.s = (*s)[n+m : n+m+int(length)]
	}
	*s = (*s)[size:]
	return f, nil
}

// A decoder reads the values of fields and remembers what was wrong.
type decoder struct{ err error }

func (d *decoder) fail(f field, what string) {
	if d.err == nil {
		d.err = corrupt("field %d: %s", f.num, what)
	}
}

func (d *decoder) text(f field) string {
	if f.typ != protowire.BytesType {
		d.fail(f, "not bytes")
	}
	return f.s
}

func (d *decoder) number(f field) int64 {
	if f.typ != protowire.VarintType {
		d.fail(f, "not a number")
	}
	return int64(f.n)
}

func (d *decoder) time(f field) time.Time { return time.UnixMilli(d.number(f)).UTC() }

func (d *decoder) fixed(f field, dst []byte) {
	if s := d.text(f); len(s) != len(dst) {
		d.fail(f, "wrong length")
	} else {
		copy(dst, s)
	}
}

func (d *decoder) pair(f field) (a, b string) {
	s := d.text(f)
	for len(s) > 0 {
		g, err := nextField(&s)
		if err != nil {
			d.fail(f, err.Error())
			return "", ""
		}
		switch g.num {
		case 1:
			a = d.text(g)
		case 2:
			b = d.text(g)
		}
	}
	return a, b
}

// body checks the version byte and copies the rest.
func body(b []byte) (string, error) {
	switch {
	case len(b) == 0:
		return "", corrupt("empty value")
	case b[0] != codecVersion:
		return "", corrupt("value of version %d, known is %d", b[0], codecVersion)
	default:
		return string(b[1:]), nil
	}
}

func decodeRecord(k sessiond.Key, b []byte) (state, error) {
	s, err := body(b)
	if err != nil {
		return state{}, err
	}
	r := &sessiond.Record{Key: k}
	st := state{rec: r}
	var d decoder
	for len(s) > 0 {
		f, err := nextField(&s)
		if err != nil {
			return state{}, err
		}
		if !d.record(f, &st) {
			st.unknown = append(st.unknown, f.raw...)
		}
	}
	if d.err == nil && (r.CreatedAt.IsZero() || r.ExpiresAt.IsZero() || r.Version < 1) {
		d.err = corrupt("record without times or version")
	}
	return st, d.err
}

// record sets what f says, or reports that it doesn't know f.
func (d *decoder) record(f field, st *state) (known bool) {
	r := st.rec
	switch f.num {
	case recIncarnation:
		d.fixed(f, r.Incarnation[:])
	case recSubject:
		r.Subject = d.text(f)
	case recLabel:
		if r.Labels == nil {
			r.Labels = make(map[string]string)
		}
		k, v := d.pair(f)
		r.Labels[k] = v
	case recData:
		r.Data = []byte(d.text(f))
	case recDataKey:
		n := d.number(f)
		if n != int64(uint32(n)) {
			d.fail(f, "out of range")
		}
		r.DataKey = uint32(n)
	case recCreatedAt:
		r.CreatedAt = d.time(f)
	case recUpdatedAt:
		r.UpdatedAt = d.time(f)
	case recLastActiveAt:
		r.LastActiveAt = d.time(f)
	case recExpiresAt:
		r.ExpiresAt = d.time(f)
	case recIdleTimeout:
		const longest = int64(1<<63-1) / int64(time.Millisecond)
		n := d.number(f)
		if n < 0 || n > longest {
			d.fail(f, "out of range")
			n = 0
		}
		r.IdleTimeout = time.Duration(n) * time.Millisecond
	case recVersion:
		r.Version = d.number(f)
	case recCreatedBy:
		r.CreatedBy.Sub, r.CreatedBy.Client = d.pair(f)
	case recTokenHash:
		d.fixed(f, r.TokenHash[:])
	case recPreviousHash:
		d.fixed(f, r.PreviousTokenHash[:])
	case recPreviousUntil:
		r.PreviousTokenUntil = d.time(f)
	case recCreateHash:
		d.fixed(f, r.CreateHash[:])
	case recEndedAt:
		r.EndedAt = d.time(f)
	case recEndReason:
		r.EndReason = sessiond.EndReason(d.text(f))
	case recEndNote:
		r.EndNote = d.text(f)
	case recEndedBy:
		r.EndedBy.Sub, r.EndedBy.Client = d.pair(f)
	case recFiled:
		st.filed = d.number(f)
	default:
		return false
	}
	return true
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
	e := encoder(append(dst, codecVersion, 0, 0, 0, 0, 0, 0, 0, 0))
	e.text(evID, ev.ID)
	e.text(evType, string(ev.Type))
	e.time(evTime, ev.Time)
	e.text(evTenant, ev.Tenant)
	e.text(evSession, string(ev.SessionID))
	e.text(evSubject, ev.Subject)
	e.number(evVersion, ev.Version)
	e.text(evReason, string(ev.Reason))
	e.text(evNote, ev.Note)
	e.pair(evActor, ev.Actor.Sub, ev.Actor.Client, false)
	e.text(evRequestID, ev.RequestID)
	return e
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
	var ev sessiond.Event
	if _, err := eventTime(b); err != nil {
		return ev, err
	}
	s := string(b[eventHeader:])
	var d decoder
	for len(s) > 0 {
		f, err := nextField(&s)
		if err != nil {
			return ev, err
		}
		switch f.num {
		case evID:
			ev.ID = d.text(f)
		case evType:
			ev.Type = sessiond.EventType(d.text(f))
		case evTime:
			ev.Time = d.time(f)
		case evTenant:
			ev.Tenant = d.text(f)
		case evSession:
			ev.SessionID = sessiond.ID(d.text(f))
		case evSubject:
			ev.Subject = d.text(f)
		case evVersion:
			ev.Version = d.number(f)
		case evReason:
			ev.Reason = sessiond.EndReason(d.text(f))
		case evNote:
			ev.Note = d.text(f)
		case evActor:
			ev.Actor.Sub, ev.Actor.Client = d.pair(f)
		case evRequestID:
			ev.RequestID = d.text(f)
		}
	}
	return ev, d.err
}
