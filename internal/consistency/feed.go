package consistency

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// A told event is one of the feed, with the operation that asked for it.
type told struct {
	event sessiond.Event
	op    *Op // nil for expiries
}

// A feedCheck holds the laps of the readers to each other and to the history.
type feedCheck struct {
	h      *History
	r      *Report
	byID   map[string]*told // by Event.ID
	ops    map[string]*Op   // by request ID
	sound  bool
	places []map[string]int // of each lap: the places of events in it
}

// checkFeed judges the feed. If it is sound, it sets Op.Effect and returns the
// versions that each operation made, by request ID and session.
func checkFeed(h *History, r *Report) map[string]map[sessiond.ID]int64 {
	if len(h.Laps) == 0 {
		return nil // nobody read it
	}
	f := &feedCheck{h: h, r: r, byID: make(map[string]*told), ops: make(map[string]*Op), sound: true}
	for _, op := range h.Ops {
		f.ops[op.RequestID()] = op
	}
	for _, lap := range h.Laps {
		r.Laps++
		f.collect(lap)
	}
	r.Events = len(f.byID)
	incarnations := make(map[string]bool)
	for id := range f.byID {
		inc, _, _ := strings.Cut(id, ".")
		incarnations[inc] = true
	}
	r.Incarnations = len(incarnations)
	f.once()
	for _, t := range f.byID {
		f.fields(t)
	}
	for i, lap := range h.Laps {
		f.order(i, lap)
	}
	f.complete()
	f.views()
	if !f.sound {
		return nil
	}
	return f.effects()
}

func (f *feedCheck) violate(id sessiond.ID, format string, args ...any) {
	f.sound = false
	f.r.violate(Feed, id, format, args...)
}

// collect gathers the events of a lap. An event that comes again must be the same.
func (f *feedCheck) collect(lap *Lap) {
	if lap.Err != "" {
		f.violate("", "the %s reader broke off: %s", lap.Reader, lap.Err)
	}
	places := make(map[string]int, len(lap.Events))
	reset := slices.ContainsFunc(lap.Batches, func(b Batch) bool { return b.Reset })
	for _, b := range lap.Batches {
		if b.Reset {
			f.r.Resets++
		}
	}
	if reset {
		f.violate("", "the %s reader got a Reset, although its position was kept", lap.Reader)
	}
	for i, e := range lap.Events {
		if t, ok := f.byID[e.ID]; !ok {
			f.byID[e.ID] = &told{event: e, op: f.ops[e.RequestID]}
		} else if t.event != e {
			f.violate(e.SessionID, "had the event %+v, which came again as %+v", t.event, e)
		}
		if _, ok := places[e.ID]; ok && !reset {
			f.violate(e.SessionID, "had the event %s %s twice, and the %s reader had not resumed", e.Type, e.ID, lap.Reader)
		} else if !ok {
			places[e.ID] = i
		}
	}
	f.places = append(f.places, places)
}

// fields holds an event to the operation that it tells of.
func (f *feedCheck) fields(t *told) {
	e, op := t.event, t.op
	inc, version, ok := strings.Cut(e.ID, ".")
	if !ok || len(inc) != 16 || version != fmt.Sprint(e.Version) || e.Tenant != sessiond.DefaultTenant || !e.Type.Valid() {
		f.violate(e.SessionID, "had the event %+v, which is malformed", e)
		return
	}
	if op == nil {
		if e.RequestID != "" || e.Type != sessiond.EventExpired || !e.Reason.Expiry() || !e.Actor.IsZero() {
			f.violate(e.SessionID, "had the event %+v, which nobody asked for", e)
		}
		return
	}
	if op.Result != OK && op.Result != Unknown {
		f.violate(e.SessionID, "had the event %s of version %d for an operation that was answered as %s (%s)",
			e.Type, e.Version, op.Result, op)
		return
	}
	wrong := ""
	switch {
	case !fits(op.Kind, e.Type):
		wrong = "type"
	case op.Session != "" && op.Session != e.SessionID:
		wrong = "session"
	case op.Subject != e.Subject:
		wrong = "subject"
	case e.Actor != f.h.Actor:
		wrong = "actor"
	case e.Type == sessiond.EventRevoked && (string(e.Reason) != op.Reason || e.Note != op.RequestID()):
		wrong = "reason or note"
	}
	if v := op.View; v != nil && wrong == "" && op.Result == OK && op.Kind != TouchAt {
		switch {
		case v.Incarnation != inc:
			wrong = "incarnation"
		case v.Version != e.Version:
			wrong = "version"
		case v.Updated != e.Time.UnixMilli():
			wrong = "time"
		}
	}
	if wrong != "" {
		f.violate(e.SessionID, "had the event %+v, of which the %s is not that of the operation (%s)", e, wrong, op)
	}
}

