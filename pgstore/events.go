package pgstore

import (
	"context"
	"crypto/sha256"
	"math"
	"strconv"
	"time"

	"sessiond.example/sessiond"
)

// Events implements [sessiond.Store].
func (s *Store) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	deadline := time.NewTimer(q.Wait)
	defer deadline.Stop()
	for wait := q.Wait > 0 && q.After != ""; ; {
		news, leave := s.feed.enter(q.Tenant, wait)
		batch, err := s.batch(ctx, &q)
		if err != nil || len(batch.Events) > 0 || batch.Reset || !wait {
			leave()
			return batch, err
		}
		q.After = batch.Position
		select {
		case <-news:
		case <-deadline.C:
			wait = false
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.closing:
			err = errClosed
		}
		leave()
		if err != nil {
			return sessiond.EventBatch{}, err
		}
	}
}

// batch is what there is after q.After now.
func (s *Store) batch(ctx context.Context, q *sessiond.EventQuery) (sessiond.EventBatch, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.EventBatch{}, err
	}
	defer s.gate.RUnlock()
	var batch sessiond.EventBatch
	from, valid := parsePlace(q.After)
	if !valid { // the statement is asked for what it says of the feed's state only
		from = place{seen: blank, open: true, until: blank, last: math.MaxInt64}
	}
	for {
		pg, err := s.page(ctx, q.Tenant, &from, q.Limit)
		if err != nil {
			return sessiond.EventBatch{}, err
		}
		switch {
		case q.After == "":
			end := place{epoch: pg.epoch, seen: pg.now()}
			return sessiond.EventBatch{Position: end.position()}, nil
		case !valid || from.epoch != pg.epoch || pg.lost(&from):
			// The feed's beginning: nothing was seen, and what was trimmed is not there.
			from = place{epoch: pg.epoch, seen: blank, open: true, until: pg.now(), last: pg.trimmed}
			valid, batch.Reset = true, true
			continue
		}
		from = pg.next
		batch.Events = append(batch.Events, pg.events...)
		if len(batch.Events) > 0 || !from.open {
			batch.Position = from.position()
			return batch, nil
		}
	}
}

// A page is what one statement tells of the feed.
type page struct {
	feedState
	trimmed int64 // number of the newest event that was trimmed
	// forgotten is the largest id of a transaction of which it is no longer known whether its
	// events were trimmed.
	forgotten uint64
	// Events were trimmed of transactions that were running in the place's snapshots.
	missedSeen, missedUntil bool
	events                  []sessiond.Event
	next                    place
}

// A feedState is what all statements on the feed tell.
type feedState struct {
	epoch       [8]byte
	current     snapshot // of the statement
	newest      uint64   // largest transaction id of an event, 0 if there is none
	trimmedTxid uint64   // largest transaction id of a trimmed event
}

// now is the end of the feed.
func (f *feedState) now() snapshot { return f.current.upTo(max(f.newest, f.trimmedTxid)) }

// feedState takes the epoch, the snapshot, and the two transaction ids.
func (r *row) feedState(f *feedState) (err error) {
	sum := sha256.Sum256(r.next())
	copy(f.epoch[:], sum[:])
	if f.current, err = parseSnapshot(r.text()); err != nil {
		return err
	}
	if f.newest, err = strconv.ParseUint(r.text(), 10, 64); err != nil {
		return err
	}
	f.trimmedTxid, err = strconv.ParseUint(r.text(), 10, 64)
	return err
}

// lost reports whether events were trimmed that a reader at p has not been given, or p is from a
// future that the database was put back from.
func (pg *page) lost(p *place) bool {
	if p.seen.xmax > pg.current.xmax || p.open && p.until.xmax > pg.current.xmax {
		return true
	}
	if p.open {
		return pg.trimmedUnseen(p.until, pg.missedUntil) || p.last < pg.trimmed && pg.trimmedUnseen(p.seen, pg.missedSeen)
	}
	return pg.trimmedUnseen(p.seen, pg.missedSeen)
}

// trimmedUnseen reports whether s lacks an event that was trimmed. missed tells it of the
// transactions that s has as running; of those that are forgotten the
// worst is assumed, unless they still run.
func (pg *page) trimmedUnseen(s snapshot, missed bool) bool {
	if missed || pg.trimmedTxid >= s.xmax {
		return true
	}
	for _, id := range s.running {
		if id <= pg.forgotten && pg.current.sees(id) {
			return true
		}
	}
	return false
}

// page reads up to limit events of a tenant from a place on.
func (s *Store) page(ctx context.Context, tenant string, from *place, limit int) (page, error) {
	var pg page
	a := eventsSQL.args().text("tenant", tenant).text("seen", from.seen.String())
	a.texts("running", len(from.seen.running), from.seen.id).text("xmax", from.seen.xmaxText())
	if from.open {
		a.text("until", from.until.String()).texts("until_running", len(from.until.running), from.until.id)
		a.int("after", from.last)
	} else {
		a.null("until").texts("until_running", 0, nil).null("after")
	}
	a.int("most", int64(limit)+2)
	full := false // there is more in the stretch
	var last int64
	err := s.read(ctx, a, func(r *row) error {
		e, ord, n, err := pg.scan(r)
		switch {
		case err != nil || n == 0 || full:
		case e.Tenant == tenant && len(pg.events) == limit:
			full = true
		default:
			last = ord
			if e.Tenant == tenant {
				pg.events = append(pg.events, e)
			}
			full = n == pageLooksAt
		}
		return err
	})
	if err != nil {
		return page{}, err
	}
	until := pg.now()
	if from.open {
		until = from.until
	}
	pg.next = place{epoch: pg.epoch, seen: until}
	if full {
		pg.next = place{epoch: pg.epoch, seen: from.seen, open: true, until: until, last: last}
	}
	return pg, nil
}

// pageLooksAt is the largest number of events that the statement looks at.
const pageLooksAt = 2000

// scan reads one row: the feed's state, and an event if n is not 0.
func (pg *page) scan(r *row) (e sessiond.Event, ord int64, n int, err error) {
	if err := r.feedState(&pg.feedState); err != nil {
		return e, 0, 0, err
	}
	pg.trimmed = r.int()
	if pg.forgotten, err = strconv.ParseUint(r.text(), 10, 64); err != nil {
		return e, 0, 0, err
	}
	pg.missedSeen, pg.missedUntil = r.bool(), r.bool()
	n, ord = int(r.int()), r.int()
	e.Tenant, e.SessionID, e.ID = r.text(), sessiond.ID(r.text()), r.text()
	e.Type, e.Time, e.Subject, e.Version = sessiond.EventType(r.text()), r.time(), r.text(), r.int()
	e.Reason, e.Note = sessiond.EndReason(r.text()), r.text()
	e.Actor.Sub, e.Actor.Client, e.RequestID = r.text(), r.text(), r.text()
	return e, ord, n, r.end()
}
