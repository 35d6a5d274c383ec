package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written to a file durable, with its length.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
