package deploytest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// decode parses YAML in which nothing may be unknown.
func decode(t *testing.T, name, content string, v any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// promtool runs promtool in the directory of the rules.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("%v: run .ci/install-tools, or install Prometheus", err)
	}
	cmd := exec.Command(tool, args...)
	cmd.Dir = filepath.Join(root, "deploy/prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// submatch is the first group of the only match of pattern in a file.
func submatch(t *testing.T, name, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, name), -1)
	if len(found) != 1 {
		t.Fatalf("%s: %d matches of %s, want 1", name, len(found), pattern)
	}
	return found[0][1]
}
