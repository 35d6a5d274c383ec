package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
)

type (
	key     = sessiond.Key
	record  = sessiond.Record
	result  = sessiond.Result
	changer = func(time.Time, *record) (sessiond.Change, error)
	eraser  = func(time.Time, *record) ([]sessiond.Event, error)
)

// A wrapper is a store of which some methods are wrong.
type wrapper struct {
	sessiond.Store
	create func(ctx context.Context, c sessiond.Creation) (result, error)
	get    func(ctx context.Context, k key) (result, error)
	update func(ctx context.Context, k key, fn changer) (result, error)
	touch  func(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error)
	list   func(ctx context.Context, q sessiond.Query) (sessiond.Page, error)
	events func(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error)
}

func (w *wrapper) Create(ctx context.Context, c sessiond.Creation) (result, error) {
	if w.create != nil {
		return w.create(ctx, c)
	}
	return w.Store.Create(ctx, c)
}

func (w *wrapper) Get(ctx context.Context, k key) (result, error) {
	if w.get != nil {
		return w.get(ctx, k)
	}
	return w.Store.Get(ctx, k)
}

func (w *wrapper) Update(ctx context.Context, k key, fn changer) (result, error) {
	if w.update != nil {
		return w.update(ctx, k, fn)
	}
	return w.Store.Update(ctx, k, fn)
}

func (w *wrapper) Touch(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
	if w.touch != nil {
		return w.touch(ctx, k, inc, at)
	}
	return w.Store.Touch(ctx, k, inc, at)
}

func (w *wrapper) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	if w.list != nil {
		return w.list(ctx, q)
	}
	return w.Store.List(ctx, q)
}

func (w *wrapper) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	if w.events != nil {
		return w.events(ctx, q)
	}
	return w.Store.Events(ctx, q)
}

// A bug makes one replica wrong, or both, and must be found with a complaint.
type bug struct {
	breaks func(w *wrapper, s sessiond.Store)
	onlyB  bool
	// rare bugs show only at deadlines or when seldom operations meet.
	rare bool
	rule consistency.Rule
	says string // regular expression
}

// TestBroken has stores with one bug each and wants the checker to find it.
func TestBroken(t *testing.T) {
	all := maps.Clone(bugs)
	maps.Copy(all, feedBugs)
	for name, b := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quick(func(t testing.TB) (sessiond.Store, sessiond.Store) {
				s, _ := memory(t)
				broken := &wrapper{Store: s}
				b.breaks(broken, s)
				if b.onlyB {
					return s, broken
				}
				return broken, broken
			})
			cfg.For, cfg.Least = 1800*time.Millisecond, 6000
			if !b.rare {
				cfg.For, cfg.Ops, cfg.Least = time.Second, 4000, 2000
			}
			r := consistency.Check(consistency.Record(t, cfg))
			says := regexp.MustCompile(b.says)
			if !slices.ContainsFunc(r.Violations, func(v consistency.Violation) bool {
				return v.Rule == b.rule && says.MatchString(v.Text)
			}) {
				t.Errorf("no violation of rule %q says %q: %v", b.rule, b.says, r.Err())
			}
		})
	}
}

// often is true once in n calls.
func often(n int) bool { return rand.IntN(n) == 0 }

// window is how long the gap between two steps that should be one is held open.
func window() { time.Sleep(rand.N(2 * time.Millisecond)) }

// overwrite puts r in place of what s has, live or not.
func overwrite(ctx context.Context, s sessiond.Store, r *record) (result, error) {
	silent := func(time.Time, *record) ([]sessiond.Event, error) { return nil, nil }
	if err := s.Erase(ctx, r.Key, silent); err != nil && !errors.Is(err, sessiond.ErrNotFound) {
		return result{}, err
	}
	c := *r
	return s.Create(ctx, sessiond.Creation{Record: &c, Imported: true})
}

// alive is r without its end.
func alive(r *record) *record {
	c := *r
	c.EndedAt, c.EndReason, c.EndNote, c.EndedBy = time.Time{}, "", "", sessiond.Actor{}
	return &c
}

