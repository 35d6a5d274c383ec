package sessiond

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds and default of the number of sessions in a page.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
	MaxLimitData = 100 // with ListParams.IncludeData
)

// ListParams select sessions and a page of them.
type ListParams struct {
	Filter      Filter
	Limit       int    // 1 to MaxLimit, or to MaxLimitData with IncludeData. Default DefaultLimit
	Cursor      string // SessionPage.NextCursor of the page before. Default: the first page
	IncludeData bool   // decrypt and return Session.Data, where it can be. Default false
}

// A SessionPage is one page of sessions, newest first by creation.
type SessionPage struct {
	Sessions []*Session
	// NextCursor asks for the following page with the same filter; empty after
	// the last. A page looks at no more than MaxScan records, so it may be
	// short or empty and still have one.
	NextCursor string
}

// List returns a page of the sessions that a filter selects, the ended ones
// that are retained among them. Paging shows nothing twice and misses nothing
// that existed throughout.
//
// It returns [ErrInvalid], or [ErrCursor] for a cursor that List did not give
// for the same filter.
func (m *Manager) List(ctx context.Context, p ListParams) (_ *SessionPage, err error) {
	ctx, done := m.span(ctx, "list")
	defer func() { done(err) }()
	most := MaxLimit
	if p.IncludeData {
		most = MaxLimitData
	}
	if p.Limit == 0 {
		p.Limit = DefaultLimit
	}
	if p.Limit < 1 || p.Limit > most {
		return nil, invalid("/limit", "must be from 1 to "+strconv.Itoa(most))
	}
	if err := p.Filter.validate(); err != nil {
		return nil, err
	}
	q := Query{Tenant: m.tenant, Filter: p.Filter, Limit: p.Limit}
	if p.Cursor != "" {
		after, err := m.parseCursor(p.Cursor, &p.Filter)
		if err != nil {
			return nil, err
		}
		q.After = &after
	}
	page, err := m.store.List(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &SessionPage{Sessions: make([]*Session, len(page.Records))}
	for i, r := range page.Records {
		s, err := m.session(r, p.IncludeData && !m.withoutData)
		if errors.Is(err, ErrSealed) {
			// One session that can't be read must not hide the others.
			s, err = m.session(r, false)
		}
		if err != nil {
			return nil, err
		}
		out.Sessions[i] = s
	}
	if page.Next != nil {
		out.NextCursor = m.formatCursor(*page.Next, &p.Filter)
	}
	return out, nil
}

func (f *Filter) validate() error {
	var v validator
	v.check(ValidText(f.Subject), "/subject", textRule)
	v.labels(f.Labels)
	v.check(f.Status == "" || f.Status == StatusActive || f.Status == StatusExpired || f.Status == StatusRevoked,
		"/status", "must be active, expired or revoked")
	return v.err()
}

// A cursor is the version, eight bytes of hash over tenant, filter and place,
// the time in milliseconds and the ID. The hash keeps cursors of other filters
// and damaged ones out; it protects nothing.
const cursorVersion = 1

func (m *Manager) formatCursor(c Cursor, f *Filter) string {
	h := m.cursorHash(c, f)
	b := append([]byte{cursorVersion}, h[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.CreatedAt.UnixMilli()))
	b = append(b, c.ID...)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (m *Manager) parseCursor(s string, f *Filter) (Cursor, error) {
	const head = 1 + 8 + 8
	if len(s) > 256 || strings.ContainsAny(s, "\r\n") {
		return Cursor{}, ErrCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < head || b[0] != cursorVersion {
		return Cursor{}, ErrCursor
	}
	c := Cursor{time.UnixMilli(int64(binary.BigEndian.Uint64(b[9:head]))).UTC(), ID(b[head:])}
	y := c.CreatedAt.Year()
	if !validID(string(c.ID)) || y < 1970 || y > 9999 || [8]byte(b[1:9]) != m.cursorHash(c, f) {
		return Cursor{}, ErrCursor
	}
	return c, nil
}

func (m *Manager) cursorHash(c Cursor, f *Filter) [8]byte {
	parts := []string{m.tenant, f.Subject, string(f.Status), strconv.FormatBool(f.ActiveOnly), string(c.ID)}
	for _, t := range []time.Time{f.CreatedAfter, f.CreatedBefore, f.ExpiresBefore, c.CreatedAt} {
		parts = append(parts, t.UTC().Format(time.RFC3339Nano))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Labels)) {
		parts = append(parts, k, f.Labels[k])
	}
	sum := sha256.Sum256(appendParts(nil, parts...))
	return [8]byte(sum[:8])
}
