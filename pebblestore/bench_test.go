package pebblestore_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
	"sessiond.example/sessiond/storetest"
)

// onDisk opens a store on the real file system.
func onDisk(t testing.TB) storetest.Fixture {
	h := &hands{}
	s := open(t, filepath.Join(t.TempDir(), "data"), pebblestore.Options{Clock: h, BlockCache: 256 << 20})
	t.Cleanup(func() { _ = s.Close() })
	return storetest.Fixture{Store: s, Advance: h.advance}
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, onDisk) }

func benchKey(n uint64) sessiond.Key {
	return sessiond.Key{
		Tenant: "default",
		ID:     sessiond.ID(fmt.Sprintf("0199c0de-%04x-7000-8000-%012x", n*7919%65536, n)),
	}
}

// benchCreation is a session of the usual size: about 700 bytes.
func benchCreation(n uint64) sessiond.Creation {
	r := &sessiond.Record{
		Key:         benchKey(n),
		Subject:     fmt.Sprintf("user-%d@example.com", n%50_000),
		Labels:      map[string]string{"device": "iPhone 17", "ip": "203.0.113.77", "client": "web"},
		Data:        make([]byte, 350),
		DataKey:     1,
		IdleTimeout: 30 * time.Minute,
		Version:     1,
		CreatedBy:   sessiond.Actor{Sub: "service-account-shop", Client: "shop"},
	}
	rand.Read(r.Incarnation[:])
	rand.Read(r.TokenHash[:])
	rand.Read(r.Data)
	return sessiond.Creation{Record: r, Lifetime: 12 * time.Hour}
}

