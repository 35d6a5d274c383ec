package main

import "golang.org/x/sys/unix"

// bootClock fails where the time since boot, suspends included, can't be read.
func bootClock() error {
	var t unix.Timespec
	return unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
}
