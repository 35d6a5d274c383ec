package deploytest_test

import (
	"strings"
	"testing"
)

// A rule is a recording rule or an alert of Prometheus.
type rule struct {
	Record      string
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

const rulesPath = "deploy/prometheus/alerts.yaml"

func loadRules(t *testing.T) (rules []rule) {
	t.Helper()
	var file ruleFile
	decode(t, rulesPath, read(t, rulesPath), &file)
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// An alertTest is what is used here of a file of promtool test rules.
type alertTest struct {
	Name  string
	Input []struct{ Series, Values string } `yaml:"input_series"`
	Cases []struct {
		At    string           `yaml:"eval_time"`
		Alert string           `yaml:"alertname"`
		Want  []map[string]any `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	Interval string
}

func loadAlertTests(t *testing.T) []alertTest {
	t.Helper()
	var file struct {
		Tests      []alertTest
		RuleFiles  []string `yaml:"rule_files"`
		Evaluation string   `yaml:"evaluation_interval"`
		Order      []string `yaml:"group_eval_order"`
	}
	const name = "deploy/prometheus/alerts_test.yaml"
	decode(t, name, read(t, name), &file)
	return file.Tests
}

func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "alerts.yaml")
	promtool(t, "test", "rules", "alerts_test.yaml")
}

func TestEveryAlertIsTestedBothWays(t *testing.T) {
	t.Parallel()
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, test := range loadAlertTests(t) {
		// In the one where all is well every alert is quiet, which alone says little.
		if len(test.Cases) > 10 {
			continue
		}
		for _, c := range test.Cases {
			if len(c.Want) > 0 {
				fires[c.Alert] = true
			} else {
				quiet[c.Alert] = true
			}
		}
	}
	alerts := 0
	for _, r := range loadRules(t) {
		if r.Alert == "" {
			continue
		}
		alerts++
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: tested to fire: %v, to be quiet: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		delete(fires, r.Alert)
		delete(quiet, r.Alert)
	}
	for name := range fires {
		t.Errorf("%s is tested and does not exist", name)
	}
	if alerts < 20 {
		t.Errorf("only %d alerts were found", alerts)
	}
}

func TestAlertsSayWhatTheyShould(t *testing.T) {
	t.Parallel()
	for _, r := range loadRules(t) {
		if r.Alert == "" {
			continue
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" || len(r.Labels) != 1 {
			t.Errorf("%s: labels %v", r.Alert, r.Labels)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || len(r.Annotations) != 3 {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
		want := "https://sessiond.example/docs/runbook.md#" + strings.ToLower(r.Alert)
		if got := r.Annotations["runbook_url"]; got != want {
			t.Errorf("%s: runbook_url %s, want %s", r.Alert, got, want)
		}
		if !strings.HasPrefix(r.Alert, "Sessiond") {
			t.Errorf("%s: the name should begin with Sessiond", r.Alert)
		}
	}
}
