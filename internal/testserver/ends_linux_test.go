package testserver_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A family is another test process with its servers, which keep their files
// below a folder of their own.
type family struct {
	cmd  *exec.Cmd
	temp string
	pids map[string]bool // of its servers
}

// start starts the family and returns when its servers run.
func start(t *testing.T, how string) *family {
	t.Helper()
	temp, err := os.MkdirTemp("", "family-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(temp); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(temp, 0o755); err != nil { // the servers have an account of their own
		t.Fatal(err)
	}
	f := &family{exec.Command(os.Args[0], "-test.run=^TestFamily$"), temp, make(map[string]bool)}
	f.cmd.Env = append(os.Environ(), familyVar+"="+how, "TMPDIR="+temp)
	f.cmd.Stderr = os.Stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.cmd.Process.Kill() })
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the other test process ends: %v, %v", err, f.cmd.Wait())
		}
		if strings.TrimSpace(line) == "ready" {
			for _, server := range f.servers(t) {
				pid, _, _ := strings.Cut(server, " ")
				f.pids[pid] = true
			}
			return f
		}
		t.Log(line)
	}
}

// servers are the processes that work below the family's folder.
func (f *family) servers(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(cwd, f.temp) {
			continue // another user's, or gone
		}
		pid := filepath.Base(filepath.Dir(link))
		name, _ := os.ReadFile("/proc/" + pid + "/cmdline") // only shown
		found = append(found, pid+" "+strings.ReplaceAll(string(name), "\x00", " "))
	}
	return found
}

func (f *family) checkGone(t *testing.T) {
	t.Helper()
	var left []string
	for range 500 {
		if left = f.servers(t); len(left) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(left) > 0 {
		t.Errorf("servers are left:\n%s", strings.Join(left, "\n"))
	}
	segments, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(segments)) {
		// key, id, permissions, size, process that made it, ...
		if fields := strings.Fields(line); len(fields) > 4 && f.pids[fields[4]] {
			t.Errorf("shared memory is left: %s", line)
		}
	}
}

func TestNothingIsLeftAfterMain(t *testing.T) {
	t.Parallel()
	f := start(t, "ends")
	if err := f.cmd.Wait(); err != nil {
		t.Fatalf("the other test process: %v", err)
	}
	f.checkGone(t)
	files, err := os.ReadDir(f.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Errorf("%s is left in the temporary folder", file.Name())
	}
}

func TestNothingIsLeftAfterAKill(t *testing.T) {
	t.Parallel()
	f := start(t, "waits")
	if n := len(f.servers(t)); n < 10 {
		t.Fatalf("only %d processes run", n)
	}
	if err := f.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Wait(); err == nil {
		t.Fatal("the killed process ends well")
	}
	f.checkGone(t)
}
