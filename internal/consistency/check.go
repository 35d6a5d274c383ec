package consistency

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"sessiond.example/sessiond"
)

// A Rule is a promise that a violation breaks.
type Rule string

// The rules.
const (
	Clock        Rule = "clock"
	Linearizable Rule = "linearizable"
	Feed         Rule = "feed"
	Answers      Rule = "answers"   // an error that is none of the contract
	Undecided    Rule = "undecided" // the search for an order took too long
	Faulty       Rule = "faults"    // the run was too quiet to prove anything
)

// A Violation is a broken promise.
type Violation struct {
	Rule    Rule
	Session sessiond.ID // empty if it is not of one session
	Text    string
}

func (v Violation) String() string {
	if v.Session == "" {
		return fmt.Sprintf("%s: %s", v.Rule, v.Text)
	}
	return fmt.Sprintf("%s: session %s %s", v.Rule, v.Session, v.Text)
}

// A Report is what Check found.
type Report struct {
	Seed                         uint64
	Took                         time.Duration // of the recording
	Ops, OK, Refused, NotApplied int
	Unknown, Settled             int // outcomes not known; those that the feed settled
	Sessions, Incarnations       int
	MaxActive                    int // most operations under way at the same time
	AtDeadline                   int // answers within 5 ms of their session's deadline
	Events, Laps, Again, Resets  int // Again: events that came again after a reader had resumed
	Faults                       map[string]int
	LeastInFlight                int // operations under way at the quietest fault
	LastExpiry                   time.Duration
	Violations                   []Violation
}

// mostViolations of one rule are kept; there is no end of what one bug breaks.
const mostViolations = 10

func (r *Report) violate(rule Rule, id sessiond.ID, format string, args ...any) {
	kept := 0
	for _, v := range r.Violations {
		if v.Rule == rule {
			kept++
		}
	}
	if kept < mostViolations {
		r.Violations = append(r.Violations, Violation{rule, id, fmt.Sprintf(format, args...)})
	}
}

// String is the report in one line.
func (r *Report) String() string {
	faults := "none"
	if len(r.Faults) > 0 {
		var each []string
		for name, n := range r.Faults {
			each = append(each, fmt.Sprintf("%s %d", name, n))
		}
		slices.Sort(each)
		faults = fmt.Sprintf("%s (at least %d operations in flight)", strings.Join(each, ", "), r.LeastInFlight)
	}
	return fmt.Sprintf("seed %d · %v · ops %d ok %d refused %d not-applied %d unknown %d (settled %d) · "+
		"sessions %d incarnations %d · max concurrency %d · at deadline %d · events %d laps %d again %d resets %d "+
		"latest expiry %v · faults %s · violations %d",
		r.Seed, r.Took.Round(time.Millisecond), r.Ops, r.OK, r.Refused, r.NotApplied, r.Unknown, r.Settled,
		r.Sessions, r.Incarnations, r.MaxActive, r.AtDeadline, r.Events, r.Laps, r.Again, r.Resets,
		r.LastExpiry, faults, len(r.Violations))
}

// Err is nil if nothing is violated.
func (r *Report) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d violations", len(r.Violations))
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "\n%s", v)
	}
	return fmt.Errorf("%s", b.String())
}

// Check judges a history.
func Check(h *History) *Report {
	r := &Report{
		Seed: h.Seed, Took: time.Duration(h.Took), MaxActive: h.MaxActive, Faults: map[string]int{},
	}
	for _, f := range h.Faults {
		if f.Err != "" {
			r.violate(Faulty, "", "%s: %s", f.Name, f.Err)
		}
		if f.At == 0 {
			continue // it tells of the run as a whole
		}
		if r.Faults[f.Name]++; len(r.Faults) == 1 && r.Faults[f.Name] == 1 || f.InFlight < r.LeastInFlight {
			r.LeastInFlight = f.InFlight
		}
	}
	for _, op := range h.Ops {
		r.count(op)
		op.Effect = -1
	}
	clock := checkClock(h, r)
	clock.bound(h.Ops, h.Took)
	h.clock = &clock
	settled := checkFeed(h, r)
	checkSessions(h, r, settled)
	return r
}

func (r *Report) count(op *Op) {
	r.Ops++
	switch op.Result {
	case OK, Inactive:
		r.OK++
	case NotApplied:
		r.NotApplied++
	case Unknown:
		r.Unknown++
	case Wrong:
		r.violate(Answers, op.Session, "was answered with an error of no contract: %s", op)
	default:
		r.Refused++
	}
	if v := op.View; v != nil && op.Seen != (Span{}) && (op.Seen.Hi-v.deadline() < 5 && v.deadline()-op.Seen.Lo < 5) {
		r.AtDeadline++
	}
}

