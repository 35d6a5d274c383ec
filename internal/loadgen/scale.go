package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"sessiond.example/sessiond/internal/load"
)

// rowScale is the name of all rows about many stored sessions.
const rowScale = "scale"

// The rates, requests a second, at which latencies are compared: far from
// saturation, as servers should run.
const (
	getRate  = 2000
	listRate = 500
)

// cacheMiB is what the server sets aside for caches: the defaults of
// pebblestore.Options.
const cacheMiB = 128 + 160

// fillCaches is how many visits at full speed fill the caches, before the memory is measured.
const fillCaches = 8

// scaled measures what a store full of sessions changes.
func (b *bench) scaled(ctx context.Context) error {
	few, err := b.fill(ctx, filepath.Join(b.dir, "few"), filling{n: b.base})
	if err != nil {
		return err
	}
	began := time.Now()
	data := filepath.Join(b.dir, "many")
	many, err := b.fill(ctx, data, filling{n: b.scale, brief: b.scale / 5, ends: func() time.Time {
		rest := time.Since(began) / 2 // twice what a fifth takes when four have taken so long
		return time.Now().Add(rest + b.margin + b.untilStorm())
	}})
	if err != nil {
		return err
	}
	disk, err := onDisk(filepath.Join(data, "store"))
	if err != nil {
		return err
	}
	small, err := b.serve(ctx, filepath.Join(b.dir, "few"), "")
	if err != nil {
		return err
	}
	defer small.stop()
	large, err := b.serve(ctx, data, "")
	if err != nil {
		return err
	}
	defer func() { large.stop() }()

	if err := b.compareTails(ctx, small, large, few, many); err != nil {
		return err
	}
	size, err := large.jsonSize(ctx, many.ids[0])
	if err != nil {
		return err
	}
	for range fillCaches {
		read := random(large.process, 200, large.request("GET", "/sessions/\x00", ""), many.ids)
		if _, err := b.visit(ctx, read, 0); err != nil {
			return err
		}
	}
	memory, _, err := large.memoryMiB()
	if err != nil {
		return err
	}
	perSession := float64(disk) / float64(b.scale)
	b.report.figure(figure{b.scaleRow("resident memory above the caches"), memory - cacheMiB, "MiB", atMost(100, 0),
		fmt.Sprintf("%.0f MiB with caches of %d MiB", memory, cacheMiB)})
	b.report.figure(figure{b.scaleRow("disk of a session over its JSON"), perSession / float64(size), "", atMost(1.4, 1),
		fmt.Sprintf("%.0f bytes over %d", perSession, size)})
	if err := b.storm(ctx, large, many); err != nil {
		return err
	}
	return b.crash(ctx, large)
}

func (b *bench) scaleRow(what string) string {
	return fmt.Sprintf("%s: %d sessions, %s", rowScale, b.scale, what)
}

// untilStorm is how long the measurements before an expiry storm take.
func (b *bench) untilStorm() time.Duration {
	return time.Duration(4*b.rounds+fillCaches)*(b.settings.visit+b.warmup) + b.calm()
}

// calm is how long the server is watched before the storm.
func (b *bench) calm() time.Duration { return 5 * b.settings.visit }

// compareTails compares the 99th percentiles of a small and a large store.
func (b *bench) compareTails(ctx context.Context, small, large *server, few, many *stored) error {
	get := func(s *server, st *stored) side {
		return random(s.process, 200, s.request("GET", "/sessions/\x00", ""), st.ids)
	}
	list := func(s *server, st *stored) side {
		before := s.request("GET", "/sessions/?limit=10&subject=user-", "")
		at := len("GET /sessions/?limit=10&subject=user-")
		return side{s.process, func(_ int, buf []byte) []byte {
			buf = append(buf, before[:at]...)
			buf = strconv.AppendInt(buf, rand.Int64N(int64(st.subjects)), 10)
			return append(buf, before[at:]...)
		}, 200}
	}
	for _, row := range []struct {
		name string
		of   func(*server, *stored) side
		rate float64
	}{{"p99 of GET", get, getRate}, {"p99 of a list by subject", list, listRate}} {
		var ratios, ours, theirs []float64
		for range b.rounds {
			t, err := b.visit(ctx, row.of(small, few), row.rate)
			if err != nil {
				return err
			}
			o, err := b.visit(ctx, row.of(large, many), row.rate)
			if err != nil {
				return err
			}
			ratios, ours, theirs = append(ratios, o.p99/t.p99), append(ours, o.p99), append(theirs, t.p99)
		}
		b.report.figure(figure{b.scaleRow(fmt.Sprintf("%s against %d", row.name, b.base)), median(ratios), "", atMost(1.3, 1),
			fmt.Sprintf("%.0f µs against %.0f at %.0f/s", median(ours), median(theirs), row.rate)})
	}
	return nil
}

