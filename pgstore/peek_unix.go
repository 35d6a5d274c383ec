//go:build unix

package pgstore

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peek looks at a connection on which nothing is awaited, without waiting: it
// reports whether bytes have come, and an error when it has ended.
func peek(c net.Conn) (pending bool, err error) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if w, ok := c.(*wiredConn); ok {
		c = w.Conn
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, err
	}
	var got error
	// Not raw.Read: after a slow write the driver may be left with a read that waits for the next answer.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			got = err
		case n == 0:
			got = io.EOF
		default:
			pending = true
		}
	})
	if err == nil {
		err = got
	}
	return pending, err
}
