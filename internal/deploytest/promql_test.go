package deploytest_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A selector is the use of a metric in an expression.
type selector struct {
	Metric   string
	Matchers []matcher
}

// A matcher compares a label: Op is =, !=, =~ or !~.
type matcher struct{ Label, Op, Value string }

var token = regexp.MustCompile(`^(?:\s+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|` +
	`[0-9][0-9.]*(?:e[0-9]+)?[a-z]*|=~|!~|!=|==|<=|>=|.)`)

func tokens(expr string) (out []string) {
	for expr != "" {
		s := token.FindString(expr)
		if s == "" {
			s = expr[:1]
		}
		expr = expr[len(s):]
		if strings.TrimSpace(s) != "" {
			out = append(out, s)
		}
	}
	return out
}

var word = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

// scan finds the selectors of a PromQL expression and the labels that it groups or joins by. promtool checks the
// grammar; this only has to tell names of metrics from everything else.
func scan(expr string) (selectors []selector, labels []string, err error) {
	all := tokens(expr)
	at := func(i int) string {
		if i < len(all) {
			return all[i]
		}
		return ""
	}
	for i := 0; i < len(all); i++ {
		switch s := all[i]; {
		case s == "by" || s == "without" || s == "on" || s == "ignoring" || s == "group_left" || s == "group_right":
			if at(i+1) != "(" {
				continue
			}
			for i += 2; i < len(all) && all[i] != ")"; i++ {
				if all[i] != "," {
					labels = append(labels, all[i])
				}
			}
		case s == "and" || s == "or" || s == "unless" || s == "offset" || s == "bool":
		case s == "{":
			return nil, nil, fmt.Errorf("a selector without a metric in %q", expr)
		case word.MatchString(s):
			next := at(i + 1)
			if next == "(" || next == "by" || next == "without" {
				continue // a function or an aggregation
			}
			sel := selector{Metric: s}
			if next == "{" {
				for i += 2; i < len(all) && all[i] != "}"; i++ {
					if all[i] == "," {
						continue
					}
					sel.Matchers = append(sel.Matchers, matcher{all[i], at(i + 1), strings.Trim(at(i+2), `"'`)})
					i += 2
				}
			}
			selectors = append(selectors, sel)
		}
	}
	return selectors, labels, nil
}

func TestScan(t *testing.T) {
	t.Parallel()
	selectors, labels, err := scan(`sum by (job, op) (rate(a_total{job="x", op=~"b|}"}[5m] offset 10m)) / on (job)
		group_left max(b:c) > bool 14.4 * 1e3 unless (time() - d) or vector(0)`)
	if err != nil {
		t.Fatal(err)
	}
	want := []selector{
		{"a_total", []matcher{{"job", "=", "x"}, {"op", "=~", "b|}"}}}, {Metric: "b:c"}, {Metric: "d"},
	}
	if diff := cmp.Diff(want, selectors); diff != "" {
		t.Errorf("selectors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"job", "op", "job"}, labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if _, _, err := scan(`{job="x"}`); err == nil {
		t.Error("a selector without a metric was accepted")
	}
}
