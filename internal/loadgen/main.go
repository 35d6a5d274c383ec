// Command loadgen measures sessiond on this machine and prints the table of its
// goals: ratios against competitors that are visited in turn in the same run,
// because absolute figures of shared machines mean little. docs/performance.md
// tells what the rows mean.
//
// Servers, competitors and load run in processes of their own, on loopback.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// settings of a run.
type settings struct {
	rounds      int
	visit       time.Duration // how long one competitor is driven at a time
	warmup      time.Duration // before that, each time
	connections int
	sessions    int            // stored for the random reads
	rows        *regexp.Regexp // which rows
	compare     bool           // with scs
	scale       int            // sessions of the rows about scale; 0: without them
	overload    bool           // the rows about overload

	binary string // of sessiond; empty: build it

	// What only short runs change, but for the connections.
	floodConnections     int           // of an overload
	base                 int           // sessions that scale is compared with
	floodTime, afterTime time.Duration // lengths of the overload, and of what follows
	margin               time.Duration // for what comes before an expiry storm, beyond what it should take
	stormTime            time.Duration // how long an expiry storm is watched at most
}

func defaults() settings {
	return settings{
		rounds: 5, visit: 2 * time.Second, warmup: 200 * time.Millisecond, connections: 64, sessions: 200_000,
		rows: regexp.MustCompile(""), base: 10_000, floodConnections: 1000,
		floodTime: 10 * time.Second, afterTime: 15 * time.Second, margin: 10 * time.Second, stormTime: time.Minute,
	}
}

// shorten makes of s the shortest run that still goes everywhere: to see that
// the tool works.
func (s *settings) shorten() {
	s.rounds, s.visit, s.warmup, s.sessions, s.base = 1, 200*time.Millisecond, 20*time.Millisecond, 1000, 500
	s.floodTime, s.afterTime, s.margin = time.Second/2, time.Second/2, 3*time.Second
}

func main() {
	if address := os.Getenv(bareVariable); address != "" {
		bare(address)
	}
	s := defaults()
	rows := flag.String("run", "", "only rows whose name this `regexp` matches")
	short := flag.Bool("short", false, "one short round of each row, to see that the tool works")
	flag.IntVar(&s.rounds, "rounds", s.rounds, "visits of every competitor")
	flag.DurationVar(&s.visit, "visit", s.visit, "length of a visit")
	flag.IntVar(&s.connections, "connections", s.connections, "open connections, each with one request at a time")
	flag.IntVar(&s.sessions, "sessions", s.sessions, "sessions to store for the random reads")
	flag.BoolVar(&s.compare, "compare", false, "also against a small application on alexedwards/scs")
	flag.IntVar(&s.scale, "scale", 0, "also with this `many` sessions stored, such as 1000000")
	flag.BoolVar(&s.overload, "overload", false, "also at five times the capacity")
	flag.IntVar(&s.floodConnections, "overload-connections", s.floodConnections, "open connections of an overload")
	flag.StringVar(&s.binary, "sessiond", "", "measure this `program` instead of building one")
	flag.Parse()
	if *short {
		s.shorten()
	}
	var err error
	if s.rows, err = regexp.Compile(*rows); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err = run(ctx, s, os.Stdout, os.Stderr); ctx.Err() != nil {
			err = errors.New("interrupted")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// bare makes of this process the bare handler.
func bare(address string) {
	var answers []bareAnswer
	err := json.NewDecoder(os.Stdin).Decode(&answers)
	if err == nil {
		err = serveBare(address, answers)
	}
	fmt.Fprintln(os.Stderr, "loadgen: the bare handler:", err)
	os.Exit(1)
}

// A bench is one run of the tool.
type bench struct {
	settings
	dir    string // of all files
	build  builds
	report *report
}

// A section measures the rows that share servers. Its rows are asked for by name
// before anything is started.
type section struct {
	rows []string
	run  func(*bench, context.Context) error
}

// run measures and prints what it found, which is also what it has found until
// an error or the end of ctx.
func run(ctx context.Context, s settings, out, progress io.Writer) (err error) {
	b := &bench{settings: s, report: &report{progress: progress}}
	if b.dir, err = os.MkdirTemp("", "sessiond-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.build = builds{dir: b.dir, sessiond: s.binary}
	for _, section := range b.sections() {
		wanted := false
		for _, name := range section.rows {
			wanted = wanted || b.wants(name)
		}
		if !wanted {
			continue
		}
		if err = section.run(b, ctx); err != nil {
			break
		}
	}
	return errors.Join(err, b.report.print(out, &s))
}

func (b *bench) wants(row string) bool { return b.rows.MatchString(row) }

func (b *bench) sections() []section {
	sections := []section{
		{[]string{rowHot, b.rowRandom(), rowVerify, rowCreate}, (*bench).embedded},
		{[]string{rowOneWriter, rowTouch, rowManagerGet}, (*bench).inProcess},
		{redisRows(b.compare), (*bench).redis},
		{postgresRows(b.compare), (*bench).postgres},
	}
	if b.scale > 0 {
		sections = append(sections, section{[]string{rowScale}, (*bench).scaled})
	}
	if b.overload {
		sections = append(sections,
			section{[]string{rowFloodCreate}, (*bench).floodCreate}, section{[]string{rowFloodGet}, (*bench).floodGet})
	}
	return sections
}
