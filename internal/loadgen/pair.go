package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"sessiond.example/sessiond/internal/load"
)

// A side is one of two that are compared: requests to a process.
type side struct {
	*process
	next func(connection int, buf []byte) []byte
	want int // status of every answer
}

// fixed is a side that is always asked the same.
func fixed(p *process, want int, request []byte) side {
	return side{p, func(_ int, buf []byte) []byte { return append(buf, request...) }, want}
}

// random is a side that is asked for one of ids each time: request has a zero
// byte in its place.
func random(p *process, want int, request []byte, ids []string) side {
	before, after, _ := bytes.Cut(request, []byte{0})
	return side{p, func(_ int, buf []byte) []byte {
		buf = append(buf, before...)
		buf = append(buf, ids[rand.IntN(len(ids))]...)
		return append(buf, after...)
	}, want}
}

// visit drives one side, in a closed loop if rate is 0.
func (b *bench) visit(ctx context.Context, s side, rate float64) (m measurement, err error) {
	l := s.dialer()
	l.Next, l.Connections, l.Rate, l.Warmup, l.Duration = s.next, b.connections, rate, b.warmup, b.settings.visit
	before, err := s.cpuTime()
	if err != nil {
		return m, err
	}
	res, err := l.Run(ctx)
	if err != nil {
		return m, err
	}
	after, err := s.cpuTime()
	if err != nil {
		return m, err
	}
	if err := wanted(res, s.want); err != nil {
		return m, err
	}
	if res.Unsent > 0 {
		b.report.say("%.0f requests a second were too many: %d were not sent", rate, res.Unsent)
	}
	return measured(res, float64((after - before).Microseconds())), nil
}

// wanted fails unless all answers have a status.
func wanted(res *load.Result, want int) error {
	if res.Failed > 0 {
		return fmt.Errorf("%d requests had no answer: %w", res.Failed, res.Failure)
	}
	for status, s := range res.Statuses {
		if status != want {
			return fmt.Errorf("%d answers were %d instead of %d", s.Count, status, want)
		}
	}
	return nil
}

func measured(res *load.Result, cpuMicros float64) measurement {
	h := res.Latency()
	return measurement{
		rate: res.Rate(), cpu: cpuMicros / float64(max(res.Total, 1)),
		p50: float64(h.ValueAtQuantile(50)), p99: float64(h.ValueAtQuantile(99)), p999: float64(h.ValueAtQuantile(99.9)),
	}
}

// A pair is a row: ours against another.
type pair struct {
	name, other  string
	goal         goal
	ours, theirs side
}

// pair visits both sides of a row in turn, saturated in every round, and
// then with half of our rate.
func (b *bench) pair(ctx context.Context, p pair) error {
	if !b.wants(p.name) {
		return nil
	}
	var ours, theirs, open, openBy []measurement
	visit := func(s side, rate float64, to *[]measurement) error {
		m, err := b.visit(ctx, s, rate)
		*to = append(*to, m)
		return err
	}
	for range b.rounds {
		if err := visit(p.theirs, 0, &theirs); err != nil {
			return fmt.Errorf("%s, %s: %w", p.name, p.other, err)
		}
		if err := visit(p.ours, 0, &ours); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	result := newPairResult(p.name, p.other, p.goal, ours, theirs)
	result.offered = min(result.ours.rate, result.theirs.rate) / 2
	for range b.rounds {
		if err := visit(p.theirs, result.offered, &openBy); err != nil {
			return fmt.Errorf("%s, %s: %w", p.name, p.other, err)
		}
		if err := visit(p.ours, result.offered, &open); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	result.open, result.openBy = medians(open), medians(openBy)
	var err error
	if result.memory, _, err = p.ours.memoryMiB(); err != nil {
		return err
	}
	b.report.pair(result)
	return nil
}

// newPairResult makes a row of the visits of all rounds.
func newPairResult(name, other string, g goal, ours, theirs []measurement) pairResult {
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, ours[i].rate/theirs[i].rate)
	}
	return pairResult{
		name: name, other: other, goal: g, ratio: median(ratios), low: slices.Min(ratios), high: slices.Max(ratios),
		ours: medians(ours), theirs: medians(theirs),
	}
}

// The rows of the embedded store.
const (
	rowHot    = "GET, hot"
	rowVerify = "POST /verify"
	rowCreate = "POST /sessions/, durable"
)

func (b *bench) rowRandom() string { return fmt.Sprintf("GET, %d random", b.sessions) }

func (b *bench) embedded(ctx context.Context) error {
	data := filepath.Join(b.dir, "embedded")
	stored, err := b.fill(ctx, data, filling{n: b.sessions})
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, data, "")
	if err != nil {
		return err
	}
	defer s.stop()
	hot, err := s.createSession(ctx)
	if err != nil {
		return err
	}
	bare, err := b.startBare(ctx, s, hot)
	if err != nil {
		return err
	}
	defer bare.stop()
	get := s.request("GET", "/sessions/"+hot.ID, "")
	verify := s.request("POST", "/verify", verifyBody(hot))
	create := s.request("POST", "/sessions/", createBody)
	for _, p := range []pair{
		{rowHot, "bare", atLeast(0.75), fixed(s.process, 200, get), fixed(bare, 200, get)},
		{b.rowRandom(), "bare", atLeast(0.60), random(s.process, 200, s.request("GET", "/sessions/\x00", ""), stored.ids), fixed(bare, 200, get)},
		{rowVerify, "bare", atLeast(0.60), fixed(s.process, 200, verify), fixed(bare, 200, verify)},
		{rowCreate, "bare", atLeast(0.35), fixed(s.process, createdStatus, create), fixed(bare, createdStatus, create)},
	} {
		if err := b.pair(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
