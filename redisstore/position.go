package redisstore

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"

	"sessiond.example/sessiond"
)

// A mark is a place in the feed of a partition: the number of an event and its nonce, by
// which one can tell whether it is still the same event. Numbers count from 1 without gaps.
type mark struct {
	n     uint64
	nonce string // empty if n is 0
}

// A head is what the feed of a partition is: its last event, and the last of those that were
// trimmed.
type feedHead struct{ last, trimmed mark }

// heads are the feeds of all partitions.
type heads struct {
	epoch string // of the store, in hexadecimal
	feeds [partitions]feedHead
}

// A position is a version byte, the epoch, a sum over the marks of all partitions, and the
// number of each. The sum finds out when a server has lost events that a reader has seen and
// given their numbers to others, as after a crash or a failover.
const (
	positionVersion = 1
	positionHeader  = 1 + 8 + 8
	maxPosition     = positionHeader + partitions*binary.MaxVarintLen64
)

// A vector is the marks of all partitions that a reader has come to, with the sum over
// them when their nonces are not known yet.
type vector struct {
	n   [partitions]uint64
	sum uint64
}

func sum(marks *[partitions]mark) uint64 {
	h := fnv.New64a()
	var b []byte
	for i := range marks {
		b = binary.AppendUvarint(b[:0], marks[i].n)
		b = append(b, marks[i].nonce...)
		h.Write(append(b, 0xff)) // in no nonce
	}
	return h.Sum64()
}

func formatPosition(epoch string, marks *[partitions]mark) sessiond.Position {
	b := make([]byte, 1, positionHeader+5*partitions)
	b[0] = positionVersion
	b, err := hex.AppendDecode(b, []byte(epoch))
	if err != nil {
		panic("redisstore: epoch was not checked") // by found
	}
	b = binary.BigEndian.AppendUint64(b, sum(marks))
	for i := range marks {
		b = binary.AppendUvarint(b, marks[i].n)
	}
	return sessiond.Position(base64.RawURLEncoding.EncodeToString(b))
}

// parsePosition reads a position of the feed with this epoch.
func parsePosition(p sessiond.Position, epoch string) (v vector, ok bool) {
	if len(p) > base64.RawURLEncoding.EncodedLen(maxPosition) {
		return v, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(p))
	if err != nil || len(b) < positionHeader || b[0] != positionVersion || hex.EncodeToString(b[1:9]) != epoch {
		return v, false
	}
	v.sum = binary.BigEndian.Uint64(b[9:])
	b = b[positionHeader:]
	for i := range v.n {
		n, size := binary.Uvarint(b)
		if size <= 0 || size > 1 && b[size-1] == 0 { // too short, too long, or not the shortest form
			return v, false
		}
		v.n[i], b = n, b[size:]
	}
	return v, len(b) == 0
}
