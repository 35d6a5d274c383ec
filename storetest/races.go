package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

// liveOf counts the live sessions of a subject.
func (t *tester) liveOf(subject string) int {
	t.Helper()
	return len(t.pages(sessiond.Query{Filter: sessiond.Filter{Subject: subject, ActiveOnly: true}, Limit: 100}))
}

func raceLimitReject(t *tester) {
	const most = 3
	for round := range 10 {
		who := fmt.Sprint("subject-", round)
		var created atomic.Int64
		together(10, func(i int) {
			c := newCreation(fmt.Sprintf("s-%d-%d", round, i), subject(who), limit(sessiond.SubjectLimit{Max: most}))
			_, err := t.store.Create(t.Context(), c)
			t.allowed("Create", err, sessiond.ErrLimit)
			if err == nil {
				created.Add(1)
			}
		})
		if live := t.liveOf(who); live != most || created.Load() != most {
			t.Errorf("%d live sessions after %d creates, the limit is %d", live, created.Load(), most)
		}
	}
}

func raceLimitEvict(t *tester) {
	const most, parallel = 3, 10
	f := t.follow(tenant)
	for round := range 10 {
		who := fmt.Sprint("subject-", round)
		var evicted atomic.Int64
		together(parallel, func(i int) {
			c := newCreation(fmt.Sprintf("s-%d-%d", round, i), subject(who))
			c.Limit = sessiond.SubjectLimit{Max: most, Evict: true}
			res, err := t.store.Create(t.Context(), c)
			t.allowed("Create", err)
			evicted.Add(int64(res.Evicted))
		})
		if live := t.liveOf(who); live != most || evicted.Load() != parallel-most {
			t.Errorf("%d live sessions, %d evicted of %d, the limit is %d", live, evicted.Load(), parallel, most)
		}
	}
	ends := 0
	events := f.drain()
	for _, e := range events {
		if e.Type == sessiond.EventRevoked && e.Reason == sessiond.EndLimit {
			ends++
		}
	}
	checkOrder(t, events)
	if want := 10 * (parallel - most); ends != want {
		t.Errorf("%d events of %d evictions", ends, want)
	}
}

// raceLimitBind has guests sign in and sessions begin at the same time.
func raceLimitBind(t *tester) {
	const most = 2
	for round := range 10 {
		who := fmt.Sprint("subject-", round)
		for i := range 4 {
			t.create(fmt.Sprintf("guest-%d-%d", round, i), subject(""))
		}
		var added atomic.Int64
		together(8, func(i int) {
			l := sessiond.SubjectLimit{Max: most}
			var err error
			if i < 4 {
				_, err = t.store.Update(t.Context(), key(fmt.Sprintf("guest-%d-%d", round, i)), bind(who, l))
			} else {
				c := newCreation(fmt.Sprintf("s-%d-%d", round, i), subject(who), limit(l))
				_, err = t.store.Create(t.Context(), c)
			}
			t.allowed("bind or Create", err, sessiond.ErrLimit)
			if err == nil {
				added.Add(1)
			}
		})
		if live := t.liveOf(who); live != most || added.Load() != most {
			t.Errorf("%d live sessions after %d successes, the limit is %d", live, added.Load(), most)
		}
	}
}

// raceReaders watches versions and times during writes: they never go back.
func raceReaders(t *tester) {
	t.create("s1", idle(hour))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() { t.watch(key("s1"), stop) })
	}
	together(2, func(w int) {
		for range 50 {
			if w == 0 {
				_, err := t.store.Touch(t.Context(), key("s1"), anyIncarnation, time.Time{})
				t.allowed("Touch", err)
				t.advance(ms)
				continue
			}
			wrote, err := t.store.Update(t.Context(), key("s1"), change(func(r *sessiond.Record) {
				r.Labels = map[string]string{"version": fmt.Sprint(r.Version + 1)}
			}))
			t.allowed("Update", err)
			// Whoever has been told of a write reads it.
			read, err := t.store.Get(t.Context(), key("s1"))
			t.allowed("Get", err)
			if !t.Failed() && read.Record.Version < wrote.Record.Version {
				t.Errorf("Get gives version %d after version %d was written", read.Record.Version, wrote.Record.Version)
			}
		}
	})
	_, err := t.store.Update(t.Context(), key("s1"), revoke(""))
	t.allowed("revoke", err)
	close(stop)
	readers.Wait()
}

// watch reads a session until it is stopped. Each version has a label that
// tells which it is.
func (t *tester) watch(k sessiond.Key, stop <-chan struct{}) {
	var last sessiond.Record
	for {
		res, err := t.store.Get(t.Context(), k)
		if err != nil {
			t.Errorf("Get: %v", err)
			return
		}
		r := res.Record
		if r.Version < last.Version || r.LastActiveAt.Before(last.LastActiveAt) ||
			r.EndedAt.IsZero() && !last.EndedAt.IsZero() {
			t.Errorf("version %d, active at %v came after version %d, active at %v",
				r.Version, r.LastActiveAt, last.Version, last.LastActiveAt)
		}
		if want := fmt.Sprint(r.Version); r.Version > 1 && r.EndedAt.IsZero() && r.Labels["version"] != want {
			t.Errorf("version %s has the labels of %q", want, r.Labels["version"])
		}
		last = *r
		select {
		case <-stop:
			return
		default:
		}
	}
}

// raceFeed reads the feed in small batches while it grows: every event comes
// once, those of one session in order.
func raceFeed(t *tester) {
	const workers, sessions, updates = 6, 5, 4
	f := t.follow(tenant)
	done := make(chan struct{})
	go func() {
		defer close(done)
		together(workers, func(w int) {
			for i := range sessions {
				c := newCreation(fmt.Sprintf("s-%d-%d", w, i))
				k := c.Record.Key
				_, err := t.store.Create(t.Context(), c)
				t.allowed("Create", err)
				for range updates {
					_, err := t.store.Update(t.Context(), k, bump())
					t.allowed("Update", err)
				}
				_, err = t.store.Create(t.Context(), newCreation(string(k.ID), inTenant("other")))
				t.allowed("Create", err)
			}
		})
	}()
	const want = workers * sessions * (1 + updates)
	var events []sessiond.Event
	for len(events) < want {
		batch, err := t.store.Events(t.Context(),
			sessiond.EventQuery{Tenant: tenant, After: f.at, Limit: 3, Wait: patience()})
		if err != nil || batch.Reset || len(batch.Events) == 0 {
			t.Errorf("after %d of %d events: %+v, %v", len(events), want, batch, err)
			break
		}
		events = append(events, batch.Events...)
		f.at = batch.Position
	}
	<-done
	f.want()
	checkOrder(t, events)
	for id, of := range bySession(events) {
		if len(of) != 1+updates {
			t.Errorf("%d events of %s, want %d", len(of), id, 1+updates)
		}
	}
}
