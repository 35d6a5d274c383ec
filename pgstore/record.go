package pgstore

import (
	"time"

	"sessiond.example/sessiond"
)

// recordPars are the parameters that record puts.
const recordPars = " tenant id incarnation version subject labels data data_key idle_timeout" +
	" token_hash previous_token_hash previous_token_until create_hash"

// record puts what a create and an update have in common, with data in place of the record's.
func (a *args) record(r *sessiond.Record, data []byte) error {
	a.text("tenant", r.Tenant).text("id", string(r.ID)).bytes("incarnation", r.Incarnation[:])
	a.int("version", r.Version).text("subject", r.Subject)
	if _, err := a.labels("labels", r.Labels); err != nil {
		return err
	}
	a.bytes("data", data).int("data_key", int64(r.DataKey)).int("idle_timeout", r.IdleTimeout.Milliseconds())
	a.bytes("token_hash", r.TokenHash[:]).hash("previous_token_hash", (*[32]byte)(&r.PreviousTokenHash))
	a.timeOrNull("previous_token_until", r.PreviousTokenUntil).hash("create_hash", &r.CreateHash)
	return nil
}

// eventPars are the parameters that event puts.
const eventPars = " event_id event_type event_reason event_note event_sub event_client event_request_id"

// event puts what is told of a create or an update; the event of a create has the record's
// time, subject and version.
func (a *args) event(e *sessiond.Event) *args {
	a.text("event_id", e.ID).text("event_type", string(e.Type)).text("event_reason", string(e.Reason))
	a.text("event_note", e.Note).text("event_sub", e.Actor.Sub).text("event_client", e.Actor.Client)
	return a.text("event_request_id", e.RequestID)
}

// key puts the parameters tenant and id.
func (a *args) key(k sessiond.Key) *args { return a.text("tenant", k.Tenant).text("id", string(k.ID)) }

// keys puts the parameters tenants and ids.
func (a *args) keys(keys []sessiond.Key) *args {
	a.texts("tenants", len(keys), func(i int) string { return keys[i].Tenant })
	return a.texts("ids", len(keys), func(i int) string { return string(keys[i].ID) })
}

// time puts the milliseconds of t.
func (a *args) time(par string, t time.Time) *args { return a.int(par, t.UnixMilli()) }

// timeOrNull puts the milliseconds of t, null when t is zero.
func (a *args) timeOrNull(par string, t time.Time) *args {
	if t.IsZero() {
		return a.null(par)
	}
	return a.time(par, t)
}
