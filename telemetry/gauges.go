package telemetry

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sessiond.example/sessiond"
)

const (
	statsTimeout = time.Second // longest that a scrape waits for the store
	statsKept    = time.Second // scrapes within this share an answer, or a failure
)

// gauges are the metrics that are asked for when they are scraped. What cannot
// be told is absent from that scrape.
type gauges struct {
	active, clockOffset, jwksAge, primary, class *prometheus.Desc
	admissionLimit, admitted, refused            *prometheus.Desc

	failures      prometheus.Counter
	jwksAges      func() map[string]time.Duration
	keysetPrimary func() uint32
	storeClass    func() string
	admission     func(func(class string, limit, inFlight int, refused uint64))

	mu      sync.Mutex
	store   sessiond.Store // nil before Metrics.Store
	stats   sessiond.Stats
	err     error
	asked   time.Time // when stats and err were asked for
	tenants tenants
}

func newGauges(opts MetricsOptions) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		active: desc("sessiond_sessions_active", "Live sessions of the store. Every replica exports the same "+
			"number: take max by (tenant).", "tenant"),
		clockOffset: desc("sessiond_clock_offset_seconds", "How far the host's clock is ahead of the store's."),
		jwksAge: desc("sessiond_jwks_age_seconds", "Time since the issuer's keys were fetched; absent until they "+
			"were.", "issuer"),
		primary: desc("sessiond_keyset_primary_info", "The key that seals session data now; always 1.", "key_id"),
		class: desc("sessiond_store_class_info", "What the store keeps of what it has acknowledged, as its settings "+
			"tell; always 1.", "class"),
		admissionLimit: desc("sessiond_admission_limit", "Requests of a class that may be in the works at once; it "+
			"adapts.", "class"),
		admitted: desc("sessiond_admission_in_flight", "Requests of a class in the works.", "class"),
		refused: desc("sessiond_admission_refused_total", "Requests of a class that were refused as overloaded.",
			"class"),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sessiond_store_stats_failures_total",
			Help: "Times that the store could not be asked for its gauges.",
		}),
		jwksAges:      opts.JWKSAge,
		keysetPrimary: opts.KeysetPrimary,
		storeClass:    opts.StoreClass,
		admission:     opts.Admission,
		tenants:       tenants{most: opts.Tenants, named: make(map[string]bool)},
	}
}

// Describe implements [prometheus.Collector].
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.active
	ch <- g.clockOffset
	ch <- g.jwksAge
	ch <- g.primary
	ch <- g.class
	ch <- g.admissionLimit
	ch <- g.admitted
	ch <- g.refused
}

// Collect implements [prometheus.Collector].
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	if active, offset, ok := g.fromStore(); ok {
		for tenant, n := range active {
			gauge(g.active, float64(n), tenant)
		}
		gauge(g.clockOffset, offset.Seconds())
	}
	if g.jwksAges != nil {
		for issuer, age := range g.jwksAges() {
			gauge(g.jwksAge, age.Seconds(), strings.ToValidUTF8(issuer, "?"))
		}
	}
	if g.storeClass != nil {
		gauge(g.class, 1, g.storeClass())
	}
	if g.keysetPrimary != nil {
		if id := g.keysetPrimary(); id != 0 {
			gauge(g.primary, 1, strconv.FormatUint(uint64(id), 10))
		}
	}
	if g.admission != nil {
		g.admission(func(class string, limit, inFlight int, refused uint64) {
			gauge(g.admissionLimit, float64(limit), class)
			gauge(g.admitted, float64(inFlight), class)
			ch <- prometheus.MustNewConstMetric(g.refused, prometheus.CounterValue, float64(refused), class)
		})
	}
}

// fromStore is what the store tells, at most statsKept ago.
func (g *gauges) fromStore() (active map[string]int64, offset time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.store == nil {
		return nil, 0, false
	}
	if g.asked.IsZero() || time.Since(g.asked) >= statsKept {
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		g.stats, g.err = g.store.Stats(ctx)
		cancel()
		g.asked = time.Now()
		if g.err != nil {
			g.failures.Inc()
		}
	}
	if g.err != nil {
		return nil, 0, false
	}
	return g.tenants.sum(g.stats.Active), g.stats.ClockOffset, true
}

// tenants are those that have a label value of their own. Once a tenant has one it
// keeps it, so that its series goes on.
type tenants struct {
	most     int
	named    map[string]bool
	overflow bool // there were others
}

// sum is the number of sessions by label value.
func (t *tenants) sum(active map[string]int64) map[string]int64 {
	largestFirst := slices.SortedFunc(maps.Keys(active), func(a, b string) int {
		return cmp.Or(cmp.Compare(active[b], active[a]), cmp.Compare(a, b))
	})
	sums := make(map[string]int64, len(t.named)+1)
	for name := range t.named {
		sums[name] = 0
	}
	if t.overflow {
		sums[other] = 0
	}
	for _, name := range largestFirst {
		n := active[name]
		switch {
		case n <= 0: // counters of a store may be behind for a moment
			continue
		case strings.HasPrefix(name, "-"): // no tenant of users
			continue
		case !t.named[name] && (len(t.named) >= t.most || !sessiond.ValidTenant(name)):
			name, t.overflow = other, true
		default:
			t.named[name] = true
		}
		sums[name] += n
	}
	return sums
}
