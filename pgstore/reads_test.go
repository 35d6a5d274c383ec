package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pgstore"
)

// A fakeServer answers groups of reads when it is let. What it answers is what was true
// when the group arrived.
type fakeServer struct {
	mu      sync.Mutex
	version int64
	groups  [][]sessiond.Key
	err     error
	held    []chan struct{} // one for each group, closed to let its answer go
	free    bool            // nothing is held any more
}

func (f *fakeServer) read(keys []sessiond.Key) ([]*sessiond.Record, error) {
	let := make(chan struct{})
	f.mu.Lock()
	f.groups = append(f.groups, slices.Clone(keys))
	f.held = append(f.held, let)
	if f.free {
		close(let)
	}
	version, err := f.version, f.err
	f.mu.Unlock()
	<-let
	records := make([]*sessiond.Record, len(keys))
	for i, k := range keys {
		records[i] = &sessiond.Record{Key: k, Version: version}
	}
	return records, err
}

// sent are the groups so far.
func (f *fakeServer) sent() [][]sessiond.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.groups)
}

// set changes what is true.
func (f *fakeServer) set(version int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version = version
}

// fail gives groups that come an error.
func (f *fakeServer) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// let answers the n-th group.
func (f *fakeServer) let(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.held[n])
}

// letAll answers all that there are and all that come.
func (f *fakeServer) letAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = true
	for _, let := range f.held {
		select {
		case <-let:
		default:
			close(let)
		}
	}
}

// A reading is a read under way.
type reading struct {
	rec  *sessiond.Record
	err  error
	done chan struct{}
}

func (r *reading) finished() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// readTest runs a test of reads in a bubble of virtual time. start begins a read and returns
// when it waits.
func readTest(t *testing.T, test func(t *testing.T, f *fakeServer, start func(context.Context, sessiond.Key) *reading)) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeServer)
		r := pgstore.NewReads(f.read)
		defer r.Wait()
		defer synctest.Wait()
		defer f.letAll()
		test(t, f, func(ctx context.Context, k sessiond.Key) *reading {
			one := &reading{done: make(chan struct{})}
			go func() {
				defer close(one.done)
				one.rec, one.err = r.Get(ctx, k)
			}()
			synctest.Wait()
			return one
		})
	})
}

// occupy has all flights under way and gives their number.
func occupy(t *testing.T, start func(context.Context, sessiond.Key) *reading) (n int) {
	for n = range pgstore.MaxFlights {
		start(t.Context(), key(fmt.Sprint("occupied-", n)))
	}
	return n + 1
}

// TestReadsAreNotStale has a read of a key begin while an earlier one of the same key is under
// way: what it is answered must have been true after it began.
func TestReadsAreNotStale(t *testing.T) {
	readTest(t, func(t *testing.T, f *fakeServer, start func(context.Context, sessiond.Key) *reading) {
		f.set(1)
		first := start(t.Context(), key("a"))
		for n := 1; n < pgstore.MaxFlights; n++ {
			start(t.Context(), key("a"))
		}
		f.set(2)
		late := start(t.Context(), key("a"))
		if len(f.sent()) != pgstore.MaxFlights {
			t.Fatalf("%d groups are under way, want %d", len(f.sent()), pgstore.MaxFlights)
		}
		for n := range pgstore.MaxFlights {
			f.let(n)
		}
		synctest.Wait()
		if late.finished() || !first.finished() || first.rec.Version != 1 {
			t.Fatalf("the first read has %+v, the late one is answered: %t", first.rec, late.finished())
		}
		f.let(pgstore.MaxFlights)
		<-late.done
		if late.err != nil || late.rec.Version != 2 {
			t.Errorf("the late read has %+v, %v, want version 2", late.rec, late.err)
		}
	})
}

// TestReadsGoTogether has many wait: they go in as few groups as there is room in, each key
// once.
func TestReadsGoTogether(t *testing.T) {
	readTest(t, func(t *testing.T, f *fakeServer, start func(context.Context, sessiond.Key) *reading) {
		n := occupy(t, start)
		var all []*reading
		for i := range 2 * pgstore.MaxGroup {
			all = append(all, start(t.Context(), key(fmt.Sprint(i%(pgstore.MaxGroup+1)))))
		}
		for i := range n {
			f.let(i)
		}
		synctest.Wait()
		if len(f.sent()) != n+2 || len(f.sent()[n]) != pgstore.MaxGroup {
			t.Fatalf("they go in %d groups: %v", len(f.sent())-n, f.sent()[n:])
		}
		seen := make(map[sessiond.Key]bool)
		for _, k := range f.sent()[n] {
			if seen[k] {
				t.Errorf("%v is asked for twice", k)
			}
			seen[k] = true
		}
		f.let(n)
		f.let(n + 1)
		for i, r := range all {
			<-r.done
			if want := key(fmt.Sprint(i % (pgstore.MaxGroup + 1))); r.err != nil || r.rec.Key != want {
				t.Errorf("the read of %v has %+v, %v", want, r.rec, r.err)
			}
		}
	})
}

