package consistency

import (
	"fmt"
	"strings"

	"sessiond.example/sessiond"
)

type phase uint8

const (
	absent phase = iota
	live
	ended
)

func (p phase) String() string { return [...]string{"absent", "live", "ended"}[p] }

// A state is one that a session may be in. It is comparable, so that equal
// states can be told.
type state struct {
	phase   phase
	version int64
	// inc is the incarnation; empty when nobody has been told it, because the
	// outcome of the create is unknown.
	inc   string
	since int64 // the return of the create that made it, Open if it is unknown
	key   string

	data  [slots]int64
	label int64

	token, prev string // names of the tokens; prev is accepted until prevUntil
	prevUntil   Span

	created, updated, active, expires Span
	idle                              int64

	endedAt      Span
	reason, note string
	by           bool
}

func (s *state) deadline() Span {
	if s.idle == 0 {
		return s.expires
	}
	return s.expires.earlier(s.active.plus(s.idle))
}

func (s *state) String() string {
	switch s.phase {
	case absent:
		return "absent"
	case live:
		return fmt.Sprintf("live %s.%d data %v label %d token %s (before: %s until %v) created %v updated %v active %v "+
			"expires %v idle %d", s.inc, s.version, s.data, s.label, s.token, s.prev, s.prevUntil,
			s.created, s.updated, s.active, s.expires, s.idle)
	default:
		return fmt.Sprintf("ended %s.%d (%s) at %v", s.inc, s.version, s.reason, s.endedAt)
	}
}

// A judge says which states a session can be in after an answer.
type judge struct {
	retention, overlap, maxLife int64
	// why collects the reasons of refusals, when it is wanted.
	why *[]string
}

// no refuses an answer.
func (j *judge) no(format string, args ...any) []state {
	if j.why != nil {
		*j.why = append(*j.why, fmt.Sprintf(format, args...))
	}
	return nil
}

// step is what can become of a session in state s when op takes effect. Nothing
// means that op can't have been answered like that.
func (j *judge) step(s state, op *Op) []state {
	var next []state
	for _, e := range j.expand(s, op.now) {
		if e.phase == live && op.now.Lo >= e.deadline().Hi {
			// Its deadline has passed for certain: only what expand made of it counts.
			if j.why != nil && op.View != nil && op.View.Status == sessiond.StatusActive {
				j.no("is answered as active at %v, but its deadline %v had passed", op.now, e.deadline())
			}
			continue
		}
		next = append(next, j.apply(e, op)...)
	}
	return next
}

// expand adds to s what time alone may have made of it by now.
func (j *judge) expand(s state, now Span) []state {
	all := []state{s}
	if s.phase == live {
		d := s.deadline()
		if now.Hi < d.Lo {
			return all
		}
		expired := s
		expired.end(Span{d.Lo, min(d.Hi, now.Hi)}, "", "", false)
		if s.idle == 0 || s.expires.Lo <= s.active.Hi+s.idle {
			e := expired
			e.reason = string(sessiond.EndAbsolute)
			all = append(all, e)
		}
		if s.idle != 0 && s.active.Lo+s.idle < s.expires.Hi {
			e := expired
			e.reason = string(sessiond.EndIdle)
			all = append(all, e)
		}
	}
	for _, e := range all {
		if e.phase == ended && now.Hi >= later(e.endedAt.Lo, j.retention) {
			all = append(all, state{})
			break
		}
	}
	return all
}

// end ends s as [sessiond.Record.End] does.
func (s *state) end(at Span, reason sessiond.EndReason, note string, by bool) {
	s.phase, s.endedAt, s.updated = ended, at, at
	s.reason, s.note, s.by = string(reason), note, by
	s.version++
	s.data = [slots]int64{}
	s.prev, s.prevUntil = "", Span{}
	s.key = ""
}

// apply judges op on s, in which it takes effect.
func (j *judge) apply(s state, op *Op) []state {
	if op.Result == Unknown {
		return j.unknown(s, op)
	}
	switch op.Kind {
	case Create:
		return j.create(s, op)
	case Verify:
		return j.verify(s, op)
	case Unlisted:
		if s.phase == live {
			return j.no("is missing from a list although it was live")
		}
		return []state{s}
	case Matched:
		return j.matched(s, op)
	}
	switch op.Result {
	case NotFound:
		if s.phase == absent || op.Kind == TouchAt && s.inc != op.Incarnation {
			return []state{s}
		}
		return j.no("is not found, but it was %s", s.phase)
	case Ended:
		if s.phase == ended {
			return j.match(s, op.View)
		}
		return j.no("is answered as ended, but it was %s%s", s.phase, j.notYet(&s, op))
	case OK:
		return j.succeed(s, op)
	case Mismatch:
		if s.phase != live {
			return j.no("does not match, but it was %s", s.phase)
		}
		if j.matches(&s, op) != yes {
			return []state{s}
		}
		return j.no("is refused, but its version was %d as asked for", s.version)
	case BadToken:
		if s.phase != absent && op.Token != s.token {
			return []state{s}
		}
		return j.no("refuses the token of a session that was %s with token %s", s.phase, s.token)
	}
	return j.no("is answered with an error that it may not return")
}

