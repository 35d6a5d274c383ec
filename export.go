package sessiond

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// An export is JSON Lines: a header, one line for each session, a trailer that
// tells how many there were. import_line.go reads what is written here.

const (
	exportFormat  = "sessiond-export"
	exportVersion = 1
	exportFlush   = 256 << 10 // bytes that are collected before they are written
	lineTime      = "2006-01-02T15:04:05.000Z"
)

// ExportParams say what to export, and how.
type ExportParams struct {
	Tenant string // only sessions of this tenant. Default: all tenants
	// Open writes data in clear, for a place that has other keys. Whoever can read
	// the export then reads the data of all sessions. Default: data stays sealed
	Open   bool
	Source string // names the store in the header, for people; see ValidText. Default: nothing
	WalkParams
}

// Export writes the live sessions of all tenants to w, for [Manager.Import] to
// read elsewhere, in constant memory and while requests are served. A session
// that is changed meanwhile comes as it was before or after; one that is created
// meanwhile may be missing. Another export, imported in the same place, brings
// what has changed.
//
// Sessions that were revoked, and whose record is still retained, are told too,
// so that the import ends them where an earlier one has brought them. Expired and
// erased sessions are not in an export.
//
// Tokens are in it as hashes, so that nobody can present what an export holds.
// Data is sealed as it is stored, and the import needs the same keys, unless
// ExportParams.Open is set.
//
// An export that ends with an error lacks its last line, and an import of it says
// so. Progress.After tells how far it has come: another export, into another
// file, goes on from there, and both are imported. Progress.Changed counts the
// sessions that were written, Failed those whose data could not be opened, which
// are left out. It returns [ErrInvalid] for parameters that are out of bounds.
func (m *Manager) Export(ctx context.Context, w io.Writer, p ExportParams) (Progress, error) {
	var v validator
	v.check(p.Tenant == "" || ValidTenant(p.Tenant), "/tenant", tenantRule)
	v.check(p.Tenant == "" || p.After.Tenant == "" || p.After.Tenant == p.Tenant, "/after", "is in another tenant")
	v.check(ValidText(p.Source), "/source", textRule)
	if err := v.err(); err != nil {
		return Progress{After: p.After}, err
	}
	start := Progress{After: p.After}
	e := exporter{m: m, w: w, p: p, next: start, done: start}
	err := e.run(ctx)
	return e.done, err
}

// An exporter is one run of Export.
type exporter struct {
	m    *Manager
	w    io.Writer
	p    ExportParams
	line jsonLine
	ends int64
	next Progress // of what is in line, too
	done Progress // of what has been written
}

func (e *exporter) run(ctx context.Context) error {
	if err := e.header(ctx); err != nil {
		return err
	}
	after := e.p.After
	if e.p.Tenant != "" && after.Tenant == "" {
		after.Tenant = e.p.Tenant
	}
	err := e.m.batches(ctx, after, e.p.Pace, func(records []*Record) (more bool, err error) {
		more = true
		for _, r := range records {
			if more = e.p.Tenant == "" || r.Tenant == e.p.Tenant; !more {
				break
			}
			if err := e.record(r); err != nil {
				return false, err
			}
		}
		if err := e.flush(); err != nil {
			return false, err
		}
		if e.p.Report != nil {
			e.p.Report(e.done)
		}
		return more, nil
	})
	if err != nil {
		return err
	}
	return e.trailer()
}

func (e *exporter) header(ctx context.Context) error {
	stats, err := e.m.store.Stats(ctx)
	if err != nil {
		return err
	}
	l := &e.line
	l.begin()
	l.text("format", exportFormat)
	l.number("version", exportVersion)
	l.time("exported_at", stats.Now)
	l.text("source", e.p.Source)
	l.flag("sealed", !e.p.Open)
	if !e.p.Open {
		l.name("data_keys")
		l.b = append(l.b, '[')
		for i, k := range slices.Sorted(maps.Keys(stats.DataKeys)) {
			if i > 0 {
				l.b = append(l.b, ',')
			}
			l.b = strconv.AppendUint(l.b, uint64(k), 10)
		}
		l.b = append(l.b, ']')
	}
	l.end()
	return e.flush()
}

func (e *exporter) trailer() error {
	e.line.begin()
	e.line.flag("end", true)
	e.line.number("lines", e.next.Changed+e.ends)
	if e.next.Failed > 0 {
		e.line.number("left_out", e.next.Failed)
	}
	e.line.end()
	return e.flush()
}

