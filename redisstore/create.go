package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"sessiond.example/sessiond"
)

// Create implements [sessiond.Store]. It is one round trip for guests, and two for
// sessions with a subject: their entry in its index is made first.
func (s *Store) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.end()
	r := c.Record
	if c.Imported && r.CreatedAt.UnixMilli() < 0 {
		return sessiond.Result{}, errors.New("redisstore: a session from before 1970")
	}
	evicted := 0
	for try := 0; ; try++ {
		var stamp string
		if r.Subject != "" {
			var n int
			var res sessiond.Result
			var err error
			stamp, n, res, err = s.reserve(ctx, r, c.Limit, true)
			evicted += n
			if err != nil {
				res.Evicted = evicted
				return res, err
			}
		}
		res, err := s.create(ctx, &c, stamp)
		res.Evicted = evicted
		if !errors.Is(err, errStale) {
			s.afterCreate(r, stamp, err)
			return res, err
		}
		if err := backOff(ctx, try); err != nil {
			s.afterCreate(r, stamp, err)
			return res, err
		}
	}
}

// errStale says that an entry in the subject index is too old to build on.
var errStale = errors.New("the entry in the subject index is too old")

// create runs the script.
func (s *Store) create(ctx context.Context, c *sessiond.Creation, stamp string) (sessiond.Result, error) {
	var res sessiond.Result
	r := c.Record
	p := s.layout.partition(r.Key)
	// The event's time is that of the script, so it goes without one.
	e := r.Event(sessiond.EventCreated, r.CreatedBy, c.RequestID)
	e.Time = time.Time{}
	times := []string{"", "", "", ""}
	if c.Imported {
		times = []string{
			formatMS(r.CreatedAt), formatMS(r.UpdatedAt), formatMS(r.LastActiveAt), formatMS(r.ExpiresAt),
		}
	}
	args := append([]string{
		s.clock(), string(r.Incarnation[:]), stamp, r.Tenant, string(r.ID), dataKey(r.DataKey),
		strconv.FormatInt(c.Lifetime.Milliseconds(), 10), strconv.FormatInt(r.IdleTimeout.Milliseconds(), 10),
	}, times...)
	args = append(args, encodeBody(r, nil), nonce(), encodeEvent(&e))
	answer, err := s.write(ctx, &call{createScript, []string{
		p.record(r.Key), p.clock, p.meta, p.counts, p.events, p.due, p.live(r.Tenant), p.all,
	}, args})
	if err != nil {
		return res, err
	}
	status, rest, err := parseStatus(answer)
	switch {
	case err != nil:
		return res, unknown(err)
	case status == statusStale:
		return res, errStale
	case len(rest) == 0 || status == statusOther && len(rest) != 2:
		return res, unknown(corrupt("answer of a script"))
	}
	if res.Now, err = parseTime(rest[0]); err != nil {
		return res, unknown(err)
	}
	if status == statusOther {
		holder, err := decodeState(r.Key, rest[1])
		if err != nil {
			return res, unavailable(err)
		}
		res.Record = holder.rec.At(res.Now)
		return res, sessiond.ErrExists
	}
	c.Start(res.Now)
	res.Record = r
	s.feed.poke()
	return res, nil
}

// afterCreate settles or releases the entry in the subject index, if it can tell which.
func (s *Store) afterCreate(r *sessiond.Record, stamp string, err error) {
	switch {
	case stamp == "" || errors.Is(err, sessiond.ErrUnknown):
	case err == nil:
		s.repair(r.Tenant, r.Subject, settleLive(r))
	default:
		s.repair(r.Tenant, r.Subject, release(r))
	}
}

func dataKey(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// nonce marks events, so that a reader can tell whether the feed has been rewritten since.
func nonce() string { return strconv.FormatUint(rand.Uint64(), 36) }

func unknown(err error) error { return fmt.Errorf("%w: %w", sessiond.ErrUnknown, err) }

// backOff waits a little before a write is tried again that others got ahead of.
func backOff(ctx context.Context, try int) error {
	if try < 2 {
		return ctx.Err()
	}
	pause := time.NewTimer(rand.N(min(time.Millisecond<<min(try-2, 5), 20*time.Millisecond)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
