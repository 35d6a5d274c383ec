package faultmatrix

import (
	"testing"
	"time"

	"sessiond.example/sessiond/internal/testserver"
)

// LastingOfProxies are the lasting faults of connections through proxies, all
// of them at once, for a store with the given timeout.
func LastingOfProxies(timeout time.Duration, proxies ...*testserver.Proxy) []Lasting {
	each := func(f func(testing.TB, *testserver.Proxy)) func(testing.TB) {
		return func(t testing.TB) {
			t.Helper()
			for _, p := range proxies {
				f(t, p)
			}
		}
	}
	heal := each(func(t testing.TB, p *testserver.Proxy) { p.Heal(t) })
	nothing := func(testing.TB) {}
	return []Lasting{
		{"refused", each(func(t testing.TB, p *testserver.Proxy) { p.SetEnabled(t, false) }), heal},
		{"reset", each(func(_ testing.TB, p *testserver.Proxy) { p.Reset() }), nothing},
		{"slow", each(func(_ testing.TB, p *testserver.Proxy) { p.Latency(timeout * 8 / 10) }), heal},
		{"too-slow", each(func(_ testing.TB, p *testserver.Proxy) { p.Latency(timeout * 10) }), heal},
		{"black-hole", each(func(_ testing.TB, p *testserver.Proxy) { p.BlackHole() }), heal},
	}
}

// CutsOfProxies are the cuts of connections through proxies. They count the
// requests of each proxy by itself.
func CutsOfProxies(proxies ...*testserver.Proxy) []Cut {
	met := func() bool {
		for _, p := range proxies {
			if p.Cut() {
				return true
			}
		}
		return false
	}
	end := func(t testing.TB) {
		t.Helper()
		for _, p := range proxies {
			p.Heal(t)
		}
	}
	arm := func(f func(*testserver.Proxy, int)) func(int) {
		return func(skip int) {
			for _, p := range proxies {
				f(p, skip)
			}
		}
	}
	return []Cut{
		{"cut-after-request", arm((*testserver.Proxy).CutAfterRequest), met, end},
		{"cut-before-request", arm((*testserver.Proxy).CutBeforeRequest), met, end},
	}
}

// A Server is what can be done to the processes of a store's server.
type Server interface {
	Stop()   // in the orderly way
	Kill()   // as a crash
	Start()  // again, until it answers
	Pause()  // where it is
	Resume() // from there
}

// LastingOfServer are the faults of a server.
func LastingOfServer(s Server) []Lasting {
	do := func(steps ...func()) func(testing.TB) {
		return func(testing.TB) {
			for _, step := range steps {
				step()
			}
		}
	}
	return []Lasting{
		{"stopped", do(s.Stop), do(s.Start)},
		{"paused", do(s.Pause), do(s.Resume)},
		{"restarted", do(s.Stop, s.Start), do()},
		{"crashed", do(s.Kill, s.Start), do()},
	}
}
