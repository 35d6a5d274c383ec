// Package load drives an HTTP/1.1 server with requests and measures the answers.
//
// In a closed loop every connection has one request under way at a time: that
// finds the rate at which a server is saturated. Its latencies flatter the
// server, since a server that stalls is asked less while it does.
//
// In an open loop requests arrive at a constant rate, whatever the server does.
// Each has an instant at which it is due, fixed beforehand, and its latency is
// counted from then, so that a stall shows in all the requests that it delayed.
package load

import (
	"context"
	"errors"
	"net"
	"time"
)

// A Load is requests to one server for a while.
type Load struct {
	// Dial opens a connection to the server; see [Dialer]. Required
	Dial func(context.Context) (net.Conn, error)
	// Next appends the next request of a connection (0 to Connections-1) to buf,
	// which is empty, and returns it; see [Request]. Connections call it
	// concurrently. Required
	Next func(connection int, buf []byte) []byte

	Connections int           // how many are used at most. Required
	Duration    time.Duration // how long it is measured. Required
	Warmup      time.Duration // the same load before that. Default: none

	// Rate is how many requests a second arrive, in an open loop. Default: 0,
	// a closed loop
	Rate float64
	// Backlog bounds, in an open loop, how many requests that are due may wait
	// for a free connection. When there are more the oldest is given up and
	// counted in Result.Unsent. Default: what arrives in 10 s
	Backlog int
	// Window is the length of the parts of which Result.Windows tells. Default:
	// none
	Window time.Duration
}

const (
	// drainTime is how long after the end requests are sent that were due before.
	drainTime = time.Second
	// patience is how long after the end answers are waited for.
	patience = 10 * time.Second
)

// Run drives the server and returns what it gave. When ctx ends before the
// time is over it returns what there is until then, with the context's error.
// Answers with any status are results, and so are connections that fail.
func (l Load) Run(ctx context.Context) (*Result, error) {
	switch {
	case l.Dial == nil || l.Next == nil:
		return nil, errors.New("load: Dial and Next are required")
	case l.Connections < 1 || l.Duration <= 0 || l.Warmup < 0:
		return nil, errors.New("load: there must be a connection and a duration")
	case l.Rate < 0 || l.Backlog < 0 || l.Window < 0:
		return nil, errors.New("load: rate, backlog and window must not be negative")
	}
	if l.Backlog == 0 {
		l.Backlog = int(l.Rate * 10)
	}
	return newRun(l).all(ctx)
}
