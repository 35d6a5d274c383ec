package pgstore

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A feed wakes those who wait for events. While there are any, one loop asks the
// server what is new: at once after a commit of this process or a hint of another,
// else every interval.
type feed struct {
	s        *Store
	interval time.Duration
	hints    *hints // nil: none
	kicked   chan struct{}
	ctx      context.Context // of the loop; ended by stop
	cancel   context.CancelFunc

	mu      sync.Mutex
	waiting map[string]*waiters // by tenant
	running bool
	stopped bool
	loops   sync.WaitGroup
}

// waiters are the calls that wait for events of one tenant.
type waiters struct {
	news chan struct{} // closed when there may be some
	n    int
}

// minGap is the smallest time between two questions to the server: a burst of commits
// wakes once.
const minGap = 10 * time.Millisecond

func newFeed(s *Store, config *pgx.ConnConfig, o *Options) *feed {
	f := &feed{
		s: s, interval: o.PollInterval, kicked: make(chan struct{}, 1), waiting: make(map[string]*waiters),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if !o.NoHints && !s.pooled {
		f.hints = newHints(config, o.Logger, f.kickLocal)
	}
	return f
}

// enter gives a channel that is closed when the tenant may have news. leave must
// be called once. Without wait there is no channel.
func (f *feed) enter(tenant string, wait bool) (news <-chan struct{}, leave func()) {
	if !wait {
		return nil, func() {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.waiting[tenant]
	if w == nil {
		w = &waiters{news: make(chan struct{})}
		f.waiting[tenant] = w
	}
	w.n++
	if !f.running && !f.stopped {
		f.running = true
		f.loops.Go(f.loop)
	}
	return w.news, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if w.n--; w.n == 0 && f.waiting[tenant] == w {
			delete(f.waiting, tenant)
		}
	}
}

// kick is called after a commit of this process.
func (f *feed) kick() {
	f.kickLocal()
	if f.hints != nil {
		f.hints.tell()
	}
}

func (f *feed) kickLocal() {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}

// stop ends the loop.
func (f *feed) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.cancel()
	if f.hints != nil {
		f.hints.stop()
	}
	f.loops.Wait()
}

// wake wakes the waiters of tenants, or all.
func (f *feed) wake(all bool, tenants []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all {
		for _, w := range f.waiting {
			close(w.news)
		}
		clear(f.waiting)
		return
	}
	for _, t := range tenants {
		if w := f.waiting[t]; w != nil {
			close(w.news)
			delete(f.waiting, t)
		}
	}
}

// idle reports whether nobody has waited for a while; then the loop is over.
func (f *feed) idle(rounds int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 && rounds > 5 {
		f.running = false
		return true
	}
	return false
}

func (f *feed) loop() {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	var seen *snapshot
	var epoch [8]byte
	if f.hints != nil {
		f.loops.Go(func() {
			if sleep(ctx, listenAfter) {
				f.hints.listen(ctx)
			}
		})
	}
	for quiet := 0; !f.idle(quiet); {
		state, tenants, many, err := f.s.news(ctx, seen)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// Whoever waits asks for itself and learns what is wrong.
			seen = nil
			f.wake(true, nil)
		default:
			f.wake(many || seen == nil || state.epoch != epoch, tenants)
			now := state.now()
			seen, epoch = &now, state.epoch
		}
		if quiet++; f.anyone() {
			quiet = 0
		}
		if !f.pause(ctx, tick.C) {
			return
		}
	}
}

// listenAfter is how long after its beginning the loop listens for hints: short waits
// don't take a connection.
const listenAfter = 500 * time.Millisecond

// pause waits for the next round, false if there is none.
func (f *feed) pause(ctx context.Context, tick <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(minGap):
	}
	select {
	case <-ctx.Done():
		return false
	case <-f.kicked:
	case <-tick:
	}
	return true
}

func (f *feed) anyone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) > 0
}

// news asks for the tenants that have events which seen has not seen. many tells that
// there are too many to name them all.
func (s *Store) news(ctx context.Context, seen *snapshot) (state feedState, tenants []string, many bool, err error) {
	since := blank
	if seen != nil {
		since = *seen
	}
	a := newsSQL.args().text("xmax", since.xmaxText()).texts("running", len(since.running), since.id)
	err = s.read(ctx, a, func(r *row) error {
		if err := r.feedState(&state); err != nil {
			return err
		}
		many = r.int() >= manyNews
		if tenant := r.next(); tenant != nil {
			tenants = append(tenants, string(tenant))
		}
		return nil
	})
	return state, tenants, many, err
}

// manyNews is how many events the statement looks at.
const manyNews = 1000
