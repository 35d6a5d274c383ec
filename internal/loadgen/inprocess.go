package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond"
)

// The rows of the library, without a server.
const (
	rowOneWriter  = "create in process, one writer, durable"
	rowTouch      = "touch in process, 64 callers, durable"
	rowManagerGet = "Manager.Get in process, hot"
)

func (b *bench) inProcess(ctx context.Context) (err error) {
	data := filepath.Join(b.dir, "in-process")
	filled, err := b.fill(ctx, data, filling{n: b.base})
	if err != nil {
		return err
	}
	m, store, err := openStore(ctx, data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, f := range []func() error{
		func() error { return b.oneWriter(ctx, m) },
		func() error { return b.touch(ctx, m, filled.ids) },
		func() error { return b.managerGet(ctx, m, sessiond.ID(filled.ids[0])) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// oneWriter compares creates with a loop of write and fdatasync.
func (b *bench) oneWriter(ctx context.Context, m *sessiond.Manager) error {
	if !b.wants(rowOneWriter) {
		return nil
	}
	file, err := os.Create(filepath.Join(b.dir, "appended"))
	if err != nil {
		return err
	}
	defer file.Close()
	record := make([]byte, 1024)
	return b.calls(ctx, rowOneWriter, "write + fdatasync", atLeast(0.9), 1,
		func(int) error {
			_, _, err := m.Create(ctx, params("writer"))
			return err
		},
		func(int) error {
			_, err := file.Write(record)
			return errors.Join(err, syncData(file))
		})
}

// touch compares touches with the least that could record them.
func (b *bench) touch(ctx context.Context, m *sessiond.Manager, ids []string) (err error) {
	if !b.wants(rowTouch) {
		return nil
	}
	const callers = 64
	l, err := newLimit(filepath.Join(b.dir, "touched"), ids)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	entries := make([]*entry, callers)
	for i := range entries {
		entries[i] = &entry{synced: make(chan struct{}, 1)}
	}
	return b.calls(ctx, rowTouch, "map + log", atLeast(0.5), callers,
		func(int) error {
			_, err := m.Touch(ctx, sessiond.ID(ids[rand.IntN(len(ids))]))
			return err
		},
		func(caller int) error { return l.touch(ids[rand.IntN(len(ids))], entries[caller]) })
}

// calls compares two functions, called in turn by a number of callers.
func (b *bench) calls(
	ctx context.Context, name, other string, g goal, callers int, ours, theirs func(caller int) error,
) error {
	var a, z []measurement
	for range b.rounds {
		their, err := b.call(ctx, callers, theirs)
		if err != nil {
			return err
		}
		our, err := b.call(ctx, callers, ours)
		if err != nil {
			return err
		}
		a, z = append(a, our), append(z, their)
	}
	b.report.pair(newPairResult(name, other, g, a, z))
	return nil
}

// call calls f for the length of a visit.
func (b *bench) call(ctx context.Context, callers int, f func(caller int) error) (measurement, error) {
	start := time.Now().Add(b.warmup)
	end := start.Add(b.settings.visit)
	all := hdrhistogram.New(1, 60_000_000, 3)
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	for i := range callers {
		work.Go(func() error {
			h := hdrhistogram.New(1, 60_000_000, 3)
			for ctx.Err() == nil {
				began := time.Now()
				if began.After(end) {
					break
				}
				if err := f(i); err != nil {
					return err
				}
				if began.After(start) {
					_ = h.RecordValue(min(max(time.Since(began).Microseconds(), 1), 60_000_000)) // in range
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
			return ctx.Err()
		})
	}
	err := work.Wait()
	return measurement{
		rate: float64(all.TotalCount()) / b.settings.visit.Seconds(),
		p50:  float64(all.ValueAtQuantile(50)), p99: float64(all.ValueAtQuantile(99)),
		p999: float64(all.ValueAtQuantile(99.9)),
	}, err
}

// managerGet measures the time and the allocations of a read.
func (b *bench) managerGet(ctx context.Context, m *sessiond.Manager, id sessiond.ID) error {
	if !b.wants(rowManagerGet) {
		return nil
	}
	var times []float64
	var before, after runtime.MemStats
	n := 0
	runtime.ReadMemStats(&before)
	for range b.rounds {
		began, calls := time.Now(), 0
		for time.Since(began) < b.settings.visit && ctx.Err() == nil {
			for range 1000 {
				if _, err := m.Get(ctx, id); err != nil {
					return err
				}
			}
			calls += 1000
		}
		times = append(times, float64(time.Since(began).Nanoseconds())/1000/float64(calls))
		n += calls
	}
	runtime.ReadMemStats(&after)
	b.report.figure(figure{rowManagerGet, median(times), "µs", atMost(2, 0), "one goroutine"})
	b.report.figure(figure{rowManagerGet + ", allocations", float64(after.Mallocs-before.Mallocs) / float64(n), "", atMost(6, 0), ""})
	return ctx.Err()
}
