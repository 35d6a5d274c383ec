package storetest_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/storetest"
)

// brokenVar names the fault that the store of this process has. The tests of
// the suite itself start this test binary again with it.
const brokenVar = "STORETEST_BROKEN"

// open gives a memstore, with a fault when this process is to have one.
func open(t testing.TB) storetest.Fixture {
	var mu sync.Mutex
	now := time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	var s sessiond.Store = memstore.New(memstore.Options{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	t.Cleanup(func() {
		_ = s.Close() // the test may have closed it
	})
	advance := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	faulty := s
	if name := os.Getenv(brokenVar); name != "" {
		faulty = faults[name].wrap(s)
	}
	return storetest.Fixture{Store: faulty, Advance: advance}
}

func TestStore(t *testing.T)      { storetest.Run(t, open) }
func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, open) }
func TestModel(t *testing.T)      { storetest.RunModel(t, open) }
func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

// A fault is a way for a store to be wrong.
type fault struct {
	wrap func(sessiond.Store) sessiond.Store
	// fails are the subtests that must notice it. All tests of their groups
	// are run, and some must pass, so that it is the right ones that fail.
	fails []string
	model bool // TestModel notices it, too
}

// TestBroken runs the suite on stores that are wrong and wants it to say so in
// the right place.
func TestBroken(t *testing.T) {
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			groups := make(map[string]bool)
			for _, test := range f.fails {
				group := test[:strings.LastIndexByte(test, '/')]
				groups["^"+strings.ReplaceAll(group, "/", "$/^")+"$"] = true
			}
			if f.model {
				groups["^TestModel$"] = true
			}
			var run []string
			for g := range groups {
				run = append(run, g)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout=60s",
				"-test.run="+strings.Join(run, "|"), "-storetest.seed=7", "-storetest.patience=500ms")
			cmd.Env = append(os.Environ(), brokenVar+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the suite accepts the store:\n%s", out)
			}
			failed, passed := results(out, "FAIL"), results(out, "PASS")
			for _, test := range f.fails {
				if !failed[test] {
					t.Errorf("%s does not fail; these do: %v", test, failed)
				}
				siblings := 0
				for p := range passed {
					if strings.HasPrefix(p, test[:strings.LastIndexByte(test, '/')+1]) {
						siblings++
					}
				}
				if siblings == 0 {
					t.Errorf("every test beside %s fails", test)
				}
			}
			if f.model && !failed["TestModel"] {
				t.Error("TestModel does not fail")
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
