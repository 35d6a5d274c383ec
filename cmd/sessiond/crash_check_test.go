package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

// id is the session's id; empty when the server chose it and the answer was lost.
func (s *shadow) id() sessiond.ID {
	if s.acked != nil {
		return s.acked.ID
	}
	return s.params.ID
}

// checkChanged checks, after a start, the live sessions and those that have
// changed, with some of the others.
func (w *writer) checkChanged() {
	for _, s := range w.all() {
		if s.end == nil || s.changed || w.random.IntN(20) == 0 {
			w.check(s)
		}
	}
}

// checkAll checks all sessions.
func (w *writer) checkAll() {
	for _, s := range w.all() {
		w.check(s)
	}
}

// check holds the server to what is known of s.
func (w *writer) check(s *shadow) {
	if w.t.Failed() || s.unseen {
		return
	}
	answers := true
	if s.id() == "" {
		answers = w.recreate(s)
	} else {
		answers = w.get(s)
	}
	if answers && s.end == nil && s.acked != nil && s.params.IdempotencyKey != "" && s.acked.Version == 1 {
		answers = w.recreate(s)
	}
	if !answers {
		w.t.Errorf("the server does not answer about session %s", s.id())
		return
	}
	w.checkTokens(s)
	s.changed = false
}

// checkTokens checks that the current token, if it is known, is as active as
// its session, and the latest superseded ones are not.
func (w *writer) checkTokens(s *shadow) {
	if s.acked == nil {
		return
	}
	for _, token := range append(slices.Clone(s.dead[max(0, len(s.dead)-2):]), s.token) {
		if token == "" {
			continue
		}
		ctx, cancel, _ := w.request()
		v, err := w.remote.Verify(ctx, token, sessiond.VerifyParams{NoTouch: true})
		cancel()
		switch current := token == s.token; {
		case err != nil:
			w.t.Errorf("verify: %v", err)
		case !current && (v.Active || v.Reason != ""):
			w.t.Errorf("session %s: a superseded token is known (active %t, reason %q)", s.acked.ID, v.Active, v.Reason)
		case current && s.end != nil && (v.Active || v.Reason != s.end.EndReason):
			w.t.Errorf("session %s ended by %s, and its token is answered active %t, reason %q",
				s.acked.ID, s.end.EndReason, v.Active, v.Reason)
		case current && s.end == nil && !v.Active && !w.mayHaveExpired(s):
			w.t.Errorf("session %s is live and its token is not active", s.acked.ID)
		}
	}
}

// created checks the first answer that shows s.
func (w *writer) created(s *shadow, got *sessiond.Session, token sessiond.Token) {
	p := s.params
	lifetime, idle := 12*time.Hour, 30*time.Minute // the policy's defaults
	if p.ExpiresIn != nil {
		lifetime = *p.ExpiresIn
	}
	if p.IdleTimeout != nil {
		idle = *p.IdleTimeout
	}
	want := &sessiond.Session{
		ID: p.ID, Subject: p.Subject, Data: p.Data, Labels: p.Labels, Status: sessiond.StatusActive, Version: 1,
		CreatedBy: sessiond.Actor{Sub: "crash", Client: "sessiond-dev"},
		CreatedAt: got.CreatedAt, UpdatedAt: got.CreatedAt, LastActiveAt: got.CreatedAt,
		ExpiresAt: got.CreatedAt.Add(lifetime), IdleTimeout: idle, IdleExpiresAt: got.CreatedAt.Add(idle),
		ETag: got.ETag,
	}
	if want.ID == "" {
		want.ID = got.ID
	}
	w.same(s, opCreate, want, got)
	s.acked, s.token, s.pending = got, token, nil
	s.history[0].optional = false
}

// same compares an answer with what it must be.
func (w *writer) same(s *shadow, op string, want, got *sessiond.Session) {
	w.t.Helper()
	data := cmp.Transformer("JSON", func(v jsontext.Value) (members map[string]any) {
		if err := json.Unmarshal(v, &members); err != nil && v != nil {
			w.t.Errorf("data %s: %v", v, err)
		}
		return members
	})
	if diff := cmp.Diff(want, got, data); diff != "" {
		w.t.Errorf("session %s, %s: want (-), got (+):\n%s\npending: %+v", s.id(), op, diff, s.pending)
	}
}

