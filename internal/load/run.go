package load

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A run is a Load under way.
type run struct {
	Load
	began      time.Time // of the warm-up
	start, end time.Time // of the measurement
	arrivals   atomic.Int64
	unsent     atomic.Int64
	maxBacklog atomic.Int64
	shards     []shard // where answers are recorded
}

func newRun(l Load) *run {
	r := &run{Load: l, began: time.Now()}
	r.start = r.began.Add(l.Warmup)
	r.end = r.start.Add(l.Duration)
	r.shards = make([]shard, min(l.Connections, maxShards))
	for i := range r.shards {
		r.shards[i].init(r)
	}
	return r
}

// all runs all connections to their end.
func (r *run) all(ctx context.Context) (*Result, error) {
	// Unlike the context's own end, patience ends an exchange under way.
	exchanges, cancel := context.WithDeadline(ctx, r.end.Add(patience))
	defer cancel()
	var wg sync.WaitGroup
	for i := range r.Connections {
		wg.Go(func() { r.connection(ctx, exchanges, i) })
	}
	wg.Wait()
	elapsed := r.Duration
	if ctx.Err() != nil {
		elapsed = min(max(time.Since(r.start), 0), r.Duration)
	}
	return r.result(elapsed), ctx.Err()
}

// connection sends requests one after the other.
func (r *run) connection(ctx, exchanges context.Context, n int) {
	c := client{dial: r.Dial}
	defer c.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	into := &r.shards[n%len(r.shards)]
	var buf []byte
	for {
		due, ok := r.next(ctx, timer)
		if !ok {
			return
		}
		buf = r.Next(n, buf[:0])
		sent := time.Now()
		status, err := c.exchange(exchanges, buf)
		if ctx.Err() != nil {
			return // the exchange was cut off
		}
		into.record(answer{due: due, sent: sent, came: time.Now(), status: status, err: err})
		if err != nil {
			sleep(ctx, timer, 10*time.Millisecond) // a server that is gone is not dialled in a tight loop
		}
	}
}

// next waits until a request is to be sent and returns the instant at which it
// was due. It is false when there is none any more.
func (r *run) next(ctx context.Context, timer *time.Timer) (due time.Time, ok bool) {
	if r.Rate == 0 {
		now := time.Now()
		return now, now.Before(r.end) && ctx.Err() == nil
	}
	for ctx.Err() == nil {
		due = r.due(r.arrivals.Add(1) - 1)
		if !due.Before(r.end) {
			return due, false
		}
		late := time.Since(due)
		if late < 0 {
			return due, sleep(ctx, timer, -late)
		}
		// This one is the oldest of those that wait.
		waiting := int64(late.Seconds() * r.Rate)
		if due.Before(r.start) {
			if waiting <= int64(r.Backlog) {
				return due, true
			}
			continue
		}
		raise(&r.maxBacklog, waiting)
		if waiting <= int64(r.Backlog) && time.Since(r.end) < drainTime {
			return due, true
		}
		r.unsent.Add(1)
	}
	return due, false
}

// due is the instant at which the n-th request is due.
func (r *run) due(n int64) time.Time {
	return r.began.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
}

// sleep is false when ctx ended before.
func sleep(ctx context.Context, timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func raise(to *atomic.Int64, value int64) {
	for {
		old := to.Load()
		if value <= old || to.CompareAndSwap(old, value) {
			return
		}
	}
}

// A client is one connection, opened when it is first needed and anew after a
// failure or when the server has closed it.
type client struct {
	dial func(context.Context) (net.Conn, error)
	conn net.Conn
	in   reader
	free func() bool // the connection from its context
}

// exchange sends a request and reads the answer to its end.
func (c *client) exchange(ctx context.Context, request []byte) (status int, err error) {
	if c.conn == nil {
		if c.conn, err = c.dial(ctx); err != nil {
			c.conn = nil
			return 0, err
		}
		conn := c.conn
		c.free = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		c.in.reset(conn)
	}
	if _, err = c.conn.Write(request); err == nil {
		var keep bool
		if status, keep, err = c.in.answer(); err == nil && keep {
			return status, nil
		}
	}
	c.close()
	return status, err
}

func (c *client) close() {
	if c.conn != nil {
		c.free()
		_ = c.conn.Close() // nothing is expected of it any more
		c.conn = nil
	}
}
