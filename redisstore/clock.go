package redisstore

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"
)

// A shift is how a store's time differs from the server's: by a number of milliseconds, or
// it is given and the server is not asked. The zero shift is the server's time.
type shift struct {
	ms    int64
	given bool
}

// arg is what scripts get to know of it.
func (t shift) arg() string {
	s := strconv.FormatInt(t.ms, 10)
	if t.given {
		return "=" + s
	}
	return s
}

// A reading is the server's time and what a partition has written down about its own, both
// read by one client.
type reading struct {
	us   int64 // the server's time in microseconds
	kept struct {
		now, wall int64 // in milliseconds
		us        int64
	}
}

// parseReading reads the answer to TIME and the value of a partition's clock record.
func parseReading(server, kept valkey.ValkeyMessage) (r reading, err error) {
	parts, err := server.ToArray()
	if err != nil || len(parts) != 2 {
		return r, corrupt("time of the server")
	}
	sec, err := parts[0].AsInt64()
	if err != nil {
		return r, corrupt("time of the server")
	}
	us, err := parts[1].AsInt64()
	if err != nil {
		return r, corrupt("time of the server")
	}
	r.us = sec*1_000_000 + us
	if kept.IsNil() {
		return r, nil
	}
	s, err := kept.ToString()
	if err != nil || len(s) != 24 {
		return r, corrupt("clock of a partition")
	}
	r.kept.now, r.kept.wall, r.kept.us = number(s), number(s[8:]), number(s[16:])
	return r, nil
}

// number is the number that a text begins with, in eight bytes.
func number(s string) int64 { return int64(binary.BigEndian.Uint64([]byte(s[:8]))) }

// now is the partition's time: the same sum as in clock.lua.
func (r *reading) now(t shift) time.Time {
	wall := t.ms
	if !t.given {
		wall += r.us / 1000
	}
	if r.kept.us == 0 {
		return fromMS(wall)
	}
	return fromMS(max(wall, r.kept.now+max(0, wall-r.kept.wall)*95/100))
}