// bugs of sessions and of the clock.
var bugs = map[string]bug{
	"last-writer-wins": {
		rule: consistency.Linearizable,
		says: `is shown with (version|data)|not as asked for|that it was to change|is refused, but its`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.update = func(ctx context.Context, k key, fn changer) (result, error) {
				before, err := s.Get(ctx, k)
				if err != nil || !before.Record.EndedAt.IsZero() {
					return s.Update(ctx, k, fn)
				}
				after := *before.Record
				change, err := fn(before.Now, &after)
				if err != nil {
					return before, err
				}
				window()
				return s.Update(ctx, k, func(_ time.Time, r *record) (sessiond.Change, error) {
					*r = after
					return change, nil
				})
			}
		},
	},
	"update-revives": {
		rare: true,
		rule: consistency.Linearizable,
		says: `although it (had|was) ended`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.update = func(ctx context.Context, k key, fn changer) (result, error) {
				res, err := s.Update(ctx, k, fn)
				if !errors.Is(err, sessiond.ErrEnded) || !often(3) {
					return res, err
				}
				r := alive(res.Record)
				r.ExpiresAt = res.Now.Add(time.Hour)
				if _, err := fn(res.Now, r); err != nil {
					return res, err
				}
				return overwrite(ctx, s, r)
			}
		},
	},
	"touch-revives-erased": {
		rare: true,
		rule: consistency.Linearizable,
		says: `it was absent|create(d)? .*exist|created twice`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.touch = func(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
				before, err := s.Get(ctx, k)
				time.Sleep(rand.N(5 * time.Millisecond))
				res, gone := s.Touch(ctx, k, inc, at)
				if err == nil && before.Record.EndedAt.IsZero() && errors.Is(gone, sessiond.ErrNotFound) && at.IsZero() {
					return overwrite(ctx, s, before.Record)
				}
				return res, gone
			}
		},
	},
	"stale-reads": {
		rule: consistency.Linearizable, onlyB: true,
		says: `is shown with|although it (had|was) ended|is not found|is shown as`,
		breaks: func(w *wrapper, s sessiond.Store) {
			var mu sync.Mutex
			type entry struct {
				result
				until time.Time
			}
			cache := make(map[key]entry)
			w.get = func(ctx context.Context, k key) (result, error) {
				mu.Lock()
				defer mu.Unlock()
				if e, ok := cache[k]; ok && time.Now().Before(e.until) {
					res, err := s.Stats(ctx)
					return result{Record: e.Record.At(res.Now), Now: res.Now}, err
				}
				res, err := s.Get(ctx, k)
				if err == nil {
					cache[k] = entry{res, time.Now().Add(5 * time.Millisecond)}
				}
				return res, err
			}
		},
	},
	"touch-undoes-updates": {
		rule: consistency.Linearizable,
		says: `is shown with (version|data|label)|is refused, but its version`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.touch = func(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
				before, err := s.Get(ctx, k)
				if err != nil || !before.Record.EndedAt.IsZero() || !at.IsZero() {
					return s.Touch(ctx, k, inc, at)
				}
				window()
				return s.Update(ctx, k, func(now time.Time, r *record) (sessiond.Change, error) {
					*r = *before.Record
					r.LastActiveAt = now
					return sessiond.Change{}, nil
				})
			}
		},
	},
	"retries-applied-writes": {
		rule: consistency.Feed,
		says: `was changed 2 times by one operation`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.update = func(ctx context.Context, k key, fn changer) (result, error) {
				res, err := s.Update(ctx, k, fn)
				if err == nil && often(5) { // the reply was lost, and it tries again
					if again, err := s.Update(ctx, k, fn); err == nil {
						return again, nil
					}
				}
				return res, err
			}
		},
	},
	"wall-clock-of-replica": {
		rule: consistency.Clock, onlyB: true,
		says: `ran backwards|not one clock`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.get = func(ctx context.Context, k key) (result, error) {
				res, err := s.Get(ctx, k)
				if err == nil {
					res.Now = res.Now.Add(200 * time.Millisecond)
					res.Record = res.Record.At(res.Now)
				}
				return res, err
			}
		},
	},
	"judges-by-wall-clock-ahead": {
		rare: true,
		rule: consistency.Linearizable, onlyB: true,
		says: `is answered as ended, but it was live|refuses the token`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.get = func(ctx context.Context, k key) (result, error) {
				res, err := s.Get(ctx, k)
				if err == nil {
					res.Record = res.Record.At(res.Now.Add(300 * time.Millisecond))
				}
				return res, err
			}
		},
	},
	"judges-by-wall-clock-behind": {
		rare: true,
		rule: consistency.Linearizable, onlyB: true,
		says: `but its deadline .* had passed|although it (had|was) ended \((idle|absolute)\)`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.get = func(ctx context.Context, k key) (result, error) {
				res, err := s.Get(ctx, k)
				if err == nil && res.Record.EndReason.Expiry() && res.Now.Sub(res.Record.EndedAt) < 300*time.Millisecond {
					r := alive(res.Record)
					r.Version--
					r.UpdatedAt = r.CreatedAt
					res.Record = r
				}
				return res, err
			}
		},
	},
	"touches-after-the-deadline": {
		rare: true,
		rule: consistency.Linearizable,
		says: `although it (had|was) ended \(idle\)|is shown with its last activity|as revoked|as active`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.touch = func(ctx context.Context, k key, inc sessiond.Incarnation, at time.Time) (result, error) {
				before, err := s.Get(ctx, k)
				if err != nil || !before.Record.EndedAt.IsZero() || !at.IsZero() {
					return s.Touch(ctx, k, inc, at)
				}
				time.Sleep(3 * time.Millisecond) // decided, not yet written
				res, err := s.Touch(ctx, k, inc, before.Now)
				if errors.Is(err, sessiond.ErrEnded) && res.Record.EndReason == sessiond.EndIdle {
					r := *before.Record
					r.LastActiveAt = before.Now
					return overwrite(ctx, s, &r)
				}
				return res, err
			}
		},
	},
	"acknowledges-nothing": {
		rule: consistency.Linearizable,
		says: `is shown with|is refused, but its version|never told of it|as active`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.update = func(ctx context.Context, k key, fn changer) (result, error) {
				if !often(50) {
					return s.Update(ctx, k, fn)
				}
				res, err := s.Get(ctx, k)
				if err != nil || !res.Record.EndedAt.IsZero() {
					return s.Update(ctx, k, fn)
				}
				after := *res.Record
				_, err = fn(res.Now, &after)
				return result{Record: &after, Now: res.Now}, err
			}
		},
	},
	"loses-revocations": {
		rule: consistency.Linearizable,
		says: `although it (had|was) ended \((revoked|logout|security)\)|never told`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.update = func(ctx context.Context, k key, fn changer) (result, error) {
				ends := errors.New("ends")
				res, err := s.Update(ctx, k, func(now time.Time, r *record) (sessiond.Change, error) {
					c, err := fn(now, r)
					if err == nil && c.Event != nil && c.Event.Type == sessiond.EventRevoked && often(4) {
						return c, ends
					}
					return c, err
				})
				if errors.Is(err, ends) {
					return res, nil
				}
				return res, err
			}
		},
	},
	"unavailable-though-applied": {
		rule: consistency.Feed,
		says: `answered as not applied`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.update = func(ctx context.Context, k key, fn changer) (result, error) {
				res, err := s.Update(ctx, k, fn)
				if err == nil && often(100) {
					return result{}, fmt.Errorf("%w: reply lost", sessiond.ErrUnavailable)
				}
				return res, err
			}
		},
	},
	"list-misses-sessions": {
		rule: consistency.Linearizable,
		says: `is missing from a list`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.list = func(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
				page, err := s.List(ctx, q)
				if len(page.Records) > 1 && often(3) {
					page.Records = page.Records[1:]
				}
				return page, err
			}
		},
	},
	"create-takes-a-moment": { // it looks and then creates, so two may succeed
		rule: consistency.Linearizable,
		says: `created twice|is created over|is shown`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.create = func(ctx context.Context, c sessiond.Creation) (result, error) {
				if res, err := s.Get(ctx, c.Record.Key); err == nil {
					return res, sessiond.ErrExists
				}
				window()
				res, err := s.Create(ctx, c)
				if errors.Is(err, sessiond.ErrExists) {
					r := *c.Record
					r.CreatedAt, r.UpdatedAt, r.LastActiveAt = res.Now, res.Now, res.Now
					r.ExpiresAt = res.Now.Add(c.Lifetime)
					return overwrite(ctx, s, &r)
				}
				return res, err
			}
		},
	},
	"wrong-errors": {
		rule: consistency.Answers,
		says: `error of no contract`,
		breaks: func(w *wrapper, s sessiond.Store) {
			w.get = func(ctx context.Context, k key) (result, error) {
				if often(200) {
					return result{}, context.DeadlineExceeded // of the store's own making
				}
				return s.Get(ctx, k)
			}
		},
	},
}