// notYet says of a live session how far its deadline was.
func (j *judge) notYet(s *state, op *Op) string {
	if s.phase != live {
		return ""
	}
	return fmt.Sprintf(" until its deadline %v, and it was %v", s.deadline(), op.now)
}

type maybe uint8

const (
	no maybe = iota
	yes
	perhaps
)

// matches says whether the condition of op holds.
func (j *judge) matches(s *state, op *Op) maybe {
	switch {
	case op.IfMatch == "":
		return yes
	case s.inc == "" && strings.HasSuffix(string(op.IfMatch), fmt.Sprintf(`.%d"`, s.version)):
		return perhaps
	case op.IfMatch == sessiond.ETag(fmt.Sprintf(`"%s.%d"`, s.inc, s.version)):
		return yes
	}
	return no
}

// succeed judges a success.
func (j *judge) succeed(s state, op *Op) []state {
	switch {
	case op.Kind == Erase:
		return j.erase(s, op)
	case op.Kind == Revoke && s.phase == ended:
		if op.Effect > 0 && op.Effect != s.version {
			return j.no("changed nothing, but the feed tells of a change that made version %d", op.Effect)
		}
		return []state{s}
	case s.phase == absent:
		return j.no("succeeds, but it was absent")
	case s.phase == ended:
		return j.no("is answered as live although it had ended (%s)", s.reason)
	}
	if j.matches(&s, op) == no {
		return j.no("succeeds, but its version was %d and not as asked for", s.version)
	}
	switch op.Kind {
	case Get, Listed:
		return j.match(s, op.View)
	case Touch:
		s.active = s.active.later(op.now)
		return j.match(s, op.View)
	case TouchAt:
		if s.inc != "" && s.inc != op.Incarnation {
			return j.no("touches incarnation %s, but it was %s", op.Incarnation, s.inc)
		}
		s.active = s.active.later(Span{min(op.At, op.now.Lo), min(op.At, op.now.Hi)})
		return j.match(s, op.View)
	case Rotate:
		return j.rotate(s, op)
	case Revoke:
		return j.revoke(s, op)
	case Update, Patch:
		return j.update(s, op)
	}
	return j.no("is an operation that the model does not know")
}

// told holds the version that a change made to what the feed says of it.
func (j *judge) told(op *Op, version int64) bool {
	if op.Effect == -1 || op.Effect == version {
		return true
	}
	if op.Effect == 0 {
		j.no("is acknowledged as version %d, but the feed never told of it", version)
	} else {
		j.no("makes version %d, but the feed says that it made version %d", version, op.Effect)
	}
	return false
}

func (j *judge) create(s state, op *Op) []state {
	switch {
	case op.Result == Exists:
		if s.phase == absent {
			return j.no("is refused as existing, but it was absent")
		}
		return []state{s}
	case op.Result != OK:
		return j.no("is answered with an error that it may not return")
	case s.phase == absent:
		if op.Effect != -1 && op.Effect != 1 {
			return j.no("is acknowledged, but the feed never told of it")
		}
		return j.match(j.born(op, op.now), op.View)
	case s.phase == live && op.Key != "" && s.key == op.Key && s.version == 1:
		s.token = op.Gave
		return j.match(s, op.View)
	case s.phase == ended:
		return j.no("is created over a session that had ended (%s) and was retained", s.reason)
	}
	return j.no("is created twice: version %d was live", s.version)
}

// born is the session that op creates at a time.
func (j *judge) born(op *Op, at Span) state {
	return state{
		phase: live, version: 1, since: op.Return, key: op.Key,
		data: [slots]int64{op.Value, op.Value, op.Value}, label: op.Label, token: op.Gave,
		created: at, updated: at, active: at, expires: at.plus(op.ExpiresIn), idle: op.IdleTimeout,
	}
}

// lost names the token that a write gave out without anyone being told.
func (o *Op) lost() string { return "lost by " + o.RequestID() }

func (j *judge) rotate(s state, op *Op) []state {
	if op.Token != "" && op.Token != s.token {
		return j.no("accepts token %s, but the token was %s", op.Token, s.token)
	}
	s.version++
	if !j.told(op, s.version) {
		return nil
	}
	s.prev, s.prevUntil = s.token, op.now.plus(j.overlap)
	s.token = op.Gave
	if op.Result == Unknown {
		s.token = op.lost()
	}
	s.updated = op.now
	return j.match(s, op.View)
}

func (j *judge) revoke(s state, op *Op) []state {
	s.end(op.now, sessiond.EndReason(op.Reason), op.RequestID(), true)
	if !j.told(op, s.version) {
		return nil
	}
	return []state{s}
}

func (j *judge) erase(s state, op *Op) []state {
	if s.phase == absent {
		return j.no("succeeds, but it was absent")
	}
	if s.phase == live && j.matches(&s, op) == no {
		return j.no("succeeds, but its version was %d and not as asked for", s.version)
	}
	version := s.version + 1
	if s.phase == live {
		version++ // of the end before
	}
	if !j.told(op, version) {
		return nil
	}
	return []state{{}}
}