// openFilled opens a store on disk with n sessions, that creation makes.
func openFilled(b *testing.B, n int, o pebblestore.Options, creation func(uint64) sessiond.Creation) (*pebblestore.Store, *hands) {
	b.Helper()
	h := &hands{}
	o.Clock, o.BlockCache = h, 256<<20
	s := open(b, filepath.Join(b.TempDir(), "data"), o)
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	var next atomic.Uint64
	done := make(chan error, 256)
	for range cap(done) {
		go func() {
			for {
				i := next.Add(1) - 1
				if i >= uint64(n) {
					done <- nil
					return
				}
				if _, err := s.Create(b.Context(), creation(i)); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	return s, h
}

func BenchmarkGetHot(b *testing.B) {
	s, _ := openFilled(b, 1000, pebblestore.Options{}, benchCreation)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		k := sessiond.Key{Tenant: "default", ID: "0199c0de-1eef-7000-8000-000000000001"}
		if _, err := s.Get(b.Context(), k); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetHotParallel(b *testing.B) {
	s, _ := openFilled(b, 1000, pebblestore.Options{}, benchCreation)
	b.ReportAllocs()
	ctx := b.Context()
	b.RunParallel(func(pb *testing.PB) {
		k := benchKey(mrand.Uint64N(1000))
		for pb.Next() {
			if _, err := s.Get(ctx, k); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGet200kRandom(b *testing.B) {
	const n = 200_000
	s, _ := openFilled(b, n, pebblestore.Options{}, benchCreation)
	keys := make([]sessiond.Key, n)
	for i := range keys {
		keys[i] = benchKey(uint64(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), keys[mrand.IntN(n)]); err != nil {
			b.Fatal(err)
		}
	}
}

// newCreation is benchCreation with an ID as managers make them, which begins with the time.
func newCreation(n uint64) sessiond.Creation {
	c := benchCreation(n)
	var random [10]byte
	rand.Read(random[:])
	ms := time.Now().UnixMilli()
	c.Record.ID = sessiond.ID(fmt.Sprintf("%08x-%04x-7%s-a%s-%x",
		ms>>16, ms&0xffff, hex.EncodeToString(random[:2])[1:], hex.EncodeToString(random[2:4])[1:], random[4:10]))
	return c
}

// benchmarkCreate makes sessions in a store that flushes and compacts meanwhile, if b.N is large enough.
func benchmarkCreate(b *testing.B, writers int, creation func(uint64) sessiond.Creation) {
	s, _ := openFilled(b, 0, pebblestore.Options{}, benchCreation)
	var next atomic.Uint64
	ctx := b.Context()
	parallel(b, writers, func() error {
		_, err := s.Create(ctx, creation(next.Add(1)))
		return err
	})
}

// cpuTime is what the process has used of its processors, in the kernel too.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// parallel runs fn b.N times in so many goroutines. It also tells the processor time of an operation,
// with its share of the work behind.
func parallel(b *testing.B, goroutines int, fn func() error) {
	b.ReportAllocs()
	before := cpuTime(b)
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, goroutines)
	for range goroutines {
		go func() {
			for left.Add(-1) >= 0 {
				if err := fn(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range goroutines {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

func BenchmarkCreate1(b *testing.B)   { benchmarkCreate(b, 1, newCreation) }
func BenchmarkCreate64(b *testing.B)  { benchmarkCreate(b, 64, newCreation) }
func BenchmarkCreate256(b *testing.B) { benchmarkCreate(b, 256, newCreation) }

// BenchmarkCreate64OwnIDs is of callers that choose the IDs, which come in no order.
func BenchmarkCreate64OwnIDs(b *testing.B) { benchmarkCreate(b, 64, benchCreation) }

// BenchmarkFsyncLoop is the floor of one durable write: what a program pays that
// appends 700 bytes to a file and syncs it.
func BenchmarkFsyncLoop(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 1500)
	for b.Loop() {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTouch64(b *testing.B) {
	const n = 100_000
	s, h := openFilled(b, n, pebblestore.Options{}, benchCreation)
	var ms atomic.Int64
	ctx := b.Context()
	parallel(b, 64, func() error {
		if ms.Add(1)%512 == 0 {
			h.advance(time.Millisecond)
		}
		_, err := s.Touch(ctx, benchKey(mrand.Uint64N(n)), sessiond.Incarnation{}, time.Time{})
		return err
	})
}

// BenchmarkListBySubject lists the four sessions of one of 50,000 subjects.
func BenchmarkListBySubject(b *testing.B) {
	const n = 200_000
	s, _ := openFilled(b, n, pebblestore.Options{}, benchCreation)
	b.ReportAllocs()
	for b.Loop() {
		q := sessiond.Query{Tenant: "default", Limit: 50, Filter: sessiond.Filter{
			Subject: fmt.Sprintf("user-%d@example.com", mrand.IntN(50_000)),
		}}
		if page, err := s.List(b.Context(), q); err != nil || len(page.Records) != 4 {
			b.Fatal(len(page.Records), err)
		}
	}
}

// sweepCreation is the n-th of the sessions that BenchmarkSweep stores: all but the last ones stay.
func sweepCreation(n, stay uint64) sessiond.Creation {
	c := newCreation(n)
	c.Record.Data = c.Record.Data[:120]
	delete(c.Record.Labels, "ip")
	c.Record.IdleTimeout = 0
	if n >= stay {
		c.Lifetime = time.Hour + time.Duration(mrand.IntN(1000))*time.Millisecond
	}
	return c
}

// BenchmarkSweep ends a fifth of 300,000 sessions, all due within a second, in passes as a manager makes
// them. cpu-us/end and written-B/end have the engine's work behind, until it is quiet; sweep-cpu-us/end has what
// of it ran beside the sweep.
func BenchmarkSweep(b *testing.B) {
	const (
		n    = 300_000
		ends = n / 5
	)
	p := sessiond.SweepParams{
		Limit: 1000, Retention: 24 * time.Hour, EventRetention: 24 * time.Hour, MaxEvents: 10_000_000,
	}
	var cpu, sweeping time.Duration
	var written uint64
	for b.Loop() {
		b.StopTimer()
		s, h := openFilled(b, n, pebblestore.Options{}, func(i uint64) sessiond.Creation {
			return sweepCreation(i, n-ends)
		})
		h.advance(time.Hour + time.Second)
		filled := waitQuiet(b, s)
		before := cpuTime(b)
		b.StartTimer()
		for ended := 0; ended < ends; {
			res, err := s.Sweep(b.Context(), p)
			if err != nil || res.Absolute == 0 {
				b.Fatal(res, err)
			}
			ended += res.Absolute
		}
		b.StopTimer()
		sweeping += cpuTime(b) - before
		written += waitQuiet(b, s) - filled
		cpu += cpuTime(b) - before
		b.StartTimer()
	}
	total := float64(ends * b.N)
	b.ReportMetric(total/b.Elapsed().Seconds(), "ends/s")
	b.ReportMetric(float64(sweeping.Microseconds())/total, "sweep-cpu-us/end")
	b.ReportMetric(float64(cpu.Microseconds())/total, "cpu-us/end")
	b.ReportMetric(float64(written)/total, "written-B/end")
}

func waitQuiet(b *testing.B, s *pebblestore.Store) (written uint64) {
	b.Helper()
	written, err := s.WaitQuiet()
	if err != nil {
		b.Fatal(err)
	}
	return written
}
