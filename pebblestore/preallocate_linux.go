package pebblestore

import "golang.org/x/sys/unix"

// preallocate gives a file room up to an offset, and that length. Writes within need
// no new length, which a sync would have to write to the file system's journal.
func preallocate(fd uintptr, offset, length int64) error {
	return unix.Fallocate(int(fd), 0, offset, length)
}
