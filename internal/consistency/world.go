package consistency

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"sessiond.example/sessiond"
)

// A slot is a session as clients know it: what they have been told last, which
// may be out of date.
type slot struct {
	id      sessiond.ID
	subject string

	mu       sync.Mutex
	tags     []sessiond.ETag
	tokens   []string
	value    int64 // the last one written
	deadline int64 // in ms; 0: none known
	phase    phase
	inc      string
	last     *Op // the last create with an Idempotency-Key
	reviving bool
}

// A family is the sessions of one subject. It is given up as a whole, so that
// no history grows beyond what can be searched.
type family struct {
	subject string
	slots   []*slot
	most    int64 // operations
	ops     atomic.Int64
	unknown []atomic.Int32 // by slot
	expires bool           // sessions have short deadlines
}

// mostUnknown is how many outcomes of one session may be unknown before it is
// given up.
const mostUnknown = 6

func (f *family) spent() bool {
	if f.ops.Load() > f.most {
		return true
	}
	for i := range f.unknown {
		if f.unknown[i].Load() > mostUnknown {
			return true
		}
	}
	return false
}

// A world holds the families that are worked on: a few with few sessions, on
// which all clients meet, one with many, and one whose deadlines are hunted.
type world struct {
	mu       sync.Mutex
	made     int
	hot      []*family
	many     *family
	deadline *family
}

const (
	hotFamilies = 4
	hotSlots    = 2
	manySlots   = 40
	huntedSlots = 24
)

func newWorld() *world {
	w := &world{}
	for range hotFamilies {
		w.hot = append(w.hot, w.family("hot", hotSlots, 1500))
	}
	w.many = w.family("many", manySlots, 6000)
	w.deadline = w.family("hunted", huntedSlots, 12000)
	w.deadline.expires = true
	return w
}

func (w *world) family(kind string, slots int, most int64) *family {
	w.made++
	f := &family{subject: fmt.Sprintf("%s-%d", kind, w.made), most: most, unknown: make([]atomic.Int32, slots)}
	for i := range slots {
		f.slots = append(f.slots, &slot{id: sessiond.ID(fmt.Sprintf("%s-%d-%d", kind, w.made, i)), subject: f.subject})
	}
	return f
}

// pick draws a session for a client.
func (w *world) pick(rng *rand.Rand) (*family, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rng.IntN(5) == 0 {
		if w.many.spent() {
			w.many = w.family("many", manySlots, w.many.most)
		}
		return w.many, rng.IntN(manySlots)
	}
	i := rng.IntN(hotFamilies)
	if w.hot[i].spent() {
		w.hot[i] = w.family("hot", hotSlots, w.hot[i].most)
	}
	return w.hot[i], rng.IntN(hotSlots)
}

// hunted is the family whose deadlines are hunted.
func (w *world) hunted() *family {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deadline.spent() {
		w.deadline = w.family("hunted", huntedSlots, w.deadline.most)
		w.deadline.expires = true
	}
	return w.deadline
}

// families are those that are still worked on.
func (w *world) families() []*family {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*family{w.many, w.deadline}, w.hot...)
}

// weights say how often each operation is drawn.
var weights = []struct {
	kind Kind
	n    int
}{
	{Create, 5}, {Get, 14}, {Update, 14}, {Patch, 18}, {Touch, 10}, {TouchAt, 5}, {Rotate, 7}, {Verify, 14},
	{Revoke, 2}, {Erase, 2}, {List, 2}, {RevokeMatching, 1},
}

// draw chooses what to ask of a session.
func (f *family) draw(rng *rand.Rand, s *slot) *Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, w := range weights {
		total += w.n
	}
	n := rng.IntN(total)
	op := &Op{Session: s.id, Subject: s.subject, Slot: -1, Effect: -1}
	for _, w := range weights {
		if n -= w.n; n < 0 {
			op.Kind = w.kind
			break
		}
	}
	// What is gone is brought back soon, so that something goes on.
	switch {
	case s.phase == absent && rng.IntN(2) == 0:
		op.Kind = Create
	case s.phase == ended && rng.IntN(3) == 0:
		op.Kind = Erase
	case op.Kind == RevokeMatching && rng.IntN(4) > 0, op.Kind == List && len(f.slots) > hotSlots && rng.IntN(4) > 0:
		op.Kind = Get
	case op.Kind == Verify && len(s.tokens) == 0, op.Kind == TouchAt && s.inc == "":
		op.Kind = Get
	}
	s.fill(rng, op, f.expires)
	return op
}

