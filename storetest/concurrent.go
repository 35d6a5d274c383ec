package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

// concurrent is what holds when operations race.
var concurrent = []test{
	{"create-create", raceCreates},
	{"update-update", raceUpdates},
	{"update-touch", raceUpdateTouch},
	{"revoke-touch", raceRevokeTouch},
	{"revoke-update", raceRevokeUpdate},
	{"sweep-touch", raceSweepTouch},
	{"sweep-update", raceSweepUpdate},
	{"sweep-sweep", raceSweeps},
	{"erase-update", raceEraseUpdate},
	{"limit-reject", raceLimitReject},
	{"limit-evict", raceLimitEvict},
	{"limit-bind", raceLimitBind},
	{"readers", raceReaders},
	{"feed", raceFeed},
}

// rounds is how often a race of two is run.
const rounds = 30

// together runs n calls of fn at the same time, or some of them a moment later,
// so that they meet in different ways.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if rand.IntN(2) == 0 {
				time.Sleep(rand.N(300 * time.Microsecond))
			}
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}

// allowed checks that err is nil or one of those.
func (t *tester) allowed(what string, err error, allowed ...error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	t.Errorf("%s: unexpected error %v", what, err)
}

func raceCreates(t *tester) {
	f := t.follow(tenant)
	for i := range rounds {
		id := fmt.Sprint("s", i)
		var wins atomic.Int32
		var winner sync.Map
		together(8, func(int) {
			c := newCreation(id)
			inc := c.Record.Incarnation
			res, err := t.store.Create(t.Context(), c)
			switch {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, sessiond.ErrExists):
				t.Errorf("Create: %v", err)
				return
			}
			if err == nil && res.Record.Incarnation != inc {
				t.Error("Create succeeded with the record of another")
			}
			winner.Store(res.Record.Incarnation, true)
		})
		holders := 0
		winner.Range(func(any, any) bool { holders++; return true })
		if wins.Load() != 1 || holders != 1 {
			t.Errorf("%d of the parallel creates of one ID succeeded, %d different holders", wins.Load(), holders)
		}
	}
	t.active(tenant, rounds)
	if n := len(f.drain()); n != rounds {
		t.Errorf("%d events of %d creates", n, rounds)
	}
}

func raceUpdates(t *tester) {
	const workers, each = 8, 25
	t.create("s1")
	f := t.follow(tenant)
	together(workers, func(w int) {
		for i := range each {
			name := fmt.Sprintf("w%d", w)
			_, err := t.store.Update(t.Context(), key("s1"), change(func(r *sessiond.Record) {
				labels := clone(r).Labels
				labels[name] = fmt.Sprint(i)
				r.Labels = labels
			}))
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		}
	})
	r := t.get(key("s1")).Record
	if r.Version != 1+workers*each {
		t.Errorf("the version is %d after %d updates", r.Version, workers*each)
	}
	for w := range workers {
		if got := r.Labels[fmt.Sprintf("w%d", w)]; got != fmt.Sprint(each-1) {
			t.Errorf("the last update of worker %d is lost: %q", w, got)
		}
	}
	events := f.drain()
	if len(events) != workers*each {
		t.Errorf("%d events of %d updates", len(events), workers*each)
	}
	checkOrder(t, events)
}

func raceUpdateTouch(t *tester) {
	for i := range rounds {
		id := fmt.Sprint("s", i)
		t.create(id, idle(10*mins))
		t.advance(mins)
		var touched sessiond.Result
		together(2, func(i int) {
			var err error
			if i == 0 {
				_, err = t.store.Update(t.Context(), key(id), bump())
			} else {
				touched, err = t.store.Touch(t.Context(), key(id), anyIncarnation, time.Time{})
			}
			if err != nil {
				t.Errorf("Update or Touch: %v", err)
			}
		})
		r := t.get(key(id)).Record
		if r.Version != 2 || touched.Record == nil || r.LastActiveAt.Before(touched.Record.LastActiveAt) {
			t.Fatalf("an update or a touch is lost: %+v", r)
		}
	}
}

// raceRevokeTouch also looks from aside: once revoked, never live again.
func raceRevokeTouch(t *tester) {
	for i := range rounds {
		id := fmt.Sprint("s", i)
		t.create(id, idle(10*mins))
		t.advance(mins)
		together(4, func(i int) {
			switch i {
			case 0:
				_, err := t.store.Update(t.Context(), key(id), revoke(""))
				t.allowed("revoke", err)
				res, err := t.store.Get(t.Context(), key(id))
				if err != nil || res.Record.EndedAt.IsZero() {
					t.Errorf("a revoked session is live: %v", err)
				}
			case 1, 2:
				for range 5 {
					_, err := t.store.Touch(t.Context(), key(id), anyIncarnation, time.Time{})
					t.allowed("Touch", err, sessiond.ErrEnded)
				}
			case 3:
				ended := false
				for range 20 {
					res, err := t.store.Get(t.Context(), key(id))
					if err != nil || ended && res.Record.EndedAt.IsZero() {
						t.Errorf("a session came back: %v", err)
						return
					}
					ended = !res.Record.EndedAt.IsZero()
				}
			}
		})
		if r := t.get(key(id)).Record; r.EndReason != sessiond.EndRevoked || r.Version != 2 || r.Data != nil {
			t.Fatalf("after revoke against touch: %+v", r)
		}
	}
	t.active(tenant, 0)
}

