package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// Stats implements [sessiond.Store]. It adds up the counters of all partitions.
func (s *Store) Stats(ctx context.Context) (sessiond.Stats, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Stats{}, err
	}
	defer s.end()
	start := time.Now()
	stats, err := s.counters(ctx)
	if err != nil {
		return sessiond.Stats{}, err
	}
	middle := start.Add(time.Since(start) / 2)
	stats.ClockOffset = middle.Sub(stats.Now).Truncate(time.Millisecond)
	return stats, nil
}

func (s *Store) counters(ctx context.Context) (sessiond.Stats, error) {
	stats := sessiond.Stats{Active: make(map[string]int64), DataKeys: make(map[uint32]int64)}
	calls := make([]call, partitions)
	for i := range calls {
		p := &s.layout.sessions[i]
		calls[i] = call{statsScript, []string{p.clock, p.counts}, []string{s.clock()}}
	}
	answers, err := s.readAll(ctx, calls)
	if err != nil {
		return stats, err
	}
	for _, answer := range answers {
		if err := addCounters(&stats, answer); err != nil {
			return stats, unavailable(err)
		}
	}
	return stats, nil
}

func addCounters(stats *sessiond.Stats, answer valkey.ValkeyMessage) error {
	a, err := answer.ToArray()
	if err != nil || len(a) != 2 {
		return corrupt("answer of a script")
	}
	now, err := parseTime(a[0])
	if err != nil {
		return err
	}
	if now.After(stats.Now) {
		stats.Now = now
	}
	counts, err := a[1].AsStrSlice()
	if err != nil {
		return corrupt("answer of a script")
	}
	for i := 0; i+1 < len(counts); i += 2 {
		n, err := strconv.ParseInt(counts[i+1], 10, 64)
		if err != nil {
			return corrupt("counter")
		}
		kind, name, _ := strings.Cut(counts[i], ":")
		switch kind {
		case "a":
			stats.Active[name] += n
		case "k":
			id, err := strconv.ParseUint(name, 10, 32)
			if err != nil {
				return corrupt("counter of a data key")
			}
			stats.DataKeys[uint32(id)] += n
		}
	}
	return nil
}
