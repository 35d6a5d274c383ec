package deploytest_test

import (
	"regexp"
	"strings"
	"testing"
)

const runbookPath = "docs/runbook.md"

var heading = regexp.MustCompile(`(?m)^## (Sessiond\w+)$`)

// entries are the sections of the runbook that are about an alert.
func entries(t *testing.T) map[string]string {
	t.Helper()
	text := read(t, runbookPath)
	found := heading.FindAllStringSubmatchIndex(text, -1)
	out := make(map[string]string)
	for _, f := range found {
		name := text[f[2]:f[3]]
		if _, twice := out[name]; twice {
			t.Errorf("the runbook has two entries for %s", name)
		}
		body, _, _ := strings.Cut(text[f[1]:], "\n## ")
		out[name] = body
	}
	return out
}

func TestRunbookHasAnEntryForEachAlert(t *testing.T) {
	t.Parallel()
	all := entries(t)
	for _, r := range loadRules(t) {
		if r.Alert == "" {
			continue
		}
		body, ok := all[r.Alert]
		if !ok {
			t.Errorf("%s has no entry in %s", r.Alert, runbookPath)
		}
		delete(all, r.Alert)
		for _, part := range []string{"Means", "Users notice", "Look first", "Fix", "Escalate"} {
			if !strings.Contains(body, "\n**"+part+".**") {
				t.Errorf("%s: the entry does not say **%s.**", r.Alert, part)
			}
		}
	}
	for name := range all {
		t.Errorf("%s is about %s, which is no alert", runbookPath, name)
	}
}

var (
	fenced = regexp.MustCompile("(?ms)^```.*?^```$")
	query  = regexp.MustCompile(`(?m)^    (\S.*)$`)
)

// Queries are indented by four spaces, one a line.
func TestRunbookQueries(t *testing.T) {
	t.Parallel()
	v := exported(t)
	var expressions []string
	for name, body := range entries(t) {
		for _, m := range query.FindAllStringSubmatch(fenced.ReplaceAllString(body, ""), -1) {
			v.check(t, name, m[1])
			expressions = append(expressions, m[1])
		}
	}
	checkSyntax(t, expressions)
}
