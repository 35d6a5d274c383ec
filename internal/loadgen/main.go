// Command loadgen measures a sessiond server against a bare net/http handler
// that writes the same bytes, on the same machine in the same run, and prints
// the ratios. Absolute figures of shared machines mean little; ratios of
// visits taken in turn mean something.
//
// Server, bare handler and load run in processes of their own, on loopback.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"
)

// settings of a run.
type settings struct {
	rounds      int
	visit       time.Duration // how long one target is driven in one round
	connections int
	sessions    int // stored for the random reads
}

func main() {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 5, "visits of every target")
	flag.DurationVar(&s.visit, "visit", 2*time.Second, "length of a visit")
	flag.IntVar(&s.connections, "connections", 64, "open connections, each with one request at a time")
	flag.IntVar(&s.sessions, "sessions", 200_000, "sessions to store for the random reads")
	bare := flag.String("bare", "", "internal: be the bare handler on this address")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *bare != "" {
		err = serveBare(*bare, os.Stdin)
	} else {
		err = run(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// A row of the table: one kind of request, and what the same answer costs a
// bare handler.
type row struct {
	name string
	goal float64
	ours func(*target) visit
	bare func(*target) visit
}

func run(ctx context.Context, s settings) error {
	t, err := startTarget(ctx, s)
	if err != nil {
		return err
	}
	defer t.stop()
	rows := []row{
		{"GET /sessions/{id}, hot", 0.75, (*target).getHot, (*target).bareGet},
		{fmt.Sprintf("GET /sessions/{id}, %d random", s.sessions), 0.60, (*target).getRandom, (*target).bareGet},
		{"POST /verify", 0.60, (*target).verify, (*target).bareVerify},
		{"POST /sessions/, durable", 0.35, (*target).create, (*target).bareCreate},
	}
	fmt.Printf("%s, %s/%s, GOMAXPROCS %d; %d connections, median of %d rounds of %v; logs and metrics on\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), s.connections, s.rounds, s.visit)
	fmt.Printf("| %-36s | %9s | %9s | %6s | %5s | %8s | %8s |\n",
		"request", "req/s", "bare", "ratio", "goal", "p50 us", "p99 us")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, r := range rows {
		var ratios, ours, bare []float64
		var p50, p99 []float64
		for range s.rounds {
			b, err := drive(ctx, s, r.bare(t))
			if err != nil {
				return fmt.Errorf("%s, bare: %w", r.name, err)
			}
			o, err := drive(ctx, s, r.ours(t))
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			ratios = append(ratios, o.rate/b.rate)
			ours, bare = append(ours, o.rate), append(bare, b.rate)
			p50, p99 = append(p50, o.p50), append(p99, o.p99)
		}
		fmt.Printf("| %-36s | %9.0f | %9.0f | %6.2f | %5.2f | %8.0f | %8.0f |\n",
			r.name, median(ours), median(bare), median(ratios), r.goal, median(p50), median(p99))
	}
	rss, err := t.residentMiB()
	if err != nil {
		return err
	}
	fmt.Printf("\nresident memory of the server at the end: %d MiB\n", rss)
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
