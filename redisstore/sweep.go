package redisstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

const (
	// leaseTime is for how long a pass makes this store the one that sweeps.
	leaseTime = 5 * time.Second
	// countTo is where the count of the backlog stops.
	countTo = 10_000
	// lookAt is how many entries of the backlog are compared with their records.
	lookAt = 100
)

// Sweep implements [sessiond.Store]. Among the stores on one server the one that has the
// lease sweeps; another takes over within 5 seconds of its last pass.
func (s *Store) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.SweepResult{}, err
	}
	defer s.end()
	if !s.sweeps.TryLock() {
		return sessiond.SweepResult{}, nil
	}
	defer s.sweeps.Unlock()
	if ours, err := s.lease(ctx, leaseTime); !ours || err != nil {
		return sessiond.SweepResult{}, err
	}
	s.leased.Store(true)
	p.Limit = max(1, p.Limit)
	sw := &sweep{s: s, ctx: ctx, p: p}
	err := sw.run()
	return sw.res, err
}

// lease takes or renews the lease, or with 0 gives it up.
func (s *Store) lease(ctx context.Context, d time.Duration) (ours bool, err error) {
	w := s.writeAll(ctx, []call{{
		leaseScript, []string{s.layout.lease}, []string{s.token, strconv.FormatInt(d.Milliseconds(), 10)},
	}})[0]
	if w.err != nil {
		return false, reserved(w.err)
	}
	n, err := w.answer.AsInt64()
	if err != nil {
		return false, unavailable(corrupt("answer of a script"))
	}
	return n == 1, nil
}

// releaseLease lets another store sweep at once. If it fails, the lease runs out.
func (s *Store) releaseLease() {
	if s.leased.Load() {
		_, _ = s.lease(context.Background(), 0)
	}
}

// A sweep is one pass.
type sweep struct {
	s     *Store
	ctx   context.Context
	p     sessiond.SweepParams
	peeks []peek // by partition
	res   sessiond.SweepResult
}

// A peek is what there is to do in a partition.
type peek struct {
	now       time.Time
	due       []filed // the first ones
	dueCount  int64
	over      []filed // the first ones
	overCount int64
	last      uint64    // number of the last event
	trimmed   uint64    // number of the last one trimmed
	oldest    time.Time // of the oldest event kept; zero: none
	behind    bool      // the server's clock is behind the partition's
}

// A filed is an entry of the sweeper's indexes.
type filed struct {
	key    sessiond.Key
	member string
	at     int64
}

func (sw *sweep) run() error {
	if err := sw.peek(); err != nil {
		return err
	}
	due := sw.first(func(p *peek) []filed { return p.due })
	over := sw.first(func(p *peek) []filed { return p.over })
	if err := sw.endDue(due); err != nil {
		return err
	}
	if err := sw.removeOver(over); err != nil {
		return err
	}
	if err := sw.trim(); err != nil {
		return err
	}
	if err := sw.keepClocks(); err != nil {
		return err
	}
	if len(due)+len(over) == 0 {
		return nil
	}
	if err := sw.peek(); err != nil {
		return err
	}
	return sw.backlog()
}

