package storetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"sessiond.example/sessiond"
)

type (
	eventsFunc = func(store, context.Context, sessiond.EventQuery) (sessiond.EventBatch, error)
)

var readFaults = map[string]fault{
	"live-after-deadline": {
		wrap:  broken(wrapper{get: getLate}),
		fails: []string{"TestStore/Contract/get-deadline", "TestStore/Contract/get-ended-view"}, model: true,
	},
	"times-in-seconds": {
		wrap: broken(wrapper{get: getWithTimes(func(at time.Time) time.Time { return at.Truncate(time.Second) })}),
		fails: []string{
			"TestStore/Contract/create-stamps", "TestStore/Values/round-trip",
		},
	},
	"times-in-local-zone": {
		wrap: broken(wrapper{get: getWithTimes(func(at time.Time) time.Time {
			return at.In(time.FixedZone("local", 3600))
		})}),
		fails: []string{"TestStore/Contract/create-stamps", "TestStore/Values/round-trip"},
	},
	"scan-skips-ended": {
		wrap: broken(wrapper{scan: scanLive}),
		// What it skips also ends its walks early.
		fails: []string{"TestStore/Scan/ended"}, model: true,
	},
	"scan-repeats": {
		wrap:  broken(wrapper{scan: scanFromKey}),
		fails: []string{"TestStore/Scan/order", "TestStore/Scan/changing"}, model: true,
	},
	"forgets-data-keys-of-ended": {
		wrap:  broken(wrapper{stats: statsKeysUp()}),
		fails: []string{"TestStore/Scan/data-keys"}, model: true,
	},
	"folds-case-of-subjects": {
		wrap:  broken(wrapper{list: listFolded}),
		fails: []string{"TestStore/Values/subject"}, model: true,
	},
	"repeats-between-pages": {
		wrap:  broken(wrapper{list: listRepeating}),
		fails: []string{"TestStore/List/pages", "TestStore/List/order"}, model: true,
	},
	"skips-between-pages": {
		wrap:  broken(wrapper{list: listSkipping}),
		fails: []string{"TestStore/List/order", "TestStore/List/while-writing"}, model: true,
	},
	"lists-live-before-ended": {
		wrap:  broken(wrapper{list: listLiveFirst}),
		fails: []string{"TestStore/List/status-interleaved"}, model: true,
	},
	"needs-record-of-cursor": {
		wrap:  broken(wrapper{list: listNeedingCursor}),
		fails: []string{"TestStore/List/cursor-erased", "TestStore/List/cursor-anywhere"}, model: true,
	},
	"gives-up-after-scan": {
		wrap: broken(wrapper{list: func(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
			page, err := s.List(ctx, q)
			if len(page.Records) == 0 {
				page.Next = nil
			}
			return page, err
		}}),
		fails: []string{"TestStore/List/max-scan"},
	},
	"created-before-inclusive": {
		wrap: broken(wrapper{list: func(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
			if b := &q.Filter.CreatedBefore; !b.IsZero() {
				*b = b.Add(time.Millisecond)
			}
			return s.List(ctx, q)
		}}),
		fails: []string{"TestStore/List/created"}, model: true,
	},
	"stale-statistics": {
		wrap:  staleStats,
		fails: []string{"TestStore/Contract/stats-active"}, model: true,
	},
}

func getLate(s store, ctx context.Context, k key) (result, error) {
	res, err := s.Get(ctx, k)
	if err == nil && res.Record.EndReason.Expiry() {
		res.Record = alive(res.Record)
	}
	return res, err
}

func getWithTimes(f func(time.Time) time.Time) func(store, context.Context, key) (result, error) {
	return func(s store, ctx context.Context, k key) (result, error) {
		res, err := s.Get(ctx, k)
		if err == nil {
			r := *res.Record
			r.CreatedAt, r.ExpiresAt = f(r.CreatedAt), f(r.ExpiresAt)
			res.Record = &r
		}
		return res, err
	}
}

func listFolded(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	subject := q.Filter.Subject
	if subject == "" {
		return s.List(ctx, q)
	}
	q.Filter.Subject = ""
	page, err := s.List(ctx, q)
	page.Records = slices.DeleteFunc(page.Records, func(r *record) bool {
		return !strings.EqualFold(r.Subject, subject)
	})
	return page, err
}

func listRepeating(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	page, err := s.List(ctx, q)
	if n := len(page.Records); page.Next != nil && n > 1 {
		c := page.Records[n-2].Cursor()
		page.Next = &c
	}
	return page, err
}

func listSkipping(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	page, err := s.List(ctx, q)
	if err != nil || page.Next == nil || q.Limit < 3 {
		return page, err
	}
	next := sessiond.Query{Tenant: q.Tenant, After: page.Next, Limit: 1}
	skipped, err := s.List(ctx, next)
	if len(skipped.Records) == 1 {
		c := skipped.Records[0].Cursor()
		page.Next = &c
	}
	return page, err
}

func listLiveFirst(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	page, err := s.List(ctx, q)
	slices.SortStableFunc(page.Records, func(a, b *record) int {
		switch {
		case a.EndedAt.IsZero() == b.EndedAt.IsZero():
			return 0
		case a.EndedAt.IsZero():
			return -1
		default:
			return 1
		}
	})
	return page, err
}

