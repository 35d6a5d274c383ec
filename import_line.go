package sessiond

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// An exportReader reads the lines of an export.
type exportReader struct {
	header func(ExportHeader) error
	begun  bool // the header was read
	ended  bool // the trailer was read
	last   Key  // of the line that was parsed last
}

func (f *exportReader) parse(line []byte, number int64, skip bool) (a arrival, err, fatal error) {
	switch {
	case !f.begun:
		f.begun = true
		return nil, nil, f.parseHeader(line, number)
	case f.ended:
		return nil, nil, fmt.Errorf("%w: line %d comes after the last line of the export", ErrInvalid, number)
	case bytes.HasPrefix(line, []byte(`{"end":`)):
		return nil, nil, f.parseTrailer(line, number)
	case skip:
		return nil, nil, nil
	}
	x, err := parseExported(line)
	if err != nil {
		return nil, err, nil
	}
	f.last = x.rec.Key
	return x, nil, nil
}

func (f *exportReader) end(lines int64) error {
	switch {
	case f.ended:
		return nil
	case lines == 0:
		return fmt.Errorf("%w: it is empty", errCut)
	case f.last != (Key{}):
		return fmt.Errorf("%w after line %d, session %s/%s", errCut, lines, f.last.Tenant, f.last.ID)
	default:
		return fmt.Errorf("%w after line %d", errCut, lines)
	}
}

func (f *exportReader) parseHeader(line []byte, number int64) error {
	var h ExportHeader
	var format string
	var version int64
	var v lineValidator
	err := v.object(line, func(name, pointer string, raw jsontext.Value) bool {
		switch name {
		case "format":
			format = v.text(pointer, raw)
		case "version":
			version = v.number(pointer, raw)
		case "exported_at":
			h.ExportedAt = v.time(pointer, raw)
		case "source":
			h.Source = v.text(pointer, raw)
			v.check(ValidText(h.Source), pointer, textRule)
		case "sealed":
			h.Sealed = v.flag(pointer, raw)
		case "data_keys":
			h.DataKeys = v.keys(pointer, raw)
		default:
			return false
		}
		return true
	})
	switch {
	case format != exportFormat:
		return fmt.Errorf("%w: line %d is not the first line of an export", ErrInvalid, number)
	case version != exportVersion:
		return fmt.Errorf("%w: the export is of version %d, known is %d", ErrInvalid, version, exportVersion)
	case err != nil:
		return fmt.Errorf("line %d: %w", number, err)
	default:
		return f.header(h)
	}
}