func fits(k Kind, t sessiond.EventType) bool {
	switch k {
	case Create:
		return t == sessiond.EventCreated
	case Update, Patch:
		return t == sessiond.EventUpdated || t == sessiond.EventExpired
	case Rotate:
		return t == sessiond.EventRotated
	case Revoke, RevokeMatching:
		return t == sessiond.EventRevoked
	case Erase:
		return t == sessiond.EventRevoked || t == sessiond.EventErased
	}
	return false
}

// once finds operations that took effect more than once.
func (f *feedCheck) once() {
	type effect struct {
		op      *Op
		session sessiond.ID
		t       sessiond.EventType
	}
	versions := make(map[effect][]string)
	revoked := make(map[*Op]int)
	for _, t := range f.byID {
		if t.op == nil {
			continue
		}
		k := effect{t.op, t.event.SessionID, t.event.Type}
		versions[k] = append(versions[k], t.event.ID)
		if t.op.Kind == RevokeMatching {
			revoked[t.op]++
		}
	}
	for k, ids := range versions {
		// A bulk revoke may meet an ID again that was created anew meanwhile.
		if len(ids) > 1 && k.op.Kind != RevokeMatching {
			slices.Sort(ids)
			f.violate(k.session, "was changed %d times by one operation, as %s (%s)", len(ids), strings.Join(ids, ", "), k.op)
		}
	}
	for _, op := range f.h.Ops {
		if op.Kind == RevokeMatching && op.Result == OK && op.Count != revoked[op] {
			f.violate("", "bulk revoke %s counted %d sessions, but the feed tells of %d", op.RequestID(), op.Count, revoked[op])
		}
	}
}

// order checks that each lap has the events of every incarnation in order of
// version and without a gap.
func (f *feedCheck) order(number int, lap *Lap) {
	last := make(map[string]int64)
	reset := false
	if lap.Source >= 0 {
		for _, e := range f.h.Laps[lap.Source].Events[:lap.Skip] {
			inc, _, _ := strings.Cut(e.ID, ".")
			last[inc] = max(last[inc], e.Version)
		}
	}
	batch := 0
	first := make(map[string]bool)
	for i, e := range lap.Events {
		for ; batch < len(lap.Batches) && lap.Batches[batch].Events <= i; batch++ {
			continue
		}
		reset = reset || lap.Batches[batch].Reset
		inc, _, _ := strings.Cut(e.ID, ".")
		before, known := last[inc]
		switch {
		case e.Version == before+1:
		case !known && !lap.Beginning && lap.Source < 0:
			// It joined in the middle.
		case e.Version <= before && (reset || lap.Source >= 0 && !first[inc]):
			f.r.Again++
			continue
		case e.Version <= before:
			f.violate(e.SessionID, "had its event %s of version %d after that of version %d, for the %s reader",
				e.Type, e.Version, before, lap.Reader)
		default:
			f.violate(e.SessionID, "had no event between versions %d and %d for the %s reader (lap %d), which was told of %s next",
				before, e.Version, lap.Reader, number, e.Type)
		}
		if (e.Version == 1) != (e.Type == sessiond.EventCreated) {
			f.violate(e.SessionID, "had the event %s with version %d", e.Type, e.Version)
		}
		first[inc] = true
		last[inc] = max(before, e.Version)
	}
}

// A must is an event that readers have to be told of once an operation returned.
type must struct {
	id   string
	at   int64
	call int64 // of the operation that made it, as far as it is known
	op   *Op
}

// complete checks that every acknowledged change is told to every reader: by
// the first batch without events that is asked for after the acknowledgement.
func (f *feedCheck) complete() {
	musts := f.musts()
	for i, lap := range f.h.Laps {
		f.completeLap(i, lap, musts)
	}
	if !f.h.Laps[0].Final {
		f.violate("", "the first reader was never told of the last change of the run")
	}
}

