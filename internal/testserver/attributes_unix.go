//go:build unix && !linux

package testserver

import "syscall"

// attributes give a process its account and a process group of its own, so that
// the interrupt of a terminal reaches only the tests. The death of the test
// process is not noticed here.
func attributes(as *account, _ syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attr
}
