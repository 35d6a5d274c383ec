//go:build !unix

package pgstore

import "net"

// peek has no way to look here.
func peek(net.Conn) (pending bool, err error) { return false, nil }
