package auth

import (
	_ "crypto/sha256" // the hashes that the signing methods look up by number
	_ "crypto/sha512"
	"encoding/base64"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// MaxTokenBytes is the length of the longest credential that is looked at.
const MaxTokenBytes = 8 << 10

const (
	maxKeyIDBytes  = 256
	typAccessToken = "at+jwt"
)

// keyKind is what an algorithm needs a key to be.
type keyKind uint8

const (
	kindRSA keyKind = iota + 1
	kindP256
	kindP384
	kindP521
	kindEd25519
)

// algorithm is a signature algorithm of RFC 7518 section 3.1 or RFC 8037 section 3.1.
type algorithm struct {
	name   string
	kind   keyKind
	method jwt.SigningMethod
}

// algorithms are all that exist for us: asymmetric ones. Neither "none" nor an HMAC is here, so a public key can never
// serve as a shared secret.
var algorithms = map[string]*algorithm{
	"RS256": {"RS256", kindRSA, jwt.SigningMethodRS256},
	"RS384": {"RS384", kindRSA, jwt.SigningMethodRS384},
	"RS512": {"RS512", kindRSA, jwt.SigningMethodRS512},
	"PS256": {"PS256", kindRSA, jwt.SigningMethodPS256},
	"PS384": {"PS384", kindRSA, jwt.SigningMethodPS384},
	"PS512": {"PS512", kindRSA, jwt.SigningMethodPS512},
	"ES256": {"ES256", kindP256, jwt.SigningMethodES256},
	"ES384": {"ES384", kindP384, jwt.SigningMethodES384},
	"ES512": {"ES512", kindP521, jwt.SigningMethodES512},
	"EdDSA": {"EdDSA", kindEd25519, jwt.SigningMethodEdDSA},
}

// token is a JWT taken apart. Nothing in it is true before its signature is verified.
type token struct {
	alg       *algorithm
	kid       string // empty: absent
	typ       string // typAccessToken, typLogoutToken, or empty for JWT and when it is absent
	claims    object
	signed    string
	signature []byte
}

// parseToken takes a compact JWT (RFC 7515 section 7.1) apart and checks whatever can be checked without a key.
func parseToken(raw string) (*token, error) {
	if len(raw) > MaxTokenBytes {
		return nil, invalid(ReasonTooLong)
	}
	header, payload, signature, ok := split(raw)
	if !ok {
		return nil, invalid(ReasonMalformed)
	}
	t := &token{signed: raw[:len(header)+1+len(payload)]}
	members, ok := decodePart(header)
	if !ok {
		return nil, invalid(ReasonMalformed)
	}
	if err := t.readHeader(members); err != nil {
		return nil, err
	}
	if t.claims, ok = decodePart(payload); !ok {
		return nil, invalid(ReasonMalformed)
	}
	var err error
	if t.signature, err = decodeBase64(signature); err != nil {
		return nil, invalid(ReasonMalformed)
	}
	return t, nil
}

// split finds the three parts.
func split(raw string) (header, payload, signature string, ok bool) {
	if strings.Count(raw, ".") != 2 {
		return "", "", "", false
	}
	header, rest, _ := strings.Cut(raw, ".")
	payload, signature, _ = strings.Cut(rest, ".")
	for _, part := range []string{header, payload, signature} {
		if part == "" || !isBase64URL(part) {
			return "", "", "", false
		}
	}
	return header, payload, signature, true
}

// isBase64URL checks the alphabet before anything is decoded, since Go's decoder passes over line breaks.
func isBase64URL(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// decodeBase64 is strict: left-over bits must be zero, so that no second spelling of a token exists.
func decodeBase64(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

func decodePart(s string) (object, bool) {
	b, err := decodeBase64(s)
	if err != nil {
		return nil, false
	}
	return decodeObject(b)
}

// readHeader checks the JOSE header. Members that carry or locate keys (jwk, jku, x5c, x5u) are never looked at.
func (t *token) readHeader(header object) error {
	for _, name := range []string{
		"crit",       // we implement no extension (RFC 7515 section 4.1.11)
		"b64",        // unencoded payloads (RFC 7797)
		"enc", "zip", // encryption
	} {
		if _, present := header[name]; present {
			return invalid(ReasonHeader)
		}
	}
	name, _ := asString(header["alg"])
	if t.alg = algorithms[name]; t.alg == nil {
		return invalid(ReasonAlgorithm)
	}
	if kid, present := header["kid"]; present {
		var ok bool
		if t.kid, ok = asString(kid); !ok || len(t.kid) > maxKeyIDBytes {
			return invalid(ReasonMalformed)
		}
	}
	if typ, present := header["typ"]; present {
		value, ok := asString(typ)
		if !ok {
			return invalid(ReasonType)
		}
		// A media type whose "application/" may be left out (RFC 7515 section 4.1.9).
		switch value = strings.TrimPrefix(strings.ToLower(value), "application/"); value {
		case typAccessToken, typLogoutToken:
			t.typ = value
		case "jwt":
		default: // another kind of token (RFC 8725 section 3.11)
			return invalid(ReasonType)
		}
	}
	return nil
}

// signer returns the key that the token is signed with, or nil.
func (t *token) signer(keys []*key) *key {
	for _, k := range keys {
		if t.alg.method.Verify(t.signed, t.signature, k.public) == nil {
			return k
		}
	}
	return nil
}
