package redisstore

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// A change is what the script of that name is to do to a record.
type change struct {
	key    sessiond.Key
	old    state
	must   string           // what must hold: mustBeLive...
	stamp  string           // of the entry in the subject index, if one was made
	next   *sessiond.Record // nil: the record goes
	events []sessiond.Event
}

const (
	mustBeLive = "live"
	mustBeDue  = "due" // its deadline has passed and nothing has moved it since
	mayBeAny   = "any"
)

// errMoved says that the record is not the one that a change builds on any more.
var errMoved = errors.New("the record has changed")

// call makes the call of the script.
func (s *Store) changeCall(c *change) call {
	p := s.layout.partition(c.key)
	old := c.old.rec
	script, op, next := changeScript, "put", c.next
	if next == nil || !next.EndedAt.IsZero() {
		script = endScript
	}
	newKey, body := "0", ""
	if next == nil {
		op, next = "del", old
	} else {
		newKey, body = dataKey(next.DataKey), encodeBody(next, c.old.unknown)
	}
	ended := ""
	if !next.EndedAt.IsZero() {
		ended = formatMS(next.EndedAt)
	}
	args := make([]string, 0, 17+len(c.events))
	args = append(args, s.clock(), string(old.Incarnation[:]), strconv.FormatInt(c.old.write, 10), c.must, c.stamp, op,
		c.key.Tenant, string(c.key.ID), dataKey(old.DataKey), newKey,
		formatMS(next.UpdatedAt), formatMS(next.LastActiveAt), formatMS(next.ExpiresAt),
		strconv.FormatInt(next.IdleTimeout.Milliseconds(), 10), ended, body, nonce())
	for i := range c.events {
		args = append(args, encodeEvent(&c.events[i]))
	}
	return call{script, []string{
		p.record(c.key), p.clock, p.meta, p.counts, p.events, p.due, p.over,
		p.live(c.key.Tenant), p.ended(c.key.Tenant), p.all,
	}, args}
}

// change makes the change, or returns errMoved or errStale. The record that it leaves has
// the last activity that it returns.
func (s *Store) change(ctx context.Context, c *change) (now, active time.Time, err error) {
	script := s.changeCall(c)
	answer, err := s.write(ctx, &script)
	if err != nil {
		return now, active, err
	}
	if now, active, err = parseChange(answer); err == nil && len(c.events) > 0 {
		s.feed.poke()
	}
	return now, active, err
}

// parseChange reads what the script returns.
func parseChange(answer valkey.ValkeyMessage) (now, active time.Time, err error) {
	status, rest, err := parseStatus(answer)
	switch {
	case err != nil:
		return now, active, unknown(err)
	case status == statusOther:
		return now, active, errMoved
	case status == statusStale:
		return now, active, errStale
	case len(rest) != 2:
		return now, active, unknown(corrupt("answer of a script"))
	}
	if now, err = parseTime(rest[0]); err == nil {
		active, err = parseTime(rest[1])
	}
	if err != nil {
		return now, active, unknown(err)
	}
	return now, active, nil
}

// Update implements [sessiond.Store]. It is two round trips: read, and change what was read.
// When something else got in between it begins again. Times that fn takes from its
// argument are up to a round trip older than the change.
func (s *Store) Update(
	ctx context.Context, k sessiond.Key, fn func(now time.Time, r *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.end()
	u := updating{s: s, key: k, fn: fn}
	for try := 0; ; try++ {
		res, err := u.try(ctx)
		again := errors.Is(err, errMoved) || errors.Is(err, errStale)
		if again {
			err = backOff(ctx, try)
		}
		if !again || err != nil {
			u.finish(err)
			res.Evicted = u.evicted
			return res, err
		}
	}
}

// An updating is an update under way, over its tries.
type updating struct {
	s       *Store
	key     sessiond.Key
	fn      func(now time.Time, r *sessiond.Record) (sessiond.Change, error)
	entry   *sessiond.Record // has an entry in the index of a new subject
	evicted int
	done    *sessiond.Record // the record that the update made
	old     *sessiond.Record // the one before
}

func (u *updating) try(ctx context.Context) (sessiond.Result, error) {
	st, now, err := u.s.get(ctx, u.key)
	if err != nil {
		return sessiond.Result{}, err
	}
	res := sessiond.Result{Record: st.rec.At(now), Now: now}
	if !st.rec.Live(now) {
		return res, sessiond.ErrEnded
	}
	r := *st.rec
	asked, err := u.fn(now, &r)
	if err != nil {
		return res, err
	}
	c := change{key: u.key, old: st, must: mustBeLive, next: &r}
	if r.Subject != st.rec.Subject {
		if c.stamp, err = u.bind(ctx, &r, asked.Limit); err != nil {
			return res, err
		}
	}
	if asked.Event != nil {
		c.events = []sessiond.Event{*asked.Event}
	}
	var active time.Time
	if res.Now, active, err = u.s.change(ctx, &c); err != nil {
		return res, err
	}
	r.LastActiveAt = active
	u.done, u.old = &r, st.rec
	res.Record = &r
	return res, nil
}

// bind enters the session in the index of the subject that it gets.
func (u *updating) bind(
	ctx context.Context, r *sessiond.Record, limit sessiond.SubjectLimit,
) (stamp string, err error) {
	if u.entry != nil && u.entry.Subject != r.Subject {
		u.s.repair(u.entry.Tenant, u.entry.Subject, release(u.entry)) // of an earlier try
		u.entry = nil
	}
	if r.Subject == "" {
		return "", nil
	}
	stamp, n, _, err := u.s.reserve(ctx, r, limit, false)
	u.evicted += n
	if err == nil {
		entry := *r
		u.entry = &entry
	}
	return stamp, err
}

// finish brings the subject indexes up to date with what became of the update.
func (u *updating) finish(err error) {
	switch {
	case errors.Is(err, sessiond.ErrUnknown):
	case err != nil:
		if u.entry != nil {
			u.s.repair(u.entry.Tenant, u.entry.Subject, release(u.entry))
		}
	default:
		if u.entry != nil && u.entry.Subject == u.done.Subject {
			u.s.repair(u.done.Tenant, u.done.Subject, settleLive(u.done))
		}
		if u.old.Subject != "" && u.old.Subject != u.done.Subject {
			u.s.repair(u.old.Tenant, u.old.Subject, drop(u.old))
		}
		if !u.done.EndedAt.IsZero() && u.done.Subject != "" {
			u.s.repair(u.done.Tenant, u.done.Subject, moveEnded(u.done))
		}
	}
}

// Erase implements [sessiond.Store].
func (s *Store) Erase(
	ctx context.Context, k sessiond.Key, fn func(now time.Time, r *sessiond.Record) ([]sessiond.Event, error),
) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for try := 0; ; try++ {
		st, now, err := s.get(ctx, k)
		if err != nil {
			return err
		}
		events, err := fn(now, st.rec)
		if err != nil {
			return err
		}
		_, _, err = s.change(ctx, &change{key: k, old: st, must: mayBeAny, events: events})
		if errors.Is(err, errMoved) {
			if err := backOff(ctx, try); err != nil {
				return err
			}
			continue
		}
		if err == nil && st.rec.Subject != "" {
			s.repair(k.Tenant, st.rec.Subject, drop(st.rec))
		}
		return err
	}
}
