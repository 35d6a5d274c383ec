package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sessiond.example/sessiond/internal/load"
)

// benchStatus is the answers with one status, as --json shows them.
type benchStatus struct {
	Answers int64   `json:"answers"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	P999    float64 `json:"p99_9_ms"`
	Max     float64 `json:"max_ms"`
}

func newBenchStatus(answers int64, h *hdrhistogram.Histogram) benchStatus {
	at := func(quantile float64) float64 { return float64(h.ValueAtQuantile(quantile)) / 1000 }
	return benchStatus{answers, at(50), at(99), at(99.9), float64(h.Max()) / 1000}
}

// benchReport is what --json prints.
type benchReport struct {
	Server      string                 `json:"server"`
	Operation   string                 `json:"operation"`
	Sessions    int                    `json:"sessions"`
	Connections int                    `json:"connections"`
	Offered     float64                `json:"offered_per_second"` // 0: closed loop
	Seconds     float64                `json:"seconds"`
	Rate        float64                `json:"successes_per_second"`
	Statuses    map[string]benchStatus `json:"statuses"`
	Failed      int64                  `json:"unanswered"`
	Unsent      int64                  `json:"unsent"`
	Backlog     int64                  `json:"longest_backlog"`
}

// show prints what the run has measured, and under which conditions.
func (b *benchmark) show(res *load.Result) error {
	r := benchReport{
		Server: b.server.String(), Operation: b.operation, Sessions: b.sessions, Connections: b.connections, Offered: b.rate,
		Seconds: res.Elapsed.Seconds(), Rate: res.Rate(), Statuses: make(map[string]benchStatus),
		Failed: res.Failed, Unsent: res.Unsent, Backlog: res.Backlog,
	}
	for status, s := range res.Statuses {
		r.Statuses[strconv.Itoa(status)] = newBenchStatus(s.Count, s.Latency)
	}
	if b.asJSON {
		return json.NewEncoder(b.stdout).Encode(r)
	}
	return b.showTable(&r, res)
}

func (b *benchmark) showTable(r *benchReport, res *load.Result) error {
	w := tabwriter.NewWriter(b.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "server\t%s\n", r.Server)
	fmt.Fprintf(w, "operation\t%s, of %d sessions\n", benchOperations[b.operation].title, b.sessions)
	if b.rate == 0 {
		fmt.Fprintf(w, "load\t%d connections, each with one request at a time\n", b.connections)
	} else {
		fmt.Fprintf(w, "load\t%g requests a second on up to %d connections\n", b.rate, b.connections)
	}
	fmt.Fprintf(w, "measured\t%v, after %v of warm-up\n", res.Elapsed.Round(time.Millisecond), b.warmup)
	fmt.Fprintf(w, "successes\t%.0f a second\n", r.Rate)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(b.stdout)
	w = tabwriter.NewWriter(b.stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "status\tanswers\tp50 ms\tp99 ms\tp99.9 ms\tmax ms\t")
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		s := r.Statuses[status]
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", status, s.Answers, s.P50, s.P99, s.P999, s.Max)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Failed > 0 {
		fmt.Fprintf(b.stdout, "\n%d requests were not answered: %v\n", r.Failed, res.Failure)
	}
	if r.Unsent > 0 {
		fmt.Fprintf(b.stdout, "\n%d requests were due and not sent, because all connections were waiting for answers: the server\n"+
			"can't do that rate, or --connections is too low\n", r.Unsent)
	}
	if r.Backlog > int64(b.connections) {
		fmt.Fprintf(b.stdout, "\nup to %d requests waited for a free connection\n", r.Backlog)
	}
	return nil
}
