package sessiond

import "time"

// A Key names a session in a store.
type Key struct {
	Tenant string
	ID     ID
}

// A Record is a session as stores keep it: the session, the hashes of its
// tokens and its data in sealed form.
//
// Records that a store returns are shared and must not be modified, nor the
// maps and slices in them. All times are UTC with milliseconds.
type Record struct {
	Key
	Incarnation Incarnation
	Subject     string
	Labels      map[string]string
	Data        []byte // sealed; nil for an empty object and after the end
	DataKey     uint32 // the encryption key that sealed Data, 0 when Data is nil

	CreatedAt    time.Time
	UpdatedAt    time.Time
	LastActiveAt time.Time
	ExpiresAt    time.Time
	IdleTimeout  time.Duration // 0: none
	Version      int64
	CreatedBy    Actor

	TokenHash          TokenHash
	PreviousTokenHash  TokenHash // zero: none
	PreviousTokenUntil time.Time // end of the overlap in which the previous token is accepted
	CreateHash         [32]byte  // of credential, Idempotency-Key and input of the create; zero: none

	// EndedAt is zero as long as nothing has ended the record. A record whose
	// deadline has passed is ended from that instant, before the sweeper has
	// written it down: see At.
	EndedAt   time.Time
	EndReason EndReason
	EndNote   string
	EndedBy   Actor
}

// IdleExpiresAt is the idle deadline, zero without idle timeout.
func (r *Record) IdleExpiresAt() time.Time {
	if r.IdleTimeout == 0 {
		return time.Time{}
	}
	return r.LastActiveAt.Add(r.IdleTimeout)
}

// Deadline is the earlier of the absolute and the idle deadline.
func (r *Record) Deadline() time.Time { return earlier(r.ExpiresAt, r.IdleExpiresAt()) }

// Live reports whether the session may go on at now.
func (r *Record) Live(now time.Time) bool {
	return r.EndedAt.IsZero() && now.Before(r.Deadline())
}

// At is the record as it stands at now: r itself, or, when a deadline has
// passed that nobody has written down yet, a copy that is ended as the sweeper
// will end it.
func (r *Record) At(now time.Time) *Record {
	if !r.EndedAt.IsZero() || r.Live(now) {
		return r
	}
	c := *r
	c.Expire()
	return &c
}

// Expire ends the live record r at its deadline, for the reason of that deadline.
func (r *Record) Expire() {
	reason := EndAbsolute
	deadline := r.Deadline()
	if deadline.Before(r.ExpiresAt) {
		reason = EndIdle
	}
	r.End(deadline, reason, "", Actor{})
}

// End ends the live record r: the data goes, the version rises.
func (r *Record) End(at time.Time, reason EndReason, note string, by Actor) {
	r.EndedAt, r.EndReason, r.EndNote, r.EndedBy = at, reason, note, by
	r.UpdatedAt = at
	r.Version++
	r.Data, r.DataKey = nil, 0
	r.PreviousTokenHash, r.PreviousTokenUntil = TokenHash{}, time.Time{}
}

// Touch moves the last activity of r to at, never backwards, and reports
// whether it moved.
func (r *Record) Touch(at time.Time) bool {
	if !at.After(r.LastActiveAt) {
		return false
	}
	r.LastActiveAt = at
	return true
}

// status is the status of a record that At has brought up to date.
func (r *Record) status() Status {
	switch {
	case r.EndedAt.IsZero():
		return StatusActive
	case r.EndReason.Expiry():
		return StatusExpired
	default:
		return StatusRevoked
	}
}

// matches reports whether one of the tags is that of r. No tags match always.
func (r *Record) matches(ifMatch []ETag) bool {
	if len(ifMatch) == 0 {
		return true
	}
	own := etag(r.Incarnation, r.Version)
	for _, t := range ifMatch {
		if t == own || t == AnyETag {
			return true
		}
	}
	return false
}
