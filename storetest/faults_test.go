package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

type (
	store   = sessiond.Store
	key     = sessiond.Key
	record  = sessiond.Record
	result  = sessiond.Result
	changer = func(time.Time, *record) (sessiond.Change, error)
	eraser  = func(time.Time, *record) ([]sessiond.Event, error)
)

// A wrapper is a store of which some methods are replaced by wrong ones.
type wrapper struct {
	store
	create func(s store, ctx context.Context, c sessiond.Creation) (result, error)
	get    func(s store, ctx context.Context, k key) (result, error)
	update func(s store, ctx context.Context, k key, fn changer) (result, error)
	touch  func(s store, ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error)
	erase  func(s store, ctx context.Context, k key, fn eraser) error
	list   func(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error)
	scan   func(s store, ctx context.Context, after key, limit int) ([]*record, error)
	events func(s store, ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error)
	sweep  func(s store, ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error)
	stats  func(s store, ctx context.Context) (sessiond.Stats, error)
}

func (w *wrapper) Create(ctx context.Context, c sessiond.Creation) (result, error) {
	if w.create != nil {
		return w.create(w.store, ctx, c)
	}
	return w.store.Create(ctx, c)
}

func (w *wrapper) Get(ctx context.Context, k key) (result, error) {
	if w.get != nil {
		return w.get(w.store, ctx, k)
	}
	return w.store.Get(ctx, k)
}

func (w *wrapper) Update(ctx context.Context, k key, fn changer) (result, error) {
	if w.update != nil {
		return w.update(w.store, ctx, k, fn)
	}
	return w.store.Update(ctx, k, fn)
}

func (w *wrapper) Touch(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
	if w.touch != nil {
		return w.touch(w.store, ctx, k, inc, at)
	}
	return w.store.Touch(ctx, k, inc, at)
}

func (w *wrapper) Erase(ctx context.Context, k key, fn eraser) error {
	if w.erase != nil {
		return w.erase(w.store, ctx, k, fn)
	}
	return w.store.Erase(ctx, k, fn)
}

func (w *wrapper) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	if w.list != nil {
		return w.list(w.store, ctx, q)
	}
	return w.store.List(ctx, q)
}

func (w *wrapper) Scan(ctx context.Context, after key, limit int) ([]*record, error) {
	if w.scan != nil {
		return w.scan(w.store, ctx, after, limit)
	}
	return w.store.Scan(ctx, after, limit)
}

func (w *wrapper) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	if w.events != nil {
		return w.events(w.store, ctx, q)
	}
	return w.store.Events(ctx, q)
}

func (w *wrapper) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	if w.sweep != nil {
		return w.sweep(w.store, ctx, p)
	}
	return w.store.Sweep(ctx, p)
}

func (w *wrapper) Stats(ctx context.Context) (sessiond.Stats, error) {
	if w.stats != nil {
		return w.stats(w.store, ctx)
	}
	return w.store.Stats(ctx)
}

// broken makes the wrap function of a fault out of wrong methods.
func broken(w wrapper) func(store) store {
	return func(s store) store {
		c := w
		c.store = s
		return &c
	}
}

// faults are all faults by name.
var faults = merged(writeFaults, raceFaults, readFaults, feedFaults)

func merged(sets ...map[string]fault) map[string]fault {
	all := make(map[string]fault)
	for _, set := range sets {
		for name, f := range set {
			all[name] = f
		}
	}
	return all
}

