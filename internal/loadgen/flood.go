package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"sessiond.example/sessiond/internal/load"
)

// The rows about overload.
const (
	rowFloodCreate = "overload: POST /sessions/, embedded"
	rowFloodGet    = "overload: GET over PostgreSQL"
)

const (
	floodFactor = 5   // of the peak, offered
	afterFactor = 0.8 // of the peak, before and after
	revokeRate  = 10  // a second, meanwhile
	normal      = 2   // times the tail of before is normal again
)

func (b *bench) floodCreate(ctx context.Context) error {
	s, err := b.serve(ctx, filepath.Join(b.dir, "flood"), "")
	if err != nil {
		return err
	}
	defer s.stop()
	return b.flood(ctx, rowFloodCreate, s, s.request("POST", "/sessions/", createBody))
}

func (b *bench) floodGet(ctx context.Context) (err error) {
	o := &owner{}
	defer func() { err = errors.Join(err, o.close()) }()
	url, err := startPostgres(o)
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, filepath.Join(b.dir, "flood-postgres"), url)
	if err != nil {
		return err
	}
	defer s.stop()
	hot, err := s.createSession(ctx)
	if err != nil {
		return err
	}
	return b.flood(ctx, rowFloodGet, s, s.request("GET", "/sessions/"+hot.ID, ""))
}

// flood offers a server much more than it can do, and watches what becomes of
// what it can do, of the rest, of revocations, and of the time after.
func (b *bench) flood(ctx context.Context, name string, s *server, request []byte) error {
	base := s.dialer()
	base.Next = func(_ int, buf []byte) []byte { return append(buf, request...) }
	base.Connections, base.Duration, base.Warmup = b.connections, b.settings.visit, b.warmup

	peak, err := b.peak(ctx, base)
	if err != nil {
		return err
	}
	calm := base
	calm.Connections = 4 * b.connections // as many as a peak may have taken
	calm.Rate, calm.Duration, calm.Window = afterFactor*peak, b.afterTime, b.settings.visit/4
	before, err := calm.Run(ctx)
	if err != nil {
		return err
	}

	flood := base
	flood.Connections, flood.Rate, flood.Duration = b.floodConnections, floodFactor*peak, b.floodTime
	flood.Backlog = int(flood.Rate) // of a second
	revokes, stop, err := b.revokes(ctx, s)
	if err != nil {
		return err
	}
	during, err := flood.Run(ctx)
	if revoked := stop(); revoked != nil {
		err = errors.Join(err, revoked)
	}
	if err != nil {
		return err
	}
	calm.Warmup = 0 // what comes at once is of interest
	after, err := calm.Run(ctx)
	if err != nil {
		return err
	}
	_, memory, err := s.memoryMiB()
	if err != nil {
		return err
	}
	b.floodFigures(name, peak, before, during, after, *revokes, memory, calm)
	return nil
}

// peak is the most that a server does, in a closed loop. Some do more when more
// is under way, because they group it.
func (b *bench) peak(ctx context.Context, base load.Load) (peak float64, err error) {
	for _, base.Connections = range []int{b.connections, 4 * b.connections} {
		var rates []float64
		for range min(b.rounds, 3) {
			res, err := base.Run(ctx)
			if err != nil {
				return 0, err
			}
			rates = append(rates, res.Rate())
		}
		peak = max(peak, median(rates))
	}
	if peak == 0 {
		return 0, errors.New("nothing succeeds even without overload")
	}
	return peak, nil
}

// revokes begins to revoke sessions at a low rate on connections of its own. stop
// ends that; then the result is there.
func (b *bench) revokes(ctx context.Context, s *server) (_ **load.Result, stop func() error, err error) {
	ids := make([]string, int((b.floodTime+b.warmup).Seconds()*revokeRate)+1)
	for i := range ids {
		created, err := s.createSession(ctx)
		if err != nil {
			return nil, nil, err
		}
		ids[i] = created.ID
	}
	before, next := s.request("DELETE", "/sessions/", ""), atomic.Int64{}
	at := len("DELETE /sessions/")
	l := s.dialer()
	l.Connections, l.Rate, l.Duration = revokeRate, revokeRate, b.floodTime
	l.Next = func(_ int, buf []byte) []byte {
		id := ids[int(next.Add(1)-1)%len(ids)]
		return append(append(append(buf, before[:at]...), id...), before[at:]...)
	}
	var result *load.Result
	done := make(chan error, 1)
	go func() {
		var err error
		result, err = l.Run(ctx)
		done <- err
	}()
	return &result, func() error { return <-done }, nil
}

func (b *bench) floodFigures(
	name string, peak float64, before, during, after, revokes *load.Result, memory float64, calm load.Load,
) {
	add := func(what string, value float64, unit string, g goal, format string, args ...any) {
		b.report.figure(figure{name + ", " + what, value, unit, g, fmt.Sprintf(format, args...)})
	}
	offered := float64(during.Total) / (during.Elapsed + b.warmup).Seconds()
	goodput := atLeast(0.9)
	if offered < 0.8*floodFactor*peak { // then it says nothing about the goal
		goodput = goal{}
		b.report.say("%s: only %.1f of the peak could be sent instead of %d", name, offered/peak, floodFactor)
	}
	add("goodput against peak", during.Rate()/peak, "", goodput, "%.0f/s against %.0f", during.Rate(), peak)
	add("asked against peak", offered/peak, "", goal{}, "of %d due; %s; %d not sent, %d without answer",
		floodFactor, statuses(during), during.Unsent, during.Failed)
	if refused := during.Statuses[503]; refused != nil {
		add("refused within, p99", float64(refused.Service.ValueAtQuantile(99))/1000, "ms", atMost(10, 0),
			"p50 %.1f ms, longest %.0f ms", float64(refused.Service.ValueAtQuantile(50))/1000, float64(refused.Service.Max())/1000)
	}
	total := max(revokes.Total+revokes.Failed+revokes.Unsent, 1)
	add("revocations that succeed", float64(revokes.Count(204))/float64(total), "", atLeast(1),
		"%s; p99 %.0f ms", statuses(revokes), float64(revokes.Latency().ValueAtQuantile(99))/1000)
	usual := before.Latency().ValueAtQuantile(99)
	late := 0
	for i, w := range after.Windows {
		if w.Latency.TotalCount() == 0 || w.Latency.ValueAtQuantile(99) > normal*usual {
			late = i + 1
		}
	}
	add("p99 normal again after", calm.Window.Seconds()*float64(late), "s", atMost(10, 0), "at %.1f of the peak: %.1f ms before, %.1f ms after; %s", afterFactor,
		float64(usual)/1000, float64(load.Merge(after.Windows[len(after.Windows)/2:]).Latency.ValueAtQuantile(99))/1000, statuses(after))
	add("most resident memory", memory, "MiB", goal{}, "")
}

// statuses are the numbers of answers by status.
func statuses(r *load.Result) string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		parts = append(parts, fmt.Sprintf("%d × %d", r.Count(status), status))
	}
	return strings.Join(parts, ", ")
}
