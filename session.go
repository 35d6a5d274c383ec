package sessiond

import (
	"encoding/base64"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A Session is what callers see of a session at one instant: the instant at
// which the store answered. It is a copy; changing it changes nothing stored.
type Session struct {
	Tenant  string // the tenant in which ID is unique
	ID      ID     // public handle, not a secret
	Subject string // whose session it is; empty for a guest

	// Data is the caller's own JSON object. It is nil when the handle was made
	// by [Manager.WithoutData], in lists that did not ask for it, in others when
	// it can't be decrypted, and once the session has ended.
	Data jsontext.Value
	// Labels are short searchable strings. The map may be shared with other
	// copies and must not be modified.
	Labels map[string]string

	Status        Status
	CreatedAt     time.Time     // UTC, milliseconds, as all times here
	UpdatedAt     time.Time     // last change of version
	LastActiveAt  time.Time     // last recorded activity of the holder
	ExpiresAt     time.Time     // absolute deadline: passes whatever the activity
	IdleTimeout   time.Duration // allowed gap between two activities; 0: none
	IdleExpiresAt time.Time     // LastActiveAt + IdleTimeout; zero without idle timeout

	Version   int64 // from 1, one more with every change; a touch is not a change
	CreatedBy Actor // zero when created without an actor

	// The rest is set only when Status is not StatusActive.
	EndedAt   time.Time
	EndReason EndReason
	EndNote   string
	EndedBy   Actor // zero for an expiry

	// ETag is the strong entity tag (RFC 9110, section 8.8.3) of this version of
	// this session. It is made of the random incarnation and the version, so it
	// never matches a later session of the same ID. Empty in lists and
	// verifications.
	ETag ETag
}

// Deadline is the earlier of the absolute and the idle deadline.
func (s *Session) Deadline() time.Time {
	return earlier(s.ExpiresAt, s.IdleExpiresAt)
}

// Status says whether a session may go on. It is derived from the deadlines
// and the store's clock, never stored as truth.
type Status string

// The three statuses. Only StatusActive may go on, and nothing leads back to it.
const (
	StatusActive  Status = "active"
	StatusExpired Status = "expired" // a deadline passed
	StatusRevoked Status = "revoked" // someone, or a rule, ended it before
)

// EndReason says why a session ended.
type EndReason string

// The reasons. EndIdle and EndAbsolute make a session expired, all others
// revoked. Callers of [Manager.Revoke] may give EndRevoked, EndLogout and
// EndSecurity; the others are the service's own.
const (
	EndIdle       EndReason = "idle"        // the idle deadline passed
	EndAbsolute   EndReason = "absolute"    // the absolute deadline passed
	EndRevoked    EndReason = "revoked"     // revoked, no further cause given
	EndLogout     EndReason = "logout"      // the subject asked for it
	EndSecurity   EndReason = "security"    // revoked for a security cause
	EndLimit      EndReason = "limit"       // made room under Policy.MaxPerSubject
	EndTokenReuse EndReason = "token_reuse" // a superseded token was presented
	EndRestored   EndReason = "restored"    // found alive in a restored backup
)

// Expiry reports whether r is the passing of a deadline.
func (r EndReason) Expiry() bool { return r == EndIdle || r == EndAbsolute }

// An Actor names the credential behind a change. The zero Actor stands for
// the service itself and for embedding programs that name none.
type Actor struct {
	// Issuer minted the credential. It separates equal subjects of different
	// issuers in idempotent creates and is not stored with sessions or events.
	Issuer string
	Sub    string // subject of the credential
	Client string // client the credential was issued to, if known
}

// IsZero reports whether neither subject nor client is known.
func (a Actor) IsZero() bool { return a.Sub == "" && a.Client == "" }

// An Incarnation is the random mark of one session record. Two sessions that
// have the same ID one after the other differ in it.
type Incarnation [12]byte

// String is the incarnation in 16 characters of base64url.
func (i Incarnation) String() string { return base64.RawURLEncoding.EncodeToString(i[:]) }

// An ETag is an entity tag with its quotes, as in Session.ETag, or [AnyETag].
type ETag string

// AnyETag is the If-Match value that every live session matches.
const AnyETag ETag = "*"

func etag(i Incarnation, version int64) ETag {
	b := make([]byte, 0, 40)
	b = append(b, '"')
	b = base64.RawURLEncoding.AppendEncode(b, i[:])
	b = append(b, '.')
	b = strconv.AppendInt(b, version, 10)
	b = append(b, '"')
	return ETag(b)
}

// earlier is the earlier of two times, of which b may be zero for "never".
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
