package pgstore

import (
	"context"
	"math"
	"time"

	"sessiond.example/sessiond"
)

// List implements [sessiond.Store]. The server looks at the records and sends those
// that match. Those whose end is not written down are looked at again, so that
// a page may take several stretches to fill.
func (s *Store) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Page{}, err
	}
	defer s.gate.RUnlock()
	l := &listing{s: s, q: &q, from: q.Start(), budget: sessiond.MaxScan}
	for more := true; more; {
		var err error
		if more, err = l.stretch(ctx); err != nil {
			return sessiond.Page{}, err
		}
	}
	return l.page, nil
}

// args are those of the statement for a stretch that brings up to most records.
func (l *listing) args(most int) (*args, error) {
	f := &l.q.Filter
	kind := listKind{subject: f.Subject != "", class: bothClasses}
	status := f.Status
	if f.LiveOnly() {
		kind.class = liveClass
		status = ""
	} else if status == sessiond.StatusRevoked {
		kind.class = endedClass
	}
	a := l.s.timed(listSQL[kind]).text("tenant", l.q.Tenant)
	if _, err := a.labels("labels", f.Labels); err != nil {
		return nil, err
	}
	a.text("status", string(status)).int("from_at", bound(f.CreatedAfter, math.MinInt64))
	a.int("expires_before", bound(f.ExpiresBefore, math.MaxInt64))
	a.time("before_at", l.from.CreatedAt).text("before_id", string(l.from.ID))
	a.int("budget", int64(l.budget)).int("most", int64(most))
	if kind.subject {
		a.text("subject", f.Subject)
	}
	return a, nil
}

// bound is the first millisecond that is not before t; none if t is zero.
func bound(t time.Time, none int64) int64 {
	if t.IsZero() {
		return none
	}
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// A listing is a page under way.
type listing struct {
	s      *Store
	q      *sessiond.Query
	from   sessiond.Cursor
	budget int // how many records may be looked at
	page   sessiond.Page
}

// A candidate is a record that a stretch has brought, the n-th that it looked at.
type candidate struct {
	rec   *sessiond.Record
	n     int
	match bool
}

// stretch goes on from l.from and reports whether the page still has room and there
// is something behind.
func (l *listing) stretch(ctx context.Context) (more bool, err error) {
	want := l.q.Limit - len(l.page.Records) + 1
	if !l.page.Now.IsZero() {
		want = max(want, 200) // the last stretch brought too little
	}
	found, err := l.fetch(ctx, want+2)
	if err != nil {
		return false, err
	}
	var edge *sessiond.Cursor // of the last record that may be looked at
	for _, c := range found {
		switch {
		case c.n > l.budget:
			l.page.Next = edge
			return false, nil
		case c.match && l.q.Filter.Match(c.rec):
			if len(l.page.Records) == l.q.Limit {
				last := l.page.Records[len(l.page.Records)-1].Cursor()
				l.page.Next = &last
				return false, nil
			}
			l.page.Records = append(l.page.Records, c.rec)
		}
		if c.n == l.budget {
			at := c.rec.Cursor()
			edge = &at
		}
	}
	if len(found) < want+2 {
		return false, nil
	}
	last := found[len(found)-1]
	l.from = last.rec.Cursor()
	if l.budget -= last.n; l.budget <= 0 {
		l.page.Next = &l.from
		return false, nil
	}
	return true, nil
}

// fetch runs the statement and brings the records up to date for the page's time.
func (l *listing) fetch(ctx context.Context, most int) ([]candidate, error) {
	a, err := l.args(most)
	if err != nil {
		return nil, err
	}
	var found []candidate
	var now int64
	err = l.s.read(ctx, a, func(r *row) error {
		now = r.int()
		c := candidate{n: int(r.int()), match: r.bool()}
		one, err := r.record()
		if c.rec = one.rec; c.rec != nil {
			found = append(found, c)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if at := l.s.at(now); l.page.Now.IsZero() {
		l.page.Now = at
	}
	return found, l.settle(ctx, found)
}

// settle looks again at records that are overdue, and makes all what they are at the page's time.
func (l *listing) settle(ctx context.Context, found []candidate) error {
	var keys []sessiond.Key
	for _, c := range found {
		if c.match && overdue(c.rec, l.page.Now) {
			keys = append(keys, c.rec.Key)
		}
	}
	again := make(map[sessiond.Key]stored)
	if len(keys) > 0 {
		var err error
		if again, _, err = l.s.relook(ctx, keys); err != nil {
			return err
		}
	}
	for i := range found {
		c := &found[i]
		if c.match && overdue(c.rec, l.page.Now) {
			fresh, ok := again[c.rec.Key]
			if !ok || fresh.rec.Incarnation != c.rec.Incarnation {
				c.match = false // removed meanwhile
			} else {
				c.rec = fresh.rec
			}
		}
		c.rec = c.rec.At(l.page.Now)
	}
	return nil
}

// Scan implements [sessiond.Store].
func (s *Store) Scan(ctx context.Context, after sessiond.Key, limit int) ([]*sessiond.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.gate.RUnlock()
	var records []*sessiond.Record
	for len(records) < limit {
		const most = 1000 // as the statement has it
		want := min(limit-len(records), most)
		part, err := s.scanPart(ctx, after, want)
		if err != nil {
			return nil, err
		}
		records = append(records, part.records...)
		if part.read < want {
			break
		}
		after = part.last
	}
	return records, nil
}

// A scanned is a part of a walk.
type scanned struct {
	records []*sessiond.Record
	read    int // how many there were; some may have gone at the second look
	last    sessiond.Key
}

func (s *Store) scanPart(ctx context.Context, after sessiond.Key, limit int) (scanned, error) {
	l := &listing{s: s}
	a := s.timed(scanSQL).key(after).int("most", int64(limit))
	var found []candidate
	var now int64
	err := s.read(ctx, a, func(r *row) error {
		now = r.int()
		one, err := r.record()
		if err == nil {
			found = append(found, candidate{rec: one.rec, match: true})
		}
		return err
	})
	if err != nil || len(found) == 0 {
		return scanned{}, err
	}
	part := scanned{read: len(found), last: found[len(found)-1].rec.Key}
	l.page.Now = s.at(now)
	if err := l.settle(ctx, found); err != nil {
		return scanned{}, err
	}
	for _, c := range found {
		if c.match {
			part.records = append(part.records, c.rec)
		}
	}
	return part, nil
}
