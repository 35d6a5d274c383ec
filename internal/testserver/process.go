package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopTime bounds how long a process may take to end after it was told to.
const stopTime = 20 * time.Second

// launcher starts the processes of all servers. Linux ends them when the
// thread that started them ends, so one thread starts all of them and lives as
// long as the test process.
var launcher threadLauncher

type threadLauncher struct {
	mu    sync.Mutex
	tasks chan func()
}

// do runs f on the launcher's thread.
func (l *threadLauncher) do(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tasks == nil {
		l.tasks = make(chan func())
		go func(tasks <-chan func()) {
			runtime.LockOSThread()
			for f := range tasks {
				f()
			}
			runtime.UnlockOSThread() // the thread lives on, and with it what it started
		}(l.tasks)
	}
	done := make(chan struct{})
	l.tasks <- func() {
		defer close(done)
		f()
	}
	<-done
}

// stop ends the launcher's goroutine until it is wanted again.
func (l *threadLauncher) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tasks != nil {
		close(l.tasks)
		l.tasks = nil
	}
}

// A program is what a process runs.
type program struct {
	path string
	args []string
	dir  folder
	env  []string
	// deathSignal is what the process gets when the test process dies.
	deathSignal syscall.Signal
	as          *account // nil: whoever runs the tests
}

// A process is a child of the test process. What it prints goes to the log of
// its folder.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended, once done is closed
}

func launch(p program) (*process, error) {
	log, err := os.OpenFile(p.dir.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Dir = p.dir.path
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(p.as, p.deathSignal)
	launcher.do(func() { err = cmd.Start() })
	if err != nil {
		return nil, err
	}
	proc := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(proc.done)
		proc.err = cmd.Wait()
	}()
	return proc, nil
}

// run runs p to its end.
func run(p program) error {
	proc, err := launch(p)
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
		return proc.err
	case <-time.After(time.Minute):
		return errors.Join(fmt.Errorf("%s hangs", p.path), proc.end(syscall.SIGKILL))
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// exited reports whether the process has ended.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end signals the process and waits until it is gone. One that doesn't go in
// time is killed, and that is an error.
func (p *process) end(sig syscall.Signal) error {
	if p.exited() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to process %d: %w", sig, p.pid(), err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTime):
	}
	err := fmt.Errorf("%s (process %d) does not end on %v", p.cmd.Path, p.pid(), sig)
	if kerr := p.cmd.Process.Kill(); kerr != nil && !errors.Is(kerr, os.ErrProcessDone) {
		return errors.Join(err, kerr)
	}
	<-p.done
	return err
}