func raceRevokeUpdate(t *tester) {
	f := t.follow(tenant)
	for i := range rounds {
		id := fmt.Sprint("s", i)
		t.create(id)
		together(4, func(i int) {
			fn := bump()
			if i == 0 {
				fn = revoke("")
			}
			_, err := t.store.Update(t.Context(), key(id), fn)
			t.allowed("Update", err, sessiond.ErrEnded)
		})
		if r := t.get(key(id)).Record; r.EndReason != sessiond.EndRevoked {
			t.Fatalf("after revoke against update: %+v", r)
		}
	}
	for id, events := range bySession(f.drain()) {
		checkOrder(t, events)
		if last := events[len(events)-1]; last.Type != sessiond.EventRevoked {
			t.Errorf("the last event of %s is %s", id, last.Type)
		}
	}
	t.active(tenant, 1) // the marker of the feed
}

// raceSweepTouch has the sweeper and a touch meet at the deadline: whoever
// comes first, both tell the same story.
func raceSweepTouch(t *tester) {
	for i := range rounds {
		id := fmt.Sprint("s", i)
		t.create(id, idle(mins))
		t.advance(mins - ms)
		var touch error
		together(3, func(i int) {
			switch i {
			case 0:
				_, touch = t.store.Touch(t.Context(), key(id), anyIncarnation, time.Time{})
				t.allowed("Touch", touch, sessiond.ErrEnded)
			case 1:
				_, err := t.store.Sweep(t.Context(), keepAll())
				t.allowed("Sweep", err)
			case 2:
				t.advance(ms)
			}
		})
		t.sweep(keepAll())
		r := t.get(key(id)).Record
		if ended := !r.EndedAt.IsZero(); ended != (touch != nil) {
			t.Fatalf("Touch said %v, the record is ended: %t", touch, ended)
		}
		if touch == nil && !r.LastActiveAt.After(r.CreatedAt) {
			t.Fatal("the touch is lost")
		}
	}
}

// raceSweepUpdate extends overdue sessions while they are swept.
func raceSweepUpdate(t *tester) {
	for i := range rounds {
		id := fmt.Sprint("s", i)
		t.create(id, lifetime(mins))
		t.advance(mins - ms)
		var update error
		together(3, func(i int) {
			switch i {
			case 0:
				_, update = t.store.Update(t.Context(), key(id),
					change(func(r *sessiond.Record) { r.ExpiresAt = r.CreatedAt.Add(1000 * hour) }))
				t.allowed("Update", update, sessiond.ErrEnded)
			case 1:
				_, err := t.store.Sweep(t.Context(), keepAll())
				t.allowed("Sweep", err)
			case 2:
				t.advance(ms)
			}
		})
		t.sweep(keepAll())
		if r := t.get(key(id)).Record; r.EndedAt.IsZero() != (update == nil) {
			t.Fatalf("Update said %v, the record ended at %v", update, r.EndedAt)
		}
	}
}

func raceSweeps(t *tester) {
	const n = 40
	f := t.follow(tenant)
	for i := range n {
		t.create(fmt.Sprint("s", i), lifetime(mins))
	}
	f.take(n)
	t.advance(2 * mins)
	var ended atomic.Int64
	together(4, func(int) {
		p := keepAll()
		p.Limit = 7
		for range n {
			res, err := t.store.Sweep(t.Context(), p)
			t.allowed("Sweep", err)
			ended.Add(int64(res.Absolute))
		}
	})
	ended.Add(int64(t.sweep(keepAll()).Absolute))
	if ended.Load() != n {
		t.Errorf("the sweeps say that they ended %d of %d", ended.Load(), n)
	}
	t.active(tenant, 0)
	events := f.drain()
	checkOrder(t, events)
	if len(events) != n {
		t.Errorf("%d events of %d ends", len(events), n)
	}
}

func raceEraseUpdate(t *tester) {
	f := t.follow(tenant)
	for i := range rounds {
		id := fmt.Sprint("s", i)
		t.create(id)
		together(3, func(i int) {
			switch i {
			case 0:
				t.allowed("Erase", t.store.Erase(t.Context(), key(id), eraseFunc))
			case 1:
				_, err := t.store.Update(t.Context(), key(id), bump())
				t.allowed("Update", err, sessiond.ErrNotFound)
			case 2:
				_, err := t.store.Touch(t.Context(), key(id), anyIncarnation, time.Time{})
				t.allowed("Touch", err, sessiond.ErrNotFound)
			}
		})
		t.gone(key(id))
	}
	t.active(tenant, 0)
	for id, events := range bySession(f.drain()) {
		checkOrder(t, events)
		if last := events[len(events)-1]; last.Type != sessiond.EventErased {
			t.Errorf("the last event of %s is %s", id, last.Type)
		}
	}
}
