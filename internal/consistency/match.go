package consistency

import "sessiond.example/sessiond"

// match holds what an answer shows to a state, and returns the state with what
// it has learned from the answer.
func (j *judge) match(s state, v *View) []state {
	if v == nil {
		return []state{s} // the answer shows nothing
	}
	shows := ended
	if v.Status == sessiond.StatusActive {
		shows = live
	}
	if s.phase != shows {
		return j.no("is shown as %s, but it was %s", v.Status, s.phase)
	}
	if v.Status != sessiond.StatusActive && v.Version == 0 { // over HTTP a problem tells only this much
		if !s.endedAt.has(v.EndedAt) || v.Reason != s.reason || v.By != s.by {
			return j.no("is shown as ended at %d with %q, but it had ended at %v with %q",
				v.EndedAt, v.Reason, s.endedAt, s.reason)
		}
		s.endedAt = exactly(v.EndedAt)
		return []state{s}
	}
	switch {
	case v.Incarnation != "" && s.inc != "" && v.Incarnation != s.inc:
		return j.no("is shown as incarnation %s, but it was %s", v.Incarnation, s.inc)
	case v.Version != s.version:
		return j.no("is shown with version %d, but its version was %d", v.Version, s.version)
	case v.HasData && v.Data != s.data:
		return j.no("is shown with data %v, but its data was %v", v.Data, s.data)
	case v.Label != s.label:
		return j.no("is shown with label %d, but its label was %d", v.Label, s.label)
	case v.Idle != s.idle:
		return j.no("is shown with idle timeout %d, but it was %d", v.Idle, s.idle)
	}
	if v.Incarnation != "" {
		s.inc = v.Incarnation
	}
	for _, t := range []struct {
		what  string
		shown int64
		was   *Span
	}{
		{"creation", v.Created, &s.created}, {"last change", v.Updated, &s.updated},
		{"last activity", v.Active, &s.active}, {"absolute deadline", v.Expires, &s.expires},
		{"end", v.EndedAt, &s.endedAt},
	} {
		if t.what == "end" && s.phase == live && t.shown == 0 {
			continue
		}
		if !t.was.has(t.shown) {
			return j.no("is shown with its %s at %d, but it was at %v", t.what, t.shown, *t.was)
		}
		*t.was = exactly(t.shown)
	}
	if s.phase == ended && (v.Reason != s.reason || v.Note != s.note || v.By != s.by) {
		return j.no("is shown as ended with %q (%s), but it had ended with %q (%s)", v.Reason, v.Note, s.reason, s.note)
	}
	return []state{s}
}
