package memstore

import (
	"context"
	"iter"
	"time"

	"github.com/google/btree"

	"sessiond.example/sessiond"
)

// List implements [sessiond.Store]. Live and ended records are two runs in the
// same order, which it merges.
func (s *Store) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.Page{}, err
	}
	defer s.mu.Unlock()
	subject := anySubject
	if q.Filter.Subject != "" {
		subject = q.Filter.Subject
	}
	start := place{q.Tenant, subject, q.Start()}
	found := after(s.live, start)
	if !q.Filter.LiveOnly() {
		found = merge(found, after(s.ended, start))
	}
	page := sessiond.Page{Now: now}
	scanned := 0
	var last sessiond.Cursor
	for p := range found {
		if q.Done(p.cursor) {
			break
		}
		if len(page.Records) == q.Limit || scanned == sessiond.MaxScan {
			page.Next = &last
			break
		}
		r := s.records[sessiond.Key{Tenant: q.Tenant, ID: p.cursor.ID}].At(now)
		if q.Filter.Match(r) {
			page.Records = append(page.Records, r)
		}
		last = p.cursor
		scanned++
	}
	return page, nil
}

// after are the places of start's subject that come after it.
func after(index *btree.BTreeG[place], start place) iter.Seq[place] {
	return func(yield func(place) bool) {
		index.AscendGreaterOrEqual(start, func(p place) bool {
			if p.tenant != start.tenant || p.subject != start.subject {
				return false
			}
			return !start.cursor.Before(p.cursor) || yield(p)
		})
	}
}

// merge makes one run of two.
func merge(a, b iter.Seq[place]) iter.Seq[place] {
	return func(yield func(place) bool) {
		next, stop := iter.Pull(b)
		defer stop()
		other, more := next()
		for p := range a {
			for ; more && other.cursor.Before(p.cursor); other, more = next() {
				if !yield(other) {
					return
				}
			}
			if !yield(p) {
				return
			}
		}
		for ; more && yield(other); other, more = next() {
		}
	}
}

// Scan implements [sessiond.Store].
func (s *Store) Scan(ctx context.Context, after sessiond.Key, limit int) ([]*sessiond.Record, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var records []*sessiond.Record
	s.order.AscendGreaterOrEqual(after, func(k sessiond.Key) bool {
		if len(records) == limit {
			return false
		}
		if k != after {
			records = append(records, s.records[k].At(now))
		}
		return true
	})
	return records, nil
}

// Sweep implements [sessiond.Store].
func (s *Store) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return sessiond.SweepResult{}, err
	}
	defer s.mu.Unlock()
	var res sessiond.SweepResult
	for _, d := range s.dueBy(false, now, p.Limit) {
		r := *s.records[d.key]
		r.Expire()
		s.put(s.records[d.key], &r)
		s.log.append(now, r.EndEvent(""))
		if r.EndReason == sessiond.EndIdle {
			res.Idle++
		} else {
			res.Absolute++
		}
	}
	for _, d := range s.dueBy(true, now.Add(-p.Retention), p.Limit) {
		s.put(s.records[d.key], nil)
		res.Removed++
	}
	res.Trimmed = s.log.trim(now.Add(-p.EventRetention), p.MaxEvents)

	const countTo = 10_000
	left := s.dueBy(false, now, countTo)
	if res.Backlog = len(left); res.Backlog > 0 {
		res.Lag = now.Sub(left[0].at)
	}
	res.More = res.Backlog > 0 || len(s.dueBy(true, now.Add(-p.Retention), 1)) > 0
	return res, nil
}

// dueBy are the first n places of the sweeper's index up to a time.
func (s *Store) dueBy(ended bool, until time.Time, n int) []dueAt {
	var found []dueAt
	s.due.AscendGreaterOrEqual(dueAt{ended: ended}, func(d dueAt) bool {
		if d.ended != ended || d.at.After(until) || len(found) == n {
			return false
		}
		found = append(found, d)
		return true
	})
	return found
}
