package redisstore

import (
	"context"
	"strconv"

	"sessiond.example/sessiond"
)

// The index of a subject is in a slot of its own, so no script can change it together with
// a record. An entry is made before the record is added to the subject, as a pending one
// with the server's time as its stamp. Afterwards it becomes a spot among the live ones, and
// when the session has ended, among the ended ones. What is left undone by a crash, readers
// do: they compare entries with records. So no live session is without an entry, and no
// entry shows a session that is not there.

// pruneAfter is how old a pending entry must be, in milliseconds, before a reader removes
// it because there is no such record. From half of it on no record is created under it.
const pruneAfter = 60_000

// A fix is one action of the script settle.
type fix [3]string

func settleLive(r *sessiond.Record) fix {
	return fix{"live", pendingEntry(r.Incarnation, r.ID), spot(r)}
}
func settleEnded(r *sessiond.Record) fix {
	return fix{"ended", pendingEntry(r.Incarnation, r.ID), spot(r)}
}
func moveEnded(r *sessiond.Record) fix { return fix{"end", spot(r), ""} }
func drop(r *sessiond.Record) fix      { return fix{"drop", spot(r), ""} }
func release(r *sessiond.Record) fix   { return fix{"release", pendingEntry(r.Incarnation, r.ID), ""} }

func (s *Store) settleCall(tenant, subject string, fixes []fix) call {
	args := make([]string, 0, 3*len(fixes))
	for _, f := range fixes {
		args = append(args, f[:]...)
	}
	return call{settleScript, s.layout.subject(tenant, subject).all(), args}
}

// repair has the fixes made, sooner or later or by the next reader.
func (s *Store) repair(tenant, subject string, fixes ...fix) {
	if len(fixes) == 0 {
		return
	}
	s.afterwards(func(ctx context.Context) { s.fix(ctx, tenant, subject, fixes) })
}

// fix makes the fixes. A failure is of no consequence: what is not fixed, readers see.
func (s *Store) fix(ctx context.Context, tenant, subject string, fixes []fix) {
	const batch = 500
	for len(fixes) > 0 {
		n := min(batch, len(fixes))
		if s.writeAll(ctx, []call{s.settleCall(tenant, subject, fixes[:n])})[0].err != nil {
			return
		}
		fixes = fixes[n:]
	}
}

// An entry is one of a subject's index: the record that it names, or would name.
type entry struct {
	key    sessiond.Key
	inc    sessiond.Incarnation
	name   string // of the pending entry, or the spot
	stamp  string // of a pending entry, else empty
	ended  bool   // among the ended ones
	cursor sessiond.Cursor
}

// An indexPage is part of a subject's index.
type indexPage struct {
	now     int64 // the server's time in milliseconds
	pending []entry
	live    []entry // newest first
	ended   []entry // newest first
}

// readIndex reads all pending entries and up to limit of the others from a place on.
func (s *Store) readIndex(ctx context.Context, tenant, subject, from, to string, limit int) (indexPage, error) {
	var page indexPage
	answer, err := s.read(ctx, &call{
		indexScript, s.layout.subject(tenant, subject).all(), []string{from, to, strconv.Itoa(limit)},
	})
	if err != nil {
		return page, err
	}
	a, err := answer.ToArray()
	if err != nil || len(a) != 4 {
		return page, unavailable(corrupt("answer of a script"))
	}
	if page.now, err = a[0].AsInt64(); err != nil {
		return page, unavailable(corrupt("answer of a script"))
	}
	pending, err := a[1].AsStrSlice()
	if err == nil {
		page.pending, err = parsePendings(tenant, pending)
	}
	for i, into := range []*[]entry{&page.live, &page.ended} {
		var spots []string
		if err == nil {
			spots, err = a[2+i].AsStrSlice()
		}
		if err == nil {
			*into, err = parseSpots(tenant, spots, i == 1)
		}
	}
	if err != nil {
		return page, unavailable(err)
	}
	return page, nil
}

func parsePendings(tenant string, pairs []string) (entries []entry, err error) {
	for i := 0; i+1 < len(pairs); i += 2 {
		e := entry{name: pairs[i], stamp: pairs[i+1]}
		e.key.Tenant = tenant
		if e.inc, e.key.ID, err = parsePending(e.name); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseSpots(tenant string, spots []string, ended bool) (entries []entry, err error) {
	for _, s := range spots {
		e := entry{name: s, ended: ended}
		if e.cursor, e.inc, err = parseSpot(s); err != nil {
			return nil, err
		}
		e.key = sessiond.Key{Tenant: tenant, ID: e.cursor.ID}
		entries = append(entries, e)
	}
	return entries, nil
}

// A verified is an entry with its record; without one nothing came of it, or nothing yet.
type verified struct {
	entry
	fetched
	young bool // pending, and something may still come of it
}

// verify compares entries with the records that they name, and returns what is to fix.
func (s *Store) verify(ctx context.Context, subject string, now int64, entries []entry) ([]verified, []fix, error) {
	keys := make([]sessiond.Key, len(entries))
	for i := range entries {
		keys[i] = entries[i].key
	}
	records, err := s.fetch(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	var fixes []fix
	found := make([]verified, len(entries))
	for i, e := range entries {
		v := verified{entry: e, fetched: records[i]}
		if r := v.rec; r == nil || r.Incarnation != e.inc || r.Subject != subject {
			v.rec = nil
		}
		fixes = v.judge(now, fixes)
		found[i] = v
	}
	return found, fixes, nil
}

// judge adds what is to fix about the entry.
func (v *verified) judge(now int64, fixes []fix) []fix {
	over := v.rec != nil && !v.rec.EndedAt.IsZero()
	switch {
	case v.stamp != "" && v.rec == nil:
		stamp, err := strconv.ParseInt(v.stamp, 10, 64)
		v.young = err == nil && now-stamp <= pruneAfter
		if !v.young {
			return append(fixes, fix{"prune", v.name, v.stamp})
		}
	case v.stamp != "" && over:
		return append(fixes, settleEnded(v.rec))
	case v.stamp != "":
		return append(fixes, settleLive(v.rec))
	case v.rec == nil:
		return append(fixes, fix{"drop", v.name, ""})
	case over && !v.ended:
		return append(fixes, moveEnded(v.rec))
	}
	return fixes
}
