//go:build !unix

package testserver

import (
	"errors"
	"os"
	"syscall"
)

// Servers are only started on Unix: the rest has to compile.

var errSystem = errors.New("test servers need a Unix system")

const (
	sigStop = syscall.Signal(0x13)
	sigCont = syscall.Signal(0x12)
)

func attributes(*account, syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
func signal(int, syscall.Signal) error                         { return errSystem }
func children(int) ([]int, error)                              { return nil, errSystem }
func running([]int) ([]int, error)                             { return nil, errSystem }
func tryLock(*os.File) bool                                    { return false }
