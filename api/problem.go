package api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// A Code names a kind of problem; the set is closed.
type Code string

// The codes, with the status each comes with.
const (
	CodeMalformed         Code = "malformed-request"      // 400: not what HTTP or JSON want, or a bad parameter
	CodeUnauthenticated   Code = "unauthenticated"        // 401: no or bad credential
	CodeDenied            Code = "permission-denied"      // 403: the credential does not allow it
	CodeSessionNotFound   Code = "session-not-found"      // 404: no such session in the tenant
	CodeNotFound          Code = "not-found"              // 404: no such resource
	CodeMethodNotAllowed  Code = "method-not-allowed"     // 405: see Allow
	CodeSessionExists     Code = "session-exists"         // 409: the id is taken
	CodeSessionLimit      Code = "session-limit"          // 409: the subject has too many sessions
	CodeSessionExpired    Code = "session-expired"        // 410: a deadline has passed
	CodeSessionRevoked    Code = "session-revoked"        // 410: ended before its deadlines
	CodeVersionMismatch   Code = "version-mismatch"       // 412: If-Match does not hold
	CodeBodyTooLarge      Code = "body-too-large"         // 413: body over limits.max_body
	CodeMediaType         Code = "unsupported-media-type" // 415: media type or content coding
	CodeInvalidSession    Code = "invalid-session"        // 422: a member is unknown or out of bounds
	CodeInternal          Code = "internal"               // 500: a bug of the service
	CodeStoreUnavailable  Code = "store-unavailable"      // 503: the store could not answer
	CodeIssuerUnavailable Code = "issuer-unavailable"     // 503: the issuer's keys are not at hand
	CodeOverloaded        Code = "overloaded"             // 503: more requests than can be served
)

const problemTypePrefix = "urn:sessiond:problem:"

// Whether a write that was answered with 503 took effect.
const (
	AppliedNo      = "no"
	AppliedUnknown = "unknown"
)

// A Problem is an RFC 9457 problem document.
type Problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	RequestID string       `json:"request_id"`
	Errors    []FieldError `json:"errors,omitzero"`     // of CodeInvalidSession
	EndedAt   *Time        `json:"ended_at,omitzero"`   // of 410, as the next two
	EndReason string       `json:"end_reason,omitzero"` //
	EndedBy   *Actor       `json:"ended_by,omitzero"`   // absent for an expiry
	Applied   string       `json:"applied,omitzero"`    // of a write's 503
	OAuth     string       `json:"error,omitzero"`      // RFC 6749 error code, of the OAuth forms
}

// A FieldError is one thing wrong with a body.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901
	Detail  string `json:"detail"`
}

// Code is the code in the problem's type, empty when it is not one of ours.
func (p *Problem) Code() Code {
	code, ours := strings.CutPrefix(p.Type, problemTypePrefix)
	if _, known := kinds[Code(code)]; !ours || !known {
		return ""
	}
	return Code(code)
}

type kind struct {
	status int
	title  string
}

var kinds = map[Code]kind{
	CodeMalformed:         {http.StatusBadRequest, "Malformed request"},
	CodeUnauthenticated:   {http.StatusUnauthorized, "Not authenticated"},
	CodeDenied:            {http.StatusForbidden, "Permission denied"},
	CodeSessionNotFound:   {http.StatusNotFound, "Session not found"},
	CodeNotFound:          {http.StatusNotFound, "Not found"},
	CodeMethodNotAllowed:  {http.StatusMethodNotAllowed, "Method not allowed"},
	CodeSessionExists:     {http.StatusConflict, "Session exists"},
	CodeSessionLimit:      {http.StatusConflict, "Too many sessions"},
	CodeSessionExpired:    {http.StatusGone, "Session expired"},
	CodeSessionRevoked:    {http.StatusGone, "Session revoked"},
	CodeVersionMismatch:   {http.StatusPreconditionFailed, "Version mismatch"},
	CodeBodyTooLarge:      {http.StatusRequestEntityTooLarge, "Body too large"},
	CodeMediaType:         {http.StatusUnsupportedMediaType, "Unsupported media type"},
	CodeInvalidSession:    {http.StatusUnprocessableEntity, "Invalid session"},
	CodeInternal:          {http.StatusInternalServerError, "Internal error"},
	CodeStoreUnavailable:  {http.StatusServiceUnavailable, "Store unavailable"},
	CodeIssuerUnavailable: {http.StatusServiceUnavailable, "Issuer unavailable"},
	CodeOverloaded:        {http.StatusServiceUnavailable, "Overloaded"},
}