// matched judges what RevokeMatching did to one session of its subject.
func (j *judge) matched(s state, op *Op) []state {
	if s.phase != live {
		return []state{s}
	}
	var next []state
	if op.Effect != 0 {
		next = j.revoke(s, op)
	}
	if op.Result == OK && s.since < op.Call {
		if op.Effect == 0 {
			return j.no("was live and of the subject, but its bulk revoke passed it over")
		}
		return next
	}
	if op.Effect <= 0 {
		next = append(next, s)
	}
	return next
}

func (j *judge) update(s state, op *Op) []state {
	changed, may := j.changed(s, op)
	v := op.View
	if v.Version == s.version {
		if !may.unchanged {
			return j.no("is answered with the version %d that it was to change", v.Version)
		}
		if op.Effect > 0 {
			return j.no("changed nothing, but the feed tells of a change that made version %d", op.Effect)
		}
		return j.match(s, v)
	}
	var next []state
	for _, c := range changed {
		if j.told(op, c.version) {
			next = append(next, j.match(c, v)...)
		}
	}
	return next
}

// changed are the states that an update or patch can lead to. It may also find
// that there is nothing to change.
func (j *judge) changed(s state, op *Op) (next []state, may struct{ unchanged bool }) {
	n := s
	if op.Value != 0 {
		if op.Kind == Patch {
			if op.Slot >= 0 {
				n.data[op.Slot] = op.Value
			}
		} else {
			n.data = [slots]int64{op.Value, op.Value, op.Value}
		}
	}
	if op.Label != 0 {
		n.label = op.Label
	}
	if op.IdleTimeout != 0 {
		n.idle = op.IdleTimeout
	}
	may.unchanged = n == s
	if op.ExpiresIn != 0 {
		n.expires = op.now.plus(op.ExpiresIn).earlier(s.created.plus(j.maxLife))
		may.unchanged = may.unchanged && n.expires.within(s.expires)
	}
	d := n.deadline()
	if op.now.Hi >= d.Lo { // a shorter idle timeout ends it at once
		e := n
		e.end(op.now, sessiond.EndIdle, "", false)
		next = append(next, e)
	}
	if op.now.Lo < d.Hi {
		n.version++
		n.updated = op.now
		next = append(next, n)
	}
	return next, may
}

// unknown judges a write of which the outcome is not known: it may have
// taken effect in s, if that allows it, or not at all.
func (j *judge) unknown(s state, op *Op) []state {
	next := []state{s}
	if op.Effect > 0 {
		next = nil // it has
	} else if op.Effect == 0 && op.Kind != Touch && op.Kind != TouchAt && op.Key == "" {
		return next
	}
	switch {
	case op.Kind == Matched:
		return j.matched(s, op)
	case op.Kind == Create && s.phase == absent && op.Effect != 0:
		n := j.born(op, op.now)
		n.token = op.lost()
		return append(next, n)
	case op.Kind == Create && s.phase == live && op.Key != "" && s.key == op.Key && s.version == 1 && op.Effect <= 0:
		s.token = op.lost()
		return append(next, s)
	case op.Kind == Erase && s.phase != absent && (s.phase == ended || j.matches(&s, op) != no):
		return append(next, j.erase(s, op)...)
	case s.phase != live || j.matches(&s, op) == no:
		return next
	}
	switch op.Kind {
	case Touch:
		s.active.Hi = max(s.active.Hi, op.now.Hi)
		next = append(next, s)
	case TouchAt:
		if s.inc == "" || s.inc == op.Incarnation {
			s.active.Hi = max(s.active.Hi, op.At)
			next = append(next, s)
		}
	case Rotate:
		next = append(next, j.rotate(s, op)...)
	case Revoke:
		next = append(next, j.revoke(s, op)...)
	case Update, Patch:
		changed, _ := j.changed(s, op)
		for _, c := range changed {
			if j.told(op, c.version) {
				next = append(next, c)
			}
		}
	}
	return next
}

func (j *judge) verify(s state, op *Op) []state {
	right := s.phase != absent && op.Token == s.token
	before := s.phase == live && op.Token == s.prev && s.prev != ""
	if op.Result == OK {
		switch {
		case s.phase != live:
			return j.no("is answered as active although it was %s (%s)", s.phase, s.reason)
		case right, before && op.now.Lo < s.prevUntil.Hi:
			return j.match(s, op.View)
		}
		return j.no("accepts token %s, but the token was %s (before: %s until %v)", op.Token, s.token, s.prev, s.prevUntil)
	}
	if op.Result != Inactive {
		return j.no("is answered with an error that it may not return")
	}
	switch {
	case s.phase == live && (right || before && op.now.Hi < s.prevUntil.Lo):
		return j.no("refuses the token %s of a live session%s", op.Token, j.notYet(&s, op))
	case right && op.Reason != s.reason, !right && op.Reason != "":
		return j.no("gives the reason %q, but it had ended with %q and token %s", op.Reason, s.reason, s.token)
	}
	return []state{s}
}
