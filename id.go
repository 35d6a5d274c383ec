package sessiond

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// An ID is the public handle of a session, unique within its tenant. It is
// safe in URLs and logs and is never a credential. It has 1 to 128 characters
// of [A-Za-z0-9._~-], begins with a letter or digit, and does not begin with
// the prefix of tokens.
type ID string

// MaxIDLength is the largest length of an [ID], in bytes.
const MaxIDLength = 128

const idRule = "must have 1 to 128 characters of [A-Za-z0-9._~-], begin with a letter or digit, " +
	"and not begin with " + TokenPrefix

// ParseID checks s against the form of an [ID]. The error matches [ErrInvalid].
func ParseID(s string) (ID, error) {
	if !validID(s) {
		return "", invalid("/id", idRule)
	}
	return ID(s), nil
}

func validID(s string) bool {
	if len(s) == 0 || len(s) > MaxIDLength || !alphanumeric(s[0]) || strings.HasPrefix(s, TokenPrefix) {
		return false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case alphanumeric(c), c == '.', c == '_', c == '~', c == '-':
		default:
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// newID makes a UUIDv7 (RFC 9562, section 5.7). Its time is only a hint for
// people and indexes; nothing relies on it.
func newID(now time.Time) ID {
	var u [16]byte
	rand.Read(u[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(u[:6], ms[2:])
	return formatUUID(u, 7)
}

// derivedID makes a UUIDv8 (RFC 9562, section 5.8) from the parts, so that a
// repeated create names the same session.
func derivedID(parts ...string) ID {
	sum := sha256.Sum256(appendParts(nil, parts...))
	return formatUUID([16]byte(sum[:16]), 8)
}

func formatUUID(u [16]byte, version byte) ID {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	var b [36]byte
	encodeUUID(&b, u)
	return ID(b[:])
}

func encodeUUID(dst *[36]byte, u [16]byte) {
	hex.Encode(dst[:8], u[:4])
	hex.Encode(dst[9:13], u[4:6])
	hex.Encode(dst[14:18], u[6:8])
	hex.Encode(dst[19:23], u[8:10])
	hex.Encode(dst[24:], u[10:])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
}

// uuidBytes is the 16 bytes of s when s is a UUID in its canonical lower-case
// form, of any version.
func uuidBytes(s string) (u [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, false
	}
	n := 0 // digits seen
	for i := range len(s) {
		var digit byte
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c >= 'a' && c <= 'f':
			digit = c - 'a' + 10
		case c == '-' && (i == 8 || i == 13 || i == 18 || i == 23):
			continue
		default:
			return u, false
		}
		u[n/2] = u[n/2]<<4 | digit
		n++
	}
	return u, true
}

// appendParts joins parts so that different lists never give the same bytes.
func appendParts(dst []byte, parts ...string) []byte {
	for _, p := range parts {
		dst = binary.AppendUvarint(dst, uint64(len(p)))
		dst = append(dst, p...)
	}
	return dst
}
