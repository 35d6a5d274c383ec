//go:build unix

package testserver

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// The signals that stop a process for a while and let it go on.
const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// signal sends sig to the process pid. One that is gone is no error.
func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return os.NewSyscallError("kill", err)
	}
	return nil
}

// children are the ids of the processes whose parent is pid.
func children(pid int) ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var pids []int
	for child, s := range all {
		if s.parent == pid && !s.zombie {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// running are those of pids that exist and are not zombies. After the death of
// its parent a process is somebody else's to wait for.
func running(pids []int) ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var left []int
	for _, pid := range pids {
		if s, ok := all[pid]; ok && !s.zombie {
			left = append(left, pid)
		}
	}
	return left, nil
}

// A status is what the system tells of a process.
type status struct {
	parent int
	zombie bool
}

// processes are all processes by id: from /proc, or from ps where there is none.
func processes() (map[int]status, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil || len(entries) == 0 {
		return psProcesses()
	}
	all := make(map[int]status, len(entries))
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has just ended
		}
		// "pid (name) state parent ...", and the name may contain anything.
		rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if f := strings.Fields(rest); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1]) // digits, proc(5)
			all[pid] = status{parent, f[0] == "Z" || f[0] == "X"}
		}
	}
	if len(all) == 0 {
		return psProcesses()
	}
	return all, nil
}

func psProcesses() (map[int]status, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil, err
	}
	all := make(map[int]status)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil {
			continue
		}
		parent, err := strconv.Atoi(f[1])
		if err != nil {
			continue
		}
		all[pid] = status{parent, strings.HasPrefix(f[2], "Z")}
	}
	return all, nil
}

// tryLock takes the lock of an open file that ends with the file or the
// process, and reports whether it got it.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
