//go:build !linux

package testserver

// removeSegment leaves the segment, 56 bytes of it, to the system.
func removeSegment(int) error { return nil }
