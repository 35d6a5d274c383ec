package redisstore

import (
	"context"
	"slices"
	"strconv"

	"sessiond.example/sessiond"
)

// A run is what one partition has of a sorted sequence, read piece by piece.
type run struct {
	names  []string // read and not taken
	last   string   // the last one read; empty: none
	ended  bool     // nothing follows what was read
	source []string // keys of the lists that it merges
}

// runs is a sequence that is spread over all partitions, merged by name.
type runs struct {
	s        *Store
	runs     []run
	from, to string // as ZRANGE with BYLEX has them
	rev      bool   // largest name first
}

// before reports whether a comes before b in the sequence.
func (r *runs) before(a, b string) bool {
	if r.rev {
		return a > b
	}
	return a < b
}

// next takes up to n names, fewer only at the end.
func (r *runs) next(ctx context.Context, n int) ([]string, error) {
	var taken []string
	for len(taken) < n {
		if err := r.fill(ctx, n-len(taken)); err != nil {
			return nil, err
		}
		best := r.best()
		for ; best != nil && len(taken) < n && (len(best.names) > 0); best = r.best() {
			taken = append(taken, best.names[0])
			best.names = best.names[1:]
			if len(best.names) == 0 && !best.ended {
				break // what follows there may come before the rest
			}
		}
		if best == nil {
			return taken, nil
		}
	}
	return taken, nil
}

// best is the run with the first name, nil when all are at their end.
func (r *runs) best() *run {
	var best *run
	for i := range r.runs {
		c := &r.runs[i]
		if len(c.names) > 0 && (best == nil || r.before(c.names[0], best.names[0])) {
			best = c
		}
	}
	return best
}

// fill reads on in the runs of which nothing is left. A page takes from each partition
// about its share; most of the time that is enough.
func (r *runs) fill(ctx context.Context, n int) error {
	limit := strconv.Itoa(n/(partitions/2) + 4)
	var calls []call
	var which []*run
	for i := range r.runs {
		c := &r.runs[i]
		if c.ended || len(c.names) > 0 {
			continue
		}
		from := r.from
		if c.last != "" {
			from = "(" + c.last
		}
		calls = append(calls, call{r.script(), c.source, []string{from, r.to, limit}})
		which = append(which, c)
	}
	answers, err := r.s.readAll(ctx, calls)
	if err != nil {
		return err
	}
	for i, answer := range answers {
		lists, err := answer.ToArray()
		if err != nil || len(lists) != len(which[i].source) {
			return unavailable(corrupt("answer of a script"))
		}
		var pieces [][]string
		for _, list := range lists {
			names, err := list.AsStrSlice()
			if err != nil {
				return unavailable(corrupt("answer of a script"))
			}
			pieces = append(pieces, names)
		}
		which[i].add(r, pieces, n/(partitions/2)+4)
	}
	return nil
}

func (r *runs) script() *script {
	if r.rev {
		return placesScript
	}
	return membersScript
}

// add takes in pieces of up to limit names each. One that is full may go on, so nothing
// behind its end counts yet.
func (c *run) add(r *runs, pieces [][]string, limit int) {
	c.ended = true
	var bound string
	for _, piece := range pieces {
		if len(piece) == limit {
			c.ended = false
			if end := piece[limit-1]; bound == "" || r.before(end, bound) {
				bound = end
			}
		}
		c.names = append(c.names, piece...)
	}
	slices.SortFunc(c.names, func(a, b string) int {
		switch {
		case r.before(a, b):
			return -1
		case r.before(b, a):
			return 1
		}
		return 0
	})
	c.names = slices.Compact(c.names)
	if !c.ended {
		n := slices.IndexFunc(c.names, func(name string) bool { return r.before(bound, name) })
		if n >= 0 {
			c.names = c.names[:n]
		}
		c.last = bound
	}
}

// lists are the places of a tenant's sessions, newest first.
func (s *Store) lists(tenant, from, to string, liveOnly bool) *runs {
	r := &runs{s: s, from: from, to: to, rev: true, runs: make([]run, partitions)}
	for i := range r.runs {
		p := &s.layout.sessions[i]
		source := []string{p.live(tenant)}
		if !liveOnly {
			source = append(source, p.ended(tenant))
		}
		r.runs[i] = run{source: source}
	}
	return r
}

// members are the names of all sessions, by tenant and ID.
func (s *Store) members(after sessiond.Key) *runs {
	r := &runs{s: s, from: "-", to: "+", runs: make([]run, partitions)}
	if after != (sessiond.Key{}) {
		r.from = "(" + member(after)
	}
	for i := range r.runs {
		p := &s.layout.sessions[i]
		r.runs[i] = run{source: []string{p.all}}
	}
	return r
}
