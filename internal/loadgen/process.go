package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// builds are the programs, built once each when they are first wanted.
type builds struct {
	dir           string
	sessiond, scs string
}

const module = "sessiond.example/sessiond"

func (b *builds) server(ctx context.Context) (string, error) {
	if b.sessiond != "" {
		return b.sessiond, nil
	}
	path := filepath.Join(b.dir, "sessiond-binary")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, module+"/cmd/sessiond").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	b.sessiond = path
	return path, nil
}

// application is the one on scs, a module of its own.
func (b *builds) application(ctx context.Context) (string, error) {
	if b.scs != "" {
		return b.scs, nil
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	path := filepath.Join(b.dir, "scs-binary")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join(strings.TrimSpace(string(root)), "internal", "loadgen", "scs")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build in %s: %w\n%s", cmd.Dir, err, out)
	}
	b.scs = path
	return path, nil
}

// A process is a server that listens on loopback.
type process struct {
	cmd     *exec.Cmd
	address string // of what is measured
	ended   chan struct{}
}

// start starts a program whose log goes to a file, and waits until ready, a URL,
// is answered with a status of 2xx. It is killed when that fails.
func start(ctx context.Context, cmd *exec.Cmd, log, address, ready string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = io.Discard, file
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, address: address, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // whoever waits for the server learns that it has ended
		close(p.ended)
	}()
	if err := p.await(ctx, ready); err != nil {
		p.end(syscall.SIGKILL)
		content, _ := os.ReadFile(log) // for people
		return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, content[max(0, len(content)-2000):])
	}
	return p, nil
}

func (p *process) await(ctx context.Context, url string) error {
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: time.Second}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 300 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return errors.New("the process has ended")
		case <-time.After(2 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s did not answer in time", url)
}

// end signals the process and waits for its end.
func (p *process) end(signal syscall.Signal) {
	_ = p.cmd.Process.Signal(signal) // which has ended already when it fails
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

func (p *process) stop() { p.end(syscall.SIGTERM) }

// freeAddresses are loopback addresses that nobody listens on now.
func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// What Linux tells of a process. Elsewhere these are errors.

// cpuTime is what the process has used of all cores.
func (p *process) cpuTime() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may have spaces. User and system time are the 12th and 13th after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is of another form")
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil // USER_HZ is 100 everywhere
}

// memoryMiB is the resident memory now and at most, from /proc.
func (p *process) memoryMiB() (now, most float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for name, to := range map[string]*float64{"VmRSS:": &now, "VmHWM:": &most} {
		_, after, _ := bytes.Cut(status, []byte(name))
		if _, err := fmt.Sscan(string(after), to); err != nil {
			return 0, 0, fmt.Errorf("/proc/PID/status: %w", err)
		}
		*to /= 1024
	}
	return now, most, nil
}

// onDisk is how many bytes the files below dir take.
func onDisk(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // compacted away
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