// NewProblem makes the problem document of a code.
func NewProblem(code Code, detail string) *Problem {
	k := kinds[code]
	return &Problem{Type: problemTypePrefix + string(code), Title: k.title, Status: k.status, Detail: detail}
}

// table ties the errors of package sessiond to codes, in both directions. The
// first row that matches counts.
var table = []struct {
	err    error
	code   Code
	detail string // shown to the caller; empty: the error's own text, which is made for that
}{
	{sessiond.ErrNotFound, CodeSessionNotFound, "there is no such session"},
	{sessiond.ErrExists, CodeSessionExists, "the session id is taken"},
	{sessiond.ErrLimit, CodeSessionLimit, "the subject has as many live sessions as it may have"},
	{sessiond.ErrVersion, CodeVersionMismatch, "the session has another version"},
	{sessiond.ErrInvalid, CodeInvalidSession, "the request is well-formed but not acceptable"},
	{sessiond.ErrMalformed, CodeMalformed, ""},
	{sessiond.ErrCursor, CodeMalformed, "the cursor is not one that this filter gave"},
	{sessiond.ErrToken, CodeDenied, "the token is not the current one of the session"},
	{sessiond.ErrUnknown, CodeStoreUnavailable, "the store went away; whether the write was applied is unknown"},
	{sessiond.ErrUnavailable, CodeStoreUnavailable, "the store can't be reached"},
}

// FromError is the problem that tells a caller of err, without any internal
// text. Errors that the table does not have are CodeInternal.
func FromError(err error) *Problem {
	var ended *sessiond.EndedError
	if errors.As(err, &ended) {
		return endedProblem(ended.Session)
	}
	for _, row := range table {
		if !errors.Is(err, row.err) {
			continue
		}
		detail := row.detail
		if detail == "" {
			// Not what callers in between have put before it.
			detail = err.Error()
			detail = detail[max(0, strings.Index(detail, row.err.Error())):]
		}
		p := NewProblem(row.code, detail)
		var bad *sessiond.InvalidError
		if errors.As(err, &bad) {
			for _, f := range bad.Fields {
				p.Errors = append(p.Errors, FieldError(f))
			}
		}
		switch row.err {
		case sessiond.ErrUnknown:
			p.Applied = AppliedUnknown
		case sessiond.ErrUnavailable:
			p.Applied = AppliedNo
		}
		return p
	}
	return NewProblem(CodeInternal, "something went wrong on our side; the request id finds it in the log")
}

func endedProblem(s *sessiond.Session) *Problem {
	code, detail := CodeSessionRevoked, "the session was revoked"
	if s.Status == sessiond.StatusExpired {
		code, detail = CodeSessionExpired, "the session has expired"
	}
	p := NewProblem(code, detail)
	p.EndedAt = (*Time)(&s.EndedAt)
	p.EndReason = string(s.EndReason)
	p.EndedBy = newActor(s.EndedBy)
	return p
}

// Err is the error of package sessiond that p tells of, nil when it is none of
// them: the inverse of FromError.
func (p *Problem) Err() error {
	code := p.Code()
	switch code {
	case "":
		return nil
	case CodeSessionExpired, CodeSessionRevoked:
		s := &sessiond.Session{
			Status:    sessiond.StatusRevoked,
			EndReason: sessiond.EndReason(p.EndReason),
			EndedBy:   p.EndedBy.actor(),
		}
		if code == CodeSessionExpired {
			s.Status = sessiond.StatusExpired
		}
		if p.EndedAt != nil {
			s.EndedAt = time.Time(*p.EndedAt)
		}
		return &sessiond.EndedError{Session: s}
	case CodeInvalidSession:
		bad := &sessiond.InvalidError{}
		for _, f := range p.Errors {
			bad.Fields = append(bad.Fields, sessiond.FieldError(f))
		}
		if len(bad.Fields) == 0 {
			bad.Fields = []sessiond.FieldError{{Detail: p.Detail}}
		}
		return bad
	case CodeStoreUnavailable, CodeIssuerUnavailable, CodeOverloaded:
		if p.Applied == AppliedUnknown {
			return sessiond.ErrUnknown
		}
		return sessiond.ErrUnavailable
	case CodeDenied:
		return nil // of the credential; only the caller of Rotate knows better
	}
	for _, row := range table {
		if row.code == code {
			return row.err
		}
	}
	return nil
}
