package recordcodec

import "sessiond.example/sessiond"

// Fields of an event.
const (
	evID        = 1
	evType      = 2
	evTime      = 3
	evTenant    = 4
	evSession   = 5
	evSubject   = 6
	evVersion   = 7
	evReason    = 8
	evNote      = 9
	evActor     = 10 // pair: subject, client
	evRequestID = 11
)

// AppendEvent appends the fields of ev. There is no version byte: a store puts one
// before them, with what else it needs.
func AppendEvent(dst []byte, ev *sessiond.Event) []byte {
	e := encoder(dst)
	e.text(evID, ev.ID)
	e.text(evType, string(ev.Type))
	e.time(evTime, ev.Time)
	e.text(evTenant, ev.Tenant)
	e.text(evSession, string(ev.SessionID))
	e.text(evSubject, ev.Subject)
	e.number(evVersion, ev.Version)
	e.text(evReason, string(ev.Reason))
	e.text(evNote, ev.Note)
	e.pair(evActor, ev.Actor.Sub, ev.Actor.Client, false)
	e.text(evRequestID, ev.RequestID)
	return e
}

// DecodeEvent reads what AppendEvent appended. The result shares no memory with
// fields. The error is an [Error].
func DecodeEvent(fields []byte) (sessiond.Event, error) {
	var ev sessiond.Event
	s := string(fields)
	var d decoder
	for len(s) > 0 {
		f, err := nextField(&s)
		if err != nil {
			return ev, err
		}
		switch f.num {
		case evID:
			ev.ID = d.text(f)
		case evType:
			ev.Type = sessiond.EventType(d.text(f))
		case evTime:
			ev.Time = d.time(f)
		case evTenant:
			ev.Tenant = d.text(f)
		case evSession:
			ev.SessionID = sessiond.ID(d.text(f))
		case evSubject:
			ev.Subject = d.text(f)
		case evVersion:
			ev.Version = d.number(f)
		case evReason:
			ev.Reason = sessiond.EndReason(d.text(f))
		case evNote:
			ev.Note = d.text(f)
		case evActor:
			ev.Actor.Sub, ev.Actor.Client = d.pair(f)
		case evRequestID:
			ev.RequestID = d.text(f)
		}
	}
	return ev, d.err
}
