//go:build !linux

package pebblestore

func preallocate(fd uintptr, offset, length int64) error { return nil }
