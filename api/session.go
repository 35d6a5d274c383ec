package api

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
)

// A Session is the JSON of a session. The server writes it with
// [AppendSession]; clients decode it.
type Session struct {
	ID            string            `json:"id"`
	Subject       string            `json:"subject"`
	Data          jsontext.Value    `json:"data,omitzero"`
	Labels        map[string]string `json:"labels"`
	Status        string            `json:"status"`
	CreatedAt     Time              `json:"created_at"`
	UpdatedAt     Time              `json:"updated_at"`
	LastActiveAt  Time              `json:"last_active_at"`
	ExpiresAt     Time              `json:"expires_at"`
	IdleTimeout   int64             `json:"idle_timeout"` // seconds
	IdleExpiresAt *Time             `json:"idle_expires_at,omitzero"`
	Version       int64             `json:"version"`
	CreatedBy     *Actor            `json:"created_by,omitzero"`
	EndedAt       *Time             `json:"ended_at,omitzero"`
	EndReason     string            `json:"end_reason,omitzero"`
	EndNote       string            `json:"end_note,omitzero"`
	EndedBy       *Actor            `json:"ended_by,omitzero"`
	Token         string            `json:"token,omitzero"` // only of create and rotate
}

// An Actor is the JSON of a [sessiond.Actor].
type Actor struct {
	Sub    string `json:"sub"`
	Client string `json:"client"`
}

func newActor(a sessiond.Actor) *Actor {
	if a.IsZero() {
		return nil
	}
	return &Actor{a.Sub, a.Client}
}

func (a *Actor) actor() sessiond.Actor {
	if a == nil {
		return sessiond.Actor{}
	}
	return sessiond.Actor{Sub: a.Sub, Client: a.Client}
}

// A Time is RFC 3339 in UTC with milliseconds.
type Time time.Time

// MarshalText writes t.
func (t Time) MarshalText() ([]byte, error) { return AppendTime(nil, time.Time(t)), nil }

// UnmarshalText reads any RFC 3339 time. The error does not repeat the text.
func (t *Time) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return errors.New("not an RFC 3339 time")
	}
	*t = Time(v.UTC())
	return nil
}

// Session is the session that s tells of, in a tenant that the body does not
// name and with the entity tag of the ETag header. The token is not part of it.
func (s *Session) Session(tenant string, tag sessiond.ETag) (*sessiond.Session, error) {
	out := &sessiond.Session{
		Tenant: tenant, ID: sessiond.ID(s.ID), Subject: s.Subject, Data: s.Data, Labels: s.Labels,
		Status: sessiond.Status(s.Status), CreatedAt: time.Time(s.CreatedAt), UpdatedAt: time.Time(s.UpdatedAt),
		LastActiveAt: time.Time(s.LastActiveAt), ExpiresAt: time.Time(s.ExpiresAt),
		IdleTimeout: time.Duration(s.IdleTimeout) * time.Second, Version: s.Version, CreatedBy: s.CreatedBy.actor(),
		EndReason: sessiond.EndReason(s.EndReason), EndNote: s.EndNote, EndedBy: s.EndedBy.actor(), ETag: tag,
	}
	if s.IdleExpiresAt != nil {
		out.IdleExpiresAt = time.Time(*s.IdleExpiresAt)
	}
	if s.EndedAt != nil {
		out.EndedAt = time.Time(*s.EndedAt)
	}
	if s.ID == "" || s.Version < 1 || s.Status == "" {
		return nil, errors.New("the answer is not a session")
	}
	return out, nil
}

