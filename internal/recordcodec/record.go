// Package recordcodec writes records and events as bytes, for stores whose
// engines know nothing of sessions.
//
// A record is a version byte and fields in protocol buffer wire format, with the
// numbers below; a number is never used again for something else. Times are
// milliseconds of Unix time as varints. A reader keeps the fields of records that it does not
// know, so that a program passes on what a newer one wrote, and skips those of events.
package recordcodec

import (
	"slices"
	"time"

	"sessiond.example/sessiond"
)

// Version is the first byte of the values that this package writes, and the only one that it reads.
const Version = 1

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
)

// A Stored is a record with what is kept beside it in the same value.
type Stored struct {
	Record *sessiond.Record
	// Unknown are the fields that a newer version wrote, as they were read.
	Unknown []byte
}

// AppendRecord appends the value of s.
func AppendRecord(dst []byte, s *Stored) []byte {
	r := s.Record
	e := encoder(append(dst, Version))
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
	e.end(r)
	return append(e, s.Unknown...)
}

func (e *encoder) end(r *sessiond.Record) {
	e.time(recEndedAt, r.EndedAt)
	e.text(recEndReason, string(r.EndReason))
	e.text(recEndNote, r.EndNote)
	e.pair(recEndedBy, r.EndedBy.Sub, r.EndedBy.Client, false)
}

// AppendEnd appends the fields of r, which has ended, that its end has changed.
func AppendEnd(dst []byte, r *sessiond.Record) []byte {
	e := encoder(dst)
	e.time(recUpdatedAt, r.UpdatedAt)
	e.number(recVersion, r.Version)
	e.end(r)
	return e
}

// AppendEnded appends the value of a record from that of the live one and what AppendEnd has appended for
// it. Everything that an end takes away is gone. The error is an [Error].
func AppendEnded(dst, live, end []byte) ([]byte, error) {
	if len(live) == 0 || live[0] != Version {
		return nil, corrupt("value of another version has ended")
	}
	dst = append(dst, Version)
	for s := string(live[1:]); s != ""; {
		f, err := nextField(&s)
		if err != nil {
			return nil, err
		}
		switch f.num {
		case recData, recDataKey, recPreviousHash, recPreviousUntil: // see Record.End
		case recUpdatedAt, recVersion, recEndedAt, recEndReason, recEndNote, recEndedBy: // in end
		default:
			dst = append(dst, f.raw...)
		}
	}
	return append(dst, end...), nil
}

// DecodeRecord reads the value of the record of k. The result shares no memory with
// b. The error is an [Error] when b is of another version or malformed. A record
// may lack anything, since stores keep some of it elsewhere: they check what they need.
func DecodeRecord(k sessiond.Key, b []byte) (Stored, error) { return DecodeText(k, string(b)) }

// DecodeText is [DecodeRecord] for a value that is a string. The texts of the result are parts of it.
func DecodeText(k sessiond.Key, s string) (Stored, error) {
	switch {
	case s == "":
		return Stored{}, corrupt("empty value")
	case s[0] != Version:
		return Stored{}, corrupt("value of version %d, known is %d", s[0], Version)
	}
	s = s[1:]
	r := &sessiond.Record{Key: k}
	st := Stored{Record: r}
	var d decoder
	for len(s) > 0 {
		f, err := nextField(&s)
		if err != nil {
			return Stored{}, err
		}
		if !d.record(f, &st) {
			st.Unknown = append(st.Unknown, f.raw...)
		}
	}
	return st, d.err
}

// record sets what f says, or reports that it doesn't know f.
func (d *decoder) record(f field, st *Stored) (known bool) {
	r := st.Record
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
		if s := d.text(f); s != "" {
			r.Data = []byte(s)
		}
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
	default:
		return false
	}
	return true
}
