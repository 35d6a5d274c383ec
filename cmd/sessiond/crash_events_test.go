package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
)

// A feed reads all events and takes up broken connections where they ended.
type feed struct {
	t           *testing.T
	remote      *client.Client
	connections int

	mu     sync.Mutex
	events map[sessiond.ID][]sessiond.Event // those of a session, by version from 1 on
	news   chan struct{}                    // closed at the next batch
}

func newFeed(t *testing.T, remote *client.Client) *feed {
	return &feed{t: t, remote: remote, events: make(map[sessiond.ID][]sessiond.Event), news: make(chan struct{})}
}

// follow begins to read, and returns when the first connection stands, with a
// function that ends it.
func (f *feed) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx, sync.OnceFunc(func() { close(begun) }))
	}()
	select {
	case <-begun:
	case <-time.After(10 * time.Second):
		f.t.Error("the event stream does not begin")
	}
	return func() {
		cancel()
		<-done
	}
}

func (f *feed) run(ctx context.Context, begun func()) {
	var p sessiond.EventParams
	for ctx.Err() == nil {
		f.connections++
		delivered := make(map[string]bool) // by this connection
		for batch, err := range f.remote.Events(ctx, p) {
			if err != nil {
				break // the server was killed, or this is the end
			}
			if batch.Reset {
				f.t.Errorf("the position %q was refused", p.After)
			}
			f.add(batch.Events, delivered)
			p.After = batch.Position
			begun()
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// add files events and checks that none is missing before them. An event may
// come again over another connection only, and then unchanged.
func (f *feed) add(events []sessiond.Event, delivered map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		if delivered[e.ID] {
			f.t.Errorf("event %+v came twice over one connection", e)
		}
		delivered[e.ID] = true
		known := f.events[e.SessionID]
		switch next := int64(len(known)) + 1; {
		case e.Version == next:
			f.events[e.SessionID] = append(known, e)
		case e.Version < 1 || e.Version > next:
			f.t.Errorf("event %+v came after version %d of its session", e, next-1)
		default:
			if diff := cmp.Diff(known[e.Version-1], e); diff != "" {
				f.t.Errorf("an event came again and has changed, from (-) to (+):\n%s", diff)
			}
		}
	}
	if len(events) > 0 {
		close(f.news)
		f.news = make(chan struct{})
	}
}

// wait waits for the events of a session up to version.
func (f *feed) wait(ctx context.Context, id sessiond.ID, version int64) ([]sessiond.Event, error) {
	for {
		f.mu.Lock()
		events, news := f.events[id], f.news
		f.mu.Unlock()
		if int64(len(events)) >= version {
			return events, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return events, ctx.Err()
		}
	}
}

func (f *feed) count() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, events := range f.events {
		n += len(events)
	}
	return n
}
