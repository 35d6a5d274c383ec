package redisstore_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/consistency"
	"sessiond.example/sessiond/redisstore"
)

// TestConsistencyFindsBugs puts one known bug at a time into a store on a real server
// and wants it to be found.
func TestConsistencyFindsBugs(t *testing.T) {
	for name, bug := range map[string]struct {
		open func(t testing.TB, url string) (a, b sessiond.Store)
		rule consistency.Rule
		says string
	}{
		"upsert": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				a, b = replicas(t, url, url)
				return &upserting{a}, &upserting{b}
			},
			rule: consistency.Linearizable, says: `is created twice|is created over a session that had ended`,
		},
		"clock-of-replica": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				wrong := func() time.Duration { return 300 * time.Millisecond }
				return open(t, url, nil), open(t, url, &redisstore.Options{Skew: wrong})
			},
			rule: consistency.Clock, says: `ran backwards|not one clock`,
		},
		"retried-writes": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				a, b = replicas(t, url, url)
				return &consistency.Retrying{Store: a}, &consistency.Retrying{Store: b}
			},
			rule: consistency.Feed, says: `was changed 2 times by one operation|for an operation that was answered as|which came again as`,
		},
		"pruned-fresh-entry": {
			open: func(t testing.TB, url string) (a, b sessiond.Store) {
				s := open(t, url, nil)
				p := &pruning{Store: s}
				t.Cleanup(p.readers.Wait) // before the store is closed
				return p, p
			},
			rule: consistency.Linearizable, says: `is missing from a list|its bulk revoke passed it over`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := withPrefix(singleURL(t))
			r := consistency.Check(consistency.Record(t, consistency.Config{
				For: 1500 * time.Millisecond, Least: 2000,
				Open: func(t testing.TB) (a, b sessiond.Store) { return bug.open(t, url) },
			}))
			says := regexp.MustCompile(bug.says)
			if !slices.ContainsFunc(r.Violations, func(v consistency.Violation) bool {
				return v.Rule == bug.rule && says.MatchString(v.Text)
			}) {
				t.Errorf("no violation of rule %q says %q: %v\n%v", bug.rule, bug.says, r, r.Err())
			}
		})
	}
}

// An upserting store puts a new session in the place of one that is there.
type upserting struct{ sessiond.Store }

func (s *upserting) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	fresh := *c.Record
	res, err := s.Store.Create(ctx, c)
	if !errors.Is(err, sessiond.ErrExists) {
		return res, err
	}
	silent := func(time.Time, *sessiond.Record) ([]sessiond.Event, error) { return nil, nil }
	if err := s.Store.Erase(ctx, fresh.Key, silent); err != nil {
		return res, sessiond.ErrExists
	}
	c.Record = &fresh
	return s.Store.Create(ctx, c)
}

// A pruning store has readers that take a subject's pending entry without a
// record for one of which nothing came, while its record is on the way.
type pruning struct {
	*redisstore.Store
	readers sync.WaitGroup
}

func (s *pruning) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	tenant, subject := c.Record.Tenant, c.Record.Subject
	s.readers.Go(func() {
		for range 4 {
			// What it can't prune this time it does not prune.
			_ = s.PruneFresh(context.WithoutCancel(ctx), tenant, subject)
		}
	})
	return s.Store.Create(ctx, c)
}
