package deploytest_test

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/telemetry"
)

// vocabulary is what can be asked for: the labels of each metric, and the values of each label that were seen.
type vocabulary map[string]map[string]map[string]bool

func (v vocabulary) add(metric string, labels map[string]string) {
	if v[metric] == nil {
		v[metric] = make(map[string]map[string]bool)
	}
	for name, value := range labels {
		if v[metric][name] == nil {
			v[metric][name] = make(map[string]bool)
		}
		v[metric][name][value] = true
	}
}

// external are metrics of others, with the labels that are used of them.
var external = map[string][]string{
	"up":                                   nil,                      // Prometheus
	"node_filesystem_avail_bytes":          {"mountpoint", "device"}, // node_exporter
	"node_filesystem_size_bytes":           {"mountpoint", "device"},
	"kubelet_volume_stats_available_bytes": {"persistentvolumeclaim"}, // Kubernetes
	"kubelet_volume_stats_capacity_bytes":  {"persistentvolumeclaim"},
}

// target are the labels that Prometheus gives every series.
var target = []string{"job", "instance", "namespace"}

// exported is what a service exports in its life, and what the rules record of it.
func exported(t *testing.T) vocabulary {
	t.Helper()
	v := make(vocabulary)
	families, err := liveOnce(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			name := f.GetName()
			switch {
			case m.GetHistogram() != nil:
				v.add(name+"_count", labels)
				v.add(name+"_sum", labels)
				for _, b := range m.GetHistogram().GetBucket() {
					labels["le"] = strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
					v.add(name+"_bucket", labels)
				}
			case m.GetSummary() != nil:
				v.add(name+"_count", labels)
				v.add(name+"_sum", labels)
				for _, q := range m.GetSummary().GetQuantile() {
					labels["quantile"] = strconv.FormatFloat(q.GetQuantile(), 'g', -1, 64)
					v.add(name, labels)
				}
			default:
				v.add(name, labels)
			}
		}
	}
	for name, labels := range external {
		v.add(name, nil)
		for _, label := range labels {
			v[name][label] = nil
		}
	}
	for _, r := range loadRules(t) {
		if r.Record != "" {
			_, labels, err := scan(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			v.add(r.Record, nil)
			for _, label := range labels {
				v[r.Record][label] = nil
			}
		}
	}
	for name := range v {
		for _, label := range target {
			v[name][label] = nil
		}
	}
	return v
}

// liveOnce is the registry of a service in which everything that is counted has happened.
func liveOnce(t *testing.T) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := telemetry.NewMetrics(reg, telemetry.MetricsOptions{
		Version: "1", Commit: "c", Tenants: 10,
		JWKSAge:       func() map[string]time.Duration { return map[string]time.Duration{"https://id.example.com": 1} },
		KeysetPrimary: func() uint32 { return 1 },
		StoreClass:    func() string { return "durable" },
		Admission: func(each func(string, int, int, uint64)) {
			each("write", 128, 0, 0)
		},
		LogErrors: func() uint64 { return 0 },
	})
	store := m.Store(memstore.New(memstore.Options{}))
	manager, err := sessiond.New(sessiond.Config{Store: store, Sealer: sessiond.NoSealing{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := manager.Create(t.Context(), sessiond.CreateParams{}); err != nil {
		t.Fatal(err)
	}
	ops := []string{
		"create", "get", "update", "patch", "delete", "list", "revoke_matching", "touch", "rotate", "verify",
		"introspect", "revoke", "auth", "events", "backchannel_logout",
	}
	for _, op := range ops {
		for status := 200; status < 600; status++ {
			if http.StatusText(status) != "" {
				m.Observe(telemetry.Operation{Op: op, Method: "GET", Route: "/" + op, Status: status})
			}
		}
	}
	return reg
}

// problems are the metrics, labels and values in an expression that no service exports.
func (v vocabulary) problems(expr string) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	selectors, groups, err := scan(expr)
	if err != nil {
		complain("%v", err)
	}
	known := []string{"le"}
	for _, s := range selectors {
		labels := v[s.Metric]
		if labels == nil {
			complain("there is no metric %s", s.Metric)
			continue
		}
		known = slices.AppendSeq(known, maps.Keys(labels))
		for _, m := range s.Matchers {
			values, ok := labels[m.Label]
			if !ok {
				complain("%s has no label %s", s.Metric, m.Label)
			}
			if len(values) > 0 && !slices.Contains(free, m.Label) && !m.some(values) {
				complain("%s never has %s%s%q", s.Metric, m.Label, m.Op, m.Value)
			}
		}
	}
	for _, label := range groups {
		if !slices.Contains(known, label) {
			complain("nothing in it has the label %s", label)
		}
	}
	return problems
}

func (v vocabulary) check(t *testing.T, where, expr string) {
	t.Helper()
	for _, problem := range v.problems(expr) {
		t.Errorf("%s: %s", where, problem)
	}
}

// free are labels whose values differ between installations.
var free = []string{"tenant", "issuer", "version", "commit", "goversion", "key_id", "http_route"}

// some reports whether the value, or the pattern, names at least one of values.
func (m matcher) some(values map[string]bool) bool {
	if m.Op == "=" || m.Op == "!=" {
		return values[m.Value]
	}
	pattern, err := regexp.Compile("^(?:" + m.Value + ")$")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(slices.Collect(maps.Keys(values)), pattern.MatchString)
}

func TestRulesUseWhatIsExported(t *testing.T) {
	t.Parallel()
	v := exported(t)
	used := make(map[string]bool)
	for _, r := range loadRules(t) {
		v.check(t, r.Record+r.Alert, r.Expr)
		selectors, _, _ := scan(r.Expr) // checked above
		for _, s := range selectors {
			used[s.Metric] = true
		}
	}
	for name := range external {
		if !used[name] {
			t.Errorf("external metric %s is not used by any rule", name)
		}
	}
	for _, test := range loadAlertTests(t) {
		for _, in := range test.Input {
			v.check(t, test.Name, in.Series)
		}
	}
}

// The check itself has to notice what is wrong.
func TestCheckNotices(t *testing.T) {
	t.Parallel()
	v := exported(t)
	for _, expr := range []string{
		"sessiond_nothing", `up{color="red"}`, `sum by (color) (up)`,
		`sessiond_session_operations_total{result="unavailabel"}`, `sessiond_auth_failures_total{reason=~"key_.*"}`,
		`sessiond_session_operation_duration_seconds_bucket{le="0.2"}`,
	} {
		if got := v.problems(expr); len(got) != 1 {
			t.Errorf("%s: problems %q, want one", expr, got)
		}
	}
}
