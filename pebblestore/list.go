package pebblestore

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"sessiond.example/sessiond"
)

// List implements [sessiond.Store]. It reads one snapshot.
func (s *Store) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Page{}, err
	}
	defer s.gate.RUnlock()
	snap := s.db.NewSnapshot()
	page := sessiond.Page{Now: s.now()}
	last := s.last.Load() // everything in the snapshot is in it or before it
	err := s.page(ctx, snap, &q, &page)
	if err = errors.Join(err, snap.Close()); err != nil {
		return sessiond.Page{}, err
	}
	if err := last.wait(); err != nil {
		return sessiond.Page{}, err
	}
	return page, nil
}

func (s *Store) page(ctx context.Context, snap *pebble.Snapshot, q *sessiond.Query, page *sessiond.Page) error {
	var m merged
	err := m.add(snap, q, classLive)
	if err == nil && !q.Filter.LiveOnly() {
		err = m.add(snap, q, classEnded)
	}
	if err == nil {
		err = s.fill(ctx, snap, &m, q, page)
	}
	if err = errors.Join(err, m.close()); err != nil && ctx.Err() == nil {
		return unavailable(err)
	}
	return err
}

func (s *Store) fill(
	ctx context.Context, snap *pebble.Snapshot, m *merged, q *sessiond.Query, page *sessiond.Page,
) error {
	var last sessiond.Cursor
	for i := 0; ; i++ {
		c, ok, err := m.next()
		if err != nil || !ok || q.Done(c) {
			return err
		}
		if len(page.Records) == q.Limit || i == sessiond.MaxScan {
			page.Next = &last
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		last = c
		r, err := s.listed(snap, sessiond.Key{Tenant: q.Tenant, ID: c.ID}, page)
		if err != nil {
			return err
		}
		if r != nil && q.Filter.Match(r) {
			page.Records = append(page.Records, r)
		}
	}
}

// listed reads a record of the snapshot as it stands at the time of the page.
func (s *Store) listed(snap *pebble.Snapshot, k sessiond.Key, page *sessiond.Page) (*sessiond.Record, error) {
	st, err := readState(snap, k)
	if err != nil {
		return nil, err
	}
	if st.rec == nil {
		return nil, corrupt("list index has an entry without record")
	}
	if !st.rec.EndedAt.IsZero() || st.rec.Live(page.Now) {
		return st.rec, nil
	}
	// A touch that came in time may not have made it into the snapshot.
	r, now, err := s.read(s.hash(k), k)
	if err != nil || r == nil {
		return nil, err
	}
	return r.At(now), nil
}

// merged joins runs of list indexes.
type merged struct {
	runs  [2]run
	count int
}

// A run is one of them, at its next place.
type run struct {
	it     *pebble.Iterator
	prefix int
	place  sessiond.Cursor
	ok     bool
}

// add opens the run of a class after the start of q.
func (m *merged) add(snap *pebble.Snapshot, q *sessiond.Query, class byte) error {
	prefix := appendRun(nil, q.Tenant, q.Filter.Subject, class)
	start := q.Start()
	it, err := snap.NewIter(&pebble.IterOptions{
		LowerBound: appendPlace(prefix[:len(prefix):len(prefix)], start), UpperBound: after(prefix),
	})
	if err != nil {
		return err
	}
	r := &m.runs[m.count]
	m.count++
	*r = run{it: it, prefix: len(prefix)}
	if err := r.move(it.First()); err != nil {
		return err
	}
	if r.ok && r.place == start {
		return r.move(it.Next())
	}
	return nil
}

func (r *run) move(ok bool) (err error) {
	if r.ok = ok; !ok {
		return r.it.Error()
	}
	r.place, err = parsePlace(r.it.Key()[r.prefix:])
	return err
}

// next takes the first place of all runs.
func (m *merged) next() (c sessiond.Cursor, ok bool, err error) {
	var first *run
	for i := range m.count {
		if r := &m.runs[i]; r.ok && (first == nil || r.place.Before(first.place)) {
			first = r
		}
	}
	if first == nil {
		return c, false, nil
	}
	c = first.place
	return c, true, first.move(first.it.Next())
}

func (m *merged) close() error {
	var err error
	for i := range m.count {
		err = errors.Join(err, m.runs[i].it.Close())
	}
	return err
}