// sessions splits the history by session.
func (h *History) sessions(settled bool, told map[string]map[sessiond.ID]int64) map[sessiond.ID][]*Op {
	byID := make(map[sessiond.ID][]*Op)
	bySubject := make(map[string][]sessiond.ID)
	born := make(map[sessiond.ID]int64)
	add := func(op *Op) {
		if settled && op.Result == Unknown && op.Effect == 0 && op.Key == "" && op.Kind != Touch && op.Kind != TouchAt {
			return // it never happened
		}
		byID[op.Session] = append(byID[op.Session], op)
	}
	for _, op := range h.Ops {
		if op.Result == NotApplied || op.Session == "" {
			continue
		}
		if _, ok := born[op.Session]; !ok {
			bySubject[op.Subject] = append(bySubject[op.Subject], op.Session)
			born[op.Session] = op.Call
		}
		born[op.Session] = min(born[op.Session], op.Call)
		add(op)
	}
	for _, op := range h.Ops {
		if op.Kind != List && op.Kind != RevokeMatching || op.Kind == List && op.Result != OK {
			continue
		}
		for _, id := range bySubject[op.Subject] {
			if born[id] > op.Return {
				continue
			}
			add(op.forSession(id, settled, told[op.RequestID()][id]))
		}
	}
	return byID
}

// forSession is what a list or a bulk revoke means for one session.
func (o *Op) forSession(id sessiond.ID, settled bool, version int64) *Op {
	one := *o
	one.Session, one.Listed = id, nil
	if o.Kind == RevokeMatching {
		one.Kind = Matched
		if settled {
			one.Effect = version
		}
		return &one
	}
	one.Kind = Unlisted
	for i := range o.Listed {
		if o.Listed[i].ID == id {
			one.Kind, one.View = Listed, &o.Listed[i]
		}
	}
	return &one
}

// searchTime is how long the search for an order of one session's operations
// may take. Sessions of a sound store take milliseconds.
const searchTime = 30 * time.Second

// checkSessions looks for an order of each session's operations.
func checkSessions(h *History, r *Report, told map[string]map[sessiond.ID]int64) {
	byID := h.sessions(told != nil, told)
	r.Sessions = len(byID)
	j := judge{retention: h.Retention, overlap: h.Overlap, maxLife: h.MaxLife}
	ids := slices.SortedFunc(func(yield func(sessiond.ID) bool) {
		for id := range byID {
			if !yield(id) {
				return
			}
		}
	}, func(a, b sessiond.ID) int { return cmp.Compare(len(byID[b]), len(byID[a])) })
	var (
		mu   sync.Mutex
		bad  int
		wg   sync.WaitGroup
		next = make(chan sessiond.ID)
	)
	for range 2 {
		wg.Go(func() {
			for id := range next {
				mu.Lock()
				enough := bad >= mostViolations
				mu.Unlock()
				if enough {
					continue
				}
				v := checkSession(j, id, byID[id])
				if v == nil {
					continue
				}
				mu.Lock()
				bad++
				r.violate(v.Rule, v.Session, "%s", v.Text)
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	wg.Wait()
}

func checkSession(j judge, id sessiond.ID, ops []*Op) *Violation {
	m := j.model()
	history := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		history[i] = porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Output: op, Return: op.Return}
	}
	switch porcupine.CheckOperationsTimeout(m, history, searchTime) {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return &Violation{Linearizable, id, explain(j, m, ops, history)}
	default:
		return &Violation{Undecided, id, fmt.Sprintf("has %d operations, for which %v did not suffice", len(ops), searchTime)}
	}
}

// model is the judge in the form that porcupine wants.
func (j judge) model() porcupine.Model {
	seed := maphash.MakeSeed()
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(s, in, _ any) []any {
			next := j.step(s.(state), in.(*Op))
			all := make([]any, len(next))
			for i := range next {
				all[i] = next[i]
			}
			return all
		},
		Hash: func(s any) uint64 { return maphash.Comparable(seed, s.(state)) },
	}
	return m.ToModel()
}

// explain says where the longest order that the model accepts ends, and why
// it can't go on.
func explain(j judge, m porcupine.Model, ops []*Op, history []porcupine.Operation) string {
	_, info := porcupine.CheckOperationsVerbose(m, history, searchTime)
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations() {
		for _, p := range partial {
			if len(p) > len(longest) {
				longest = p
			}
		}
	}
	states := []any{state{}}
	done := make(map[*Op]bool)
	for _, p := range longest {
		_, next := m.Step(states, p.Input, p.Output)
		states = next.([]any)
		done[p.Input.(*Op)] = true
	}
	left := slices.DeleteFunc(slices.Clone(ops), func(op *Op) bool { return done[op] })
	slices.SortFunc(left, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	var b strings.Builder
	for i, op := range left {
		if i == 4 || op.Call > left[0].Return {
			break
		}
		var why []string
		j.why = &why
		for _, s := range states {
			j.step(s.(state), op)
		}
		if len(why) == 0 {
			why = []string{"could be next, but then the others could not"}
		}
		slices.Sort(why)
		fmt.Fprintf(&b, "%s (%s)\n", strings.Join(slices.Compact(why), ", or "), op)
	}
	for _, s := range states {
		st := s.(state)
		fmt.Fprintf(&b, "  it was %s\n", &st)
	}
	b.WriteString("  after:\n")
	for _, p := range longest[max(0, len(longest)-6):] {
		fmt.Fprintf(&b, "    %s\n", p.Input)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