var writeFaults = map[string]fault{
	"updates-ended-session": {
		wrap:  broken(wrapper{update: updateEnded}),
		fails: []string{"TestStore/Contract/update-ended"}, model: true,
	},
	"revives-on-touch": {
		wrap:  broken(wrapper{touch: touchRevives}),
		fails: []string{"TestStore/Touch/ended", "TestStore/Touch/late"}, model: true,
	},
	"upserts": {
		wrap:  broken(wrapper{create: upsert}),
		fails: []string{"TestStore/Contract/create-exists", "TestStore/Contract/create-exists-ended"}, model: true,
	},
	"writes-despite-error-of-fn": {
		wrap:  broken(wrapper{update: updateIgnoresError}),
		fails: []string{"TestStore/Contract/update-fn-error"}, model: true,
	},
	"ended-without-record": {
		wrap: broken(wrapper{update: func(s store, ctx context.Context, k key, fn changer) (result, error) {
			res, err := s.Update(ctx, k, fn)
			if errors.Is(err, sessiond.ErrEnded) {
				return result{}, err
			}
			return res, err
		}}),
		fails: []string{"TestStore/Contract/update-ended"}, model: true,
	},
	"touch-believes-the-future": {
		wrap:  broken(wrapper{touch: touchFuture}),
		fails: []string{"TestStore/Touch/future"}, model: true,
	},
	"touch-is-a-change": {
		wrap: broken(wrapper{touch: func(
			s store, ctx context.Context, k key, inc sessiond.Incarnation, at time.Time,
		) (result, error) {
			if res, err := s.Touch(ctx, k, inc, at); err != nil {
				return res, err
			}
			return s.Update(ctx, k, func(_ time.Time, r *record) (sessiond.Change, error) {
				r.Version++
				return sessiond.Change{}, nil
			})
		}}),
		fails: []string{"TestStore/Touch/present"}, model: true,
	},
	"evicts-newest": {
		wrap:  broken(wrapper{create: evictNewest}),
		fails: []string{"TestStore/Limit/evict", "TestStore/Limit/evict-several"}, model: true,
	},
	"sweeps-by-first-deadline": {
		wrap:  sweepByFirstDeadline,
		fails: []string{"TestStore/Sweep/touched", "TestStore/Sweep/touched-for-long"}, model: true,
	},
	"ignores-context": {
		wrap: broken(wrapper{create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
			return s.Create(context.WithoutCancel(ctx), c)
		}}),
		fails: []string{"TestStore/Context/cancelled", "TestStore/Context/expired"},
	},
	"answers-after-close": {
		wrap: broken(wrapper{stats: func(s store, ctx context.Context) (sessiond.Stats, error) {
			stats, err := s.Stats(ctx)
			if errors.Is(err, sessiond.ErrUnavailable) {
				return sessiond.Stats{}, nil
			}
			return stats, err
		}}),
		fails: []string{"TestStore/Closed/methods"},
	},
	"stamps-imports": {
		wrap: broken(wrapper{create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
			if c.Imported {
				c.Imported, c.Lifetime = false, c.Record.ExpiresAt.Sub(c.Record.CreatedAt)
			}
			return s.Create(ctx, c)
		}}),
		fails: []string{
			"TestStore/Import/keeps", "TestStore/Import/lists", "TestStore/Import/deadlines", "TestStore/Import/late",
			"TestStore/Import/limit",
		},
	},
	"tells-imports-as-of-their-creation": {
		wrap: broken(wrapper{events: func(s store, ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
			batch, err := s.Events(ctx, q)
			for i, e := range batch.Events {
				if res, err := s.Get(ctx, key{Tenant: e.Tenant, ID: e.SessionID}); err == nil && e.Type == sessiond.EventCreated {
					batch.Events[i].Time = res.Record.CreatedAt
				}
			}
			return batch, err
		}}),
		fails: []string{"TestStore/Import/event"},
	},
	"limits-imports": {
		wrap: broken(wrapper{create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
			if c.Imported {
				c.Limit = sessiond.SubjectLimit{Max: 2, Evict: true}
			}
			return s.Create(ctx, c)
		}}),
		fails: []string{"TestStore/Import/limit"},
	},
	"counts-versions-itself": {
		wrap: broken(wrapper{update: func(s store, ctx context.Context, k key, fn changer) (result, error) {
			return s.Update(ctx, k, func(now time.Time, r *record) (sessiond.Change, error) {
				before := r.Version
				c, err := fn(now, r)
				r.Version = min(r.Version, before+1)
				return c, err
			})
		}}),
		fails: []string{"TestStore/Import/newer"},
	},
	"folds-case-of-ids": {
		wrap: broken(wrapper{
			create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
				c.Record.Key = folded(c.Record.Key)
				return s.Create(ctx, c)
			},
			get: func(s store, ctx context.Context, k key) (result, error) { return s.Get(ctx, folded(k)) },
		}),
		fails: []string{"TestStore/Values/id"}, model: true,
	},
	"trims-subjects": {
		wrap:  broken(wrapper{create: createWithSubject(func(s string) string { return strings.TrimRight(s, " ") })}),
		fails: []string{"TestStore/Values/subject"},
	},
	"normalizes-subjects": {
		wrap: broken(wrapper{create: createWithSubject(func(s string) string {
			return strings.ReplaceAll(s, "e\u0301", "\u00e9")
		})}),
		fails: []string{"TestStore/Values/subject"},
	},
	"cuts-data-at-nul": {
		wrap: broken(wrapper{create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
			c.Record.Data, _, _ = bytes.Cut(c.Record.Data, []byte{0})
			return s.Create(ctx, c)
		}}),
		fails: []string{"TestStore/Values/data", "TestStore/Values/largest"},
	},
}

