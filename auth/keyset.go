package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxKeys       = 100 // entries of a key set that are looked at
	maxKeysPerID  = 4   // keys that share a kid, and so signatures tried for one token
	minRSABits    = 2048
	maxRSABits    = 16384
	maxExponent   = 1<<31 - 1
	keyUseSigning = "sig"
)

// key is one public key of an issuer. It is the same object in every set that holds it, so that the credentials it
// verified are forgotten the moment it is gone.
type key struct {
	id     string // kid; empty: none
	alg    string // the only algorithm it may be used with; empty: any of its kind
	kind   keyKind
	public any               // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	thumb  [sha256.Size]byte // over id, alg and public
	gone   atomic.Bool       // the issuer has removed it
}

func (k *key) fits(alg *algorithm) bool {
	return k.kind == alg.kind && (k.alg == "" || k.alg == alg.name)
}

// keySet is what one load of an issuer's keys brought. It does not change.
type keySet struct {
	keys   []*key // in the issuer's order
	loaded time.Time
}

// find returns the keys that a token with this kid and algorithm may be signed with, and whether the kid is known at
// all. Without a kid it takes the only key that fits, if there is just one.
func (s *keySet) find(kid string, alg *algorithm) (fitting []*key, known bool) {
	for _, k := range s.keys {
		if kid != "" && k.id != kid {
			continue
		}
		known = true
		if k.fits(alg) {
			fitting = append(fitting, k)
		}
	}
	if kid == "" && len(fitting) > 1 {
		return nil, known
	}
	return fitting, known
}

// adopt replaces keys by the equal ones of an earlier set and marks as gone what is left of that. It reports how many
// keys came and went.
func (s *keySet) adopt(earlier *keySet) (added, removed int) {
	known := make(map[[sha256.Size]byte]*key)
	if earlier != nil {
		for _, k := range earlier.keys {
			known[k.thumb] = k
		}
	}
	for i, k := range s.keys {
		if same := known[k.thumb]; same != nil {
			s.keys[i] = same
			delete(known, k.thumb)
		} else {
			added++
		}
	}
	for _, k := range known {
		k.gone.Store(true)
	}
	return added, len(known)
}

// skipped is an entry of a key set that we do not use.
type skipped struct {
	index int
	id    string
	err   error
}

var errNoKey = errors.New("key set holds no key that can verify a signature")

// parseKeySet reads a JWK set (RFC 7517 section 5). It passes over entries that it cannot use, and fails if none is
// left: an issuer without keys is more likely broken than serious.
func parseKeySet(body []byte) ([]*key, []skipped, error) {
	entries, err := keySetEntries(body)
	if err != nil {
		return nil, nil, err
	}
	var keys []*key
	var passed []skipped
	perID := make(map[string]int)
	seen := make(map[[sha256.Size]byte]bool)
	for i, entry := range entries {
		k, err := parseKey(entry)
		switch {
		case err != nil:
		case seen[k.thumb]:
			err = errors.New("repeats an earlier entry")
		case k.id != "" && perID[k.id] == maxKeysPerID:
			err = fmt.Errorf("more than %d keys share its kid", maxKeysPerID)
		}
		if err != nil {
			passed = append(passed, skipped{index: i, id: entryID(entry), err: err})
			continue
		}
		seen[k.thumb] = true
		perID[k.id]++
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, passed, errNoKey
	}
	return keys, passed, nil
}

// keySetEntries returns the elements of the member "keys", at most maxKeys. Repeated members inside an entry are that
// entry's problem alone, so the document is read with them allowed, and only "keys" itself must be there once.
func keySetEntries(body []byte) ([]jsontext.Value, error) {
	if depth(body) > maxDepth {
		return nil, errors.New("key set is nested too deep")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, errors.New("key set is not a JSON object")
	}
	var entries []jsontext.Value
	found := false
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, errors.New("key set is not valid JSON")
		}
		if name.String() != "keys" {
			if err := dec.SkipValue(); err != nil {
				return nil, errors.New("key set is not valid JSON")
			}
			continue
		}
		if found || dec.PeekKind() != '[' {
			return nil, errors.New(`key set has "keys" twice or not as an array`)
		}
		found = true
		if entries, err = arrayElements(dec); err != nil {
			return nil, errors.New("key set is not valid JSON")
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, errors.New("key set is not valid JSON")
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("key set has something behind its end")
	}
	if !found {
		return nil, errors.New(`key set has no "keys"`)
	}
	return entries, nil
}

func arrayElements(dec *jsontext.Decoder) ([]jsontext.Value, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var elements []jsontext.Value
	for dec.PeekKind() != ']' {
		v, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		if len(elements) < maxKeys {
			elements = append(elements, v.Clone())
		}
	}
	_, err := dec.ReadToken()
	return elements, err
}

