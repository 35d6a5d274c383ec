package telemetry_test

import (
	"io"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/telemetry"
)

// usual is an operation as most are.
var usual = telemetry.Operation{
	Op: "get", Route: "/sessions/{id}", Method: "GET", Status: 200, Duration: 123456 * time.Nanosecond,
	SessionID: "01980a5e-7c3f-7a4e-9b7a-3c5d1e2f4a6b", Tenant: "default",
	Principal: "system:serviceaccount:shop:cart", RequestID: "8f14e45fceea167a5a36dedd4bea2543",
	TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
}

func storeWithSession(tb testing.TB) (plain, wrapped sessiond.Store, k sessiond.Key) {
	tb.Helper()
	plain = memstore.New(memstore.Options{})
	wrapped = telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.MetricsOptions{}).Store(plain)
	m, err := sessiond.New(sessiond.Config{Store: plain, Sealer: sessiond.NoSealing{}})
	if err != nil {
		tb.Fatal(err)
	}
	s, _, err := m.Create(tb.Context(), sessiond.CreateParams{})
	if err != nil {
		tb.Fatal(err)
	}
	return plain, wrapped, sessiond.Key{Tenant: s.Tenant, ID: s.ID}
}

// What every request pays for allocates nothing.
func TestAllocations(t *testing.T) { // not parallel, as AllocsPerRun wants it
	const runs = 1000
	check := func(name string, most float64, f func()) {
		t.Helper()
		if got := testing.AllocsPerRun(runs, f); got > most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, most)
		}
	}
	l := telemetry.NewLog(io.Discard, nil)
	check("Log.Operation, written through", 0, func() { l.Operation(usual) })
	stop := run(t, l)
	defer stop()
	check("Log.Operation", 0, func() { l.Operation(usual) })

	m := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.MetricsOptions{})
	failed := usual
	failed.Op, failed.Method, failed.Route, failed.Status, failed.AuthFailure = "x", "x", "x", -1, "x"
	check("Metrics.Observe", 0, func() { m.Observe(usual); m.Observe(failed) })

	ctx := t.Context()
	plain, wrapped, k := storeWithSession(t)
	get := func(s sessiond.Store) func() {
		return func() {
			if _, err := s.Get(ctx, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	check("Store.Get", testing.AllocsPerRun(runs, get(plain)), get(wrapped))
}

func BenchmarkLogOperation(b *testing.B) {
	l := telemetry.NewLog(io.Discard, nil)
	go l.Run(b.Context())
	time.Sleep(10 * time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		l.Operation(usual)
	}
}

func BenchmarkLogOperationParallel(b *testing.B) {
	l := telemetry.NewLog(io.Discard, nil)
	go l.Run(b.Context())
	time.Sleep(10 * time.Millisecond)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Operation(usual)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	m := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.MetricsOptions{})
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(usual)
	}
}

func BenchmarkObserveParallel(b *testing.B) {
	m := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.MetricsOptions{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Observe(usual)
		}
	})
}

// BenchmarkGet compares a store with itself behind the wrapper.
func BenchmarkGet(b *testing.B) {
	plain, wrapped, k := storeWithSession(b)
	ctx := b.Context()
	for name, s := range map[string]sessiond.Store{"plain": plain, "wrapped": wrapped} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(ctx, k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
