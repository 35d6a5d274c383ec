package pgstore

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// A row is one row of a result in the server's binary format. Its columns are taken
// one after the other; a null is the zero value. What was taken stays valid. The first
// mistake is kept for end.
type row struct {
	values [][]byte
	n      int // how many were taken
	err    error
}

// next is the next column, nil for null.
func (r *row) next() []byte {
	if r.n == len(r.values) {
		r.fail("too few columns")
		return nil
	}
	v := r.values[r.n]
	r.n++
	return v
}

func (r *row) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("column %d: %s", r.n, what)
	}
}

// end is called when all columns were taken.
func (r *row) end() error {
	if r.n < len(r.values) {
		r.fail("too many columns")
	}
	return r.err
}

// int takes a bigint.
func (r *row) int() int64 {
	v := r.next()
	switch len(v) {
	case 8:
		return int64(binary.BigEndian.Uint64(v))
	case 0:
	default:
		r.fail("not a bigint")
	}
	return 0
}

func (r *row) bool() bool {
	v := r.next()
	return len(v) == 1 && v[0] == 1
}

func (r *row) text() string { return string(r.next()) }

// bytes takes a bytea.
func (r *row) bytes() []byte {
	v := r.next()
	if v == nil {
		return nil
	}
	return append(make([]byte, 0, len(v)), v...)
}

// fixed takes a bytea of the length of dst; null leaves dst as it is.
func (r *row) fixed(dst []byte) {
	if v := r.next(); v != nil && copy(dst, v) != len(v) {
		r.fail("too many bytes")
	}
}

// time takes milliseconds since 1970.
func (r *row) time() time.Time {
	v := r.next()
	if v == nil {
		return time.Time{}
	}
	r.n--
	return fromMS(r.int())
}

// labels takes a jsonb that is an object of strings.
func (r *row) labels() map[string]string {
	v := r.next()
	if len(v) == 0 {
		return nil
	}
	text := string(v[1:]) // without the version of jsonb on the wire
	if labels, ok := plainLabels(text); v[0] == 1 && ok {
		return labels
	}
	var labels map[string]string
	if err := json.Unmarshal([]byte(text), &labels); err != nil {
		r.fail("labels: " + err.Error())
	}
	return labels
}

// plainLabels reads labels as the server writes them, {"a": "b", "c": "d"}, when
// nothing in them is escaped. It takes a fraction of the time of a JSON decoder.
func plainLabels(text string) (labels map[string]string, ok bool) {
	if strings.Contains(text, `\`) {
		return nil, false
	}
	parts := strings.Count(text, `"`)
	if parts == 0 || parts%4 != 0 {
		return nil, false
	}
	labels = make(map[string]string, parts/4)
	rest, before := text, "{"
	for range parts / 4 {
		var gap, k, colon, v string
		gap, rest, _ = strings.Cut(rest, `"`)
		k, rest, _ = strings.Cut(rest, `"`)
		colon, rest, _ = strings.Cut(rest, `"`)
		v, rest, _ = strings.Cut(rest, `"`)
		if gap != before || colon != ": " {
			return nil, false
		}
		labels[k], before = v, ", "
	}
	return labels, rest == "}"
}

// A stored is a record as it is in its row, and the row's revision, which is one
// more after every change but a touch.
type stored struct {
	rec      *sessiond.Record
	revision int64
}

// recordColumns are the columns of a stored record, in the order of row.record.
const recordColumns = "s.tenant, s.id, " + fieldColumns

// fieldColumns are those without the key, in the order of row.fields.
const fieldColumns = `s.incarnation, s.revision, s.version, s.subject, s.labels, s.data, s.data_key,
  s.created_at, s.updated_at, s.last_active_at, s.expires_at, s.idle_timeout, s.created_sub, s.created_client,
  s.token_hash, s.previous_token_hash, s.previous_token_until, s.create_hash,
  s.ended_at, s.end_reason, s.end_note, s.ended_sub, s.ended_client`

// record takes the columns of a record, which are the last of the row. All of them may be
// null, as those of an outer join are; then there is none.
func (r *row) record() (stored, error) {
	if r.n < len(r.values) && r.values[r.n] == nil {
		r.n = len(r.values)
		return stored{}, r.end()
	}
	return r.fields(sessiond.Key{Tenant: r.text(), ID: sessiond.ID(r.text())})
}

// fields takes the columns of the record of k but for the key.
func (r *row) fields(k sessiond.Key) (stored, error) {
	rec := &sessiond.Record{Key: k}
	r.fixed(rec.Incarnation[:])
	revision := r.int()
	rec.Version, rec.Subject, rec.Labels = r.int(), r.text(), r.labels()
	rec.Data, rec.DataKey = r.bytes(), uint32(r.int())
	rec.CreatedAt, rec.UpdatedAt, rec.LastActiveAt, rec.ExpiresAt = r.time(), r.time(), r.time(), r.time()
	rec.IdleTimeout = time.Duration(r.int()) * time.Millisecond
	rec.CreatedBy.Sub, rec.CreatedBy.Client = r.text(), r.text()
	r.fixed(rec.TokenHash[:])
	r.fixed(rec.PreviousTokenHash[:])
	rec.PreviousTokenUntil = r.time()
	r.fixed(rec.CreateHash[:])
	rec.EndedAt, rec.EndReason, rec.EndNote = r.time(), sessiond.EndReason(r.text()), r.text()
	rec.EndedBy.Sub, rec.EndedBy.Client = r.text(), r.text()
	if err := r.end(); err != nil {
		return stored{}, fmt.Errorf("record of %s: %w", rec.ID, err)
	}
	return stored{rec, revision}, nil
}

func fromMS(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
