package admission_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sessiond.example/sessiond/internal/admission"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Classes of the tests, as a service of sessions has them.
const (
	revoke = iota
	check
	list
)

func newGate() *admission.Gate {
	return admission.New(4000,
		admission.Class{Name: "revoke", Ceiling: 1024, Most: 1024, Least: 1024},
		admission.Class{Name: "check", Ceiling: 896, Most: 896, Least: 128},
		admission.Class{Name: "list", Ceiling: 512, Most: 128, Least: 32})
}

// A service is something behind a gate that takes time.
type service interface{ serve(context.Context) }

// servers is a service that does n requests at a time, each within the time took; the others wait for it.
type servers struct {
	took time.Duration
	free chan struct{}
}

func newServers(n int, took time.Duration) *servers {
	return &servers{took, make(chan struct{}, n)}
}

func (s *servers) serve(context.Context) {
	s.free <- struct{}{}
	time.Sleep(s.took)
	<-s.free
}

func (s *servers) perSecond() int { return cap(s.free) * int(time.Second/s.took) }

// distant is a service that takes long and does any number at a time.
type distant time.Duration

func (d distant) serve(context.Context) { time.Sleep(time.Duration(d)) }

// commits is a service that does everything that waits at once, one time after the other, as a log is synced.
type commits struct {
	took time.Duration
	mu   sync.Mutex
	next chan struct{} // closed when the next commit is done; nil when none is due
	busy bool
}

func (s *commits) serve(context.Context) {
	s.mu.Lock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	mine := s.next
	if !s.busy {
		s.busy = true
		go s.run()
	}
	s.mu.Unlock()
	<-mine
}

func (s *commits) run() {
	for {
		s.mu.Lock()
		done := s.next
		s.next = nil
		if done == nil {
			s.busy = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		time.Sleep(s.took)
		close(done)
	}
}

// A count is what became of the requests of one kind.
type count struct {
	admitted, refused atomic.Int64
	mu                sync.Mutex
	slowest           time.Duration // to be refused
	longest           time.Duration // to be done
}

// load sends requests of a class at random times, perSecond of them, for so long, whatever becomes of them. It returns
// when all have ended.
func load(g *admission.Gate, class int, s service, perSecond int, for_ time.Duration) *count {
	c := &count{}
	var wg sync.WaitGroup
	random := rand.New(rand.NewPCG(1, uint64(class)))
	gap := float64(time.Second) / float64(perSecond)
	for at := time.Duration(0); at < for_; {
		d := time.Duration(gap * random.ExpFloat64())
		at += d
		time.Sleep(d)
		wg.Go(func() { c.request(g, class, s) })
	}
	wg.Wait()
	return c
}

func (c *count) request(g *admission.Gate, class int, s service) {
	began := time.Now()
	p, err := g.Enter(context.Background(), class)
	if err != nil {
		c.refused.Add(1)
		c.mu.Lock()
		c.slowest = max(c.slowest, time.Since(began))
		c.mu.Unlock()
		return
	}
	defer p.Leave()
	p.Begin()
	s.serve(context.Background())
	c.admitted.Add(1)
	c.mu.Lock()
	c.longest = max(c.longest, time.Since(began))
	c.mu.Unlock()
}

// What is done under any load is at least nine tenths of what the service can do, refusals are quick, and so is what is
// admitted.
func TestGoodput(t *testing.T) {
	for _, times := range []float64{0.5, 0.8, 1, 2, 5, 10} {
		synctest.Test(t, func(t *testing.T) {
			g, s := newGate(), newServers(16, 20*time.Millisecond)
			offered := int(times * float64(s.perSecond()))
			c := load(g, check, s, offered, 20*time.Second)
			want := 0.9 * min(float64(offered), float64(s.perSecond())) * 20
			t.Logf("%g times: %d admitted, %d refused, limit %d", times, c.admitted.Load(), c.refused.Load(), g.Stats()[check].Limit)
			if n := float64(c.admitted.Load()); n < want {
				t.Errorf("%g times the capacity: %g were done, want %g", times, n, want)
			}
			if n := c.refused.Load(); times < 1 && n > 0 {
				t.Errorf("%g times the capacity: %d were refused", times, n)
			}
			if c.slowest > 5*time.Millisecond {
				t.Errorf("%g times the capacity: a refusal took %v", times, c.slowest)
			}
		})
	}
}

// A limit must not take concurrency away from a service that needs it.
func TestTimeAloneIsNoReason(t *testing.T) {
	tests := []struct {
		name      string
		service   func() service
		perSecond int
	}{
		{"distant", func() service { return distant(200 * time.Millisecond) }, 3000},
		{"commits", func() service { return &commits{took: 60 * time.Millisecond} }, 5000},
		{"far commits", func() service { return &commits{took: 250 * time.Millisecond} }, 1500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				c := load(g, check, tt.service(), tt.perSecond, 30*time.Second)
				t.Logf("%d admitted, %d refused, limit %d", c.admitted.Load(), c.refused.Load(), g.Stats()[check].Limit)
				if n, all := c.admitted.Load(), 30*int64(tt.perSecond); n < all*9/10 {
					t.Errorf("%d of %d were done", n, all)
				}
			})
		})
	}
}