// entryID returns the kid of an entry for the log, as far as it has one.
func entryID(entry jsontext.Value) string {
	o, _ := decodeObject(entry)
	id, _ := asString(o["kid"])
	return id[:min(len(id), maxKeyIDBytes)]
}

// parseKey reads one JWK (RFC 7517 section 4) or says why it is of no use.
func parseKey(entry jsontext.Value) (*key, error) {
	o, ok := decodeObject(entry)
	if !ok {
		return nil, errors.New("not a strict JSON object")
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, present := o[private]; present {
			return nil, errors.New("a private or symmetric key, published to everybody")
		}
	}
	k := new(key)
	for name, field := range map[string]*string{"kid": &k.id, "alg": &k.alg} {
		if v, present := o[name]; present {
			if *field, ok = asString(v); !ok || len(*field) > maxKeyIDBytes {
				return nil, fmt.Errorf("%s is not a string of at most %d bytes", name, maxKeyIDBytes)
			}
		}
	}
	if err := checkUse(o); err != nil {
		return nil, err
	}
	if err := k.readMaterial(o); err != nil {
		return nil, err
	}
	if alg := algorithms[k.alg]; k.alg != "" && (alg == nil || alg.kind != k.kind) {
		return nil, errors.New("alg is none of ours for this type of key")
	}
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q ", k.id, k.alg) // quoted: no two pairs look alike
	h.Write(der)
	h.Sum(k.thumb[:0])
	return k, nil
}

// checkUse follows RFC 7517 sections 4.2 and 4.3.
func checkUse(o object) error {
	if v, present := o["use"]; present {
		if use, _ := asString(v); use != keyUseSigning {
			return errors.New("use is not sig")
		}
	}
	if v, present := o["key_ops"]; present {
		if operations, _ := asStrings(v); !slices.Contains(operations, "verify") {
			return errors.New("key_ops does not list verify")
		}
	}
	return nil
}

func (k *key) readMaterial(o object) (err error) {
	kty, _ := asString(o["kty"])
	crv, _ := asString(o["crv"])
	switch {
	case kty == "RSA":
		k.kind = kindRSA
		k.public, err = readRSA(o)
	case kty == "EC" && crv == "P-256":
		k.kind = kindP256
		k.public, err = readEC(o, elliptic.P256())
	case kty == "EC" && crv == "P-384":
		k.kind = kindP384
		k.public, err = readEC(o, elliptic.P384())
	case kty == "EC" && crv == "P-521":
		k.kind = kindP521
		k.public, err = readEC(o, elliptic.P521())
	case kty == "OKP" && crv == "Ed25519":
		k.kind = kindEd25519
		k.public, err = readEd25519(o)
	default:
		err = errors.New("type or curve of key is none of ours")
	}
	return err
}

// bytesOf reads a member in base64url (RFC 7518 section 2).
func (o object) bytesOf(name string) ([]byte, error) {
	s, ok := asString(o[name])
	if !ok || s == "" || !isBase64URL(s) {
		return nil, fmt.Errorf("%s is not base64url", name)
	}
	b, err := decodeBase64(s)
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url", name)
	}
	return b, nil
}

// readRSA follows RFC 7518 section 6.3.1.
func readRSA(o object) (*rsa.PublicKey, error) {
	n, err := o.bytesOf("n")
	if err != nil {
		return nil, err
	}
	e, err := o.bytesOf("e")
	if err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSABits || bits > maxRSABits || modulus.Bit(0) == 0 {
		return nil, fmt.Errorf("modulus is not an odd number of %d to %d bits", minRSABits, maxRSABits)
	}
	if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > maxExponent || exponent.Bit(0) == 0 {
		return nil, fmt.Errorf("exponent is not an odd number from 3 to %d", maxExponent)
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// readEC follows RFC 7518 section 6.2.1: both coordinates at their full length, and a point on the curve.
func readEC(o object, curve elliptic.Curve) (*ecdsa.PublicKey, error) {
	x, err := o.bytesOf("x")
	if err != nil {
		return nil, err
	}
	y, err := o.bytesOf("y")
	if err != nil {
		return nil, err
	}
	if size := (curve.Params().BitSize + 7) / 8; len(x) != size || len(y) != size {
		return nil, fmt.Errorf("coordinates are not %d bytes long", size)
	}
	const uncompressed = 4
	public, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{uncompressed}, x...), y...))
	if err != nil {
		return nil, errors.New("not a point on its curve")
	}
	return public, nil
}

// readEd25519 follows RFC 8037 section 2.
func readEd25519(o object) (ed25519.PublicKey, error) {
	x, err := o.bytesOf("x")
	if err != nil {
		return nil, err
	}
	if len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x is not %d bytes long", ed25519.PublicKeySize)
	}
	return x, nil
}
