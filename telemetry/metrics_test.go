package telemetry_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/telemetry"
)

// scrape gathers everything: values of counters and gauges, counts of
// histograms, by name and labels as in `name{a="b"}`.
func scrape(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.GetHistogram() != nil:
				values[name] = float64(m.GetHistogram().GetSampleCount())
			case m.GetCounter() != nil:
				values[name] = m.GetCounter().GetValue()
			default:
				values[name] = m.GetGauge().GetValue()
			}
		}
	}
	return values
}

// only keeps the metrics of one name.
func only(values map[string]float64, name string) map[string]float64 {
	kept := make(map[string]float64)
	for k, v := range values {
		if k == name || strings.HasPrefix(k, name+"{") {
			kept[strings.TrimPrefix(k, name)] = v
		}
	}
	return kept
}

func nonZero(values map[string]float64) map[string]float64 {
	kept := make(map[string]float64)
	for k, v := range values {
		if v != 0 {
			kept[k] = v
		}
	}
	return kept
}

func TestObserve(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{})
	for _, op := range []telemetry.Operation{
		{Op: "create", Method: "POST", Route: "/sessions", Status: 201, Duration: 3 * time.Millisecond},
		{Op: "create", Method: "POST", Route: "/sessions", Status: 201, Duration: time.Minute},
		{Op: "get", Method: "GET", Route: "/sessions/{id}", Status: 404, Duration: -time.Second},
		{Op: "get", Method: "GET", Route: "/sessions/{id}", Status: 401, AuthFailure: "expired"},
		{Op: "events", Method: "GET", Route: "/events", Status: 200, Duration: time.Hour},
		{Method: "BREW", Status: 404, AuthFailure: "no such reason"},
	} {
		m.Observe(op)
	}
	got := scrape(t, reg)
	for name, want := range map[string]map[string]float64{
		"sessiond_session_operations_total": {
			`{op="create",result="ok"}`: 2, `{op="get",result="not_found"}`: 1, `{op="get",result="unauthenticated"}`: 1,
			`{op="events",result="ok"}`: 1, `{op="_other",result="not_found"}`: 1,
		},
		"sessiond_session_operation_duration_seconds": {`{op="create"}`: 2, `{op="get"}`: 2, `{op="_other"}`: 1},
		"sessiond_auth_failures_total":                {`{reason="expired"}`: 1, `{reason="_other"}`: 1},
		"http_server_request_duration_seconds": {
			`{http_request_method="POST",http_response_status_code="201",http_route="/sessions"}`:     2,
			`{http_request_method="GET",http_response_status_code="404",http_route="/sessions/{id}"}`: 1,
			`{http_request_method="GET",http_response_status_code="401",http_route="/sessions/{id}"}`: 1,
			`{http_request_method="GET",http_response_status_code="200",http_route="/events"}`:        1,
			`{http_request_method="_OTHER",http_response_status_code="404",http_route="_other"}`:      1,
		},
	} {
		if diff := cmp.Diff(want, nonZero(only(got, name))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	want := `
# HELP sessiond_session_operation_duration_seconds Time from request to answer, without event streams, which last as long as their clients listen.
# TYPE sessiond_session_operation_duration_seconds histogram
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.0001"} 0
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.00025"} 0
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.0005"} 0
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.001"} 0
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.0025"} 0
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.005"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.01"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.025"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.05"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.1"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.25"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="0.5"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="1"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="2.5"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="5"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="10"} 1
sessiond_session_operation_duration_seconds_bucket{op="create",le="+Inf"} 2
sessiond_session_operation_duration_seconds_sum{op="create"} 60.003
sessiond_session_operation_duration_seconds_count{op="create"} 2
`
	reg = prometheus.NewRegistry()
	m = telemetry.NewMetrics(reg, telemetry.MetricsOptions{})
	m.Observe(telemetry.Operation{Op: "create", Status: 201, Duration: 3 * time.Millisecond})
	m.Observe(telemetry.Operation{Op: "create", Status: 201, Duration: time.Minute})
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sessiond_session_operation_duration_seconds")
	if err != nil {
		t.Error(err)
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		-1: "error", 0: "error", 200: "ok", 201: "ok", 204: "ok", 304: "ok",
		400: "invalid", 405: "invalid", 413: "invalid", 415: "invalid", 422: "invalid", 499: "invalid",
		401: "unauthenticated", 403: "denied", 404: "not_found", 409: "conflict", 410: "gone", 412: "mismatch",
		500: "error", 502: "error", 503: "unavailable", 1 << 40: "error",
	} {
		reg := prometheus.NewRegistry()
		telemetry.NewMetrics(reg, telemetry.MetricsOptions{}).Observe(telemetry.Operation{Op: "get", Status: status})
		wantValues := map[string]float64{`{op="get",result="` + want + `"}`: 1}
		if diff := cmp.Diff(wantValues, nonZero(only(scrape(t, reg), "sessiond_session_operations_total"))); diff != "" {
			t.Errorf("%d (-want +got):\n%s", status, diff)
		}
	}
}

// Whatever is observed, labels have values of closed sets.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{
		Ops: []string{"get"}, Routes: []string{"/sessions/{id}"}, AuthFailures: []string{"expired"},
	})
	hostile := []string{
		"", "_other", "_OTHER", "get", "GET", "/sessions/{id}", "expired", "\xff\x00", "a\"b\n", strings.Repeat("x", 1<<20),
	}
	for i := range 2000 {
		hostile = append(hostile, fmt.Sprint("v", i))
	}
	for i, v := range hostile {
		m.Observe(telemetry.Operation{
			Op: v, Route: v, Method: v, AuthFailure: v, Status: i*7 - 300,
			SessionID: v, Tenant: v, Principal: v, RequestID: v, TraceID: v, Reason: sessiond.EndReason(v),
		})
	}
	allowed := map[string][]string{
		"op":                  {"get", "_other"},
		"http_route":          {"/sessions/{id}", "_other"},
		"http_request_method": {"GET", "_OTHER"},
		"reason": {"expired", "_other", "idle", "absolute", "revoked", "logout", "security", "limit", "token_reuse",
			"restored"},
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, f := range families {
		series += len(f.GetMetric())
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				if values, ok := allowed[l.GetName()]; ok && !slices.Contains(values, l.GetValue()) {
					t.Errorf("%s has %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	if series > 300 {
		t.Errorf("%d series", series)
	}
	got := scrape(t, reg)
	if n := got[`sessiond_auth_failures_total{reason="expired"}`]; n != 1 {
		t.Errorf("expired counted %v times, want 1", n)
	}
	if n := got[`sessiond_auth_failures_total{reason="_other"}`]; n != float64(len(hostile)-2) {
		t.Errorf("others counted %v times, want %d", n, len(hostile)-2)
	}
}

func TestGauges(t *testing.T) {
	t.Parallel()
	ages := map[string]time.Duration{}
	var primary uint32
	reg := prometheus.NewRegistry()
	m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{
		Version: "1.2.3", Commit: "abc\xff",
		JWKSAge:       func() map[string]time.Duration { return ages },
		KeysetPrimary: func() uint32 { return primary },
		LogErrors:     func() uint64 { return 7 },
	})
	m.StreamOpened()
	m.StreamOpened()
	m.StreamClosed()
	got := scrape(t, reg)
	for name, want := range map[string]float64{
		"sessiond_event_streams": 1, "sessiond_log_errors_total": 7, "sessiond_sweep_backlog": 0,
		"sessiond_sweep_lag_seconds": 0, "sessiond_store_stats_failures_total": 0,
		`sessiond_build_info{commit="abc?",goversion="` + runtime.Version() + `",version="1.2.3"}`: 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v (%v), want %v", name, v, ok, want)
		}
	}
	for _, name := range []string{"sessiond_jwks_age_seconds", "sessiond_keyset_primary_info",
		"sessiond_sessions_active", "sessiond_clock_offset_seconds"} {
		if found := only(got, name); len(found) > 0 {
			t.Errorf("%s is there before there is anything to tell: %v", name, found)
		}
	}

	ages["https://id.example.com"], primary = 1500*time.Millisecond, 4294967295
	got = scrape(t, reg)
	if diff := cmp.Diff(map[string]float64{`{issuer="https://id.example.com"}`: 1.5},
		only(got, "sessiond_jwks_age_seconds")); diff != "" {
		t.Errorf("jwks age (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]float64{`{key_id="4294967295"}`: 1},
		only(got, "sessiond_keyset_primary_info")); diff != "" {
		t.Errorf("primary (-want +got):\n%s", diff)
	}
}

// Metrics of two services in one process don't meet.
func TestInstancesAreSeparate(t *testing.T) {
	t.Parallel()
	regs := [2]*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
	first := telemetry.NewMetrics(regs[0], telemetry.MetricsOptions{})
	telemetry.NewMetrics(regs[1], telemetry.MetricsOptions{})
	first.Observe(telemetry.Operation{Op: "get", Status: 200})
	first.StreamOpened()
	if got := nonZero(only(scrape(t, regs[1]), "sessiond_session_operations_total")); len(got) > 0 {
		t.Errorf("the other instance counted: %v", got)
	}
	if got := scrape(t, regs[1])["sessiond_event_streams"]; got != 0 {
		t.Errorf("the other instance has %v streams", got)
	}
}