// record writes the line of a record, if it is to have one.
func (e *exporter) record(r *Record) error {
	switch {
	case r.EndedAt.IsZero():
		if err := e.session(r); err != nil {
			return err
		}
	case r.status() == StatusRevoked:
		e.revoked(r)
		e.ends++
	}
	if e.line.err != nil {
		return fmt.Errorf("session %s: %w", r.ID, e.line.err)
	}
	e.next.Seen++
	e.next.After = r.Key
	if len(e.line.b) < exportFlush {
		return nil
	}
	return e.flush()
}

func (e *exporter) session(r *Record) error {
	var data []byte
	if e.p.Open && r.Data != nil {
		var err error
		if data, err = e.m.open(r); err != nil {
			e.next.Failed++
			return nil
		}
	}
	l := &e.line
	l.begin()
	l.key(r)
	l.text("subject", r.Subject)
	if len(r.Labels) > 0 {
		l.name("labels")
		l.b = append(l.b, '{')
		for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
			l.name(k)
			l.quote(r.Labels[k])
		}
		l.b = append(l.b, '}')
	}
	switch {
	case data != nil:
		l.name("data")
		l.b = append(l.b, data...)
	case r.Data != nil:
		l.bytes("sealed_data", r.Data)
		l.number("data_key", int64(r.DataKey))
	}
	l.time("created_at", r.CreatedAt)
	l.time("updated_at", r.UpdatedAt)
	l.time("last_active_at", r.LastActiveAt)
	l.time("expires_at", r.ExpiresAt)
	l.number("idle_timeout", int64(r.IdleTimeout/time.Second))
	l.number("version", r.Version)
	l.actor("created_by", r.CreatedBy)
	l.bytes("token_hash", r.TokenHash[:])
	if r.PreviousTokenHash != (TokenHash{}) {
		l.bytes("previous_token_hash", r.PreviousTokenHash[:])
		l.time("previous_token_until", r.PreviousTokenUntil)
	}
	if r.CreateHash != ([32]byte{}) {
		l.bytes("create_hash", r.CreateHash[:])
	}
	l.end()
	e.next.Changed++
	return nil
}

func (e *exporter) revoked(r *Record) {
	l := &e.line
	l.begin()
	l.key(r)
	l.time("ended_at", r.EndedAt)
	l.text("end_reason", string(r.EndReason))
	l.text("end_note", r.EndNote)
	l.actor("ended_by", r.EndedBy)
	l.end()
}

// flush writes what is in line, and is what progress goes by.
func (e *exporter) flush() error {
	if len(e.line.b) > 0 {
		if _, err := e.w.Write(e.line.b); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
	}
	e.line.b = e.line.b[:0]
	e.done = e.next
	return nil
}

// A jsonLine appends lines that are JSON objects. Texts that are empty are left out.
type jsonLine struct {
	b   []byte
	err error
}

func (l *jsonLine) begin() { l.b = append(l.b, '{') }
func (l *jsonLine) end()   { l.b = append(l.b, "}\n"...) }

func (l *jsonLine) name(name string) {
	if l.b[len(l.b)-1] != '{' {
		l.b = append(l.b, ',')
	}
	l.quote(name)
	l.b = append(l.b, ':')
}

func (l *jsonLine) quote(s string) {
	b, err := jsontext.AppendQuote(l.b, s)
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("%w: a text is not UTF-8", ErrInvalid)
	}
	l.b = b
}

func (l *jsonLine) text(name, s string) {
	if s != "" {
		l.name(name)
		l.quote(s)
	}
}

func (l *jsonLine) number(name string, n int64) {
	l.name(name)
	l.b = strconv.AppendInt(l.b, n, 10)
}

func (l *jsonLine) flag(name string, v bool) {
	l.name(name)
	l.b = strconv.AppendBool(l.b, v)
}

func (l *jsonLine) time(name string, t time.Time) {
	l.name(name)
	l.b = append(l.b, '"')
	l.b = t.UTC().AppendFormat(l.b, lineTime)
	l.b = append(l.b, '"')
}

func (l *jsonLine) bytes(name string, b []byte) {
	l.name(name)
	l.b = append(l.b, '"')
	l.b = base64.RawURLEncoding.AppendEncode(l.b, b)
	l.b = append(l.b, '"')
}

func (l *jsonLine) key(r *Record) {
	l.text("tenant", r.Tenant)
	l.text("id", string(r.ID))
	l.bytes("incarnation", r.Incarnation[:])
}

func (l *jsonLine) actor(name string, a Actor) {
	if a.IsZero() {
		return
	}
	l.name(name)
	l.begin()
	l.text("sub", a.Sub)
	l.text("client", a.Client)
	l.b = append(l.b, '}')
}
