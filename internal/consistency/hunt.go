package consistency

import (
	"context"
	"math/rand/v2"
	"time"
)

// hunt is a client that works on sessions in the milliseconds around their
// deadlines. All hunters are after the same sessions.
func (r *run) hunt(working, ctx context.Context, client int, rng *rand.Rand) {
	var ops []*Op
	defer func() { r.keep(ops...) }()
	for working.Err() == nil && !r.enough() {
		f := r.world.hunted()
		i := r.prey(f, rng)
		s := f.slots[i]
		if s.gone() {
			if !s.claim() {
				pause(working, time.Millisecond)
				continue
			}
			for _, kind := range []Kind{Erase, Create} {
				op := &Op{Kind: kind, Session: s.id, Subject: s.subject, Slot: -1, Effect: -1}
				s.mu.Lock()
				s.fill(rng, op, true)
				s.mu.Unlock()
				op.IfMatch = ""
				ops = append(ops, r.one(working, ctx, f, i, op, client, rng)...)
			}
			s.release()
			continue
		}
		s.mu.Lock()
		known := s.deadline
		deadline := known*int64(time.Millisecond) - r.ahead.about()
		s.mu.Unlock()
		early := time.Duration(rng.IntN(7)-1) * time.Millisecond
		if !pause(working, time.Duration(deadline-r.clock())-early) {
			return
		}
		// Until the deadline has moved or is well past.
		for n := 0; n == 0 || n < 30 && r.clock() < deadline+int64(5*time.Millisecond) && s.due(known); n++ {
			op := &Op{Session: s.id, Subject: s.subject, Slot: -1, Effect: -1}
			op.Kind = []Kind{Touch, Get, Get, Get, Verify, Verify, Update, Patch}[rng.IntN(8)]
			s.mu.Lock()
			if op.Kind == Verify && len(s.tokens) == 0 {
				op.Kind = Get
			}
			s.fill(rng, op, true)
			s.mu.Unlock()
			ops = append(ops, r.one(working, ctx, f, i, op, client, rng)...)
			if r.cfg.Think > 0 {
				pause(working, time.Duration(rng.IntN(200))*time.Microsecond)
			}
		}
	}
}

// prey is a session that is to be brought back, or the one whose deadline is
// next. Deadlines that passed a while ago, as far as is known, are looked at, too.
func (r *run) prey(f *family, rng *rand.Rand) int {
	now := (r.clock() + r.ahead.about()) / int64(time.Millisecond)
	best, at := rng.IntN(len(f.slots)), int64(0)
	for i, s := range f.slots {
		if s.gone() {
			return i
		}
		s.mu.Lock()
		d := s.deadline
		s.mu.Unlock()
		if d > now-2 && (at == 0 || d < at) {
			best, at = i, d
		}
	}
	return best
}

// gone reports whether the session is known to be no more.
func (s *slot) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase != live && !s.reviving
}

// due reports whether deadline is still the one that is known.
func (s *slot) due(deadline int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline == deadline
}

func (s *slot) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reviving {
		return false
	}
	s.reviving = true
	return true
}

func (s *slot) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reviving = false
}
