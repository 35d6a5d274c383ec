package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A goal is what a figure should be. The zero goal is none.
type goal struct {
	value   float64
	atMost  bool // else at least
	decimal int
}

func atLeast(value float64) goal             { return goal{value: value, decimal: 2} }
func atMost(value float64, decimal int) goal { return goal{value, true, decimal} }

func (g goal) String() string {
	switch {
	case g.value == 0:
		return "-"
	case g.atMost:
		return fmt.Sprintf("≤ %.*f", g.decimal, g.value)
	default:
		return fmt.Sprintf("≥ %.*f", g.decimal, g.value)
	}
}

func (g goal) met(got float64) string {
	switch {
	case g.value == 0:
		return "-"
	case g.atMost && got <= g.value || !g.atMost && got >= g.value:
		return "yes"
	default:
		return "no"
	}
}

// A measurement is what one visit gave, or the medians of several. Times are in
// microseconds.
type measurement struct {
	rate           float64 // successes a second
	p50, p99, p999 float64
	cpu            float64 // of the process for each request
}

func medians(all []measurement) measurement {
	of := func(f func(measurement) float64) float64 {
		var values []float64
		for _, m := range all {
			values = append(values, f(m))
		}
		return median(values)
	}
	return measurement{
		rate: of(func(m measurement) float64 { return m.rate }),
		p50:  of(func(m measurement) float64 { return m.p50 }),
		p99:  of(func(m measurement) float64 { return m.p99 }),
		p999: of(func(m measurement) float64 { return m.p999 }),
		cpu:  of(func(m measurement) float64 { return m.cpu }),
	}
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// A pairResult is a row that compares two.
type pairResult struct {
	name, other  string
	goal         goal
	ratio        float64 // median of those of the rounds
	low, high    float64 // of the rounds
	ours, theirs measurement
	offered      float64 // requests a second in the open loop; 0: not done
	open, openBy measurement
	memory       float64 // MiB; 0: not measured
}

// A figure is a row of one number.
type figure struct {
	name  string
	value float64
	unit  string
	goal  goal
	note  string
}

// A report collects rows.
type report struct {
	progress io.Writer
	pairs    []pairResult
	figures  []figure
}

func (r *report) say(format string, args ...any) { fmt.Fprintf(r.progress, format+"\n", args...) }

func (r *report) pair(p pairResult) {
	r.pairs = append(r.pairs, p)
	r.say("%s: %.0f/s against %.0f/s, %.2f (goal %v)", p.name, p.ours.rate, p.theirs.rate, p.ratio, p.goal)
}

func (r *report) figure(f figure) {
	r.figures = append(r.figures, f)
	r.say("%s: %s %s (goal %v) %s", f.name, number(f.value), f.unit, f.goal, f.note)
}

// number prints three digits or more.
func number(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// print prints what was measured as markdown.
func (r *report) print(w io.Writer, s *settings) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %s %s/%s, GOMAXPROCS %d%s; %d connections; median of %d rounds of %v; default logs and metrics.\n",
		time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0),
		processor(), s.connections, s.rounds, s.visit)
	if len(r.pairs) > 0 {
		b.WriteString("\nSaturated (closed loop):\n\n" +
			"| row | a second | against | a second | ratio | of rounds | goal | met | p50 µs | p99 µs | p99.9 µs | CPU µs | their CPU µs | MiB |\n" +
			"|---|--:|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|\n")
		for _, p := range r.pairs {
			fmt.Fprintf(&b, "| %s | %.0f | %s | %.0f | **%.2f** | %.2f–%.2f | %v | %s | %.0f | %.0f | %.0f | %s | %s | %s |\n",
				p.name, p.ours.rate, p.other, p.theirs.rate, p.ratio, p.low, p.high, p.goal, p.goal.met(p.ratio),
				p.ours.p50, p.ours.p99, p.ours.p999, orNone(p.ours.cpu), orNone(p.theirs.cpu), orNone(p.memory))
		}
	}
	open := slices.DeleteFunc(slices.Clone(r.pairs), func(p pairResult) bool { return p.offered == 0 })
	if len(open) > 0 {
		b.WriteString("\nAt half of that rate (open loop):\n\n" +
			"| row | offered a second | p50 µs | p99 µs | p99.9 µs | against | p50 µs | p99 µs | p99.9 µs |\n" +
			"|---|--:|--:|--:|--:|---|--:|--:|--:|\n")
		for _, p := range open {
			fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.0f | %.0f | %s | %.0f | %.0f | %.0f |\n", p.name, p.offered,
				p.open.p50, p.open.p99, p.open.p999, p.other, p.openBy.p50, p.openBy.p99, p.openBy.p999)
		}
	}
	if len(r.figures) > 0 {
		b.WriteString("\nFigures:\n\n| what | measured | goal | met | |\n|---|--:|--:|---|---|\n")
		for _, f := range r.figures {
			fmt.Fprintf(&b, "| %s | %s %s | %v | %s | %s |\n", f.name, number(f.value), f.unit, f.goal, f.goal.met(f.value), f.note)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orNone(v float64) string {
	if v == 0 {
		return "-"
	}
	return number(v)
}

// processor is the name of the processor, if the system tells.
func processor() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return " of " + strings.TrimSpace(value)
		}
	}
	return ""
}
