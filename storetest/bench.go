package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
)

// benchSessions is how many sessions a store holds while it is measured.
const benchSessions = 10_000

// benchSubjects is how many subjects share them.
const benchSubjects = 1000

// Bench measures a store under names that are the same for all stores. A name
// ends in the number of callers at the same time; without one there is one.
func Bench(b *testing.B, open Open) {
	b.Run("Get/hot", func(b *testing.B) { newBench(b, open).get(func(int) int { return 0 }) })
	b.Run("Get/random", func(b *testing.B) {
		newBench(b, open).get(func(int) int { return rand.IntN(benchSessions) })
	})
	b.Run("Create/1", func(b *testing.B) { newBench(b, open).create(1) })
	b.Run("Create/64", func(b *testing.B) { newBench(b, open).create(64) })
	b.Run("Update/1", func(b *testing.B) { newBench(b, open).update(1) })
	b.Run("Update/64", func(b *testing.B) { newBench(b, open).update(64) })
	b.Run("Touch/64", func(b *testing.B) { newBench(b, open).touch(64) })
	b.Run("ListBySubject", func(b *testing.B) { newBench(b, open).listBySubject() })
	b.Run("Sweep", func(b *testing.B) { newBench(b, open).sweep() })
}

// What BenchReads reads: this many pages, each with this many bytes of data.
const (
	BenchPages    = benchSessions
	BenchPageSize = 400
)

// BenchReads measures Get on an empty store beside page, from one caller and from 64 at the same time, of one session and
// of any. page reads page number n of BenchPages as an application does that keeps its sessions in the same engine by
// itself, with one plain query for each: the measure for Get.
func BenchReads(b *testing.B, s sessiond.Store, page func(n int) error) {
	t := &bench{B: b, Fixture: Fixture{Store: s}}
	t.fill(BenchPageSize)
	get := func(n int) error {
		ctx, cancel := context.WithCancel(context.Background()) // that can end, as a request's
		defer cancel()
		_, err := s.Get(ctx, t.keys[n])
		return err
	}
	hot := func() int { return 0 }
	random := func() int { return rand.IntN(benchSessions) }
	for _, bb := range []struct {
		name  string
		read  func(n int) error
		which func() int
	}{{"PageHot", page, hot}, {"GetHot", get, hot}, {"PageRandom", page, random}, {"GetRandom", get, random}} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", bb.name, callers), func(b *testing.B) {
				b.ReportAllocs()
				sub := &bench{B: b}
				sub.parallel(callers, b.N, func(int) error { return bb.read(bb.which()) })
			})
		}
	}
}

// A bench is a store with sessions s0, s1... of subjects that take turns.
type bench struct {
	*testing.B
	Fixture
	keys []sessiond.Key
}

func newBench(b *testing.B, open Open) *bench {
	t := &bench{B: b, Fixture: open(b)}
	t.fill(0)
	b.ReportAllocs()
	b.ResetTimer()
	return t
}

// fill creates the sessions, with so many bytes of data; 0: as many as those of the tests have.
func (t *bench) fill(data int) {
	for i := range benchSessions {
		t.keys = append(t.keys, key(fmt.Sprint("s", i)))
	}
	t.parallel(64, benchSessions, func(i int) error {
		c := newCreation(string(t.keys[i].ID), subject(fmt.Sprint("subject-", i%benchSubjects)), idle(12*hour),
			lifetime(1000*hour))
		if data > 0 {
			c.Record.Data = make([]byte, data)
		}
		_, err := t.Store.Create(context.Background(), c)
		return err
	})
}

// parallel calls fn for 0 to n-1 from several callers.
func (t *bench) parallel(callers, n int, fn func(i int) error) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (t *bench) get(which func(i int) int) {
	ctx := t.Context()
	for i := range t.N {
		if _, err := t.Store.Get(ctx, t.keys[which(i)]); err != nil {
			t.Fatal(err)
		}
	}
}

func (t *bench) create(callers int) {
	ctx := t.Context()
	t.parallel(callers, t.N, func(i int) error {
		c := newCreation(fmt.Sprint("new-", i), subject(fmt.Sprint("new-subject-", i)))
		_, err := t.Store.Create(ctx, c)
		return err
	})
}

func (t *bench) update(callers int) {
	ctx := t.Context()
	fn := bump()
	t.parallel(callers, t.N, func(i int) error {
		_, err := t.Store.Update(ctx, t.keys[i%benchSessions], fn)
		return err
	})
}

// touch moves the clock on, so that every touch has something to record.
func (t *bench) touch(callers int) {
	ctx := t.Context()
	t.parallel(callers, t.N, func(i int) error {
		if i%benchSessions == 0 {
			t.Advance(ms)
		}
		_, err := t.Store.Touch(ctx, t.keys[i%benchSessions], anyIncarnation, time.Time{})
		return err
	})
}

func (t *bench) listBySubject() {
	ctx := t.Context()
	for i := range t.N {
		q := sessiond.Query{
			Tenant: tenant, Limit: 50, Filter: sessiond.Filter{Subject: fmt.Sprint("subject-", i%benchSubjects)},
		}
		page, err := t.Store.List(ctx, q)
		if err != nil || len(page.Records) != benchSessions/benchSubjects {
			t.Fatalf("%d records, %v", len(page.Records), err)
		}
	}
}

// sweep ends sessions in passes of 500; an operation is the end of one.
func (t *bench) sweep() {
	const most = 5000
	p := keepAll()
	p.Limit = 500
	for done := 0; done < t.N; done += most {
		n := min(most, t.N-done)
		t.StopTimer()
		t.parallel(64, n, func(i int) error {
			_, err := t.Store.Create(t.Context(), newCreation(fmt.Sprintf("due-%d-%d", done, i), lifetime(sec)))
			return err
		})
		t.Advance(mins)
		t.StartTimer()
		if res := sweepAll(t, t.Store, p); res.Absolute != n {
			t.Fatalf("the sweep ended %d of %d", res.Absolute, n)
		}
	}
}