// touched makes want what got may be after a touch.
func (w *writer) touched(want, got *sessiond.Session) {
	if got.LastActiveAt.Before(want.LastActiveAt) {
		w.t.Errorf("session %s: the activity at %v was lost, the last one is at %v",
			want.ID, want.LastActiveAt, got.LastActiveAt)
	}
	want.LastActiveAt = got.LastActiveAt
	want.IdleExpiresAt = got.LastActiveAt.Add(want.IdleTimeout)
}

// settle judges a live session that was read.
func (w *writer) settle(s *shadow, got *sessiond.Session, served, sent time.Time) {
	w.wasLive(got, served, sent)
	p := s.pending
	s.pending = nil
	switch {
	case s.end != nil:
		w.t.Errorf("session %s had ended (%s) and is live again", got.ID, s.end.EndReason)
	case s.acked == nil:
		w.created(s, got, "")
	case p == nil:
		w.same(s, "get", s.acked, got)
	case p.acked:
		w.t.Errorf("session %s was revoked and is live again", got.ID)
	case p.op == opTouch:
		want := *s.acked
		w.touched(&want, got)
		w.same(s, "get after a touch that was cut off", &want, got)
	case got.Version == s.acked.Version:
		s.history = s.history[:len(s.history)-1]
		w.same(s, "get", s.acked, got)
	case p.op == opRevoke:
		w.t.Errorf("session %s: a revoke that was cut off has changed it from %+v to %+v", got.ID, s.acked, got)
	default:
		want := *s.acked
		p.after(&want)
		want.Version++
		want.UpdatedAt, want.ETag = got.UpdatedAt, got.ETag
		w.same(s, "get after "+p.op+" that was cut off", &want, got)
		s.history[len(s.history)-1].optional = false
		if p.op == opRotate {
			s.dead, s.token = append(s.dead, s.token), ""
		}
	}
	s.acked = got
}

// settleMissing judges a session that is not there.
func (w *writer) settleMissing(s *shadow) {
	if s.acked != nil || s.end != nil {
		w.t.Errorf("session %s is lost", s.id())
		return
	}
	// Its create was cut off and not applied.
	if s.params.IdempotencyKey != "" {
		w.recreate(s)
		return
	}
	w.live = slices.DeleteFunc(w.live, func(o *shadow) bool { return o == s })
}

// ended judges an ended session that was met.
func (w *writer) ended(s *shadow, end *sessiond.Session) {
	if s.end != nil {
		if diff := cmp.Diff(s.end, end); diff != "" {
			w.t.Errorf("session %s: its end has changed, from (-) to (+):\n%s", s.id(), diff)
		}
		return
	}
	p := s.pending
	if p != nil && p.op == opRotate {
		s.token = "" // nothing tells any more whether it was replaced before the end
	}
	switch {
	case end.EndReason.Expiry():
		w.expired(s, end)
		if p != nil && p.op == opRevoke {
			s.history = s.history[:len(s.history)-1]
		}
		s.history = append(s.history, change{typ: sessiond.EventExpired, reason: end.EndReason})
	case p != nil && p.op == opRevoke && end.EndReason == p.reason:
		s.history[len(s.history)-1].optional = false
	default:
		w.t.Errorf("session %s has ended by %s, which nobody asked for", s.id(), end.EndReason)
	}
	s.end, s.pending = end, nil
	w.isOver(s)
}

func (w *writer) isOver(s *shadow) {
	w.live = slices.DeleteFunc(w.live, func(o *shadow) bool { return o == s })
	w.over = append(w.over, s)
}

// expired checks the time and the reason of an expiry.
func (w *writer) expired(s *shadow, end *sessiond.Session) {
	if end.EndedAt.After(time.Now().Add(100 * time.Millisecond)) {
		w.t.Errorf("session %s is said to have ended in the future, at %v", s.id(), end.EndedAt)
	}
	if end.EndedAt.After(w.passed) {
		w.passed = end.EndedAt
	}
	if s.acked == nil {
		s.history[0].optional = false
		return
	}
	deadline, reason := s.acked.Deadline(), sessiond.EndAbsolute
	if deadline.Before(s.acked.ExpiresAt) {
		reason = sessiond.EndIdle
	}
	touched := s.pending != nil && s.pending.op == opTouch && end.EndedAt.After(deadline)
	if end.EndReason != reason || !end.EndedAt.Equal(deadline) && !touched {
		w.t.Errorf("session %s ended at %v by %s; its deadline was %v, %s (pending: %+v)",
			s.acked.ID, end.EndedAt, end.EndReason, deadline, reason, s.pending)
	}
}

