package telemetry

import (
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sessiond.example/sessiond"
)

// MetricsOptions are what [NewMetrics] needs to know. The zero value is fine.
type MetricsOptions struct {
	Version string // of the program. Default: empty
	Commit  string // it was built from. Default: empty

	// Tenants is how many tenants get a label value of their own, the first that
	// are seen to have sessions; of those seen at once, the ones with the most.
	// The others share "_other". Default 0
	Tenants int

	// Closed sets of the values of Operation.Op, Route and AuthFailure; others
	// are counted under "_other". Default: those of the HTTP API
	Ops, Routes, AuthFailures []string

	// JWKSAge tells the time since the keys of each issuer were fetched, without
	// issuers whose keys never were. Default: no such metric
	JWKSAge func() map[string]time.Duration
	// KeysetPrimary tells the key that seals data now; 0 is none. Default: no
	// such metric
	KeysetPrimary func() uint32
	// StoreClass tells the class of the store's guarantee, as it was verified last.
	// Default: no such metric
	StoreClass func() string
	// Admission calls back for each class of requests that are admitted together, a
	// closed set: how many may be in the works, how many are, and how many were
	// refused. Default: no such metrics
	Admission func(each func(class string, limit, inFlight int, refused uint64))
	// LogErrors is Log.Errors. Default: no such metric
	LogErrors func() uint64
}

// Metrics are the metrics of one service. They are safe for concurrent use; an
// observation resolves no labels and allocates nothing.
type Metrics struct {
	ops, routes, methods, authFailures, ends set

	operations   table[prometheus.Counter]  // by op and result
	durations    table[prometheus.Observer] // by op
	requests     table[prometheus.Observer] // by method, route and status
	authFailed   table[prometheus.Counter]  // by reason
	ended        table[prometheus.Counter]  // by reason
	storeTimes   *prometheus.HistogramVec   // by op
	eventStreams prometheus.Gauge
	sweepFailed  prometheus.Counter
	sweepBacklog prometheus.Gauge
	sweepLag     prometheus.Gauge
	openFailures prometheus.Counter

	gauges *gauges
}

// buckets are the upper bounds of durations in seconds, from a read out of
// memory to the longest that a client is likely to wait.
func buckets() []float64 {
	return []float64{
		.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
	}
}

// NewMetrics makes metrics and registers them with reg; it panics when some are
// registered there already. Collectors of the Go runtime and the process are
// the caller's to add.
func NewMetrics(reg prometheus.Registerer, opts MetricsOptions) *Metrics {
	m := &Metrics{
		ops:          newSet(orDefault(opts.Ops, defaultOps), other),
		routes:       newSet(orDefault(opts.Routes, defaultRoutes), other),
		methods:      newSet(methods, otherMethod),
		authFailures: newSet(orDefault(opts.AuthFailures, defaultAuthFailures), other),
		ends:         newSet(endReasons, other),
		gauges:       newGauges(opts),
	}
	m.registerOperations(reg)
	m.registerStore(reg)

	m.eventStreams = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sessiond_event_streams", Help: "Event streams open on this replica.",
	})
	m.openFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sessiond_data_open_failures_total",
		Help: "Session data that no loaded key opens, or that is damaged, counted each time it is asked for.",
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sessiond_build_info", Help: "What is running; always 1.",
		ConstLabels: prometheus.Labels{
			"version":   strings.ToValidUTF8(opts.Version, "?"),
			"commit":    strings.ToValidUTF8(opts.Commit, "?"),
			"goversion": runtime.Version(),
		},
	})
	build.Set(1)
	reg.MustRegister(m.eventStreams, m.openFailures, build, m.gauges, m.gauges.failures)
	if opts.LogErrors != nil {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sessiond_log_errors_total", Help: "Writes of log lines that failed; the lines are lost.",
		}, func() float64 { return float64(opts.LogErrors()) }))
	}
	return m
}

func orDefault(names, defaults []string) []string {
	if names == nil {
		return defaults
	}
	return names
}