// fill draws the parameters of op.
func (s *slot) fill(rng *rand.Rand, op *Op, expires bool) {
	recent := func(n int) int { return max(0, n-1-rng.IntN(3)) }
	switch op.Kind {
	case Update, Patch, Rotate, Revoke, Erase:
		if len(s.tags) > 0 && rng.IntN(2) == 0 {
			op.IfMatch = s.tags[recent(len(s.tags))]
		}
	}
	switch op.Kind {
	case Create:
		op.ExpiresIn, op.IdleTimeout = lifetimes(rng, expires)
		switch {
		case s.last != nil && rng.IntN(3) == 0:
			op.Key, op.Value, op.Label = s.last.Key, s.last.Value, s.last.Label
			op.ExpiresIn, op.IdleTimeout = s.last.ExpiresIn, s.last.IdleTimeout
		case rng.IntN(3) == 0:
			op.Key = fmt.Sprintf("key-%d", rng.Uint64())
		}
	case Update, Patch:
		s.change(rng, op, expires)
	case Rotate:
		if len(s.tokens) > 0 && rng.IntN(3) == 0 {
			op.Token = s.tokens[recent(len(s.tokens))]
		}
	case Verify:
		op.Token = s.tokens[recent(len(s.tokens))]
	case TouchAt:
		op.Incarnation = s.inc
	case Revoke, Erase, RevokeMatching:
		op.Reason = string([]sessiond.EndReason{sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity}[rng.IntN(3)])
	}
}

// fresh stands for a value that has not been written before; the number of the
// operation takes its place.
const fresh = -1

// change draws what an update or a patch changes.
func (s *slot) change(rng *rand.Rand, op *Op, expires bool) {
	if rng.IntN(4) > 0 {
		op.Value = fresh
		if rng.IntN(6) == 0 && s.value != 0 {
			op.Value = s.value // perhaps nothing changes
		}
		op.Slot = rng.IntN(slots)
	}
	if rng.IntN(5) == 0 {
		op.Label = fresh
	}
	if expires || rng.IntN(6) == 0 {
		op.ExpiresIn = []int64{1000, 2000, 60_000, 60_000}[rng.IntN(4)]
	}
	if rng.IntN(6) == 0 {
		op.IdleTimeout = []int64{1000, 2000, 30_000}[rng.IntN(3)]
	}
	if op.Value == 0 && op.Label == 0 && op.ExpiresIn == 0 && op.IdleTimeout == 0 {
		op.Label = fresh
	}
}

func lifetimes(rng *rand.Rand, expires bool) (expiresIn, idle int64) {
	if expires {
		return []int64{1000, 2000, 30_000, 30_000}[rng.IntN(4)], []int64{0, 1000, 1000, 1000}[rng.IntN(4)]
	}
	return []int64{2000, 60_000, 60_000, 600_000}[rng.IntN(4)], []int64{0, 0, 2000, 30_000}[rng.IntN(4)]
}

// learn notes what an answer told.
func (s *slot) learn(op *Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := func(n int) int { return max(0, n-6) }
	if op.Gave != "" {
		s.tokens = append(s.tokens, op.Gave)
		s.tokens = s.tokens[keep(len(s.tokens)):]
	}
	if op.Kind == Create && op.Key != "" {
		s.last = op
	}
	switch {
	case op.Result == NotFound && op.Kind != TouchAt, op.Result == OK && op.Kind == Erase:
		s.phase = absent
	case op.Result == Ended, op.Result == OK && (op.Kind == Revoke || op.Kind == RevokeMatching):
		s.phase = ended
	}
	v := op.View
	if v == nil || v.Status != sessiond.StatusActive {
		return
	}
	s.phase, s.deadline = live, v.deadline()
	if op.Value > 0 {
		s.value = op.Value
	}
	if v.Incarnation != "" {
		s.inc = v.Incarnation
		s.tags = append(s.tags, sessiond.ETag(fmt.Sprintf(`"%s.%d"`, v.Incarnation, v.Version)))
		s.tags = s.tags[keep(len(s.tags)):]
	}
}
