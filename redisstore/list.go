package redisstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// List implements [sessiond.Store]. Places are read first, of all partitions in one go,
// then the records of those that the page looks at. Now is the latest time of a partition.
func (s *Store) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Page{}, err
	}
	defer s.end()
	b := pageBuilder{s: s, q: q}
	var err error
	if q.Filter.Subject != "" {
		err = b.bySubject(ctx)
	} else {
		err = b.byTenant(ctx)
	}
	if err == nil && b.page.Now.IsZero() {
		b.page.Now, err = s.now(ctx)
	}
	if err != nil {
		return sessiond.Page{}, err
	}
	return b.page, nil
}

// now is the time of one partition, for pages in which there is no record to have one.
func (s *Store) now(ctx context.Context) (time.Time, error) {
	v, err := s.readOnce(ctx, s.layout.sessions[0].clock)
	if err != nil {
		return time.Time{}, err
	}
	return v.now, nil
}

// A pageBuilder puts a page together.
type pageBuilder struct {
	s       *Store
	q       sessiond.Query
	page    sessiond.Page
	scanned int
	last    sessiond.Cursor // the last one looked at
}

// bounds are the places between which the page lies, as ZRANGE with BYLEX and REV has them.
func (b *pageBuilder) bounds() (from, to string) {
	start := b.q.Start()
	from, to = "("+place(start), "-"
	if after := b.q.Filter.CreatedAfter; !after.IsZero() {
		ms := after.UnixMilli()
		if fromMS(ms).Before(after) {
			ms++
		}
		if ms >= 0 {
			to = "[" + placeTime(ms)
		}
	}
	return from, to
}

// chunk is how many records to look at next: about as many as the page lacks, more when
// the filter has let few of them through, and at most as many as a page may look at. With
// one more than that, it would know whether there is a next page.
func (b *pageBuilder) chunk() int {
	lacking := b.q.Limit - len(b.page.Records) + 1
	if b.scanned > 0 {
		lacking = max(lacking, 128)
	}
	return min(lacking, sessiond.MaxScan-b.scanned+1)
}

func (b *pageBuilder) byTenant(ctx context.Context) error {
	from, to := b.bounds()
	places := b.s.lists(b.q.Tenant, from, to, b.q.Filter.LiveOnly())
	for {
		n := b.chunk()
		names, err := places.next(ctx, n)
		if err != nil {
			return err
		}
		cursors := make([]sessiond.Cursor, len(names))
		keys := make([]sessiond.Key, len(names))
		for i, name := range names {
			if cursors[i], err = parsePlace(name); err != nil {
				return unavailable(err)
			}
			keys[i] = sessiond.Key{Tenant: b.q.Tenant, ID: cursors[i].ID}
		}
		records, err := b.s.fetch(ctx, keys)
		if err != nil {
			return err
		}
		for i := range records {
			if b.full() {
				return nil
			}
			b.look(cursors[i], &records[i])
		}
		if len(names) < n {
			return nil
		}
	}
}

// full reports whether the page is complete, and then sets its Next. It is asked when there
// is another record.
func (b *pageBuilder) full() bool {
	if len(b.page.Records) < b.q.Limit && b.scanned < sessiond.MaxScan {
		return false
	}
	next := b.last
	b.page.Next = &next
	return true
}

// look adds the record at c to the page if the filter lets it through. It may have gone, or
// be a later one of the same ID.
func (b *pageBuilder) look(c sessiond.Cursor, f *fetched) {
	b.scanned++
	b.last = c
	if f.now.After(b.page.Now) {
		b.page.Now = f.now
	}
	if f.rec == nil || f.rec.Cursor() != c {
		return
	}
	if r := f.rec.At(f.now); b.q.Filter.Match(r) {
		b.page.Records = append(b.page.Records, r)
	}
}

// bySubject reads the index of the subject. Pending entries are taken in where their
// records belong.
func (b *pageBuilder) bySubject(ctx context.Context) error {
	start := b.q.Start()
	from, to := b.bounds()
	var pending []verified
	for first := true; ; first = false {
		n := b.chunk()
		index, err := b.s.readIndex(ctx, b.q.Tenant, b.q.Filter.Subject, from, to, n)
		if err != nil {
			return err
		}
		entries, ended := mergeSpots(index.live, index.ended, n, b.q.Filter.LiveOnly())
		if !first {
			index.pending = nil
		}
		found, fixes, err := b.s.verify(ctx, b.q.Filter.Subject, index.now, slices.Concat(index.pending, entries))
		if err != nil {
			return err
		}
		b.s.repair(b.q.Tenant, b.q.Filter.Subject, fixes...)
		for _, v := range found[:len(index.pending)] {
			if v.rec != nil && start.Before(v.rec.Cursor()) && !b.q.Done(v.rec.Cursor()) {
				v.cursor = v.rec.Cursor()
				pending = append(pending, v)
			}
		}
		found = found[len(index.pending):]
		all := found
		pending = within(&all, pending, ended)
		if b.addAll(all) || ended {
			return nil
		}
		from = "(" + entries[len(entries)-1].name
	}
}

// addAll looks at entries in order and reports whether the page is complete.
func (b *pageBuilder) addAll(found []verified) bool {
	for i := range found {
		if found[i].rec == nil {
			continue // nothing to show or to count
		}
		if b.full() {
			return true
		}
		b.look(found[i].cursor, &found[i].fetched)
	}
	return false
}

// within moves the pending ones that come before the end of *found into it, or all of them
// when nothing follows, and returns the others. An entry may be there as both.
func within(found *[]verified, pending []verified, ended bool) (later []verified) {
	var last sessiond.Cursor
	if n := len(*found); n > 0 {
		last = (*found)[n-1].cursor
	}
	all := *found
	for _, v := range pending {
		if ended || v.cursor.Before(last) || v.cursor == last {
			all = append(all, v)
		} else {
			later = append(later, v)
		}
	}
	slices.SortStableFunc(all, func(a, b verified) int { return compareCursors(a.cursor, b.cursor) })
	*found = slices.CompactFunc(all, func(a, b verified) bool {
		return a.rec != nil && b.rec != nil && a.key == b.key && a.inc == b.inc
	})
	return later
}

func compareCursors(a, b sessiond.Cursor) int {
	switch {
	case a.Before(b):
		return -1
	case b.Before(a):
		return 1
	}
	return 0
}

// mergeSpots merges live and ended entries, of each of which there are up to limit. It
// returns as many as are certainly next to each other, and whether these are all.
func mergeSpots(live, ended []entry, limit int, liveOnly bool) (entries []entry, all bool) {
	if liveOnly {
		ended = nil
	}
	all = len(live) < limit && len(ended) < limit
	entries = slices.Concat(live, ended)
	slices.SortStableFunc(entries, func(a, b entry) int { return -strings.Compare(a.name, b.name) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name })
	if !all && len(entries) > limit {
		entries = entries[:limit]
	}
	return entries, all
}

// Scan implements [sessiond.Store].
func (s *Store) Scan(ctx context.Context, after sessiond.Key, limit int) ([]*sessiond.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	members := s.members(after)
	var records []*sessiond.Record
	for len(records) < limit {
		n := limit - len(records)
		names, err := members.next(ctx, n)
		if err != nil {
			return nil, err
		}
		keys := make([]sessiond.Key, len(names))
		for i, name := range names {
			if keys[i], err = parseMember(name); err != nil {
				return nil, unavailable(err)
			}
		}
		found, err := s.fetch(ctx, keys)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if f.rec != nil {
				records = append(records, f.rec.At(f.now))
			}
		}
		if len(names) < n {
			break
		}
	}
	return records, nil
}