func folded(k key) key { return key{Tenant: k.Tenant, ID: sessiond.ID(strings.ToLower(string(k.ID)))} }

func createWithSubject(f func(string) string) func(store, context.Context, sessiond.Creation) (result, error) {
	return func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
		c.Record.Subject = f(c.Record.Subject)
		return s.Create(ctx, c)
	}
}

// alive is r without its end.
func alive(r *record) *record {
	c := *r
	c.EndedAt, c.EndReason, c.EndNote, c.EndedBy = time.Time{}, "", "", sessiond.Actor{}
	return &c
}

func updateEnded(s store, ctx context.Context, k key, fn changer) (result, error) {
	res, err := s.Update(ctx, k, fn)
	if !errors.Is(err, sessiond.ErrEnded) {
		return res, err
	}
	r := alive(res.Record)
	if _, err := fn(res.Now, r); err != nil {
		return res, err
	}
	return result{Record: r, Now: res.Now}, nil
}

// write puts r into s whatever is there.
func write(s store, ctx context.Context, r *record, lifetime time.Duration) (result, error) {
	silent := func(time.Time, *record) ([]sessiond.Event, error) { return nil, nil }
	if err := s.Erase(ctx, r.Key, silent); err != nil && !errors.Is(err, sessiond.ErrNotFound) {
		return result{}, err
	}
	return s.Create(ctx, sessiond.Creation{Record: r, Lifetime: lifetime})
}

func touchRevives(s store, ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
	res, err := s.Touch(ctx, k, inc, at)
	if !errors.Is(err, sessiond.ErrEnded) {
		return res, err
	}
	return write(s, ctx, alive(res.Record), time.Hour)
}

func upsert(s store, ctx context.Context, c sessiond.Creation) (result, error) {
	res, err := s.Create(ctx, c)
	if errors.Is(err, sessiond.ErrExists) {
		return write(s, ctx, c.Record, c.Lifetime)
	}
	return res, err
}

func updateIgnoresError(s store, ctx context.Context, k key, fn changer) (result, error) {
	var refused error
	var before record
	res, err := s.Update(ctx, k, func(now time.Time, r *record) (sessiond.Change, error) {
		before = *r
		var c sessiond.Change
		c, refused = fn(now, r)
		return c, nil
	})
	if refused != nil {
		return result{Record: &before, Now: res.Now}, refused
	}
	return res, err
}

func touchFuture(s store, ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
	res, err := s.Touch(ctx, k, inc, at)
	if err != nil || !at.After(res.Now) {
		return res, err
	}
	return s.Update(ctx, k, func(_ time.Time, r *record) (sessiond.Change, error) {
		r.LastActiveAt = at
		return sessiond.Change{}, nil
	})
}

func evictNewest(s store, ctx context.Context, c sessiond.Creation) (result, error) {
	l := c.Limit
	if !l.Evict || l.Max == 0 || c.Record.Subject == "" {
		return s.Create(ctx, c)
	}
	q := sessiond.Query{Tenant: c.Record.Tenant, Limit: 100}
	q.Filter = sessiond.Filter{Subject: c.Record.Subject, ActiveOnly: true}
	page, err := s.List(ctx, q)
	if err != nil {
		return result{}, err
	}
	c.Limit = sessiond.SubjectLimit{}
	res, err := s.Create(ctx, c)
	for i := 0; err == nil && i <= len(page.Records)-l.Max; i++ {
		_, err = s.Update(ctx, page.Records[i].Key, func(now time.Time, r *record) (sessiond.Change, error) {
			r.End(now, sessiond.EndLimit, "", l.By)
			e := r.EndEvent(l.RequestID)
			return sessiond.Change{Event: &e}, nil
		})
		res.Evicted++
	}
	return res, err
}

