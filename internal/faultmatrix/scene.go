package faultmatrix

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
)

// A scene is one operation on a tenant of its own, so that everything that is
// there afterwards is its doing.
type scene struct {
	testing.TB
	op      operation
	hurried bool // the caller has a deadline
	tenant  string
	dataKey uint32
	watch   sessiond.Store    // the observer
	feed    sessiond.Position // from here on the events are the scene's
	before  *state
	wait    time.Duration // for an event

	// counted: the result of a pass of the sweeper, which is many writes, tells of
	// the one that is looked for. It comes with the error of another, too.
	counted atomic.Bool

	err   error
	wrong string // what is wrong about a successful answer
	took  time.Duration
}

// The sessions of a scene. Operations work on the first; create makes fresh.
const (
	first = sessiond.ID("first")
	fresh = sessiond.ID("fresh")
)

const (
	subject      = "anna"
	otherSubject = "ben"
)

// scene sets the stage for an operation.
func (s *suite) scene(t testing.TB, op operation, hurried bool) *scene {
	t.Helper()
	s.scenes++
	c := &scene{
		TB: t, op: op, hurried: hurried, watch: s.observer, wait: s.target.Timeout / 2,
		tenant: fmt.Sprintf("scene-%d", s.scenes), dataKey: uint32(1000 + s.scenes),
	}
	batch, err := c.watch.Events(t.Context(), sessiond.EventQuery{Tenant: c.tenant, Limit: 1})
	if err != nil {
		t.Fatalf("%s: position of the feed: %v", op.name, err)
	}
	c.feed = batch.Position
	if op.prepare != nil {
		op.prepare(c)
	}
	c.before = c.settled()
	return c
}

func (c *scene) key(id sessiond.ID) sessiond.Key { return sessiond.Key{Tenant: c.tenant, ID: id} }

// creation is a session with everything in it.
func (c *scene) creation(id sessiond.ID) sessiond.Creation {
	r := &sessiond.Record{
		Key: c.key(id), Subject: subject, Labels: map[string]string{"device": "phone"},
		Data: []byte("sealed " + id), DataKey: c.dataKey, Version: 1, CreatedBy: sessiond.Actor{Sub: "signin"},
	}
	rand.Read(r.Incarnation[:])
	rand.Read(r.TokenHash[:])
	return sessiond.Creation{Record: r, Lifetime: time.Hour, RequestID: "create-" + string(id)}
}

// create makes a session before the fault.
func (c *scene) create(id sessiond.ID, change func(*sessiond.Creation)) {
	c.Helper()
	n := c.creation(id)
	if change != nil {
		change(&n)
	}
	if _, err := c.watch.Create(c.Context(), n); err != nil {
		c.Fatalf("%s: create %s before the fault: %v", c.op.name, id, err)
	}
}

// perform runs the operation and returns at the latest when its time is over:
// a call that does not return is left behind.
func (c *scene) perform(ctx context.Context, store sessiond.Store, deadline, patience time.Duration) {
	limit := patience + slack
	if c.hurried {
		if !c.op.write { // the outcome of a write may be waited for
			limit = deadline + slack
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadline)
		defer cancel()
	}
	type answer struct {
		wrong string
		err   error
	}
	answered := make(chan answer, 1)
	began := time.Now()
	go func() {
		wrong, err := c.op.call(ctx, store, c)
		answered <- answer{wrong, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case a := <-answered:
		c.wrong, c.err = a.wrong, a.err
	case <-timer.C:
		c.err = errLate
	}
	c.took = time.Since(began)
}

// errLate: no answer came in time.
var errLate = errors.New("no answer")

// An outcome is what an answer says has happened.
type outcome int

const (
	done      outcome = iota
	undone            // certainly not
	uncertain         // of writes only
	none              // the answer is not one that a store may give
)

// outcome reads the answer.
func (c *scene) outcome() outcome {
	ended := errors.Is(c.err, context.DeadlineExceeded) || errors.Is(c.err, context.Canceled)
	switch {
	case c.err == nil:
		return done
	case errors.Is(c.err, errLate):
		return none
	case errors.Is(c.err, sessiond.ErrUnknown):
		if errors.Is(c.err, sessiond.ErrUnavailable) || !c.op.write {
			return none
		}
		return uncertain
	case errors.Is(c.err, sessiond.ErrUnavailable), ended && c.hurried:
		return undone
	}
	return none
}

// judge compares the answer with what is there.
func (c *scene) judge(t testing.TB) {
	t.Helper()
	c.TB = t
	got := c.outcome()
	switch {
	case errors.Is(c.err, errLate):
		t.Errorf("%v after %v", c.err, c.took.Round(time.Millisecond))
	case got == none:
		t.Errorf("answers %v", c.err)
	case c.wrong != "":
		t.Errorf("answers wrongly: %s", c.wrong)
	}
	after := c.settled()
	changed := after.difference(c.before)
	switch {
	case c.op.applied == nil || !c.op.applied(after):
		if got == done && c.op.write && !c.op.maybe {
			t.Error("the write is answered with success and was not applied")
		}
		if changed != "" && !c.op.loose {
			t.Errorf("the operation was not applied and still changed something (-before +after):\n%s", changed)
		}
	case got == undone && !c.counted.Load():
		t.Errorf("the write is answered with %q and was applied (-before +after):\n%s", c.err, changed)
	default:
		if err := c.op.check(c, after); err != nil {
			t.Errorf("the write was applied, but %v (-before +after):\n%s", err, changed)
		}
	}
}
