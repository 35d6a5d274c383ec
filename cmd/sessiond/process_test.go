package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A process is a server that runs as a process, for what concerns signals.
type process struct {
	running
	cmd *exec.Cmd
}

// command is sessiond as a process, which gets no settings from our environment.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = []string{asProgram + "=1"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SESSIOND_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	return cmd
}

// startProcess starts sessiond as a process, which is killed when the test ends.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{running: running{t: t, exited: make(chan struct{})}, cmd: command(t, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.stop = func() { p.signal(syscall.SIGTERM) }
	go func() {
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Errorf("waiting for the process: %v", err)
		}
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	p.findAddresses("http")
	return p
}

func (p *process) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal: %v", err)
	}
}

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// checkOutput fails the test when the process has reported a data race or
// written a line that is no log line.
func (p *process) checkOutput() {
	p.t.Helper()
	for line := range strings.Lines(p.stderr.String()) {
		// A kill may tear the last line.
		if !strings.HasPrefix(line, `{"time":`) && strings.HasSuffix(line, "\n") {
			p.t.Fatalf("stderr has a line that is no log line: %s", p.stderr.String())
		}
	}
}

// tried counts the ports that freeAddress has looked at, so that no two tests get the same.
var tried atomic.Uint32

// freeAddress is a loopback address for a server that comes and goes. Its port
// is outside of the range from which systems take ports for clients, so that no
// connection takes it while the server is away.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, ports = 20000, 10000
	for range 100 {
		port := first + (uint32(os.Getpid())*64+tried.Add(1))%ports
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port")
	return ""
}