// TestReadsEndWithTheirContext ends the context of one of two that wait for the same key.
func TestReadsEndWithTheirContext(t *testing.T) {
	readTest(t, func(t *testing.T, f *fakeServer, start func(context.Context, sessiond.Key) *reading) {
		ctx, cancel := context.WithCancel(t.Context())
		first := start(ctx, key("a"))
		second := start(t.Context(), key("a"))
		cancel()
		synctest.Wait()
		if !first.finished() || !errors.Is(first.err, context.Canceled) || second.finished() {
			t.Errorf("the first has returned: %t, %v; the second: %t", first.finished(), first.err, second.finished())
		}
		f.letAll()
		<-second.done
		if second.err != nil {
			t.Error(second.err)
		}
	})
}

// TestReadsPassLateFlights has all flights hang. Those that wait pass them after a while; when the
// hanging ones come back there are no more flights than before.
func TestReadsPassLateFlights(t *testing.T) {
	readTest(t, func(t *testing.T, f *fakeServer, start func(context.Context, sessiond.Key) *reading) {
		n := occupy(t, start)
		begin := time.Now()
		behind := start(t.Context(), key("behind"))
		if len(f.sent()) != n {
			t.Fatalf("%d groups are under way, want %d", len(f.sent()), n)
		}
		time.Sleep(pgstore.LateFlight)
		synctest.Wait()
		if len(f.sent()) != n+1 {
			t.Fatalf("%d groups are under way, want one more than %d", len(f.sent()), n)
		}
		f.let(n)
		<-behind.done
		if waited := time.Since(begin); behind.err != nil || waited != pgstore.LateFlight {
			t.Errorf("answered after %v, %v", waited, behind.err)
		}
		for i := range n {
			f.let(i)
		}
		synctest.Wait()
		again := n + 1
		for range pgstore.MaxFlights + 3 {
			start(t.Context(), key("again"))
		}
		if got := len(f.sent()) - again; got != pgstore.MaxFlights {
			t.Errorf("%d flights are under way, want %d", got, pgstore.MaxFlights)
		}
		for i := again; i < len(f.sent()); i++ {
			f.let(i)
			synctest.Wait()
		}
	})
}

// TestReadsFailTogether has a group fail, and a key that could make one fail: it goes alone.
func TestReadsFailTogether(t *testing.T) {
	readTest(t, func(t *testing.T, f *fakeServer, start func(context.Context, sessiond.Key) *reading) {
		n := occupy(t, start)
		for _, stray := range []string{"a\x00", "a\xff", "é"} {
			start(t.Context(), key(stray))
		}
		if len(f.sent()) != n+3 {
			t.Fatalf("%d groups are under way, want one more for each stray key: %q", len(f.sent()), f.sent())
		}
		f.fail(sessiond.ErrUnavailable)
		a, b := start(t.Context(), key("a")), start(t.Context(), key("b"))
		f.let(0)
		synctest.Wait()
		for i := 1; i < len(f.sent()); i++ {
			f.let(i)
		}
		<-a.done
		<-b.done
		if !errors.Is(a.err, sessiond.ErrUnavailable) || !errors.Is(b.err, sessiond.ErrUnavailable) {
			t.Errorf("one has %v, the other %v", a.err, b.err)
		}
	})
}

// TestGetSeesWhatWasBefore does what TestReadsAreNotStale does on a server: its reads wait after
// they have taken their snapshots.
func TestGetSeesWhatWasBefore(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, nil)
	create(t, s, "s1")
	const lock = "SELECT pg_advisory_lock(77)"
	exec(t, url, `CREATE OR REPLACE FUNCTION sessiond.clock(low bigint, skew bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_advisory_xact_lock_shared(77);
			RETURN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
		END $$`)
	holder, observer := connect(t, url), connect(t, url)
	value[any](t, holder, lock)
	wait := func(n int) {
		for value[int](t, observer, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 77"+
			" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") != n {
			if time.Sleep(time.Millisecond); t.Failed() { // the server has ended a read that waited for too long
				t.FailNow()
			}
		}
	}
	versions := make([]chan int64, pgstore.MaxFlights+1)
	for i := range versions {
		if i == pgstore.MaxFlights { // all flights are under way
			exec(t, url, "UPDATE sessiond.session SET version = 2, revision = 2")
		}
		versions[i] = make(chan int64, 1)
		go func() {
			res, err := s.Get(t.Context(), key("s1"))
			if err != nil {
				t.Error(err)
				versions[i] <- 0
				return
			}
			versions[i] <- res.Record.Version
		}()
		wait(i + 1)
	}
	value[bool](t, holder, "SELECT pg_advisory_unlock(77)")
	for i := range versions {
		want := int64(1)
		if i == pgstore.MaxFlights {
			want = 2
		}
		if got := <-versions[i]; got != want {
			t.Errorf("read %d has version %d, want %d", i, got, want)
		}
	}
}
