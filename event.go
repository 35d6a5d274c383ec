package sessiond

import (
	"context"
	"strconv"
	"time"
)

// An Event is a fact about a session, committed together with the change that
// it tells of. It carries neither data nor tokens.
type Event struct {
	ID        string // unique; the same whenever the event is delivered again
	Type      EventType
	Time      time.Time
	Tenant    string
	SessionID ID
	Subject   string
	Version   int64     // the version that the change made
	Reason    EndReason // of ends, else empty
	Note      string    // of ends, the caller's text
	Actor     Actor     // who changed the session; zero for expiries
	RequestID string    // of the request that changed it, if any
}

// EventType is the kind of an [Event].
type EventType string

// The types of events. An erase of a live session gives EventRevoked first.
const (
	EventCreated EventType = "session.created"
	EventUpdated EventType = "session.updated"
	EventRotated EventType = "session.rotated"
	EventRevoked EventType = "session.revoked"
	EventExpired EventType = "session.expired"
	EventErased  EventType = "session.erased"
)

// Valid reports whether t is one of the types above.
func (t EventType) Valid() bool {
	switch t {
	case EventCreated, EventUpdated, EventRotated, EventRevoked, EventExpired, EventErased:
		return true
	}
	return false
}

// Event is the event of type t for the version that r has now.
func (r *Record) Event(t EventType, actor Actor, requestID string) Event {
	return Event{
		ID:        r.Incarnation.String() + "." + strconv.FormatInt(r.Version, 10),
		Type:      t,
		Time:      r.UpdatedAt,
		Tenant:    r.Tenant,
		SessionID: r.ID,
		Subject:   r.Subject,
		Version:   r.Version,
		Reason:    r.EndReason,
		Note:      r.EndNote,
		Actor:     actor,
		RequestID: requestID,
	}
}

// EndEvent is the event of the end of r: expired or revoked, by its reason.
func (r *Record) EndEvent(requestID string) Event {
	t := EventRevoked
	if r.EndReason.Expiry() {
		t = EventExpired
	}
	return r.Event(t, r.EndedBy, requestID)
}

// A Position is an opaque place in a store's feed of events. The empty
// Position stands for the end of the feed.
type Position string

// An EventBatch is a run of events and the position after them. A batch
// without events tells that nothing more has happened up to Position.
type EventBatch struct {
	Events   []Event
	Position Position
	// Reset tells that events between the position asked for and the first of
	// this batch may be missing, because the position was malformed or is no
	// longer kept.
	Reset bool
}

type requestIDKey struct{}

// WithRequestID gives ctx the id of the request it serves. Events of changes
// made under it carry the id; nothing else depends on it.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the id that [WithRequestID] gave ctx, or empty.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
