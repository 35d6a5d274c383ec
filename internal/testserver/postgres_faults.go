package testserver

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// own fails unless the server belongs to a test.
func (p *Postgres) own() {
	if p.t == nil {
		panic("testserver: a shared server must not be disturbed")
	}
	p.t.Helper()
}

func (p *Postgres) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// Stop shuts the server down in its fast way: open transactions are rolled
// back, connections closed, everything written. A server that is down stays so.
func (p *Postgres) Stop() {
	p.own()
	p.t.Helper()
	p.check(p.stop(syscall.SIGINT))
}

// Start starts the server again on the same port with the same data, and waits
// until it answers. It does nothing to a running server.
func (p *Postgres) Start() {
	p.own()
	p.t.Helper()
	if p.down() {
		p.Resume()
	}
	if p.down() {
		p.check(p.launch())
	}
}

// Kill ends all processes of the server at once, as a crash does, and returns
// when they are gone.
func (p *Postgres) Kill() {
	p.own()
	p.t.Helper()
	p.check(p.kill())
}

// Pause stops all processes of the server where they are. Connections stay, and
// the system still accepts new ones, but nothing answers.
func (p *Postgres) Pause() {
	p.own()
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil || p.proc.exited() || p.paused != nil {
		p.t.Fatal("pause: the server does not run")
	}
	paused, err := pauseAll(p.proc.pid())
	p.check(err)
	p.paused = paused
}

// Resume lets the processes of a paused server go on.
func (p *Postgres) Resume() {
	p.own()
	p.t.Helper()
	p.check(p.resume())
}

// KillBackend kills one server process, as a crash in it does: the server then
// ends all connections and recovers from its log by itself. It returns when
// that has begun and the server answers again. Pid is a result of
// pg_backend_pid(), or 0 for any process that serves a client.
func (p *Postgres) KillBackend(pid int) {
	p.own()
	p.t.Helper()
	var before time.Time
	const checkpointer = "SELECT coalesce(max(backend_start), 'epoch') FROM pg_stat_activity " +
		"WHERE backend_type = 'checkpointer'"
	p.check(p.query(&before, checkpointer))
	if pid == 0 {
		p.check(p.query(&pid, "SELECT coalesce(min(pid), 0) FROM pg_stat_activity "+
			"WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"))
	}
	if pid == 0 {
		p.t.Fatal("no client is connected whose server process could be killed")
	}
	p.check(signal(pid, syscall.SIGKILL))
	p.check(eventually(startTime, func() error {
		var now time.Time
		if err := p.query(&now, checkpointer); err != nil {
			return err
		}
		if !now.After(before) {
			return errors.New("the server did not notice the crash of its process")
		}
		return nil
	}))
}

func (p *Postgres) resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		return nil
	}
	err := p.paused.end()
	p.paused = nil
	return err
}

// stop ends the server with a signal of its own: SIGINT fast, SIGQUIT at once.
func (p *Postgres) stop(sig syscall.Signal) error {
	if err := p.resume(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return nil
	}
	proc := p.proc
	p.proc = nil
	pids, err := children(proc.pid())
	if err != nil {
		return err
	}
	if err := proc.end(sig); err != nil {
		return errors.Join(err, killAll(pids))
	}
	return waitGone(pids)
}

func (p *Postgres) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return nil
	}
	proc, paused := p.proc, p.paused
	p.proc, p.paused = nil, nil
	// A stopped postmaster has no new children.
	if err := signal(proc.pid(), sigStop); err != nil {
		return err
	}
	pids, err := children(proc.pid())
	if err != nil {
		return err
	}
	if err := proc.end(syscall.SIGKILL); err != nil {
		return err
	}
	if err := killAll(pids); err != nil {
		return err
	}
	if paused != nil {
		return paused.dismiss()
	}
	return nil
}

// killAll kills processes and waits until they are gone.
func killAll(pids []int) error {
	for _, pid := range pids {
		if err := signal(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return waitGone(pids)
}

func waitGone(pids []int) error {
	return eventually(stopTime, func() error {
		left, err := running(pids)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("processes of a server that has ended still run: %v", left)
		}
		return err
	})
}

// A pause is a server whose processes are stopped. A guard lets them go on when
// the test process dies: they could not notice the end of their server.
type pause struct {
	pids  []int
	guard *exec.Cmd
	pipe  io.WriteCloser
}

// pauseAll stops the process and all its children.
func pauseAll(pid int) (*pause, error) {
	if err := signal(pid, sigStop); err != nil {
		return nil, err
	}
	pids, err := children(pid)
	if err != nil {
		return nil, errors.Join(err, signal(pid, sigCont))
	}
	p := &pause{pids: append(pids, pid)}
	for _, child := range pids {
		err = errors.Join(err, signal(child, sigStop))
	}
	if err == nil {
		err = p.watch()
	}
	if err != nil {
		return nil, errors.Join(err, p.signal(sigCont))
	}
	return p, nil
}

// watch starts the guard: it ends with the pipe that the test process holds.
func (p *pause) watch() error {
	args := []string{"-c", `read -r go; [ "$go" = dismissed ] || kill -CONT "$@"`, "guard"}
	for _, pid := range p.pids {
		args = append(args, strconv.Itoa(pid))
	}
	p.guard = exec.Command("/bin/sh", args...)
	p.guard.SysProcAttr = attributes(nil, 0)
	pipe, err := p.guard.StdinPipe()
	if err != nil {
		return err
	}
	p.pipe = pipe
	return p.guard.Start()
}

// dismiss ends the guard when there is nothing left to let go.
func (p *pause) dismiss() error {
	_, err := io.WriteString(p.pipe, "dismissed\n")
	return errors.Join(err, p.pipe.Close(), p.guard.Wait())
}

// end lets the processes go on.
func (p *pause) end() error { return errors.Join(p.signal(sigCont), p.dismiss()) }

func (p *pause) signal(sig syscall.Signal) error {
	var failed error
	for _, pid := range slices.Backward(p.pids) { // the server itself first
		failed = errors.Join(failed, signal(pid, sig))
	}
	return failed
}