// While one class is asked for more than the service can do, those above it are admitted, at any rate below capacity.
func TestRevocationsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGate(), newServers(16, 20*time.Millisecond)
		var revoked *count
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(5 * time.Second) // what came before the limit was found has gone
			revoked = load(g, revoke, s, 10, 20*time.Second)
		})
		load(g, check, s, 5*s.perSecond(), 25*time.Second)
		wg.Wait()
		if n := revoked.refused.Load(); n > 0 || revoked.admitted.Load() < 150 {
			t.Errorf("%d revocations were refused, %d done", n, revoked.admitted.Load())
		}
		if limit := 500 * time.Millisecond; revoked.longest > limit {
			t.Errorf("a revocation took %v", revoked.longest)
		}
	})
}

// A class that is slow takes nothing from another.
func TestSlowClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGate(), newServers(16, time.Millisecond)
		var wg sync.WaitGroup
		wg.Go(func() { load(g, list, newServers(2, time.Second), 500, 10*time.Second) })
		c := load(g, check, s, s.perSecond()/4, 10*time.Second)
		wg.Wait()
		if n := c.refused.Load(); n > 0 || c.longest > 20*time.Millisecond {
			t.Errorf("%d checks were refused because of slow lists; the slowest took %v", n, c.longest)
		}
	})
}

// Within seconds of an overload nothing shows that there was one.
func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGate(), newServers(16, 20*time.Millisecond)
		load(g, check, s, 10*s.perSecond(), 20*time.Second)
		load(g, check, s, s.perSecond()*8/10, 5*time.Second)
		c := load(g, check, s, s.perSecond()*8/10, 5*time.Second)
		if n := c.refused.Load(); n > 0 || c.longest > 150*time.Millisecond {
			t.Errorf("5 s after an overload %d were refused, the slowest took %v", n, c.longest)
		}
		if st := g.Stats()[check]; st.Limit != 896 || st.InFlight != 0 || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// hanging is a service that answers nobody before it is closed.
type hanging struct {
	service
	until chan struct{}
}

func (s *hanging) serve(ctx context.Context) {
	<-s.until
	s.service.serve(ctx)
}

// Behind a service that hangs, no more than the limit's worth of requests pile up, and all is well when it goes on.
func TestServiceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, fast := newGate(), newServers(16, 2*time.Millisecond)
		s := &hanging{fast, make(chan struct{})}
		var c *count
		var wg sync.WaitGroup
		wg.Go(func() { c = load(g, check, s, 2000, 30*time.Second) })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := g.Stats()[check]; st.Limit != 128 || st.InFlight > 896 || st.Waiting > 4000 {
			t.Errorf("while it hangs: %+v", st)
		}
		close(s.until)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		refused := g.Stats()[check].Refused
		wg.Wait()
		if st := g.Stats()[check]; st.Refused != refused || st.Limit != 896 {
			t.Errorf("5 s later: %+v; %d were refused by then", st, refused)
		}
		if n := c.admitted.Load(); n < 2000*18 {
			t.Errorf("%d were done in the 20 s that were left", n)
		}
	})
}

