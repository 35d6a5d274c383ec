package redisstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// limitPatience is how long a session waits for others that are just being added to its
// subject, when there is a place for it only if they fail.
const limitPatience = time.Second

// reserve enters the session r in the index of its subject, within the limit, and returns
// the stamp of the entry. To make room it ends others, and tells how many. A creation over
// the limit finds out first whether its ID is taken.
func (s *Store) reserve(
	ctx context.Context, r *sessiond.Record, limit sessiond.SubjectLimit, creation bool,
) (stamp string, evicted int, res sessiond.Result, err error) {
	start := time.Now()
	looked := ""
	for try := 0; ; try++ {
		n, err := s.enter(ctx, r, limit.Max, looked)
		if err != nil {
			return "", evicted, res, err
		}
		if n > 0 {
			return strconv.FormatInt(n, 10), evicted, res, nil
		}
		if creation && try == 0 {
			st, now, err := s.get(ctx, r.Key)
			if err == nil {
				return "", evicted, sessiond.Result{Record: st.rec.At(now), Now: now}, sessiond.ErrExists
			}
			if !errors.Is(err, sessiond.ErrNotFound) {
				return "", evicted, res, err
			}
		}
		look, err := s.lookThrough(ctx, r)
		if err != nil {
			return "", evicted, res, err
		}
		looked = look.now
		surplus := len(look.live) + look.young - (limit.Max - 1)
		switch {
		case surplus <= 0:
			// There is room, now that the index has been looked through.
			if err := backOff(ctx, try); err != nil {
				return "", evicted, res, err
			}
		case limit.Evict && len(look.live) >= surplus:
			n, err := s.evict(ctx, look.live[len(look.live)-surplus:], limit)
			if evicted += n; err != nil {
				return "", evicted, res, err
			}
		case len(look.live) < limit.Max && time.Since(start) < limitPatience:
			// Others are being added. They may fail, or be there to be ended.
			if err := backOff(ctx, try+3); err != nil {
				return "", evicted, res, err
			}
		default:
			return "", evicted, res, sessiond.ErrLimit
		}
	}
}

// enter makes the entry if there is a place, which looking through the index before may
// have freed, and returns its stamp, or 0 or less.
func (s *Store) enter(ctx context.Context, r *sessiond.Record, most int, looked string) (int64, error) {
	keys := s.layout.subject(r.Tenant, r.Subject)
	answer, err := s.write(ctx, &call{
		reserveScript, []string{keys.pending, keys.live},
		[]string{pendingEntry(r.Incarnation, r.ID), strconv.Itoa(most), looked},
	})
	if err != nil {
		return 0, reserved(err)
	}
	stamp, err := answer.AsInt64()
	if err != nil {
		return 0, unavailable(corrupt("answer of a script"))
	}
	return stamp, nil
}

// reserved makes an unknown outcome of an entry a definite one: without its record an
// entry is nothing, and it goes by itself.
func reserved(err error) error {
	if errors.Is(err, sessiond.ErrUnknown) {
		return unavailable(errors.New(strings.TrimPrefix(err.Error(), sessiond.ErrUnknown.Error()+": ")))
	}
	return err
}

// A look is what looking through the index of a subject has found.
type look struct {
	now   string     // the server's time
	live  []verified // newest first
	young int        // sessions that are being added
}

// lookThrough compares all entries of a subject that may be live with their records and
// makes the fixes, but for the entry of r itself.
func (s *Store) lookThrough(ctx context.Context, r *sessiond.Record) (look, error) {
	const step = 1000
	var l look
	var fixes []fix
	var overdue []verified
	from := "+"
	for {
		page, err := s.readIndex(ctx, r.Tenant, r.Subject, from, "-", step)
		if err != nil {
			return l, err
		}
		entries := page.live
		if l.now == "" {
			l.now = strconv.FormatInt(page.now, 10)
			entries = append(page.pending, page.live...)
		}
		entries = slices.DeleteFunc(entries, func(e entry) bool { return e.inc == r.Incarnation && e.key == r.Key })
		found, more, err := s.verify(ctx, r.Subject, page.now, entries)
		if err != nil {
			return l, err
		}
		fixes = append(fixes, more...)
		for _, v := range found {
			switch {
			case v.young && !s.expiredEntry(page.now, v.stamp):
				l.young++
			case v.rec != nil && v.rec.Live(v.now):
				l.live = append(l.live, v)
			case v.rec != nil && v.rec.EndedAt.IsZero():
				overdue = append(overdue, v)
			}
		}
		if len(page.live) < step {
			break
		}
		from = "(" + page.live[len(page.live)-1].name
	}
	slices.SortFunc(l.live, func(a, b verified) int {
		switch {
		case a.rec.Cursor().Before(b.rec.Cursor()):
			return -1
		case b.rec.Cursor().Before(a.rec.Cursor()):
			return 1
		}
		return 0
	})
	l.live = slices.CompactFunc(l.live, func(a, b verified) bool { return a.key == b.key })
	more, err := s.confirm(ctx, overdue)
	if err != nil {
		return l, err
	}
	s.fix(ctx, r.Tenant, r.Subject, append(fixes, more...))
	return l, nil
}

// confirm returns the fixes for sessions whose deadline has passed without being written down,
// which take no place any more. It writes down the time first: were the server's clock to
// step back, they would be live again.
func (s *Store) confirm(ctx context.Context, overdue []verified) (fixes []fix, err error) {
	for _, v := range overdue {
		answer, err := s.write(ctx, &call{
			clockScript, []string{s.layout.partition(v.key).clock}, []string{s.clock()},
		})
		if err != nil {
			return nil, reserved(err)
		}
		now, err := parseTime(answer)
		if err != nil {
			return nil, unavailable(err)
		}
		if !v.rec.Live(now) {
			fixes = append(fixes, settleEnded(v.rec), moveEnded(v.rec))
		}
	}
	return fixes, nil
}

// expiredEntry reports whether a pending entry takes no place any more; see reserve.lua.
func (s *Store) expiredEntry(now int64, stamp string) bool {
	at, err := strconv.ParseInt(stamp, 10, 64)
	return err != nil || now-at > 35_000
}

// evict ends the sessions, oldest first, and tells how many were live until then.
func (s *Store) evict(ctx context.Context, victims []verified, limit sessiond.SubjectLimit) (evicted int, err error) {
	for _, v := range slices.Backward(victims) {
		r := *v.rec
		r.End(v.now, sessiond.EndLimit, "", limit.By)
		_, _, err := s.change(ctx, &change{
			key: r.Key, old: v.state, must: mustBeLive, next: &r, events: []sessiond.Event{r.EndEvent(limit.RequestID)},
		})
		switch {
		case err == nil:
			evicted++
			s.fix(ctx, r.Tenant, r.Subject, []fix{moveEnded(&r)})
		case !errors.Is(err, errMoved):
			return evicted, err
		}
	}
	return evicted, nil
}
