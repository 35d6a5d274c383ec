package deploytest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type panel struct {
	ID          int
	Type, Title string
	Targets     []struct{ Expr string }
	GridPos     struct{ X, Y, W, H int }
}

type dashboard struct {
	UID        string
	Title      string
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type, Definition string
		}
	}
}

func loadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	const name = "deploy/grafana/sessiond.json"
	if err := json.Unmarshal([]byte(read(t, name)), &d); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// variables fills in what Grafana would.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$instance", ".*", "$tenant", ".*")

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

func TestDashboardExpressions(t *testing.T) {
	t.Parallel()
	v := exported(t)
	var expressions []string
	use := func(where, expr string) {
		expr = variables.Replace(expr)
		if strings.Contains(expr, "$") {
			t.Errorf("%s: unknown variable in %s", where, expr)
		}
		v.check(t, where, expr)
		expressions = append(expressions, expr)
	}
	d := loadDashboard(t)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			use(p.Title, target.Expr)
		}
	}
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(variable.Definition)
		if m == nil {
			t.Fatalf("variable %s: %s", variable.Name, variable.Definition)
		}
		use(variable.Name, "count by ("+m[2]+") ("+m[1]+")")
	}
	checkSyntax(t, expressions)
}

// checkSyntax lets promtool parse expressions.
func checkSyntax(t *testing.T, expressions []string) {
	t.Helper()
	if len(expressions) == 0 {
		t.Fatal("there are no expressions")
	}
	type record struct{ Record, Expr string }
	records := make([]record, len(expressions))
	for i, expr := range expressions {
		records[i] = record{"test:" + strconv.Itoa(i), expr}
	}
	content, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "test", "rules": records}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", name)
}

func TestDashboardCanBeImported(t *testing.T) {
	t.Parallel()
	d := loadDashboard(t)
	rows := make(map[string]bool)
	ids := make(map[int]bool)
	filled := make(map[[2]int]string)
	for _, p := range d.Panels {
		if p.Title == "" || ids[p.ID] {
			t.Errorf("panel %d %q: without title, or its id is taken", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows[p.Title] = true
		} else if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := filled[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s overlaps %q or is too wide", p.Title, other)
				}
				filled[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, row := range []string{"Overview", "Sessions", "Expiry", "Store", "Credentials", "Feed", "Process"} {
		if !rows[row] {
			t.Errorf("there is no row %s", row)
		}
	}
	names := make(map[string]bool)
	for _, variable := range d.Templating.List {
		names[variable.Name] = true
	}
	for _, name := range []string{"datasource", "namespace", "instance", "tenant"} {
		if !names[name] {
			t.Errorf("there is no variable %s", name)
		}
	}
	if strings.Contains(read(t, "deploy/grafana/sessiond.json"), `"uid": "P`) {
		t.Error("the dashboard names a data source of one installation")
	}
}
