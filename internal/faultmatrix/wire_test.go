package faultmatrix_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultmatrix"
	"sessiond.example/sessiond/memstore"
)

// A mode is how the wire is.
type mode int

const (
	up mode = iota
	refused
	hole
	cutAfter
	cutBefore
)

// A network has wires that are all disturbed together.
type network struct {
	mu    sync.Mutex
	mode  mode
	skip  int
	open  int           // wires
	ended chan struct{} // closed with the fault
}

const timeout = 200 * time.Millisecond

func (n *network) set(m mode, skip int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mode, n.skip = m, skip
	if m == up {
		close(n.ended)
		n.ended = make(chan struct{})
	}
}

func (n *network) connections(d int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open += d
	return n.open
}

// next is what the next request meets, and the end of that.
func (n *network) next() (mode, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.mode
	if m == cutAfter || m == cutBefore {
		if n.skip > 0 {
			n.skip--
			return up, n.ended
		}
		n.mode = up
	}
	return m, n.ended
}

// target is a memory store at the other end of a network. A bug may spoil what
// its handles answer.
func target(t testing.TB, b *bug) faultmatrix.Target {
	below := memstore.New(memstore.Options{})
	t.Cleanup(func() {
		if err := below.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &network{ended: make(chan struct{})}
	lasting := func(name string, m mode) faultmatrix.Lasting {
		return faultmatrix.Lasting{
			Name: name, Begin: func(testing.TB) { n.set(m, 0) }, End: func(testing.TB) { n.set(up, 0) },
		}
	}
	cut := func(name string, m mode) faultmatrix.Cut {
		return faultmatrix.Cut{
			Name: name,
			Arm:  func(skip int) { n.set(m, skip) },
			Met: func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.mode == up
			},
			End: func(testing.TB) { n.set(up, 0) },
		}
	}
	return faultmatrix.Target{
		Open: func(ctx context.Context) (sessiond.Store, error) {
			w := &wire{Store: below, n: n, bug: b, closed: make(chan struct{})}
			if _, err := w.Stats(ctx); err != nil {
				return nil, err
			}
			n.connections(1)
			return w, nil
		},
		Observe: func(context.Context) (sessiond.Store, error) { return observer{below}, nil },
		Timeout: timeout, Patience: timeout, Recovery: time.Second,
		Connections: func() int { return n.connections(0) },
		Lasting:     []faultmatrix.Lasting{lasting("refused", refused), lasting("black-hole", hole)},
		Cuts:        []faultmatrix.Cut{cut("cut-after-request", cutAfter), cut("cut-before-request", cutBefore)},
	}
}

// An observer is a handle that leaves the store open.
type observer struct{ sessiond.Store }

func (observer) Close() error { return nil }

// A wire is a handle on the store at the other end.
type wire struct {
	sessiond.Store
	n   *network
	bug *bug

	once   sync.Once
	closed chan struct{}

	mu    sync.Mutex
	until time.Time // it backs off, if that is its bug
}

// A request is one call on its way.
type request struct {
	w     *wire
	ctx   context.Context
	op    string
	write bool
	mode  mode
	ended <-chan struct{} // with the fault
}

// send passes one call through the network.
func send[T any](w *wire, ctx context.Context, op string, write bool, do func() (T, error)) (T, error) {
	var zero T
	select {
	case <-w.closed:
		return zero, fmt.Errorf("%w: closed", sessiond.ErrUnavailable)
	default:
	}
	r := &request{w: w, ctx: ctx, op: op, write: write}
	r.mode, r.ended = w.n.next()
	again := func() error {
		_, err := do()
		return err
	}
	if w.bug != nil && w.bug.before != nil {
		if handled, err := w.bug.before(r, again); handled {
			return zero, err
		}
	}
	res, err := zero, error(nil)
	switch r.mode {
	case up:
		return do()
	case refused:
		err = fmt.Errorf("%w: refused", sessiond.ErrUnavailable)
	case hole:
		err = r.wait()
	case cutAfter:
		if _, err = do(); err == nil {
			err = r.lost()
		}
	case cutBefore:
		err = r.lost()
	}
	if w.bug != nil && w.bug.after != nil {
		err = w.bug.after(r, err, again)
	}
	return res, err
}

// lost is the error of a request without an answer.
func (r *request) lost() error {
	if r.write {
		return fmt.Errorf("%w: no answer", sessiond.ErrUnknown)
	}
	return fmt.Errorf("%w: no answer", sessiond.ErrUnavailable)
}

// wait is the error of a request into the black hole.
func (r *request) wait() error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.w.closed:
	case <-r.ctx.Done():
		if !r.write {
			return r.ctx.Err()
		}
	}
	return r.lost()
}

func (w *wire) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	return send(w, ctx, "create", true, func() (sessiond.Result, error) {
		own := c
		r := *c.Record
		own.Record = &r
		return w.Store.Create(ctx, own)
	})
}

func (w *wire) Get(ctx context.Context, k sessiond.Key) (sessiond.Result, error) {
	return send(w, ctx, "get", false, func() (sessiond.Result, error) { return w.Store.Get(ctx, k) })
}

func (w *wire) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	return send(w, ctx, "update", true, func() (sessiond.Result, error) {
		if w.bug != nil && w.bug.change != nil {
			return w.Store.Update(ctx, k, w.bug.change(fn))
		}
		return w.Store.Update(ctx, k, fn)
	})
}

func (w *wire) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	return send(w, ctx, "touch", true, func() (sessiond.Result, error) { return w.Store.Touch(ctx, k, inc, at) })
}

func (w *wire) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	_, err := send(w, ctx, "erase", true, func() (struct{}, error) { return struct{}{}, w.Store.Erase(ctx, k, fn) })
	return err
}

func (w *wire) List(ctx context.Context, q sessiond.Query) (sessiond.Page, error) {
	return send(w, ctx, "list", false, func() (sessiond.Page, error) { return w.Store.List(ctx, q) })
}

func (w *wire) Scan(ctx context.Context, after sessiond.Key, limit int) ([]*sessiond.Record, error) {
	return send(w, ctx, "scan", false, func() ([]*sessiond.Record, error) { return w.Store.Scan(ctx, after, limit) })
}

func (w *wire) Events(ctx context.Context, q sessiond.EventQuery) (sessiond.EventBatch, error) {
	return send(w, ctx, "events", false, func() (sessiond.EventBatch, error) { return w.Store.Events(ctx, q) })
}

func (w *wire) Sweep(ctx context.Context, p sessiond.SweepParams) (sessiond.SweepResult, error) {
	return send(w, ctx, "sweep", true, func() (sessiond.SweepResult, error) { return w.Store.Sweep(ctx, p) })
}

func (w *wire) Stats(ctx context.Context) (sessiond.Stats, error) {
	return send(w, ctx, "stats", false, func() (sessiond.Stats, error) { return w.Store.Stats(ctx) })
}

func (w *wire) Close() error {
	w.once.Do(func() {
		if w.bug == nil || w.bug.close == nil || !w.bug.close(w) {
			w.n.connections(-1)
		}
		close(w.closed)
	})
	return nil
}
