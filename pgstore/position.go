package pgstore

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"sessiond.example/sessiond"
)

// A place is a position in the feed: all events that the snapshot seen has seen
// were delivered, and, while a stretch up to the snapshot until is being
// read, those of the stretch with numbers up to last.
type place struct {
	epoch [8]byte
	seen  snapshot
	open  bool // a stretch is being read; else until and last mean nothing
	until snapshot
	last  int64
}

// The bytes under the base64url of a position: version, epoch, seen; and if
// a stretch is open, until and last; CRC-32 of all before. A snapshot is
// its xmax, the number of running transactions, and the distances
// between them, from xmax downwards, all as varints.
const (
	placeVersion = 1
	placeOpen    = 2 // the version of a position with a stretch

	// maxPosition is the length of the longest position, in characters, with room to spare.
	maxPosition = 30_000
)

func (p *place) position() sessiond.Position {
	b := append(make([]byte, 0, 64), placeVersion)
	if p.open {
		b[0] = placeOpen
	}
	b = append(b, p.epoch[:]...)
	b = p.seen.append(b)
	if p.open {
		b = binary.AppendUvarint(p.until.append(b), uint64(p.last))
	}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return sessiond.Position(base64.RawURLEncoding.EncodeToString(b))
}

func (s snapshot) append(b []byte) []byte {
	b = binary.AppendUvarint(b, s.xmax)
	b = binary.AppendUvarint(b, uint64(len(s.running)))
	above := s.xmax
	for _, id := range slices.Backward(s.running) {
		b = binary.AppendUvarint(b, above-id)
		above = id
	}
	return b
}

// parsePlace is strict: what it accepts is what position gives for it.
func parsePlace(pos sessiond.Position) (p place, ok bool) {
	if len(pos) > maxPosition {
		return place{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(pos))
	if err != nil || len(b) < 1+len(p.epoch)+4 {
		return place{}, false
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(sum) || body[0] != placeVersion && body[0] != placeOpen {
		return place{}, false
	}
	p.open = body[0] == placeOpen
	rest := body[1+copy(p.epoch[:], body[1:]):]
	if p.seen, rest, ok = cutSnapshot(rest); !ok {
		return place{}, false
	}
	if p.open {
		if p.until, rest, ok = cutSnapshot(rest); !ok {
			return place{}, false
		}
		last, n := binary.Uvarint(rest)
		if n <= 0 || last > 1<<62 {
			return place{}, false
		}
		p.last, rest = int64(last), rest[n:]
	}
	return p, len(rest) == 0 && p.position() == pos
}

func cutSnapshot(b []byte) (s snapshot, rest []byte, ok bool) {
	next := func() (v uint64) {
		v, n := binary.Uvarint(b)
		if ok = ok && n > 0; ok {
			b = b[n:]
		}
		return v
	}
	ok = true
	s.xmax = next()
	n := next()
	if !ok || n > maxRunning || s.xmax == 0 {
		return snapshot{}, nil, false
	}
	above := s.xmax
	for range n {
		d := next()
		if !ok || d == 0 || d >= above {
			return snapshot{}, nil, false
		}
		above -= d
		s.running = append(s.running, above)
	}
	slices.Reverse(s.running)
	return s, b, true
}
