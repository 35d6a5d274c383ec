package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// Get implements [sessiond.Store]. It is one round trip.
func (s *Store) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.end()
	st, now, err := s.get(ctx, k)
	if err != nil {
		return sessiond.Result{}, err
	}
	return sessiond.Result{Record: st.rec.At(now), Now: now}, nil
}

// get reads a record as it is stored, or returns ErrNotFound.
func (s *Store) get(ctx context.Context, k sessiond.Key) (state, time.Time, error) {
	answer, err := s.read(ctx, &call{getScript, s.layout.partition(k).record(k), []string{s.clock()}})
	if err != nil {
		return state{}, time.Time{}, err
	}
	return parseRecord(k, answer)
}

// parseRecord reads what get and touch return.
func parseRecord(k sessiond.Key, answer valkey.ValkeyMessage) (state, time.Time, error) {
	a, err := answer.ToArray()
	if err != nil || len(a) != 1 && len(a) != 3 {
		return state{}, time.Time{}, unavailable(corrupt("answer of a script"))
	}
	now, err := parseTime(a[0])
	if err != nil {
		return state{}, time.Time{}, unavailable(err)
	}
	if len(a) == 1 {
		return state{}, now, sessiond.ErrNotFound
	}
	st, err := decodeState(k, a[1], a[2])
	if err != nil {
		return state{}, now, unavailable(err)
	}
	return st, now, nil
}

// Touch implements [sessiond.Store]. It is one round trip.
func (s *Store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.end()
	args := []string{s.clock(), "", ""}
	if inc != (sessiond.Incarnation{}) {
		args[1] = string(inc[:])
	}
	if !at.IsZero() {
		args[2] = strconv.FormatInt(at.UnixMilli(), 10)
	}
	answer, err := s.write(ctx, &call{touchScript, s.layout.partition(k).record(k), args})
	if err != nil {
		return sessiond.Result{}, err
	}
	st, now, err := parseRecord(k, answer)
	if err != nil {
		return sessiond.Result{}, err
	}
	res := sessiond.Result{Record: st.rec.At(now), Now: now}
	if !st.rec.Live(now) {
		return res, sessiond.ErrEnded
	}
	return res, nil
}

// A fetched is a record, or none, and the time of its partition when it was so.
type fetched struct {
	state
	now time.Time
}

// fetch reads the records of many keys, each partition's in one script, all in one go.
// Those that are not there have no record.
func (s *Store) fetch(ctx context.Context, keys []sessiond.Key) ([]fetched, error) {
	var calls []call
	var which [][]int // the keys of each call
	var of [partitions]int
	for i, k := range keys {
		p := s.layout.partition(k)
		n := of[p.number]
		if n == 0 {
			calls = append(calls, call{fetchScript, []string{p.meta}, []string{s.clock()}})
			which = append(which, nil)
			n = len(calls)
			of[p.number] = n
		}
		calls[n-1].keys = append(calls[n-1].keys, p.head(k), p.body(k))
		which[n-1] = append(which[n-1], i)
	}
	answers, err := s.readAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	found := make([]fetched, len(keys))
	for n, answer := range answers {
		if err := parseFetched(answer, keys, which[n], found); err != nil {
			return nil, unavailable(err)
		}
	}
	return found, nil
}

// parseFetched reads what fetch returns of the keys with these indexes.
func parseFetched(answer valkey.ValkeyMessage, keys []sessiond.Key, which []int, found []fetched) error {
	a, err := answer.ToArray()
	if err != nil || len(a) != 1+2*len(which) {
		return corrupt("answer of a script")
	}
	now, err := parseTime(a[0])
	if err != nil {
		return err
	}
	for j, i := range which {
		found[i].now = now
		head, body := a[1+2*j], a[2+2*j]
		if head.IsNil() {
			continue
		}
		if found[i].state, err = decodeState(keys[i], head, body); err != nil {
			return err
		}
	}
	return nil
}
