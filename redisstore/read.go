package redisstore

import (
	"context"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// Get implements [sessiond.Store]. It is one round trip, or two when the partition is
// changed at the same time.
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
//
// A script costs the server more than twice as much as the two commands that it runs. So TIME
// and MGET go out one after the other, and their answers are those of a script at the time of
// TIME if nothing has changed since. Every change leaves its time in the clock record, which
// MGET reads too, so an earlier time there says that nothing has. Only a touch may leave none:
// then the record has an activity that came later, before which the session was live.
// When the answers leave a doubt, the script is run. In a cluster it always is, since TIME
// could go to another server.
func (s *Store) get(ctx context.Context, k sessiond.Key) (state, time.Time, error) {
	p := s.layout.partition(k)
	if s.target.kind != cluster {
		v, err := s.readGrouped(ctx, p.clock, p.record(k))
		if err != nil {
			return state{}, time.Time{}, err
		}
		if st, err := v.record(k); !v.doubtful(st) {
			return st, v.now, err
		}
	}
	v, err := s.readOnce(ctx, p.clock, p.record(k))
	if err != nil {
		return state{}, time.Time{}, err
	}
	st, err := v.record(k)
	return st, v.now, err
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
		args[2] = formatMS(at)
	}
	p := s.layout.partition(k)
	answer, err := s.write(ctx, &call{touchScript, []string{p.record(k), p.clock}, args})
	if err != nil {
		return sessiond.Result{}, err
	}
	r, now, err := parseTouched(k, answer)
	if err != nil {
		return sessiond.Result{}, err
	}
	res := sessiond.Result{Record: r.At(now), Now: now}
	if !r.Live(now) {
		return res, sessiond.ErrEnded
	}
	return res, nil
}

// parseTouched reads what touch returns.
func parseTouched(k sessiond.Key, answer valkey.ValkeyMessage) (*sessiond.Record, time.Time, error) {
	a, err := answer.ToArray()
	if err != nil || len(a) != 1 && len(a) != 3 {
		return nil, time.Time{}, unavailable(corrupt("answer of a script"))
	}
	now, err := parseTime(a[0])
	if err != nil {
		return nil, now, unavailable(err)
	}
	if len(a) == 1 {
		return nil, now, sessiond.ErrNotFound
	}
	st, err := decodeState(k, a[1])
	if err == nil {
		st.rec.LastActiveAt, err = parseTime(a[2])
	}
	if err != nil {
		return nil, now, unavailable(err)
	}
	return st.rec, now, nil
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
			calls = append(calls, call{readScript, []string{p.clock}, nil})
			which = append(which, nil)
			n = len(calls)
			of[p.number] = n
		}
		calls[n-1].keys = append(calls[n-1].keys, p.record(k))
		which[n-1] = append(which[n-1], i)
	}
	t := s.shift()
	answers, err := s.readAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	found := make([]fetched, len(keys))
	for n, answer := range answers {
		v, err := parseRead(t, answer, 1+len(which[n]))
		if err != nil {
			return nil, err
		}
		for j, i := range which[n] {
			found[i].now = v.now
			if v.records[j].IsNil() {
				continue
			}
			if found[i].state, err = decodeState(keys[i], v.records[j]); err != nil {
				return nil, unavailable(err)
			}
		}
	}
	return found, nil
}
