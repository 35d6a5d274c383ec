package auth_test

import (
	"crypto/elliptic"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sessiond.example/sessiond/auth"
)

// Entries that are of no use are passed over; the good one among them stays.
func TestKeySetEntries(t *testing.T) {
	t.Parallel()
	good := jwk("good", p256())
	ec, ed, rs := jwk("x", p384()), jwk("x", edKey()), jwk("x", rsaKey())
	odd := func(bits uint) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return b64(n.SetBit(n, 0, 1).Bytes())
	}
	offCurve := new(big.Int).Add(elliptic.P384().Params().Gx, big.NewInt(1)).FillBytes(make([]byte, 48))
	bad := map[string]object{
		"symmetric":            {"kty": "oct", "kid": "x", "k": b64([]byte("secret"))},
		"symmetric, disguised": with(rs, object{"k": "AA"}),
		"private":              with(ec, object{"d": b64(make([]byte, 48))}),
		"encryption":           with(rs, object{"use": "enc"}),
		"use mistyped":         with(rs, object{"use": 1}),
		"operations":           with(rs, object{"key_ops": []string{"encrypt", "sign"}}),
		"operations mistyped":  with(rs, object{"key_ops": "verify"}),
		"algorithm":            with(rs, object{"alg": "RSA-OAEP"}),
		"algorithm, HMAC":      with(rs, object{"alg": "HS256"}),
		"algorithm, other key": with(ec, object{"alg": "ES256"}),
		"algorithm mistyped":   with(rs, object{"alg": []string{"RS256"}}),
		"kid mistyped":         with(rs, object{"kid": 1}),
		"kid too long":         with(rs, object{"kid": strings.Repeat("x", 257)}),
		"type":                 with(rs, object{"kty": "rsa"}),
		"type missing":         with(rs, object{"kty": nil}),
		"curve":                with(ec, object{"crv": "secp256k1"}),
		"curve, other":         with(ec, object{"crv": "P-521"}),
		"curve, agreement":     with(ed, object{"crv": "X25519"}),
		"modulus short":        with(rs, object{"n": odd(1024)}),
		"modulus 2047":         with(rs, object{"n": odd(2047)}),
		"modulus long":         with(rs, object{"n": odd(16385)}),
		"modulus even":         with(rs, object{"n": b64(append(make([]byte, 0, 256), append([]byte{0xc0}, make([]byte, 255)...)...))}),
		"modulus missing":      with(rs, object{"n": nil}),
		"modulus padded":       with(rs, object{"n": rs["n"].(string) + "="}),
		"modulus with a break": with(rs, object{"n": rs["n"].(string)[:20] + "\n" + rs["n"].(string)[20:]}),
		"exponent 1":           with(rs, object{"e": "AQ"}),
		"exponent 2":           with(rs, object{"e": "Ag"}),
		"exponent even":        with(rs, object{"e": "AQAC"}),
		"exponent huge":        with(rs, object{"e": odd(64)}),
		"exponent 33 bits":     with(rs, object{"e": odd(33)}),
		"exponent empty":       with(rs, object{"e": ""}),
		"point off the curve":  with(ec, object{"x": b64(offCurve)}),
		"point zero":           with(ec, object{"x": b64(make([]byte, 48)), "y": b64(make([]byte, 48))}),
		"point short":          with(ec, object{"x": b64(make([]byte, 47))}),
		"edwards short":        with(ed, object{"x": b64(make([]byte, 31))}),
		"edwards long":         with(ed, object{"x": b64(make([]byte, 33))}),
	}
	var all []object
	for name, entry := range bad {
		if ids, err := auth.ParseKeySet([]byte(keySetJSON(entry, good))); err != nil || !slices.Equal(ids, []string{"good"}) {
			t.Errorf("%s: kids %q, error %v", name, ids, err)
		}
		if ids, err := auth.ParseKeySet([]byte(keySetJSON(entry))); err == nil {
			t.Errorf("%s alone: kids %q", name, ids)
		}
		all = append(all, entry)
	}
	raw := strings.Replace(keySetJSON(good), `[`, `[1,null,"x",[],{},{"kty":"EC","kty":"EC"},`, 1)
	if ids, err := auth.ParseKeySet([]byte(raw)); err != nil || len(ids) != 1 {
		t.Errorf("entries that are no keys: kids %q, error %v", ids, err)
	}

	f := newFakeIssuer(t, append(all, good)...)
	accept(t, ready(t, f.config()), sign("ES256", "good", p256(), f.claims()))
}

