package pgstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"sessiond.example/sessiond"
)

// Update implements [sessiond.Store]. It reads, calls fn, and writes if nothing has
// changed; otherwise it begins again.
func (s *Store) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	for {
		old, now, err := s.load(ctx, k)
		if err != nil {
			return sessiond.Result{}, err
		}
		res := sessiond.Result{Record: old.rec.At(now), Now: now}
		if !old.rec.Live(now) {
			return res, sessiond.ErrEnded
		}
		r := *old.rec
		change, err := fn(now, &r)
		if err != nil {
			return res, err
		}
		done, err := s.apply(ctx, old, &r, &change)
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, sessiond.ErrLimit):
			return res, err
		case err != nil:
			return sessiond.Result{}, err
		}
		if change.Event != nil {
			s.feed.kick()
		}
		return done, nil
	}
}

// errMoved says that a record is not what it was when it was read.
var errMoved = errors.New("the record has changed")

// apply writes r in place of old.
func (s *Store) apply(
	ctx context.Context, old stored, r *sessiond.Record, change *sessiond.Change,
) (sessiond.Result, error) {
	res := sessiond.Result{Record: r}
	update := func(run func(*args, func(*row) error) error) error {
		a, err := s.updateArgs(old, r, change.Event)
		if err != nil {
			return err
		}
		err = run(a, func(row *row) error {
			res.Now, r.LastActiveAt = s.at(row.int()), row.time()
			return nil
		})
		if err == nil && res.Now.IsZero() {
			return errMoved
		}
		return err
	}
	if change.Limit.Max == 0 || r.Subject == "" || r.Subject == old.rec.Subject {
		err := update(func(a *args, fn func(*row) error) error { return s.write(ctx, a, fn) })
		return res, err
	}
	err := s.inTx(ctx, updateSQL.op, func(tx *tx) (err error) {
		res.Evicted, err = s.makeRoom(tx, sessiond.Key{Tenant: r.Tenant}, r.Subject, &change.Limit)
		if err != nil {
			return err
		}
		return update(tx.query)
	})
	return res, err
}

// updateArgs are the arguments of the statement; without event nothing is told.
func (s *Store) updateArgs(old stored, r *sessiond.Record, e *sessiond.Event) (*args, error) {
	if e == nil {
		e = &sessiond.Event{}
	}
	keep := bytes.Equal(r.Data, old.rec.Data)
	data := r.Data
	if keep {
		data = nil
	}
	var moved time.Time
	if r.EndReason.Expiry() {
		moved = old.rec.LastActiveAt // a touch since then may have made this wrong
	}
	a := s.timed(updateSQL)
	if err := a.record(r, data); err != nil {
		return nil, err
	}
	a.event(e).time("event_at", e.Time).text("event_subject", e.Subject).int("event_version", e.Version)
	a.int("revision", old.revision).timeOrNull("moved", moved).bool("keep_data", keep)
	a.time("updated_at", r.UpdatedAt).time("last_active_at", r.LastActiveAt).time("expires_at", r.ExpiresAt)
	a.timeOrNull("ended_at", r.EndedAt).text("end_reason", string(r.EndReason)).text("end_note", r.EndNote)
	return a.text("ended_sub", r.EndedBy.Sub).text("ended_client", r.EndedBy.Client), nil
}

// Touch implements [sessiond.Store].
func (s *Store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	a := s.timed(touchSQL).key(k).timeOrNull("at", at)
	if inc == (sessiond.Incarnation{}) {
		a.null("incarnation")
	} else {
		a.bytes("incarnation", inc[:])
	}
	var r stored
	var now int64
	var moved time.Time
	err := s.write(ctx, a, func(row *row) (err error) {
		now, moved = row.int(), row.time()
		r, err = row.fields(k)
		return err
	})
	switch {
	case err != nil:
		return sessiond.Result{}, err
	case r.rec == nil || inc != (sessiond.Incarnation{}) && inc != r.rec.Incarnation:
		return sessiond.Result{}, sessiond.ErrNotFound
	}
	res := sessiond.Result{Record: r.rec, Now: s.at(now)}
	if !r.rec.Live(res.Now) {
		res.Record = r.rec.At(res.Now)
		return res, sessiond.ErrEnded
	}
	if !moved.IsZero() {
		r.rec.LastActiveAt = moved
	}
	return res, nil
}

// Erase implements [sessiond.Store].
func (s *Store) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.gate.RUnlock()
	for {
		old, now, err := s.load(ctx, k)
		if err != nil {
			return err
		}
		events, err := fn(now, old.rec)
		if err != nil {
			return err
		}
		a := s.timed(eraseSQL).key(k).bytes("incarnation", old.rec.Incarnation[:])
		a.int("revision", old.revision).bool("live", old.rec.Live(now)).events(events)
		gone := false
		err = s.write(ctx, a, func(r *row) error {
			gone = true
			s.at(r.int())
			return nil
		})
		if err != nil {
			return err
		}
		if gone {
			s.feed.kick()
			return nil
		}
	}
}

// events puts events, as one array for each column.
func (a *args) events(events []sessiond.Event) *args {
	ats, versions := make([]int64, len(events)), make([]int64, len(events))
	for i := range events {
		ats[i], versions[i] = events[i].Time.UnixMilli(), events[i].Version
	}
	a.ints("event_ats", ats).ints("event_versions", versions)
	for _, column := range []struct {
		par string
		of  func(e *sessiond.Event) string
	}{
		{"event_ids", func(e *sessiond.Event) string { return e.ID }},
		{"event_types", func(e *sessiond.Event) string { return string(e.Type) }},
		{"event_subjects", func(e *sessiond.Event) string { return e.Subject }},
		{"event_reasons", func(e *sessiond.Event) string { return string(e.Reason) }},
		{"event_notes", func(e *sessiond.Event) string { return e.Note }},
		{"event_subs", func(e *sessiond.Event) string { return e.Actor.Sub }},
		{"event_clients", func(e *sessiond.Event) string { return e.Actor.Client }},
		{"event_request_ids", func(e *sessiond.Event) string { return e.RequestID }},
	} {
		a.texts(column.par, len(events), func(i int) string { return column.of(&events[i]) })
	}
	return a
}
