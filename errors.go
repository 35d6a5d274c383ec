package sessiond

import (
	"errors"
	"fmt"
	"strings"
)

// The errors of this package, matched with [errors.Is]. Methods name the ones
// they return; any method may also return ErrUnavailable, writes ErrUnknown,
// those that answer with Session.Data ErrSealed, and every method the error of
// its context.
var (
	// ErrNotFound: no such session in this tenant.
	ErrNotFound = errors.New("session not found")
	// ErrExists: the ID is taken, perhaps by an ended session that is still retained.
	ErrExists = errors.New("session exists")
	// ErrLimit: the subject has as many live sessions as Policy.MaxPerSubject allows.
	ErrLimit = errors.New("too many sessions of this subject")
	// ErrEnded: the session has expired or was revoked and is still retained.
	// Managers return it as an *EndedError, which tells more.
	ErrEnded = errors.New("session has ended")
	// ErrVersion: none of the given ETags is that of the session.
	ErrVersion = errors.New("session version does not match")
	// ErrInvalid: the input is out of bounds. It comes as an *InvalidError.
	ErrInvalid = errors.New("invalid session")
	// ErrMalformed: the input is not JSON as RFC 8259 and RFC 7493 want it.
	ErrMalformed = errors.New("malformed JSON")
	// ErrCursor: the cursor is not one that this filter gave.
	ErrCursor = errors.New("invalid cursor")
	// ErrToken: the token given to Rotate is not the session's current one.
	ErrToken = errors.New("token does not match")
	// ErrUnavailable: the store could not answer. A write was not applied.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUnknown: the store went away after a write was sent; it may or may not
	// have been applied. Reading the session tells.
	ErrUnknown = errors.New("outcome of the write is unknown")
	// ErrSealed: the session's data can't be decrypted with the keys at hand.
	ErrSealed = errors.New("session data can't be opened")
)

// An EndedError says that an operation met an ended session. It matches
// [ErrEnded].
type EndedError struct {
	Session *Session // without data
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("session has ended: %s", e.Session.EndReason)
}

// Is reports whether target is ErrEnded.
func (e *EndedError) Is(target error) bool { return target == ErrEnded }

// An InvalidError lists what is wrong with an input. It matches [ErrInvalid].
type InvalidError struct {
	Fields []FieldError // at least one
}

// A FieldError is one thing wrong with an input. It never repeats the input.
type FieldError struct {
	Pointer string // RFC 6901 pointer to the member, such as "/expires_in"; may be empty
	Detail  string // one sentence without a final stop, fit to be shown to the caller
}

func (e *InvalidError) Error() string {
	wrong := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		wrong[i] = strings.TrimSpace(f.Pointer + " " + f.Detail)
	}
	return "invalid session: " + strings.Join(wrong, "; ")
}

// Is reports whether target is ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(pointer, detail string) *InvalidError {
	return &InvalidError{Fields: []FieldError{{pointer, detail}}}
}
