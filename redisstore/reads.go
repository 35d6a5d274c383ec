package redisstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// Reads of single records that come while others are under way wait for each other and go
// out together: it saves both sides most of what a request costs. Each is read after its
// caller asked for it.

const (
	mostFlights = 2   // groups under way at the same time
	mostReads   = 128 // by one MGET, so that other clients get their turn
)

// A readers has the group that gathers. Its zero value is one in which nobody reads.
type readers struct {
	mu      sync.Mutex
	next    *group // nil: nobody waits
	flights int
}

// A group is a number of reads that go out together.
type group struct {
	since time.Time // when the first one was asked for
	keys  []string  // two for each read: the clock of the partition, the record
	done  chan struct{}

	// What came of it, once done is closed.
	err     error
	shift   shift
	server  valkey.ValkeyMessage   // the answer to TIME
	answers []valkey.ValkeyMessage // for each key
}

// readGrouped reads the clock of a partition and a record in it, with others that are
// read at the same time.
func (s *Store) readGrouped(ctx context.Context, clock, record string) (view, error) {
	g, n := s.joinGroup(clock, record)
	select {
	case <-g.done:
	case <-ctx.Done():
		return view{}, ctx.Err()
	}
	if g.err != nil {
		return view{}, s.readError(ctx, g.err)
	}
	return parseView(g.shift, g.server, g.answers[n:n+2])
}

// joinGroup adds a read to the group that gathers, and has it sent if it has not to wait.
// The keys are number n and n+1 of the group.
func (s *Store) joinGroup(keys ...string) (g *group, n int) {
	r := &s.readers
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &group{since: time.Now(), done: make(chan struct{})}
	}
	g, n = r.next, len(r.next.keys)
	g.keys = append(g.keys, keys...)
	if r.flights < mostFlights {
		r.flights++
		s.calls.Add(1) // the caller may go before it is done
		go s.sendGroups()
	}
	return g, n
}

// sendGroups sends groups as long as there are any.
func (s *Store) sendGroups() {
	defer s.calls.Done()
	r := &s.readers
	for {
		r.mu.Lock()
		g := r.next
		r.next = nil
		if g == nil {
			r.flights--
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		s.sendGroup(g)
		close(g.done)
	}
}

// sendGroup reads what the group asks for, in one round trip.
func (s *Store) sendGroup(g *group) {
	ctx, cancel := context.WithDeadline(context.Background(), g.since.Add(s.target.timeout))
	defer cancel()
	g.shift = s.shift()
	commands := append(make(valkey.Commands, 0, 2), s.client.B().Time().Build())
	for keys := range slices.Chunk(g.keys, 2*mostReads) {
		commands = append(commands, s.client.B().Mget().Key(keys...).Build())
	}
	results := s.client.DoMulti(ctx, commands...)
	if g.server, g.err = results[0].ToMessage(); g.err != nil {
		return
	}
	for _, res := range results[1:] {
		var answers []valkey.ValkeyMessage
		if answers, g.err = res.ToArray(); g.err != nil {
			return
		}
		g.answers = append(g.answers, answers...)
	}
	if len(g.answers) != len(g.keys) {
		g.err = corrupt("%d values for %d keys", len(g.answers), len(g.keys))
	}
}

// A view is what a client has seen of a partition: its time, and the values of records.
type view struct {
	now      time.Time
	records  []valkey.ValkeyMessage
	reliable bool // nothing but a touch came between the time and the records
}

// readOnce reads a clock and records in it in one script.
func (s *Store) readOnce(ctx context.Context, keys ...string) (view, error) {
	t := s.shift()
	answer, err := s.read(ctx, &call{readScript, keys, nil})
	if err != nil {
		return view{}, err
	}
	return parseRead(t, answer, len(keys))
}

// parseRead reads what the script returns for so many keys.
func parseRead(t shift, answer valkey.ValkeyMessage, keys int) (view, error) {
	a, err := answer.ToArray()
	if err != nil || len(a) != 2 {
		return view{}, unavailable(corrupt("answer of a script"))
	}
	values, err := a[1].ToArray()
	if err != nil || len(values) != keys {
		return view{}, unavailable(corrupt("answer of a script"))
	}
	return parseView(t, a[0], values)
}

// parseView reads the answer to TIME, and the values of a clock record and of others that were
// read together.
func parseView(t shift, server valkey.ValkeyMessage, values []valkey.ValkeyMessage) (view, error) {
	r, err := parseReading(server, values[0])
	if err != nil {
		return view{}, unavailable(err)
	}
	return view{now: r.now(t), records: values[1:], reliable: r.kept.us < r.us}, nil
}

// record is the record of a view that has one.
func (v *view) record(k sessiond.Key) (state, error) {
	if v.records[0].IsNil() {
		return state{}, sessiond.ErrNotFound
	}
	st, err := decodeState(k, v.records[0])
	if err != nil {
		return state{}, unavailable(err)
	}
	return st, nil
}

// doubtful reports whether a record that was read after the time may not be what it was then.
func (v *view) doubtful(st state) bool {
	return !v.reliable || st.rec != nil && st.rec.LastActiveAt.After(v.now)
}