// sweepByFirstDeadline ends sessions at the idle deadline they were created
// with, as a sweeper does that trusts a stale index.
func sweepByFirstDeadline(s store) store {
	var mu sync.Mutex
	deadlines := make(map[key]time.Time)
	return broken(wrapper{
		create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
			res, err := s.Create(ctx, c)
			if err == nil {
				mu.Lock()
				deadlines[res.Record.Key] = res.Record.Deadline()
				mu.Unlock()
			}
			return res, err
		},
		sweep: func(s store, ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
			mu.Lock()
			defer mu.Unlock()
			ended := 0
			for k, deadline := range deadlines {
				_, err := s.Update(ctx, k, func(now time.Time, r *record) (sessiond.Change, error) {
					if now.Before(deadline) {
						return sessiond.Change{}, errors.New("not yet")
					}
					r.End(deadline, sessiond.EndIdle, "", sessiond.Actor{})
					e := r.EndEvent("")
					return sessiond.Change{Event: &e}, nil
				})
				if err == nil {
					ended++
				}
			}
			res, err := s.Sweep(ctx, p)
			res.Idle += ended
			return res, err
		},
	})(s)
}

var raceFaults = map[string]fault{
	"loses-updates": {
		wrap:  broken(wrapper{update: updateLosing}),
		fails: []string{"TestConcurrent/update-update"},
	},
	"touch-undoes-revocation": {
		wrap:  broken(wrapper{touch: touchUndoing}),
		fails: []string{"TestConcurrent/revoke-touch"},
	},
	"counts-then-creates": {
		wrap:  broken(wrapper{create: countThenCreate}),
		fails: []string{"TestConcurrent/limit-reject"},
	},
	"looks-then-creates": {
		wrap: broken(wrapper{create: func(s store, ctx context.Context, c sessiond.Creation) (result, error) {
			if res, err := s.Get(ctx, c.Record.Key); err == nil {
				return res, sessiond.ErrExists
			}
			time.Sleep(window)
			return upsert(s, ctx, c)
		}}),
		fails: []string{"TestConcurrent/create-create"},
	},
}

// window is how long the gap between two steps that should be one is held open.
const window = 200 * time.Microsecond

// updateLosing reads, thinks and overwrites.
func updateLosing(s store, ctx context.Context, k key, fn changer) (result, error) {
	res, err := s.Get(ctx, k)
	if err != nil {
		return res, err
	}
	if !res.Record.EndedAt.IsZero() {
		return res, sessiond.ErrEnded
	}
	after := *res.Record
	change, err := fn(res.Now, &after)
	if err != nil {
		return res, err
	}
	time.Sleep(window)
	return s.Update(ctx, k, func(_ time.Time, r *record) (sessiond.Change, error) {
		*r = after
		return change, nil
	})
}

// touchUndoing reads the session and writes it back with its new activity.
func touchUndoing(s store, ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
	before, err := s.Get(ctx, k)
	if err != nil || !before.Record.EndedAt.IsZero() {
		return s.Touch(ctx, k, inc, at)
	}
	time.Sleep(window)
	res, err := s.Touch(ctx, k, inc, at)
	if errors.Is(err, sessiond.ErrEnded) {
		r := *before.Record
		return write(s, ctx, &r, time.Hour)
	}
	return res, err
}

func countThenCreate(s store, ctx context.Context, c sessiond.Creation) (result, error) {
	l := c.Limit
	if l.Evict || l.Max == 0 || c.Record.Subject == "" {
		return s.Create(ctx, c)
	}
	q := sessiond.Query{Tenant: c.Record.Tenant, Limit: 100}
	q.Filter = sessiond.Filter{Subject: c.Record.Subject, ActiveOnly: true}
	page, err := s.List(ctx, q)
	if err != nil {
		return result{}, err
	}
	if slices.ContainsFunc(page.Records, func(r *record) bool { return r.Key == c.Record.Key }) {
		return s.Create(ctx, c)
	}
	if len(page.Records) >= l.Max {
		return result{}, sessiond.ErrLimit
	}
	time.Sleep(window)
	c.Limit = sessiond.SubjectLimit{}
	return s.Create(ctx, c)
}
