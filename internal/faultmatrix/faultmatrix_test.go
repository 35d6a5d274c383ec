package faultmatrix_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sessiond.example/sessiond/internal/faultmatrix"
	"sessiond.example/sessiond/internal/testserver"
)

// bugVar names the bug that the store of this process has. The tests of the
// suite start this test binary again with it.
const bugVar = "FAULTMATRIX_BUG"

func TestMain(m *testing.M) { os.Exit(testserver.Main(m)) }

func TestStore(t *testing.T) {
	faultmatrix.Run(t, func(t testing.TB) faultmatrix.Target { return target(t, bugs[os.Getenv(bugVar)]) })
}

func TestHTTP(t *testing.T) {
	faultmatrix.RunHTTP(t, func(t testing.TB) faultmatrix.Target { return target(t, bugs[os.Getenv(bugVar)]) })
}

// TestBugs runs the suite on stores with a bug and wants it to say so in the
// right place.
func TestBugs(t *testing.T) {
	for name, b := range bugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			suite, groups := "TestStore", []string(nil)
			if b.http {
				suite = "TestHTTP"
			}
			for _, test := range slices.Concat(b.fails, b.passes) {
				group, _, _ := strings.Cut(test, "/")
				groups = append(groups, group)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout=120s",
				"-test.run=^"+suite+"$/^("+strings.Join(groups, "|")+")$")
			cmd.Env = append(os.Environ(), bugVar+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the suite accepts the store:\n%s", out)
			}
			failed, passed := results(out, "FAIL"), results(out, "PASS")
			for _, test := range b.fails {
				if !failed[suite+"/"+test] {
					t.Errorf("%s does not fail", test)
				}
			}
			for _, test := range b.passes {
				if !passed[suite+"/"+test] {
					t.Errorf("%s does not pass", test)
				}
			}
			if !strings.Contains(string(out), b.says) {
				t.Errorf("the complaint %q is not there", b.says)
			}
			if t.Failed() {
				t.Logf("output of the suite:\n%s", out)
			}
		})
	}
}

var resultLine = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL): (\S+) \(`)

// results are the tests that have a verdict in the output of a test binary.
func results(out []byte, verdict string) map[string]bool {
	tests := make(map[string]bool)
	for _, m := range resultLine.FindAllSubmatch(out, -1) {
		if string(m[1]) == verdict {
			tests[string(m[2])] = true
		}
	}
	return tests
}