func listNeedingCursor(s store, ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	if q.After != nil {
		if _, err := s.Get(ctx, key{Tenant: q.Tenant, ID: q.After.ID}); errors.Is(err, sessiond.ErrNotFound) {
			return sessiond.Page{}, nil
		}
	}
	return s.List(ctx, q)
}

func staleStats(s store) store {
	var mu sync.Mutex
	var first map[string]int64
	return broken(wrapper{stats: func(s store, ctx context.Context) (sessiond.Stats, error) {
		mu.Lock()
		defer mu.Unlock()
		stats, err := s.Stats(ctx)
		if first == nil {
			first = stats.Active
		}
		stats.Active = first
		return stats, err
	}})(s)
}

var feedFaults = map[string]fault{
	"loses-events-of-revocations": {
		wrap: broken(wrapper{update: func(s store, ctx context.Context, k key, fn changer) (result, error) {
			return s.Update(ctx, k, func(now time.Time, r *record) (sessiond.Change, error) {
				c, err := fn(now, r)
				if !r.EndedAt.IsZero() {
					c.Event = nil
				}
				return c, err
			})
		}}),
		fails: []string{"TestStore/Contract/update-ends", "TestConcurrent/revoke-update"}, model: true,
	},
	"loses-events-of-erases": {
		wrap: broken(wrapper{erase: func(s store, ctx context.Context, k key, fn eraser) error {
			return s.Erase(ctx, k, func(now time.Time, r *record) ([]sessiond.Event, error) {
				_, err := fn(now, r)
				return nil, err
			})
		}}),
		fails: []string{"TestStore/Contract/erase-live"}, model: true,
	},
	"skips-while-feed-grows": {
		wrap:  broken(wrapper{events: eventsWithHole}),
		fails: []string{"TestConcurrent/feed"},
	},
	"events-newest-first": {
		wrap:  broken(wrapper{events: changedEvents(func(b *sessiond.EventBatch) { slices.Reverse(b.Events) })}),
		fails: []string{"TestStore/Events/life"}, model: true,
	},
	"events-without-reset": {
		wrap:  broken(wrapper{events: changedEvents(func(b *sessiond.EventBatch) { b.Reset = false })}),
		fails: []string{"TestStore/Events/malformed", "TestStore/Events/foreign", "TestStore/Sweep/trims-by-age"},
		model: true,
	},
	"event-ids-repeat": {
		wrap: broken(wrapper{events: changedEvents(func(b *sessiond.EventBatch) {
			for i := range b.Events {
				b.Events[i].ID = string(b.Events[i].SessionID)
			}
		})}),
		fails: []string{"TestStore/Events/life", "TestStore/Events/reused-id"}, model: true,
	},
	"mixes-tenants-in-feed": {
		wrap: broken(wrapper{events: func(
			s store, ctx context.Context, q sessiond.EventQuery,
		) (sessiond.EventBatch, error) {
			batch, err := s.Events(ctx, q)
			if err == nil && q.After != "" && len(batch.Events) == 0 && q.Tenant == "acme" {
				q.Tenant = "other"
				return s.Events(ctx, q)
			}
			return batch, err
		}}),
		fails: []string{"TestStore/Events/skips-others"},
	},
}

func changedEvents(change func(*sessiond.EventBatch)) eventsFunc {
	return func(s store, ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
		batch, err := s.Events(ctx, q)
		change(&batch)
		return batch, err
	}
}

// eventsWithHole gives, for a full batch, the position of the end of the feed.
func eventsWithHole(s store, ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	batch, err := s.Events(ctx, q)
	if err != nil || len(batch.Events) == 0 {
		return batch, err
	}
	end, err := s.Events(ctx, sessiond.EventQuery{Tenant: q.Tenant, Limit: q.Limit})
	batch.Position = end.Position
	return batch, err
}

func scanLive(s store, ctx context.Context, after key, limit int) ([]*record, error) {
	records, err := s.Scan(ctx, after, limit)
	return slices.DeleteFunc(records, func(r *record) bool { return !r.EndedAt.IsZero() }), err
}

// scanFromKey begins with the key it should begin after.
func scanFromKey(s store, ctx context.Context, after key, limit int) ([]*record, error) {
	records, err := s.Scan(ctx, after, limit)
	if err != nil || after == (key{}) || len(records) == 0 {
		return records, err
	}
	res, err := s.Get(ctx, after)
	if err != nil {
		return records, nil
	}
	return append([]*record{res.Record}, records[:len(records)-1]...), nil
}

// statsKeysUp never counts a data key down.
func statsKeysUp() func(store, context.Context) (sessiond.Stats, error) {
	var mu sync.Mutex
	most := make(map[uint32]int64)
	return func(s store, ctx context.Context) (sessiond.Stats, error) {
		stats, err := s.Stats(ctx)
		mu.Lock()
		defer mu.Unlock()
		for k, n := range stats.DataKeys {
			most[k] = max(most[k], n)
		}
		stats.DataKeys = make(map[uint32]int64)
		for k, n := range most {
			stats.DataKeys[k] = n
		}
		return stats, err
	}
}