func (m *Metrics) registerOperations(reg prometheus.Registerer) {
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_session_operations_total", Help: "Operations by what came of them.",
	}, []string{"op", "result"})
	m.operations = newTable(len(m.ops.names)*resultCount, func(i int) prometheus.Counter {
		return operations.WithLabelValues(m.ops.names[i/resultCount], results[i%resultCount])
	})
	for i := range m.ops.names {
		// There from the start, since a rate does not see the first of what was not.
		m.operations.at(i*resultCount + resultOf(http.StatusInternalServerError))
		m.operations.at(i*resultCount + resultOf(http.StatusServiceUnavailable))
	}

	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "sessiond_session_operation_duration_seconds",
		Help: "Time from request to answer, without event streams, which last as long as their clients listen.",

		Buckets: buckets(),
	}, []string{"op"})
	m.durations = newTable(len(m.ops.names), func(i int) prometheus.Observer {
		return durations.WithLabelValues(m.ops.names[i])
	})

	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "http_server_request_duration_seconds",
		Help:    "Duration of HTTP server requests.",
		Buckets: buckets(),
	}, []string{"http_request_method", "http_route", "http_response_status_code"})
	perRoute := len(statuses)
	perMethod := perRoute * len(m.routes.names)
	m.requests = newTable(perMethod*len(m.methods.names), func(i int) prometheus.Observer {
		return requests.WithLabelValues(
			m.methods.names[i/perMethod], m.routes.names[i%perMethod/perRoute], statuses[i%perRoute])
	})

	authFailed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_auth_failures_total", Help: "Credentials refused, by cause.",
	}, []string{"reason"})
	m.authFailed = newTable(len(m.authFailures.names), func(i int) prometheus.Counter {
		return authFailed.WithLabelValues(m.authFailures.names[i])
	})
	m.authFailed.fill()

	reg.MustRegister(operations, durations, requests, authFailed)
}

func (m *Metrics) registerStore(reg prometheus.Registerer) {
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_sessions_ended_total", Help: "Sessions that this replica ended, by reason.",
	}, []string{"reason"})
	m.ended = newTable(len(m.ends.names), func(i int) prometheus.Counter {
		return ended.WithLabelValues(m.ends.names[i])
	})
	m.ended.fill()

	m.storeTimes = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "sessiond_store_operation_duration_seconds",
		Help:    "Time in the store, without waiting for events.",
		Buckets: buckets(),
	}, []string{"op"})
	m.sweepFailed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sessiond_sweep_failures_total",
		Help: "Passes of the sweeper that failed; backlog and lag stay as they were then.",
	})
	m.sweepBacklog = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sessiond_sweep_backlog",
		Help: "Sessions past their deadline that the sweeper has not ended yet, up to 10,000. 0 on replicas that " +
			"do not sweep: take the maximum.",
	})
	m.sweepLag = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sessiond_sweep_lag_seconds",
		Help: "Age of the oldest deadline not acted on. 0 on replicas that do not sweep: take the maximum.",
	})
	reg.MustRegister(ended, m.storeTimes, m.sweepFailed, m.sweepBacklog, m.sweepLag)
}

// Observe counts one operation.
func (m *Metrics) Observe(op Operation) {
	i := m.ops.of(op.Op)
	seconds := max(op.Duration, 0).Seconds()
	m.operations.at(i*resultCount + resultOf(op.Status)).Inc()
	if op.Op != opEvents {
		m.durations.at(i).Observe(seconds)
	}
	request := (m.methods.of(op.Method)*len(m.routes.names)+m.routes.of(op.Route))*len(statuses) + statusOf(op.Status)
	m.requests.at(request).Observe(seconds)
	if op.AuthFailure != "" {
		m.authFailed.at(m.authFailures.of(op.AuthFailure)).Inc()
	}
}

// StreamOpened counts an event stream that begins. Each has its StreamClosed.
func (m *Metrics) StreamOpened() { m.eventStreams.Inc() }

// StreamClosed counts an event stream that has ended.
func (m *Metrics) StreamClosed() { m.eventStreams.Dec() }

// end counts n sessions ended for a reason.
func (m *Metrics) end(reason sessiond.EndReason, n int) {
	if n > 0 {
		m.ended.at(m.ends.of(string(reason))).Add(float64(n))
	}
}

// A table holds the children of a metric by the indexes of their label values.
// A child is resolved, and exported, when it is first used.
type table[T any] struct {
	children []atomic.Pointer[T]
	resolve  func(i int) T
}

func newTable[T any](n int, resolve func(i int) T) table[T] {
	return table[T]{make([]atomic.Pointer[T], n), resolve}
}

func (t *table[T]) at(i int) T {
	if child := t.children[i].Load(); child != nil {
		return *child
	}
	child := t.resolve(i)
	t.children[i].Store(&child)
	return child
}

// fill exports all children from the beginning, at zero.
func (t *table[T]) fill() {
	for i := range t.children {
		t.at(i)
	}
}
