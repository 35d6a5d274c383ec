package doctest_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/testserver"
)

// root is the module's directory.
const root = "../.."

// buildProgram builds the program once for all documents and returns the directory it is in.
var buildProgram = sync.OnceValues(func() (dir string, err error) {
	if dir, err = filepath.Abs(programDir); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "sessiond"), root+"/cmd/sessiond").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		return "", err
	}
	// Every curl of a document tells its status, and fails where the document does not say otherwise.
	shim := "#!/bin/bash\nexec " + curl + ` $DOCTEST_CURL "$@" -w '%{stderr}\n` + statusMark + `%{http_code}\n'` + "\n"
	return dir, os.WriteFile(filepath.Join(dir, "curl"), []byte(shim), 0o755)
})

// programDir is where the program is built.
var programDir string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if programDir, err = os.MkdirTemp("", "doctest-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(programDir)
	return testserver.Main(m)
}

// environment is that of every command of a document.
func environment(t *testing.T, dir string) []string {
	t.Helper()
	bin, err := buildProgram()
	if err != nil {
		t.Fatalf("building the program: %v", err)
	}
	return []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8"}
}

// startDev starts "sessiond dev" in dir until the test ends, and returns the addresses of the API and for operators.
func startDev(t *testing.T, dir string, more ...string) (api, ops string) {
	t.Helper()
	env := environment(t, dir)
	args := append([]string{"dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}, more...)
	cmd := exec.Command(filepath.Join(programDir, "sessiond"), args...)
	cmd.Dir, cmd.Env = dir, env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // it has ended otherwise
	t.Cleanup(func() {
		defer kill.Stop()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("sessiond dev: %v\n%s", err, stderr.String())
		}
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) > 1 && fields[0] == "API":
			api = strings.TrimPrefix(fields[1], "http://")
		case len(fields) > 1 && fields[0] == "operators":
			ops, _, _ = strings.Cut(strings.TrimPrefix(fields[1], "http://"), "/")
		case len(fields) > 0 && fields[0] == "curl" && api != "" && ops != "":
			return api, ops
		}
	}
	t.Fatalf("sessiond dev did not start: %v", lines.Err())
	return "", ""
}
