package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/internal/load"
)

// benchOptions are the flags of sessiond bench.
type benchOptions struct {
	operation             string
	connections, sessions int
	duration, warmup      time.Duration
	rate                  float64
	asJSON                bool
}

func (p *program) benchCommand() *cobra.Command {
	c := &sessionCLI{program: p}
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast a running server answers",
		Long: "Send requests to a running server for a while, and print how many it answered and how long that took.\n\n" +
			"By default every connection has one request under way all the time, which shows how much the server can\n" +
			"do. With --rate requests come at that rate, whatever the server does, and the time of each counts from when\n" +
			"it was due, so that a stall shows in every request that it delayed. That is what users would notice: give\n" +
			"the rate that you expect, or half of what the server can do.\n\n" +
			"It works on sessions of its own: it creates them (with a label bench), revokes them in the end, also when it\n" +
			"is interrupted, and they expire soon in any case. They are real: logged, counted, told as events, and kept\n" +
			"as ended records for the retention. The access token needs sessions:create and sessions:delete, and what\n" +
			"the operation needs: sessions:read (get, list), sessions:verify (verify), sessions:update (touch, update).\n\n" +
			"Run it on another machine than the server, which it would take processor time from.",
		Example: "  sessiond bench --token-file token.txt --duration 30s\n" +
			"  sessiond bench --server https://sessiond.example.com --token-file token.txt --operation verify --rate 2000",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			b, err := c.newBenchmark(o)
			if err != nil {
				return err
			}
			return b.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	c.addFlags(f)
	f.StringVar(&o.operation, "operation", "mix", "`what` to ask for: "+strings.Join(benchOperationNames(), ", "))
	f.IntVar(&o.connections, "connections", 64, "use this `many` connections")
	f.IntVar(&o.sessions, "sessions", 1000, "work on this `many` sessions")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how `long` to measure")
	f.DurationVar(&o.warmup, "warmup", time.Second, "how `long` to send requests before that")
	f.Float64Var(&o.rate, "rate", 0, "send this `many` requests a second; 0: as many as are answered")
	f.BoolVar(&o.asJSON, "json", false, "one JSON object instead of a table")
	return cmd
}

func (o *benchOptions) check() error {
	switch {
	case benchOperations[o.operation] == nil:
		return usagef("--operation must be one of %s", strings.Join(benchOperationNames(), ", "))
	case o.connections < 1 || o.connections > 20_000:
		return usagef("--connections must be 1 to 20000")
	case o.sessions < 1 || o.sessions > 1_000_000:
		return usagef("--sessions must be 1 to 1000000")
	case o.duration < 10*time.Millisecond || o.duration > 24*time.Hour:
		return usagef("--duration must be 10ms to 24h")
	case o.warmup < 0 || o.warmup > time.Hour:
		return usagef("--warmup must be 0s to 1h")
	case !(o.rate >= 0 && o.rate <= 1e7):
		return usagef("--rate must be 0 to 10000000")
	}
	return nil
}

// A benchmark is one run of sessiond bench.
type benchmark struct {
	*program
	benchOptions
	client *client.Client
	idle   func() // closes the client's connections
	server *url.URL
	token  string // the access token
	tenant string // if not the token's own
	stock  *benchStock
}

func (c *sessionCLI) newBenchmark(o benchOptions) (*benchmark, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = benchCallers
	cl, err := c.clientOver(transport)
	if err != nil {
		return nil, err
	}
	b := &benchmark{
		program: c.program, benchOptions: o, client: cl, idle: transport.CloseIdleConnections,
		token: c.getenv("SESSIOND_TOKEN"), tenant: c.tenant, stock: newBenchStock(o),
	}
	if b.server, err = url.Parse(strings.TrimRight(c.server, "/")); err != nil {
		return nil, err
	}
	if c.tokenFile != "" {
		content, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, err
		}
		b.token = strings.TrimSpace(string(content))
	}
	return b, nil
}

// run measures, and cleans up whatever happens.
func (b *benchmark) run(ctx context.Context) (err error) {
	dial, err := load.Dialer(b.server, nil)
	if err != nil {
		return err
	}
	defer b.idle()
	defer func() { err = errors.Join(err, b.stock.revoke(ctx, b)) }()
	b.say("creating sessions: %d", b.sessions)
	if err := b.stock.create(ctx, b); err != nil {
		return interrupted(ctx, explain(err))
	}
	operation := benchOperations[b.operation]
	if err := operation.try(ctx, b); err != nil {
		return interrupted(ctx, explain(err))
	}
	b.say("measuring for %v", b.duration)
	res, err := load.Load{
		Dial: dial, Next: operation.requests(b), Connections: b.connections,
		Rate: b.rate, Duration: b.duration, Warmup: b.warmup,
	}.Run(ctx)
	if res != nil && res.Elapsed > 0 {
		err = errors.Join(err, b.show(res))
	}
	if err == nil && res.Succeeded == 0 {
		err = errors.Join(errors.New("no request succeeded"), res.Failure)
	}
	return interrupted(ctx, err)
}

// say tells how the run goes.
func (b *benchmark) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// interrupted is an error in plain words for what came of a signal.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}