// peek looks into all partitions in one go.
func (sw *sweep) peek() error {
	limit := strconv.Itoa(min(sw.p.Limit, sw.p.Limit/(partitions/4)+8))
	retention := strconv.FormatInt(sw.p.Retention.Milliseconds(), 10)
	calls := make([]call, partitions)
	for i := range calls {
		p := &sw.s.layout.sessions[i]
		calls[i] = call{
			peekScript, []string{p.clock, p.meta, p.due, p.over, p.events}, []string{sw.s.clock(), limit, retention},
		}
	}
	answers, err := sw.s.readAll(sw.ctx, calls)
	if err != nil {
		return err
	}
	sw.peeks = make([]peek, partitions)
	for i, answer := range answers {
		if sw.peeks[i], err = parsePeek(answer); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

func parsePeek(answer valkey.ValkeyMessage) (p peek, err error) {
	a, err := answer.ToArray()
	if err != nil || len(a) != 9 {
		return p, corrupt("answer of a script")
	}
	numbers := make([]int64, len(a))
	for _, i := range []int{0, 2, 4, 5, 6, 8} {
		n, failed := a[i].AsInt64()
		err = errors.Join(err, failed)
		numbers[i] = n
	}
	p.now, p.dueCount, p.overCount = fromMS(numbers[0]), numbers[2], numbers[4]
	p.last, p.trimmed = uint64(numbers[5]), uint64(numbers[6])
	p.behind = numbers[8] < numbers[0]
	if !a[7].IsNil() {
		oldest, failed := a[7].AsInt64()
		err = errors.Join(err, failed)
		p.oldest = fromMS(oldest)
	}
	if err != nil {
		return p, corrupt("answer of a script")
	}
	if p.due, err = parseFiled(a[1]); err != nil {
		return p, err
	}
	p.over, err = parseFiled(a[3])
	return p, err
}

func parseFiled(m valkey.ValkeyMessage) ([]filed, error) {
	pairs, err := m.AsStrSlice()
	if err != nil {
		return nil, corrupt("answer of a script")
	}
	entries := make([]filed, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		at, err := strconv.ParseFloat(pairs[i+1], 64)
		if err != nil {
			return nil, corrupt("time in an index of the sweeper")
		}
		k, err := parseMember(pairs[i])
		if err != nil {
			return nil, err
		}
		entries = append(entries, filed{k, pairs[i], int64(at)})
	}
	return entries, nil
}

// first are the entries of all partitions that are due first, at most as many as a pass
// may act on.
func (sw *sweep) first(of func(*peek) []filed) []filed {
	var all []filed
	for i := range sw.peeks {
		all = append(all, of(&sw.peeks[i])...)
	}
	slices.SortFunc(all, func(a, b filed) int { return int(min(max(a.at-b.at, -1), 1)) })
	return all[:min(len(all), sw.p.Limit)]
}

func keysOf(entries []filed) []sessiond.Key {
	keys := make([]sessiond.Key, len(entries))
	for i := range entries {
		keys[i] = entries[i].key
	}
	return keys
}

// endDue ends the sessions whose deadline has passed, and files those again that were
// touched since.
func (sw *sweep) endDue(due []filed) error {
	records, err := sw.s.fetch(sw.ctx, keysOf(due))
	if err != nil {
		return err
	}
	var again []filed
	var changes []change
	for i, f := range records {
		if f.rec == nil || !f.rec.EndedAt.IsZero() || f.rec.Live(f.now) {
			again = append(again, due[i])
			continue
		}
		over := *f.rec
		over.Expire()
		changes = append(changes, change{
			key: over.Key, old: f.state, must: mustBeDue, next: &over, events: []sessiond.Event{over.EndEvent("")},
		})
	}
	if err := sw.refile(again); err != nil {
		return err
	}
	done, err := sw.make(changes)
	for _, c := range done {
		if c.next.EndReason == sessiond.EndIdle {
			sw.res.Idle++
		} else {
			sw.res.Absolute++
		}
	}
	if len(done) > 0 {
		sw.s.feed.poke()
	}
	if fixed := sw.fixSubjects(done, moveEnded); err == nil {
		err = fixed // or readers fix it
	}
	return err
}

// make makes the changes, and returns those that were made. The others were not, because
// the record has changed, or there is an error.
func (sw *sweep) make(changes []change) (done []change, err error) {
	const batch = 128
	for part := range slices.Chunk(changes, batch) {
		calls := make([]call, len(part))
		for i := range part {
			calls[i] = sw.s.changeCall(&part[i])
		}
		for i, w := range sw.s.writeAll(sw.ctx, calls) {
			failed := w.err
			if failed == nil {
				_, _, failed = parseChange(w.answer)
			}
			switch {
			case failed == nil:
				done = append(done, part[i])
			case !errors.Is(failed, errMoved) && err == nil:
				err = failed
			}
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// fixSubjects fixes the entries of the sessions in the indexes of their subjects.
func (sw *sweep) fixSubjects(changes []change, how func(*sessiond.Record) fix) error {
	type subject struct{ tenant, name string }
	fixes := make(map[subject][]fix)
	for _, c := range changes {
		r := c.old.rec
		if c.next != nil {
			r = c.next
		}
		if r.Subject != "" {
			name := subject{r.Tenant, r.Subject}
			fixes[name] = append(fixes[name], how(r))
		}
	}
	calls := make([]call, 0, len(fixes))
	for name, f := range fixes {
		calls = append(calls, sw.s.settleCall(name.tenant, name.name, f))
	}
	const batch = 128
	for part := range slices.Chunk(calls, batch) {
		for _, w := range sw.s.writeAll(sw.ctx, part) {
			if w.err != nil {
				return reserved(w.err)
			}
		}
	}
	return nil
}

// refile files records by what their heads say.
func (sw *sweep) refile(entries []filed) error {
	var calls []call
	var of [partitions]int
	for _, e := range entries {
		p := sw.s.layout.partition(e.key)
		n := of[p.number]
		if n == 0 {
			calls = append(calls, call{refileScript, []string{p.due, p.over}, nil})
			n = len(calls)
			of[p.number] = n
		}
		calls[n-1].keys = append(calls[n-1].keys, p.record(e.key))
		calls[n-1].args = append(calls[n-1].args, e.member)
	}
	for _, w := range sw.s.writeAll(sw.ctx, calls) {
		if w.err != nil {
			return reserved(w.err)
		}
	}
	return nil
}

// removeOver removes records that retention has released. Their entries in the indexes of
// their subjects go first, so that none is left behind.
func (sw *sweep) removeOver(over []filed) error {
	records, err := sw.s.fetch(sw.ctx, keysOf(over))
	if err != nil {
		return err
	}
	var again []filed
	var changes []change
	for i, f := range records {
		if f.rec == nil || f.rec.EndedAt.IsZero() || f.rec.EndedAt.After(f.now.Add(-sw.p.Retention)) {
			again = append(again, over[i])
			continue
		}
		changes = append(changes, change{key: f.rec.Key, old: f.state, must: mayBeAny})
	}
	if err := sw.refile(again); err != nil {
		return err
	}
	if err := sw.fixSubjects(changes, drop); err != nil {
		return err
	}
	done, err := sw.make(changes)
	sw.res.Removed += len(done)
	return err
}

// keepClocks writes down the time where the server's clock is behind, so that it goes on.
func (sw *sweep) keepClocks() error {
	var calls []call
	for i := range sw.peeks {
		if sw.peeks[i].behind {
			calls = append(calls, call{clockScript, []string{sw.s.layout.sessions[i].clock}, []string{sw.s.clock()}})
		}
	}
	for _, w := range sw.s.writeAll(sw.ctx, calls) {
		if w.err != nil {
			return reserved(w.err)
		}
	}
	return nil
}

// backlog counts what is left and tells how late it is.
func (sw *sweep) backlog() error {
	var due, over int64
	var first []filed
	for i := range sw.peeks {
		due += sw.peeks[i].dueCount
		over += sw.peeks[i].overCount
		first = append(first, sw.peeks[i].due...)
	}
	sw.res.More = due+over > 0
	slices.SortFunc(first, func(a, b filed) int { return int(min(max(a.at-b.at, -1), 1)) })
	first = first[:min(len(first), lookAt)]
	records, err := sw.s.fetch(sw.ctx, keysOf(first))
	if err != nil {
		return err
	}
	for _, f := range records {
		if f.rec == nil || !f.rec.EndedAt.IsZero() || f.rec.Live(f.now) {
			due--
			continue
		}
		sw.res.Lag = max(sw.res.Lag, f.now.Sub(f.rec.Deadline()))
	}
	sw.res.Backlog = int(min(max(due, 0), countTo))
	return nil
}