// musts are the events of acknowledged changes, by the time of the acknowledgement.
func (f *feedCheck) musts() []must {
	made := make(map[*Op][]string) // an acknowledged operation's own events
	for id, t := range f.byID {
		if t.op != nil && t.op.Result == OK {
			made[t.op] = append(made[t.op], id)
		}
	}
	var all []must
	for _, op := range f.h.Ops {
		if op.Result != OK {
			continue
		}
		ids := made[op]
		if v := op.View; v != nil && v.Incarnation != "" {
			// Whoever made this version: what is shown has happened.
			if id := fmt.Sprintf("%s.%d", v.Incarnation, v.Version); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		for _, id := range ids {
			all = append(all, must{id: id, at: op.Return, op: op})
		}
	}
	slices.SortFunc(all, func(a, b must) int { return cmp.Compare(a.at, b.at) })
	seen := make(map[string]bool)
	all = slices.DeleteFunc(all, func(m must) bool {
		again := seen[m.id]
		seen[m.id] = true
		return again
	})
	for i := range all {
		if t := f.byID[all[i].id]; t != nil && t.op != nil {
			all[i].call = t.op.Call
		} else if t == nil {
			all[i].call = all[i].op.Call
		}
	}
	return all
}

func (f *feedCheck) completeLap(number int, lap *Lap, musts []must) {
	places := f.places[number]
	missing := 0
	for i, b := range lap.Batches[1:] {
		have := b.Events
		if b.Reset {
			return // from here on it may be told again of anything
		}
		if have > lap.Batches[i].Events {
			continue
		}
		for len(musts) > 0 && musts[0].at < b.Call {
			m := musts[0]
			musts = musts[1:]
			place, ok := places[m.id]
			if ok && place < have || f.before(lap, m) {
				continue
			}
			if missing++; missing <= 3 {
				f.violate(m.op.Session, "had its change %s acknowledged at %v, but at %v the %s reader (lap %d) "+
					"was told that nothing more had happened (%s)",
					m.id, time.Duration(m.at), time.Duration(b.Call), lap.Reader, number, m.op)
			}
		}
	}
}

// before reports whether a lap need not tell of m, because it began later.
func (f *feedCheck) before(lap *Lap, m must) bool {
	switch {
	case lap.Beginning:
		return false
	case lap.Source >= 0:
		place, ok := f.places[lap.Source][m.id]
		return ok && place < lap.Skip
	default:
		return m.call <= lap.Return
	}
}

// views holds every version that an answer showed to its event, and every end.
func (f *feedCheck) views() {
	for _, op := range f.h.Ops {
		v := op.View
		if v == nil || v.Incarnation == "" {
			continue
		}
		if t := f.byID[fmt.Sprintf("%s.%d", v.Incarnation, v.Version)]; t != nil && t.event.Time.UnixMilli() != v.Updated {
			f.violate(op.Session, "was shown as changed at %d, but the event of that version says %d (%s)",
				v.Updated, t.event.Time.UnixMilli(), op)
		}
	}
	first, batch := f.h.Laps[0], 0
	for i := range first.Events {
		for ; batch < len(first.Batches)-1 && first.Batches[batch].Events <= i; batch++ {
			continue
		}
		f.expiry(&first.Events[i], first.Batches[batch].Return)
	}
}

// expiry notes how late the end of a session was told.
func (f *feedCheck) expiry(e *sessiond.Event, told int64) {
	if e.Type != sessiond.EventExpired || e.RequestID != "" {
		return
	}
	late := time.Duration(told + f.h.clock.lo - e.Time.UnixNano())
	f.r.LastExpiry = max(f.r.LastExpiry, late.Round(time.Millisecond))
}

// effects lets the feed settle what operations did.
func (f *feedCheck) effects() map[string]map[sessiond.ID]int64 {
	made := make(map[string]map[sessiond.ID]int64)
	for _, t := range f.byID {
		if t.op == nil {
			continue
		}
		of := made[t.op.RequestID()]
		if of == nil {
			of = make(map[sessiond.ID]int64)
			made[t.op.RequestID()] = of
		}
		of[t.event.SessionID] = max(of[t.event.SessionID], t.event.Version)
	}
	for _, op := range f.h.Ops {
		if !op.writes() || op.Kind == RevokeMatching {
			continue
		}
		op.Effect = made[op.RequestID()][op.Session]
		if op.Result == Unknown && (op.Effect > 0 || op.Kind != Touch && op.Kind != TouchAt && op.Key == "") {
			f.r.Settled++
		}
	}
	return made
}