func (f *exportReader) parseTrailer(line []byte, number int64) error {
	var v lineValidator
	said := int64(-1)
	err := v.object(line, func(name, pointer string, raw jsontext.Value) bool {
		switch name {
		case "end":
			v.check(v.flag(pointer, raw), pointer, "must be true")
		case "lines":
			said = v.number(pointer, raw)
		case "left_out": // sessions that could not be exported, for people
			v.number(pointer, raw)
		default:
			return false
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("line %d: %w", number, err)
	}
	if got := number - 2; said != got {
		return fmt.Errorf("%w: the last line tells of %d lines, but there are %d", ErrInvalid, said, got)
	}
	f.ended = true
	return nil
}

// An exported is a line of an export: a live session, or one that was revoked.
type exported struct {
	rec   *Record
	clear jsontext.Value // data that was exported open
	end   bool           // rec has key, incarnation and end only
}

func parseExported(line []byte) (*exported, error) {
	x := &exported{rec: &Record{}}
	var v lineValidator
	seen := make(map[string]bool)
	err := v.object(line, func(name, pointer string, raw jsontext.Value) bool {
		seen[name] = true
		return v.exported(x, name, pointer, raw)
	})
	if err != nil {
		return nil, err
	}
	need := func(names ...string) {
		for _, name := range names {
			v.check(seen[name], "/"+name, "is required")
		}
	}
	none := func(names ...string) {
		for _, name := range names {
			v.check(!seen[name], "/"+name, "is not for this line")
		}
	}
	r := x.rec
	need("tenant", "id", "incarnation")
	if x.end = seen["ended_at"]; x.end {
		need("end_reason")
		none("subject", "labels", "data", "sealed_data", "data_key", "created_at", "updated_at", "last_active_at",
			"expires_at", "idle_timeout", "version", "created_by", "token_hash", "previous_token_hash",
			"previous_token_until", "create_hash")
		return x, v.err()
	}
	need("created_at", "updated_at", "last_active_at", "expires_at", "idle_timeout", "version", "token_hash")
	none("end_reason", "end_note", "ended_by")
	v.check(seen["sealed_data"] == seen["data_key"], "/data_key", "comes with sealed_data, and only then")
	v.check(!seen["data"] || !seen["sealed_data"], "/data", "comes without sealed_data")
	v.check(seen["previous_token_hash"] == seen["previous_token_until"], "/previous_token_until",
		"comes with previous_token_hash, and only then")
	v.check(r.Version >= 1, "/version", "must be at least 1")
	v.check(!r.UpdatedAt.Before(r.CreatedAt), "/updated_at", "is before created_at")
	v.check(!r.LastActiveAt.Before(r.CreatedAt), "/last_active_at", "is before created_at")
	life := r.ExpiresAt.Sub(r.CreatedAt)
	v.check(life > 0 && life <= longest*time.Second, "/expires_at", "must be after created_at, by 100 years at most")
	return x, v.err()
}

// exported reads a member of x and reports whether there is such a one.
func (v *lineValidator) exported(x *exported, name, pointer string, raw jsontext.Value) bool {
	r := x.rec
	switch name {
	case "tenant":
		r.Tenant = v.text(pointer, raw)
		v.check(ValidTenant(r.Tenant), pointer, tenantRule)
	case "id":
		r.ID = ID(v.text(pointer, raw))
		v.check(validID(string(r.ID)), pointer, idRule)
	case "incarnation":
		v.bytes(pointer, raw, r.Incarnation[:])
	case "subject":
		r.Subject = v.text(pointer, raw)
		v.check(ValidText(r.Subject), pointer, textRule)
	case "labels":
		r.Labels = v.labelsOf(pointer, raw)
	case "data":
		largest := Policy{MaxData: 1 << 20} // what any policy allows
		x.clear = v.data(raw, &largest)
	case "sealed_data":
		r.Data = v.sealed(pointer, raw)
	case "data_key":
		n := v.number(pointer, raw)
		v.check(n == int64(uint32(n)), pointer, "is not a key id")
		r.DataKey = uint32(n)
	case "created_at":
		r.CreatedAt = v.time(pointer, raw)
	case "updated_at":
		r.UpdatedAt = v.time(pointer, raw)
	case "last_active_at":
		r.LastActiveAt = v.time(pointer, raw)
	case "expires_at":
		r.ExpiresAt = v.time(pointer, raw)
	case "idle_timeout":
		r.IdleTimeout = v.idle(pointer, raw)
	case "version":
		r.Version = v.number(pointer, raw)
	case "created_by":
		r.CreatedBy = v.actor(pointer, raw)
	case "token_hash":
		v.bytes(pointer, raw, r.TokenHash[:])
	case "previous_token_hash":
		v.bytes(pointer, raw, r.PreviousTokenHash[:])
	case "previous_token_until":
		r.PreviousTokenUntil = v.time(pointer, raw)
	case "create_hash":
		v.bytes(pointer, raw, r.CreateHash[:])
	case "ended_at":
		r.EndedAt = v.time(pointer, raw)
	case "end_reason":
		r.EndReason = EndReason(v.text(pointer, raw))
		v.check(r.EndReason.valid() && !r.EndReason.Expiry(), pointer, "is not the reason of a revocation")
	case "end_note":
		r.EndNote = v.text(pointer, raw)
		v.check(ValidText(r.EndNote), pointer, textRule)
	case "ended_by":
		r.EndedBy = v.actor(pointer, raw)
	default:
		return false
	}
	return true
}

func (r EndReason) valid() bool {
	switch r {
	case EndIdle, EndAbsolute, EndRevoked, EndLogout, EndSecurity, EndLimit, EndTokenReuse, EndRestored:
		return true
	}
	return false
}

func (x *exported) key() Key            { return x.rec.Key }
func (x *exported) activity() time.Time { return x.rec.LastActiveAt }

func (x *exported) absent() outcome {
	if x.end {
		return outcomeSame
	}
	return outcomeExpired
}

func (x *exported) creation(m *Manager, now time.Time) (*Record, error) {
	if x.end || !now.Before(x.rec.Deadline()) {
		return nil, nil
	}
	r := *x.rec
	// Times of a clock that is ahead of the store's must not lie in its future.
	r.CreatedAt = earlier(r.CreatedAt, now)
	return &r, x.fill(m, &r, now)
}

// fill seals the data into r, with the present key, and bounds its times.
func (x *exported) fill(m *Manager, r *Record, now time.Time) error {
	r.UpdatedAt, r.LastActiveAt = earlier(r.UpdatedAt, now), earlier(r.LastActiveAt, now)
	data := x.clear
	if x.rec.Data != nil {
		var err error
		if data, err = m.open(x.rec); err != nil {
			return err
		}
		if data.Kind() != '{' || ValidateJSON(data, maxDataNesting) != nil {
			return fmt.Errorf("session %s, key %d: %w: it is no JSON object", r.ID, x.rec.DataKey, ErrSealed)
		}
	}
	if data == nil {
		r.Data, r.DataKey = nil, 0
		return nil
	}
	return m.seal(r, data)
}

func (x *exported) judge(_ *Manager, here *Record, now time.Time) (outcome, error) {
	r := x.rec
	live := here.EndedAt.IsZero()
	switch {
	case here.Incarnation != r.Incarnation && x.end: // that one is gone
		return outcomeSame, nil
	case here.Incarnation != r.Incarnation:
		return 0, fmt.Errorf("%w: the id %s belongs to another session here", ErrExists, r.ID)
	case x.end && live:
		return outcomeEnded, nil
	case x.end:
		return outcomeSame, nil
	case !live && !now.Before(r.Deadline()):
		return outcomeExpired, nil
	case !live, r.Version < here.Version:
		return outcomeKept, nil
	case r.Version == here.Version && !earlier(r.UpdatedAt, now).Equal(here.UpdatedAt):
		return outcomeKept, nil // both were changed
	case r.Version == here.Version && r.LastActiveAt.After(here.LastActiveAt):
		return outcomeTouched, nil
	case r.Version == here.Version:
		return outcomeSame, nil
	case r.UpdatedAt.Before(here.UpdatedAt):
		return outcomeKept, nil
	case here.Subject != "" && here.Subject != r.Subject:
		return 0, invalid("/subject", "is not that of the session here")
	default:
		return outcomeUpdated, nil
	}
}

func (x *exported) apply(m *Manager, r *Record, now time.Time) error {
	in := x.rec
	if x.end {
		r.End(now, in.EndReason, in.EndNote, in.EndedBy)
		return nil
	}
	active := r.LastActiveAt
	r.Subject, r.Labels = in.Subject, in.Labels
	r.UpdatedAt, r.LastActiveAt = in.UpdatedAt, in.LastActiveAt
	r.ExpiresAt, r.IdleTimeout, r.Version = in.ExpiresAt, in.IdleTimeout, in.Version
	r.TokenHash, r.CreateHash = in.TokenHash, in.CreateHash
	r.PreviousTokenHash, r.PreviousTokenUntil = in.PreviousTokenHash, in.PreviousTokenUntil
	err := x.fill(m, r, now)
	r.Touch(active)
	return err
}

// A lineValidator reads the members of a line and collects what is wrong.
type lineValidator struct{ validator }

// object calls known for every member; known reports whether there is such a one.
func (v *lineValidator) object(line []byte, known func(name, pointer string, raw jsontext.Value) bool) error {
	if err := ValidateJSON(line, MaxNesting); err != nil {
		return err
	}
	ms, err := members(line)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if p := pointer(m.name); !known(m.name, p, m.value) {
			v.check(false, p, "unknown member")
		}
	}
	return v.err()
}

func (v *lineValidator) text(pointer string, raw jsontext.Value) string {
	if raw.Kind() != '"' {
		v.check(false, pointer, "must be a string")
		return ""
	}
	b, err := jsontext.AppendUnquote(nil, raw)
	v.check(err == nil && utf8.Valid(b), pointer, "must be a string")
	return string(b)
}

func (v *lineValidator) flag(pointer string, raw jsontext.Value) bool {
	v.check(raw.Kind() == 't' || raw.Kind() == 'f', pointer, "must be true or false")
	return raw.Kind() == 't'
}

func (v *lineValidator) number(pointer string, raw jsontext.Value) int64 {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	v.check(err == nil && n >= 0 && string(raw) != "-0", pointer, "must be a whole number")
	return n
}

// time reads an RFC 3339 time from 1970 on, to the millisecond.
func (v *lineValidator) time(pointer string, raw jsontext.Value) time.Time {
	t, err := time.Parse(time.RFC3339, v.text(pointer, raw))
	v.check(err == nil && t.Unix() >= 0 && t.UTC().Year() <= 9999, pointer, "must be an RFC 3339 time from 1970 on")
	return t.UTC().Truncate(time.Millisecond)
}

// idle reads an idle timeout of any policy.
func (v *lineValidator) idle(pointer string, raw jsontext.Value) time.Duration {
	d, ok := ParseSeconds(raw)
	v.check(ok, pointer, "must be a whole number of seconds")
	if ok {
		v.idleTimeout(d, &Policy{})
	}
	return d
}

// bytes reads base64url of exactly the length of dst. It is never all zero.
func (v *lineValidator) bytes(pointer string, raw jsontext.Value, dst []byte) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(v.text(pointer, raw))
	zero := len(bytes.Trim(b, "\x00")) == 0
	v.check(err == nil && len(b) == len(dst) && !zero, pointer, fmt.Sprintf("must be %d bytes in base64url", len(dst)))
	copy(dst, b)
}