// A service that needs more at a time than the least limit gets it, though the limit was lowered while it hung.
func TestLeastLimitIsNoTrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s := &hanging{distant(200 * time.Millisecond), make(chan struct{})}
		var wg sync.WaitGroup
		wg.Go(func() { load(g, check, s, 3000, 40*time.Second) })
		time.Sleep(5 * time.Second)
		close(s.until)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		before := g.Stats()[check].Refused
		wg.Wait()
		if n := g.Stats()[check].Refused - before; n > 15*3000/10 {
			t.Errorf("20 s after the service went on, %d of %d were refused", n, 15*3000)
		}
	})
}

// enter admits n requests.
func enter(t *testing.T, g *admission.Gate, class, n int) (passes []admission.Pass) {
	t.Helper()
	for range n {
		p, err := g.Enter(t.Context(), class)
		if err != nil {
			t.Fatal(err)
		}
		passes = append(passes, p)
	}
	return passes
}

func TestCeilings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(10,
			admission.Class{Name: "high", Ceiling: 4, Most: 4, Least: 4},
			admission.Class{Name: "low", Ceiling: 2, Most: 2, Least: 1})
		enter(t, g, 1, 2)
		if _, err := g.Enter(t.Context(), 1); !errors.Is(err, admission.ErrRefused) {
			t.Errorf("beyond its ceiling a class got %v", err)
		}
		enter(t, g, 0, 2)
		began := time.Now()
		if _, err := g.Enter(t.Context(), 0); !errors.Is(err, admission.ErrRefused) {
			t.Errorf("beyond all ceilings the first class got %v", err)
		}
		if took := time.Since(began); took != 5*time.Millisecond {
			t.Errorf("a refusal took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Enter(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("without a caller: %v", err)
		}
		want := []admission.Stats{
			{Name: "high", Limit: 4, InFlight: 2, Refused: 1}, {Name: "low", Limit: 2, InFlight: 2, Refused: 1},
		}
		if got := g.Stats(); got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%+v", got)
		}
	})
}

// A place that becomes free goes to the highest class that waits, and in it to the newest; without room to wait, the
// oldest of the lowest class is refused.
func TestOrderOfWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(4,
			admission.Class{Name: "high", Ceiling: 2, Most: 2, Least: 2},
			admission.Class{Name: "low", Ceiling: 2, Most: 2, Least: 2})
		passes := enter(t, g, 0, 2)
		got := make(chan string, 10)
		wait := func(class int, name string) {
			go func() {
				if p, err := g.Enter(t.Context(), class); err != nil {
					got <- "not " + name
				} else {
					got <- name
					p.Leave()
				}
			}()
			synctest.Wait()
		}
		wait(1, "low 1")
		wait(0, "high 1")
		wait(1, "low 2")
		wait(0, "high 2")
		wait(0, "high 3") // in the place of the oldest low one
		passes[0].Leave()
		synctest.Wait()
		for _, want := range []string{"not low 1", "high 3", "high 2", "high 1", "low 2"} {
			if name := <-got; name != want {
				t.Errorf("%s, want %s", name, want)
			}
		}
		passes[1].Leave()

		passes = enter(t, g, 0, 2)
		for _, name := range []string{"high 1", "high 2", "high 3", "high 4"} {
			wait(0, name)
		}
		wait(1, "low")
		if name := <-got; name != "not low" {
			t.Errorf("%s, want low to be refused: all others are higher", name)
		}
		passes[0].Leave()
		passes[1].Leave()
		synctest.Wait()
		if len(got) != 4 {
			t.Errorf("%d of 4 were told", len(got))
		}
	})
}

// Requests whose caller is slow say nothing about the service.
func TestSlowCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		for range 20 {
			passes := enter(t, g, check, 200)
			time.Sleep(time.Second) // for the rest of the request
			for i := range passes {
				passes[i].Begin()
			}
			time.Sleep(time.Millisecond)
			for i := range passes {
				passes[i].Leave()
			}
		}
		if limit := g.Stats()[check].Limit; limit != 896 {
			t.Errorf("the limit is %d", limit)
		}
	})
}

func TestAdmissionAllocatesNothing(t *testing.T) {
	g := newGate()
	if n := testing.AllocsPerRun(100, func() {
		p, err := g.Enter(context.Background(), check)
		if err != nil {
			t.Fatal(err)
		}
		p.Begin()
		p.Leave()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdmitted(b *testing.B) {
	g := newGate()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := g.Enter(context.Background(), check)
			if err != nil {
				b.Fatal(err)
			}
			p.Begin()
			p.Leave()
		}
	})
}