// time takes note of the service time at which the latest operation took place.
func (w *writer) time(at time.Time) {
	if at.Before(w.served) {
		w.t.Errorf("service time went back from %v to %v", w.served, at)
	}
	if at.Before(w.passed) {
		w.t.Errorf("a session ended at its deadline %v, before that: it is %v only now", w.passed, at)
	}
	w.served = at
}

// wasLive checks that a session could be live in an answer to a request that
// was sent at sent, when service time had been served.
func (w *writer) wasLive(got *sessiond.Session, served, sent time.Time) {
	if !served.Before(got.Deadline()) {
		w.t.Errorf("session %s was live after its deadline %v, at %v of service time", got.ID, got.Deadline(), served)
	}
	if sent.After(got.Deadline().Add(time.Second)) {
		w.t.Errorf("session %s was live over a second after its deadline %v, at %v", got.ID, got.Deadline(), sent)
	}
}

// mayHaveExpired reports whether s can have passed a deadline by now.
func (w *writer) mayHaveExpired(s *shadow) bool {
	if s.acked == nil {
		return s.params.ExpiresIn != nil || s.params.IdleTimeout != nil
	}
	return time.Now().Add(10 * time.Millisecond).After(s.acked.Deadline())
}

// lastShortDeadline is the last deadline that is worth waiting for.
func (w *writer) lastShortDeadline() (last time.Time) {
	for _, s := range w.live {
		if s.acked == nil {
			continue
		}
		at := s.acked.Deadline()
		if at.After(last) && time.Until(at) < 10*time.Second {
			last = at
		}
	}
	return last
}

// checkEvents checks that the versions of every session are those that its
// writer made, each told by its event.
func (w *writer) checkEvents(ctx context.Context, f *feed) {
	stored, err := w.list(ctx)
	if err != nil {
		w.t.Errorf("list: %v", err)
		return
	}
	for _, s := range w.all() {
		id := s.id()
		if s.unseen {
			for _, o := range stored {
				if o.Labels["made"] == s.params.Labels["made"] {
					id = o.ID
				}
			}
			s.history[0].optional = false
			s.history = append(s.history, change{typ: sessiond.EventExpired})
		}
		o := stored[id]
		if o == nil {
			w.t.Errorf("session %s is not listed", id)
			continue
		}
		delete(stored, id)
		if ended := o.Status != sessiond.StatusActive; ended != (s.end != nil || s.unseen) {
			w.t.Errorf("session %s is listed as %s", id, o.Status)
		}
		events, err := f.wait(ctx, id, o.Version)
		if err != nil {
			w.t.Errorf("session %s has version %d, and its events do not come: %v; there are %+v", id, o.Version, err, events)
			continue
		}
		w.checkHistory(id, s.history, events)
	}
	for id := range stored {
		w.t.Errorf("session %s is listed and was never made", id)
	}
}

// list is all sessions of w by their ids.
func (w *writer) list(ctx context.Context) (map[sessiond.ID]*sessiond.Session, error) {
	all := make(map[sessiond.ID]*sessiond.Session)
	p := sessiond.ListParams{Filter: sessiond.Filter{Subject: w.name}, Limit: 100}
	for {
		page, err := w.remote.List(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Sessions {
			if all[s.ID] != nil {
				return nil, errors.New("a session is listed twice")
			}
			all[s.ID] = s
		}
		if page.NextCursor == "" {
			return all, nil
		}
		p.Cursor = page.NextCursor
	}
}

// checkHistory compares events, which have the versions from 1 on, with what was done.
func (w *writer) checkHistory(id sessiond.ID, history []change, events []sessiond.Event) {
	for _, e := range events {
		for len(history) > 0 && history[0].optional && !history[0].told(e) {
			history = history[1:]
		}
		if len(history) == 0 || !history[0].told(e) {
			w.t.Errorf("session %s: the event %+v is not what was done: %+v", id, e, history)
			return
		}
		history = history[1:]
	}
	for _, c := range history {
		if !c.optional {
			w.t.Errorf("session %s: %+v has no event; the last one is %+v", id, c, events[len(events)-1])
		}
	}
}

// told reports whether e is the event of c.
func (c change) told(e sessiond.Event) bool {
	request := len(c.requests) == 0 && e.RequestID == "" || slices.Contains(c.requests, e.RequestID)
	return e.Type == c.typ && request && (c.reason == "" || e.Reason == c.reason)
}