func (v *lineValidator) sealed(pointer string, raw jsontext.Value) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(v.text(pointer, raw))
	v.check(err == nil && len(b) > 0, pointer, "must be base64url, and not empty")
	return b
}

func (v *lineValidator) labelsOf(pointer string, raw jsontext.Value) map[string]string {
	if raw.Kind() != '{' {
		v.check(false, pointer, "must be an object of strings")
		return nil
	}
	labels := map[string]string{}
	v.mergeLabels(labels, raw)
	v.labels(labels)
	return labels
}

func (v *lineValidator) keys(pointer string, raw jsontext.Value) (keys []uint32) {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '[' {
		v.check(false, pointer, "must be an array of key ids")
		return nil
	}
	for d.PeekKind() != ']' {
		item, err := d.ReadValue()
		if err != nil { // not in a line that is valid JSON
			v.check(false, pointer, "must be an array of key ids")
			return nil
		}
		n := v.number(pointer, item)
		v.check(n == int64(uint32(n)), pointer, "must be an array of key ids")
		keys = append(keys, uint32(n))
	}
	return keys
}

// actor reads a credential's names, which issuers choose.
func (v *lineValidator) actor(pointer string, raw jsontext.Value) (a Actor) {
	ms, err := members(raw)
	v.check(err == nil, pointer, "must be an object of strings")
	for _, m := range ms {
		switch m.name {
		case "sub":
			a.Sub = v.text(pointer+"/sub", m.value)
		case "client":
			a.Client = v.text(pointer+"/client", m.value)
		default:
			v.check(false, pointer, "has an unknown member")
		}
	}
	const longestName = 8 << 10 // as long as a credential
	v.check(len(a.Sub) <= longestName && len(a.Client) <= longestName, pointer, "is too long")
	return a
}

// digest reads the SHA-256 of a token, in hex or base64url.
func (v *lineValidator) digest(pointer string, raw jsontext.Value) (h TokenHash) {
	text := v.text(pointer, raw)
	var b []byte
	err := errors.New("no digest")
	switch len(text) {
	case 64:
		b, err = hex.DecodeString(text)
	case 43, 44:
		b, err = base64.RawURLEncoding.Strict().DecodeString(strings.TrimSuffix(text, "="))
	}
	v.check(err == nil && len(b) == len(h), pointer, "must be the SHA-256 of the token, in hex or base64url")
	copy(h[:], b)
	return h
}
