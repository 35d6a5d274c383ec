package redisstore

import (
	"slices"
	"strconv"
	"strings"
)

const (
	trimStep   = 1000 // events that one script looks at
	trimRounds = 20   // of a pass
)

// trim removes events that are too old or too many.
func (sw *sweep) trim() error {
	for range trimRounds {
		more, err := sw.trimByAge()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	for range trimRounds {
		excess := sw.kept() - max(0, sw.p.MaxEvents)
		if excess <= 0 {
			return nil
		}
		if err := sw.trimOldest(excess); err != nil {
			return err
		}
	}
	return nil
}

// kept is the number of events in the feed.
func (sw *sweep) kept() (n int64) {
	for i := range sw.peeks {
		n += int64(sw.peeks[i].last - sw.peeks[i].trimmed)
	}
	return n
}

// A cut is what goes from the feed of a partition.
type cut struct {
	partition int
	before    int64  // milliseconds
	upto      uint64 // number
}

// trimByAge removes old events, of each partition up to a number at a time.
func (sw *sweep) trimByAge() (more bool, err error) {
	var cuts []cut
	for i := range sw.peeks {
		p := &sw.peeks[i]
		before := p.now.Add(-sw.p.EventRetention)
		if !p.oldest.IsZero() && p.oldest.Before(before) {
			cuts = append(cuts, cut{i, before.UnixMilli(), 0})
		}
	}
	went, err := sw.cut(cuts)
	for j, n := range went {
		if n < trimStep {
			sw.peeks[cuts[j].partition].oldest = sw.peeks[cuts[j].partition].now // looked at all
		} else {
			more = true
		}
	}
	return more, err
}

// cut trims, and tells how many events went by each of the cuts.
func (sw *sweep) cut(cuts []cut) (went []int64, err error) {
	calls := make([]call, len(cuts))
	for i, c := range cuts {
		p := &sw.s.layout.sessions[c.partition]
		calls[i] = call{trimScript, []string{p.meta, p.events}, []string{
			strconv.FormatInt(c.before, 10), strconv.FormatUint(c.upto, 10), strconv.Itoa(trimStep),
		}}
	}
	went = make([]int64, len(cuts))
	for i, w := range sw.s.writeAll(sw.ctx, calls) {
		if w.err != nil {
			return went, reserved(w.err)
		}
		if went[i], err = w.answer.AsInt64(); err != nil {
			return went, unavailable(corrupt("answer of a script"))
		}
		sw.res.Trimmed += int(went[i])
		sw.peeks[cuts[i].partition].trimmed += uint64(went[i])
	}
	return went, nil
}

// trimOldest removes the oldest events of all partitions, up to excess of them.
func (sw *sweep) trimOldest(excess int64) error {
	const share = 200
	count := strconv.FormatInt(min(excess, share), 10)
	calls := make([]call, partitions)
	for i := range calls {
		calls[i] = call{oldestScript, []string{sw.s.layout.sessions[i].events}, []string{count}}
	}
	answers, err := sw.s.readAll(sw.ctx, calls)
	if err != nil {
		return err
	}
	type event struct {
		us        int64
		partition int
		n         uint64
		last      bool // of those that were read of a partition that has more
	}
	var all []event
	for i, answer := range answers {
		names, err := answer.AsStrSlice()
		if err != nil {
			return unavailable(corrupt("answer of a script"))
		}
		for j, name := range names {
			number, us, _ := strings.Cut(name, "-")
			e := event{partition: i, last: j == share-1}
			if e.n, err = strconv.ParseUint(number, 10, 63); err == nil {
				e.us, err = strconv.ParseInt(us, 10, 64)
			}
			if err != nil {
				return unavailable(corrupt("entry of the feed"))
			}
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b event) int { return int(min(max(a.us-b.us, -1), 1)) })
	var upto [partitions]uint64
	for _, e := range all[:min(int64(len(all)), excess)] {
		upto[e.partition] = max(upto[e.partition], e.n)
		if e.last {
			break // what follows in its partition may be older than the rest
		}
	}
	var cuts []cut
	for i, n := range upto {
		if n > 0 {
			cuts = append(cuts, cut{i, 0, n})
		}
	}
	_, err = sw.cut(cuts)
	return err
}
