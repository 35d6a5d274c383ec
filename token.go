package sessiond

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
)

// A Token is the bearer secret of a session: whoever holds it may continue the
// session. It is returned once, by [Manager.Create] and [Manager.Rotate], and
// stores keep only its hash.
//
// A token of another system, whose session [Manager.ImportForeign] has brought
// here, is a Token too until the session is rotated.
//
// Printing, logging or marshalling a Token gives a fixed redaction; convert it
// with string(t) to hand it to the client it is for.
type Token string

// TokenPrefix begins every token of ours, so that people and secret scanners know one.
const TokenPrefix = "sst_"

// MaxTokenLength is the largest length of a token of ours, in bytes.
const MaxTokenLength = 400

// A TokenHash is the SHA-256 of a token, the only form in which a store holds it.
type TokenHash [sha256.Size]byte

const redactedToken = TokenPrefix + "[redacted]"

// String is a fixed text that reveals nothing.
func (t Token) String() string { return redactedToken }

// Format writes the fixed text for every verb: package fmt shows the operand of
// a verb that does not fit, such as %d, without asking String.
func (t Token) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, fmt.FormatString(f, verb), redactedToken)
}

// LogValue is a fixed text that reveals nothing.
func (t Token) LogValue() slog.Value { return slog.StringValue(redactedToken) }

// MarshalText is a fixed text that reveals nothing.
func (t Token) MarshalText() ([]byte, error) { return []byte(redactedToken), nil }

// Hash is what stores keep in place of the token.
func (t Token) Hash() TokenHash {
	var buf [MaxTokenLength]byte // tokens of ours fit, and need no allocation
	return sha256.Sum256(append(buf[:0], t...))
}

// matches compares in constant time.
func (h TokenHash) matches(o TokenHash) bool { return subtle.ConstantTimeCompare(h[:], o[:]) == 1 }

// The bytes under the base64url of a token: version, tenant (length first), ID
// (as 16 bytes when it is a canonical UUID, else length first), secret, CRC-32
// of all before. The checksum keeps garbage away from the store; it protects
// nothing.
const (
	tokenVersionText = 1 // ID as text
	tokenVersionUUID = 2 // ID as the 16 bytes of a UUID
	tokenSecretSize  = 32
)

// strictBase64 has one text for each sequence of bytes, except for line breaks.
var strictBase64 = base64.RawURLEncoding.Strict()

var errToken = errors.New("not a token")

func newToken(k Key) Token {
	var buf [160]byte // enough without allocating, but for the longest IDs
	b := buf[:0]
	if u, ok := uuidBytes(string(k.ID)); ok {
		b = appendParts(append(b, tokenVersionUUID), k.Tenant)
		b = append(b, u[:]...)
	} else {
		b = appendParts(append(b, tokenVersionText), k.Tenant, string(k.ID))
	}
	var secret [tokenSecretSize]byte
	rand.Read(secret[:])
	b = append(b, secret[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	var text [MaxTokenLength]byte
	return Token(base64.RawURLEncoding.AppendEncode(append(text[:0], TokenPrefix...), b))
}

// key is the session that t claims to belong to. Only one text is accepted for
// each token: other spellings of the same bytes are refused.
func (t Token) key() (Key, error) {
	body, ok := strings.CutPrefix(string(t), TokenPrefix)
	if !ok || len(t) > MaxTokenLength || strings.ContainsAny(body, "\r\n") {
		return Key{}, errToken
	}
	var buf [(MaxTokenLength*3 + 3) / 4]byte
	n, err := strictBase64.Decode(buf[:], []byte(body))
	if err != nil || n < 1+tokenSecretSize+4 {
		return Key{}, errToken
	}
	b, sum := buf[:n-4], buf[n-4:n]
	if crc32.ChecksumIEEE(b) != binary.BigEndian.Uint32(sum) {
		return Key{}, errToken
	}
	version, rest := b[0], b[1:len(b)-tokenSecretSize]
	tenant, rest, ok := cutPart(rest)
	if !ok {
		return Key{}, errToken
	}
	var id string
	switch version {
	case tokenVersionText:
		id, rest, ok = cutPart(rest)
		if _, isUUID := uuidBytes(id); !ok || isUUID || len(rest) != 0 {
			return Key{}, errToken
		}
	case tokenVersionUUID:
		if len(rest) != 16 {
			return Key{}, errToken
		}
		var text [36]byte
		encodeUUID(&text, [16]byte(rest))
		id = string(text[:])
	default:
		return Key{}, errToken
	}
	if !ValidTenant(tenant) || !validID(id) {
		return Key{}, errToken
	}
	return Key{Tenant: tenant, ID: ID(id)}, nil
}

// cutPart undoes one step of appendParts. A length written in more bytes than it
// takes is refused: it would be a second spelling of the same token.
func cutPart(b []byte) (part string, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 1 && b[size-1] == 0 || n > uint64(len(b)-size) {
		return "", nil, false
	}
	b = b[size:]
	return string(b[:n]), b[n:], true
}
