package api

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
)

// SessionPage is the JSON of a page of sessions.
type SessionPage struct {
	Sessions   []Session `json:"sessions"`
	NextCursor string    `json:"next_cursor,omitzero"`
}

// Verification is the JSON of the answer to a token.
type Verification struct {
	Active  bool     `json:"active"`
	Session *Session `json:"session,omitzero"`
	Reason  string   `json:"reason,omitzero"`
}

// Revoked is the JSON of the answer to a bulk revoke.
type Revoked struct {
	Revoked  int  `json:"revoked"`
	Complete bool `json:"complete"`
}

// CreateRequest is the body of a create. Durations are in seconds.
type CreateRequest struct {
	ID          string            `json:"id,omitzero"`
	Subject     string            `json:"subject,omitzero"`
	Data        jsontext.Value    `json:"data,omitzero"`
	Labels      map[string]string `json:"labels,omitzero"`
	ExpiresIn   *int64            `json:"expires_in,omitzero"`
	IdleTimeout *int64            `json:"idle_timeout,omitzero"`
}

// UpdateRequest is the body of a PUT. What is absent stays.
type UpdateRequest struct {
	Data        jsontext.Value     `json:"data,omitzero"`
	Labels      *map[string]string `json:"labels,omitzero"` // a pointer, since an empty map is not an absent one
	ExpiresIn   *int64             `json:"expires_in,omitzero"`
	IdleTimeout *int64             `json:"idle_timeout,omitzero"`
}

// RotateRequest is the body of a rotate, all of it optional.
type RotateRequest struct {
	Token   string `json:"token,omitzero"`
	Subject string `json:"subject,omitzero"`
}

// VerifyRequest is the body of a verify.
type VerifyRequest struct {
	Token string `json:"token"`
	Touch *bool  `json:"touch,omitzero"` // false: the check is not activity
}

// Introspection is the JSON of an RFC 7662 answer.
type Introspection struct {
	Active   bool   `json:"active"`
	Subject  string `json:"sub,omitzero"`
	SID      string `json:"sid,omitzero"`
	Expires  int64  `json:"exp,omitzero"` // seconds since the epoch, of the earlier deadline
	IssuedAt int64  `json:"iat,omitzero"`
	ClientID string `json:"client_id,omitzero"`
	Scope    string `json:"scope,omitzero"`
}

// An Event is the JSON of a [sessiond.Event].
type Event struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Time      Time   `json:"time"`
	SessionID string `json:"session_id"`
	Subject   string `json:"subject"`
	Version   int64  `json:"version"`
	Reason    string `json:"reason,omitzero"`
	Note      string `json:"note,omitzero"`
	Actor     *Actor `json:"actor,omitzero"`
	RequestID string `json:"request_id,omitzero"`
}

// NewEvent is the JSON of e.
func NewEvent(e *sessiond.Event) Event {
	return Event{
		ID: e.ID, Type: string(e.Type), Time: Time(e.Time), SessionID: string(e.SessionID), Subject: e.Subject,
		Version: e.Version, Reason: string(e.Reason), Note: e.Note, Actor: newActor(e.Actor), RequestID: e.RequestID,
	}
}

// Event is the event that e tells of, in a tenant that the wire does not name.
func (e *Event) Event(tenant string) sessiond.Event {
	return sessiond.Event{
		ID: e.ID, Type: sessiond.EventType(e.Type), Time: time.Time(e.Time), Tenant: tenant,
		SessionID: sessiond.ID(e.SessionID), Subject: e.Subject, Version: e.Version,
		Reason: sessiond.EndReason(e.Reason), Note: e.Note, Actor: e.Actor.actor(), RequestID: e.RequestID,
	}
}

// Marshal writes a message of this package as JSON. Data in it stays as it is written.
func Marshal(message any) ([]byte, error) {
	b, err := json.Marshal(message, json.Deterministic(true), jsontext.PreserveRawStrings(true))
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", message, err)
	}
	return b, nil
}

// Unmarshal reads an answer into a message of this package. Members that a
// later server may add are ignored; duplicate members and invalid UTF-8 are not.
func Unmarshal(b []byte, message any) error {
	if err := json.Unmarshal(b, message); err != nil {
		return fmt.Errorf("decode %T: the answer is not what the API promises", message)
	}
	return nil
}
