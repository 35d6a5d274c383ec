package testserver

import "syscall"

// attributes give a process its account, a process group of its own, so that
// the interrupt of a terminal reaches only the tests, and a signal for the case
// that the thread that starts it ends.
func attributes(as *account, deathSignal syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: deathSignal}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attr
}
