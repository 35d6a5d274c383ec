package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// find is the path of a program: one in PATH, or the newest of those that
// match the patterns.
func find(name, debianPackage string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	var found []string
	for _, p := range patterns {
		matches, err := filepath.Glob(filepath.Join(p, name))
		if err != nil {
			return "", err
		}
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s is not installed: install the package %s, or run .ci/install-tools", name, debianPackage)
	}
	return slices.MaxFunc(found, func(a, b string) int { return release(a) - release(b) }), nil
}

// release is the number in a path such as /usr/lib/postgresql/15/bin/initdb.
func release(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0: not a number, the oldest
	return n
}

// Ports are chosen below those that systems give to outgoing connections
// (32768 and up on Linux, 49152 on others): a server that is down must get its
// port back, and a client that dials the free port must not meet itself.
const firstPort, lastPort = 15_000, 31_999

// freePort is a port of 127.0.0.1 that nobody listens on now. It may be taken
// by the time it is used: try again then.
func freePort() (int, error) {
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.Listen("tcp", local(port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port")
}

// local is the address of a port of this machine.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// startTime bounds a start of a server, until it answers.
const startTime = 30 * time.Second

// attempts is how many ports a server tries.
const attempts = 5

// onFreePort calls start with free ports until one does not fail. start must
// leave nothing running when it fails.
func onFreePort(start func(port int) error) error {
	var failed error
	for range attempts {
		port, err := freePort()
		if err != nil {
			return err
		}
		err = start(port)
		if err == nil {
			return nil
		}
		failed = err
		if !errors.Is(err, errEnded) {
			break // it is not the port
		}
	}
	return failed
}

// errEnded: a server ended while its start was waited for, perhaps because its
// port was taken.
var errEnded = errors.New("the server ended at once")

// await calls probe until it succeeds, the process has ended, or the time is
// over. The process is killed when it returns an error.
func (p *process) await(d folder, probe func() error) error {
	deadline := time.Now().Add(startTime)
	for {
		err := probe()
		switch {
		case p.exited():
			return fmt.Errorf("%w: %s: %w; its log:\n%s", errEnded, p.cmd.Path, p.exitError(), d.tail())
		case err == nil:
			return nil
		case time.Now().After(deadline):
			kerr := p.end(syscall.SIGKILL)
			return fmt.Errorf("%s does not answer: %w; its log:\n%s", p.cmd.Path, errors.Join(err, kerr), d.tail())
		}
		time.Sleep(15 * time.Millisecond)
	}
}

func (p *process) exitError() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("exit status 0")
}

// eventually calls probe until it succeeds or d is over.
func eventually(d time.Duration, probe func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := probe()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(15 * time.Millisecond)
	}
}