func TestKeySetDocuments(t *testing.T) {
	t.Parallel()
	good := keySetJSON(jwk("good", p256()))
	for _, body := range brokenKeySets() {
		if ids, err := auth.ParseKeySet([]byte(body)); err == nil {
			t.Errorf("%.60q: kids %q", body, ids)
		}
	}
	for _, body := range []string{good, " " + good + "\n", strings.Replace(good, "{", `{"x":{"a":1,"a":2},`, 1)} {
		if ids, err := auth.ParseKeySet([]byte(body)); err != nil || len(ids) != 1 {
			t.Errorf("%.60q: kids %q, error %v", body, ids, err)
		}
	}
	var many []object
	for n := range 150 {
		many = append(many, jwk(fmt.Sprint(n), edKey()))
	}
	if ids, err := auth.ParseKeySet([]byte(keySetJSON(many...))); err != nil || len(ids) != 100 || ids[99] != "99" {
		t.Errorf("of 150 keys %d are used (error %v), want the first 100", len(ids), err)
	}
	same := []object{jwk("s", p256()), jwk("s", p256())} // an exact repetition, and then others of the same kid
	for range 10 {
		same = append(same, jwk("s", newEd25519()))
	}
	ids, err := auth.ParseKeySet([]byte(keySetJSON(same...)))
	if diff := cmp.Diff([]string{"s", "s", "s", "s"}, ids); diff != "" || err != nil {
		t.Errorf("keys of one kid: %s, error %v", diff, err)
	}
}

func brokenKeySets() []string {
	good := keySetJSON(jwk("good", p256()))
	return []string{
		``, `null`, `[]`, `{}`, `{"keys":null}`, `{"keys":[]}`, `{"keys":{}}`, `{"keys":"x"}`, `{"Keys":[]}`, `{"keys":[{}]}`,
		`<!DOCTYPE html><html></html>`, good[:len(good)-1], good[:len(good)/2], good + "x", good + good,
		strings.Replace(good, "{", `{"keys":[],`, 1), "\ufeff" + good, strings.Replace(good, "{", "{\"x\":\"\xff\",", 1),
		`{"keys":` + strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000) + `}`,
	}
}

func FuzzKeySet(f *testing.F) {
	f.Add(keySetJSON(jwk("a", p256()), jwk("b", rsaKey()), jwk("", edKey())))
	for _, body := range brokenKeySets() {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		ids, err := auth.ParseKeySet([]byte(body))
		if (err == nil) != (len(ids) > 0) || len(ids) > 100 {
			t.Fatalf("%d keys, error %v", len(ids), err)
		}
	})
}

func TestKeyChoice(t *testing.T) {
	t.Parallel()
	second := newP256()
	token := func(f *fakeIssuer, kid string, n int) string {
		if n == 2 {
			return sign("ES256", kid, second, f.claims())
		}
		return sign("ES256", kid, p256(), f.claims())
	}
	t.Run("without kid, two fit", func(t *testing.T) {
		t.Parallel()
		f := newFakeIssuer(t, jwk("a", p256()), jwk("b", second))
		v := ready(t, f.config())
		refuse(t, v, token(f, "", 1), auth.ErrInvalid, auth.ReasonUnknownKey)
		accept(t, v, token(f, "b", 2))
		refuse(t, v, token(f, "a", 2), auth.ErrInvalid, auth.ReasonSignature)
	})
	t.Run("without kid, one fits", func(t *testing.T) {
		t.Parallel()
		f := newFakeIssuer(t, with(jwk("a", rsaKey()), object{"alg": "PS256"}), with(jwk("b", p256()), object{"key_ops": []string{"verify"}}))
		v := ready(t, f.config())
		accept(t, v, token(f, "", 1))
		accept(t, v, sign("PS256", "", rsaKey(), f.claims()))
		refuse(t, v, sign("RS256", "", rsaKey(), f.claims()), auth.ErrInvalid, auth.ReasonUnknownKey)
		refuse(t, v, sign("RS256", "a", rsaKey(), f.claims()), auth.ErrInvalid, auth.ReasonUnknownKey)
	})
	t.Run("key without kid", func(t *testing.T) {
		t.Parallel()
		f := newFakeIssuer(t, with(jwk("", p256()), object{"use": nil}))
		v := ready(t, f.config())
		accept(t, v, token(f, "", 1))
		refuse(t, v, token(f, "a", 1), auth.ErrInvalid, auth.ReasonUnknownKey)
	})
	t.Run("one kid, several keys", func(t *testing.T) {
		t.Parallel()
		f := newFakeIssuer(t, jwk("a", rsaKey()), jwk("a", p256()), jwk("a", second))
		v := ready(t, f.config())
		accept(t, v, token(f, "a", 1))
		accept(t, v, token(f, "a", 2))
		accept(t, v, sign("RS256", "a", rsaKey(), f.claims()))
		refuse(t, v, sign("ES256", "a", newP256(), f.claims()), auth.ErrInvalid, auth.ReasonSignature)
	})
}