// storm reads while a fifth of the sessions expire.
func (b *bench) storm(ctx context.Context, s *server, st *stored) error {
	brief := float64(b.scale / 5)
	const ended = `sessiond_sessions_ended_total{reason="absolute"}`
	early, err := s.metric(ctx, ended)
	if err != nil {
		return err
	}
	if early > 0 || time.Until(st.ends) < b.calm()/2 {
		return errors.New("the measurements before the expiry storm took longer than foreseen")
	}
	if !wait(ctx, time.Until(st.ends)-b.calm()) {
		return ctx.Err()
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	l := s.dialer()
	l.Next = random(s.process, 200, s.request("GET", "/sessions/\x00", ""), st.ids).next
	l.Connections, l.Rate, l.Duration = b.connections, getRate, b.calm()+b.stormTime
	l.Window = b.settings.visit / 10
	began := time.Now()
	type reads struct {
		res *load.Result
		err error
	}
	result := make(chan reads, 1)
	go func() {
		res, err := l.Run(reading)
		result <- reads{res, err}
	}()
	var over time.Time // when the last was acted on
	lag := 0.0
	for over.IsZero() && time.Since(st.ends) < b.stormTime {
		if !wait(ctx, b.settings.visit/20) {
			break
		}
		done, err := s.metric(ctx, ended)
		if err == nil {
			var now float64
			now, err = s.metric(ctx, "sessiond_sweep_lag_seconds")
			lag = max(lag, now)
		}
		if err != nil {
			return err
		}
		if done >= brief {
			over = time.Now()
		}
	}
	wait(ctx, l.Window)
	stop()
	r := <-result
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case r.err != nil && !errors.Is(r.err, context.Canceled):
		return r.err
	case over.IsZero():
		return fmt.Errorf("the expiry storm was not over after %v", b.stormTime)
	}
	if err := wanted(r.res, 200); err != nil {
		return err
	}
	from := int(st.ends.Sub(began) / l.Window)
	to := min(int(over.Sub(began)/l.Window)+1, len(r.res.Windows))
	before := float64(load.Merge(r.res.Windows[:from]).Latency.ValueAtQuantile(99))
	during := load.Merge(r.res.Windows[from:to]).Latency
	p99 := float64(during.ValueAtQuantile(99))
	b.report.figure(figure{b.scaleRow(fmt.Sprintf("p99 of GET while %.0f expire, against before", brief)), p99 / before, "",
		atMost(1.5, 1), fmt.Sprintf("%.0f µs against %.0f at %d/s, longest %d", p99, before, getRate, during.Max())})
	last := over.Sub(st.ends).Seconds() // which was due a second after the first
	b.report.figure(figure{b.scaleRow("longest that an expiry was late"), max(lag, last-1), "s", atMost(5, 0),
		fmt.Sprintf("due within 1 s, the last acted on %.2f s after the first was due; %.2f s by the server", last, lag)})
	return nil
}

// crash kills a server that is writing, and measures how long it takes to be
// ready again.
func (b *bench) crash(ctx context.Context, s *server) error {
	var times []float64
	for range b.rounds {
		create := fixed(s.process, createdStatus, s.request("POST", "/sessions/", createBody))
		if _, err := b.visit(ctx, create, 0); err != nil {
			return err
		}
		s.kill()
		began := time.Now()
		if err := s.start(ctx); err != nil {
			return err
		}
		times = append(times, time.Since(began).Seconds())
	}
	b.report.figure(figure{b.scaleRow("ready after kill -9"), median(times), "s", atMost(1, 0), "with writes before it"})
	return nil
}

// wait is false when ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
