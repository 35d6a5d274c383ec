package pgstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

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
	a := args{"revision": old.revision, "moved": nil, "keep_data": bytes.Equal(r.Data, old.rec.Data)}
	if err := putRecord(a, r); err != nil {
		return sessiond.Result{}, err
	}
	putEvent(a, change.Event)
	if a["keep_data"] == true {
		a["data"] = []byte(nil)
	}
	if r.EndReason.Expiry() {
		a["moved"] = old.rec.LastActiveAt.UnixMilli() // a touch since then may have made this wrong
	}
	res := sessiond.Result{Record: r}
	update := func(run func(*statement, args, func(pgx.Rows) error) error) error {
		s.putNow(a)
		err := run(updateSQL, a, func(rows pgx.Rows) error {
			var now, active int64
			if err := rows.Scan(&now, &active); err != nil {
				return err
			}
			res.Now, r.LastActiveAt = s.at(now), fromMS(active)
			return nil
		})
		if err == nil && res.Now.IsZero() {
			return errMoved
		}
		return err
	}
	if change.Limit.Max == 0 || r.Subject == "" || r.Subject == old.rec.Subject {
		err := update(func(st *statement, a args, fn func(pgx.Rows) error) error { return s.write(ctx, st, a, fn) })
		return res, err
	}
	err := s.inTx(ctx, updateSQL.op, func(ctx context.Context, tx *tx) error {
		var err error
		res.Evicted, err = s.makeRoom(ctx, tx, sessiond.Key{Tenant: r.Tenant}, r.Subject, &change.Limit)
		if err != nil {
			return err
		}
		return update(func(st *statement, a args, fn func(pgx.Rows) error) error { return tx.query(ctx, st, a, fn) })
	})
	return res, err
}

// Touch implements [sessiond.Store].
func (s *Store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	a := s.now()
	a["tenant"], a["id"], a["at"], a["incarnation"] = k.Tenant, string(k.ID), orNull(at), []byte(nil)
	if inc != (sessiond.Incarnation{}) {
		a["incarnation"] = inc[:]
	}
	var r stored
	var now int64
	var moved *int64
	err := s.write(ctx, touchSQL, a, func(rows pgx.Rows) (err error) {
		r, err = new(row).scan(rows, &now, &moved)
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
	if moved != nil {
		r.rec.LastActiveAt = fromMS(*moved)
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
		a := s.now()
		a["tenant"], a["id"], a["incarnation"] = k.Tenant, string(k.ID), old.rec.Incarnation[:]
		a["revision"], a["live"] = old.revision, old.rec.Live(now)
		putEvents(a, events)
		var res sessiond.Result
		err = s.write(ctx, eraseSQL, a, func(rows pgx.Rows) error { return s.scanNow(rows, &res) })
		if err != nil {
			return err
		}
		if !res.Now.IsZero() {
			s.feed.kick()
			return nil
		}
	}
}

// putEvents adds events to the arguments of a statement, as one array for each column.
func putEvents(a args, events []sessiond.Event) {
	ats, versions := make([]int64, len(events)), make([]int64, len(events))
	texts := make(map[string][]string)
	for i := range events {
		e := &events[i]
		ats[i], versions[i] = e.Time.UnixMilli(), e.Version
		for _, f := range []struct{ name, value string }{
			{"event_ids", e.ID}, {"event_types", string(e.Type)}, {"event_subjects", e.Subject},
			{"event_reasons", string(e.Reason)}, {"event_notes", e.Note}, {"event_subs", e.Actor.Sub},
			{"event_clients", e.Actor.Client}, {"event_request_ids", e.RequestID},
		} {
			texts[f.name] = append(texts[f.name], f.value)
		}
	}
	a["event_ats"], a["event_versions"] = ats, versions
	for _, name := range []string{"event_ids", "event_types", "event_subjects", "event_reasons", "event_notes",
		"event_subs", "event_clients", "event_request_ids"} {
		a[name] = texts[name]
	}
}