// AppendSession appends the JSON of s, with the token if it is not empty. It is
// the fast path of every answer and writes without reflection; a test holds it
// to what encoding a [Session] gives.
func AppendSession(b []byte, s *sessiond.Session, token sessiond.Token) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, string(s.ID))
	b = append(b, `,"subject":`...)
	b = appendString(b, s.Subject)
	if s.Data != nil {
		b = append(b, `,"data":`...)
		b = append(b, s.Data...)
	}
	b = append(b, `,"labels":`...)
	b = appendLabels(b, s.Labels)
	b = append(b, `,"status":"`...)
	b = append(b, s.Status...)
	b = append(b, `","created_at":"`...)
	b = AppendTime(b, s.CreatedAt)
	b = append(b, `","updated_at":"`...)
	b = AppendTime(b, s.UpdatedAt)
	b = append(b, `","last_active_at":"`...)
	b = AppendTime(b, s.LastActiveAt)
	b = append(b, `","expires_at":"`...)
	b = AppendTime(b, s.ExpiresAt)
	b = append(b, `","idle_timeout":`...)
	b = strconv.AppendInt(b, int64(s.IdleTimeout/time.Second), 10)
	if !s.IdleExpiresAt.IsZero() {
		b = append(b, `,"idle_expires_at":"`...)
		b = AppendTime(b, s.IdleExpiresAt)
		b = append(b, '"')
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, s.Version, 10)
	b = appendActor(b, `,"created_by":`, s.CreatedBy)
	if s.Status != sessiond.StatusActive {
		b = appendEnd(b, s)
	}
	if token != "" {
		b = append(b, `,"token":"`...)
		b = append(b, string(token)...)
		b = append(b, '"')
	}
	return append(b, '}')
}

func appendEnd(b []byte, s *sessiond.Session) []byte {
	b = append(b, `,"ended_at":"`...)
	b = AppendTime(b, s.EndedAt)
	b = append(b, `","end_reason":"`...)
	b = append(b, s.EndReason...)
	b = append(b, '"')
	if s.EndNote != "" {
		b = append(b, `,"end_note":`...)
		b = appendString(b, s.EndNote)
	}
	return appendActor(b, `,"ended_by":`, s.EndedBy)
}

func appendActor(b []byte, name string, a sessiond.Actor) []byte {
	if a.IsZero() {
		return b
	}
	b = append(b, name...)
	b = append(b, `{"sub":`...)
	b = appendString(b, a.Sub)
	b = append(b, `,"client":`...)
	b = appendString(b, a.Client)
	return append(b, '}')
}

// appendLabels writes labels in the order of their keys.
func appendLabels(b []byte, labels map[string]string) []byte {
	var buf [sessiond.MaxLabels]string
	keys := buf[:0]
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, labels[k])
	}
	return append(b, '}')
}

// appendString quotes s. Invalid UTF-8, which validation keeps out, would come
// out replaced.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ = jsontext.AppendQuote(b, s) // the error repeats what is said above
			return b
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// AppendTime appends t as every time on the wire is written: RFC 3339 in UTC with
// milliseconds. Its year must be from 0 to 9999.
func AppendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = append(b, '-')
	b = appendDigits(b, int(month), 2)
	b = append(b, '-')
	b = appendDigits(b, day, 2)
	b = append(b, 'T')
	b = appendDigits(b, hour, 2)
	b = append(b, ':')
	b = appendDigits(b, minute, 2)
	b = append(b, ':')
	b = appendDigits(b, second, 2)
	b = append(b, '.')
	b = appendDigits(b, t.Nanosecond()/1e6, 3)
	return append(b, 'Z')
}

func appendDigits(b []byte, n, width int) []byte {
	b = append(b, "0000"[:width]...)
	for i := len(b) - 1; n > 0 && width > 0; i, width = i-1, width-1 {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// AppendPage appends the JSON of a page of sessions.
func AppendPage(b []byte, p *sessiond.SessionPage) []byte {
	b = append(b, `{"sessions":[`...)
	for i, s := range p.Sessions {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendSession(b, s, "")
	}
	b = append(b, ']')
	if p.NextCursor != "" {
		b = append(b, `,"next_cursor":"`...)
		b = append(b, p.NextCursor...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// AppendVerification appends the JSON of the answer to a token.
func AppendVerification(b []byte, v *sessiond.Verification) []byte {
	if v.Active {
		b = append(b, `{"active":true,"session":`...)
		b = AppendSession(b, v.Session, "")
		return append(b, '}')
	}
	b = append(b, `{"active":false`...)
	if v.Reason != "" {
		b = append(b, `,"reason":"`...)
		b = append(b, v.Reason...)
		b = append(b, '"')
	}
	return append(b, '}')
}
