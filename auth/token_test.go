package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sessiond.example/sessiond/auth"
)

func signers() map[string]crypto.Signer {
	return map[string]crypto.Signer{
		"RS256": rsaKey(), "RS384": rsaKey(), "RS512": rsaKey(),
		"PS256": rsaKey(), "PS384": rsaKey(), "PS512": rsaKey(),
		"ES256": p256(), "ES384": p384(), "ES512": p521(), "EdDSA": edKey(),
	}
}

// Each algorithm verifies its own signatures with its own key, and nothing else does.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	var keys []object
	for alg, private := range signers() {
		keys = append(keys, with(jwk(alg, private), object{"alg": alg}))
	}
	f := newFakeIssuer(t, keys...)
	v := ready(t, f.config())
	claims := f.claims()
	for alg, private := range signers() {
		got := accept(t, v, sign(alg, alg, private, claims))
		want := &auth.Principal{
			Issuer: f.url, Subject: "cart", Client: "cart-service", Tenant: "default",
			Expires: time.Unix(claims["exp"].(int64), 0).UTC(),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: principal differs (-want +got):\n%s", alg, diff)
		}
		for other := range signers() {
			if other != alg {
				refuse(t, v, sign(alg, other, private, claims), auth.ErrInvalid, auth.ReasonUnknownKey)
			}
		}
		good := sign(alg, alg, private, claims)
		for _, at := range []int{0, 20, -2} { // a flipped bit in the payload and at both ends of the signature
			at += strings.LastIndexByte(good, '.')
			if at < strings.LastIndexByte(good, '.') {
				at = len(good) - 10
			}
			at++
			changed := good[:at] + swap(good[at]) + good[at+1:]
			refuse(t, v, changed, auth.ErrInvalid, auth.ReasonSignature)
		}
		payload := with(claims, object{"sub": "admin"})
		parts, forged := strings.Split(good, "."), b64(must(json.Marshal(payload)))
		refuse(t, v, parts[0]+"."+forged+"."+parts[2], auth.ErrInvalid, auth.ReasonSignature)
	}
	if n := f.fetches.Load(); n != 1 {
		t.Errorf("%d loads of the key set, want 1: a bad signature asks nobody", n)
	}
}

func swap(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()), jwk("r", rsaKey()))
	v := ready(t, f.config())
	claims := string(must(json.Marshal(f.claims())))
	header := func(s string) string { return signRaw("ES256", p256(), s, claims) }
	payload := func(s string) string { return signRaw("ES256", p256(), `{"alg":"ES256","kid":"k"}`, s) }
	claim := func(name, value string) string {
		o := f.claims()
		delete(o, name)
		s := strings.TrimSuffix(string(must(json.Marshal(o))), "}")
		if value != "" {
			s += fmt.Sprintf(",%q:%s", name, value)
		}
		return payload(s + "}")
	}
	good := header(`{"alg":"ES256","kid":"k"}`)
	accept(t, v, good)
	parts := strings.Split(good, ".")
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	accept(t, v, claim("x", deep(31)))

	tests := map[string][]string{
		auth.ReasonTooLong: {strings.Repeat("a", auth.MaxTokenBytes+1), strings.Repeat(".", 1<<20), claim("x", `"`+strings.Repeat("y", 7000)+`"`)},
		auth.ReasonMalformed: {
			"", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d.e", good + ".", "." + good, good + "\n", good + "=", " " + good,
			strings.Replace(good, ".", ".\n", 1), strings.Replace(good, ".", ". ", 1), good + "," + good, "Bearer " + good,
			parts[0] + ".." + parts[2], parts[0] + "." + parts[1] + ".", "." + parts[1] + "." + parts[2],
			parts[0] + "." + parts[1] + "." + trailingBits(parts[2]),
			strings.ReplaceAll(good, "A", "+"), strings.ReplaceAll(good, "A", "é"),
			`{"payload":"` + parts[1] + `","signatures":[]}`,
			header(`null`), header(`[]`), header(`"x"`), header(``), header(` `), header(`{"alg":"ES256","kid":"k"}{}`),
			header(`{"alg":"ES256","alg":"ES256","kid":"k"}`), header(`{"alg":"ES256","kid":"k","kid":"k"}`),
			header("{\"alg\":\"ES256\",\"kid\":\"k\",\"x\":\"\xff\"}"), header("\ufeff" + `{"alg":"ES256","kid":"k"}`),
			header(`{"alg":"ES256","kid":1}`), header(`{"alg":"ES256","kid":null}`), header(`{"alg":"ES256","kid":["k"]}`),
			header(`{"alg":"ES256","kid":{}}`), header(`{"alg":"ES256","kid":"` + strings.Repeat("k", 257) + `"}`),
			header(`{"alg":"ES256","kid":"k","x":` + deep(32) + `}`),
			payload(`null`), payload(`[]`), payload(``), payload(`{}x`), payload(strings.TrimSuffix(claims, "}")),
			payload(strings.TrimSuffix(claims, "}") + `,"aud":"sessiond"}`), claim("x", `{"a":1,"a":2}`),
			claim("x", `"\ud800"`), claim("x", "\"\xc0\xaf\""), claim("x", deep(32)), claim("x", deep(2500)), claim("x", `01`), claim("x", `NaN`),
		},
		auth.ReasonAlgorithm: {
			header(`{"kid":"k"}`), header(`{"alg":"","kid":"k"}`), header(`{"alg":null,"kid":"k"}`), header(`{"alg":["ES256"],"kid":"k"}`),
			header(`{"alg":"es256","kid":"k"}`), header(`{"alg":"ES256 ","kid":"k"}`), header(`{"ALG":"ES256","kid":"k"}`),
			header(`{"alg":"none","kid":"k"}`), header(`{"alg":"None","kid":"k"}`), header(`{"alg":"NONE","kid":"k"}`), header(`{"alg":"nOnE","kid":"k"}`),
			header(`{"alg":"ES256K","kid":"k"}`), header(`{"alg":"RSA-OAEP","kid":"r"}`), header(`{"alg":"dir","kid":"k"}`),
			b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." + parts[2],
		},
		auth.ReasonHeader: {
			header(`{"alg":"ES256","kid":"k","crit":["x"],"x":1}`), header(`{"alg":"ES256","kid":"k","crit":[]}`),
			header(`{"alg":"ES256","kid":"k","crit":null}`), header(`{"alg":"ES256","kid":"k","b64":false}`),
			header(`{"alg":"ES256","kid":"k","b64":true,"crit":["b64"]}`), header(`{"alg":"ES256","kid":"k","zip":"DEF"}`),
			header(`{"alg":"ES256","kid":"k","enc":"A128GCM"}`),
		},
		auth.ReasonType: {
			header(`{"alg":"ES256","kid":"k","typ":"id+jwt"}`), header(`{"alg":"ES256","kid":"k","typ":"logout+jwt"}`),
			header(`{"alg":"ES256","kid":"k","typ":"secevent+jwt"}`), header(`{"alg":"ES256","kid":"k","typ":"dpop+jwt"}`),
			header(`{"alg":"ES256","kid":"k","typ":"token-introspection+jwt"}`), header(`{"alg":"ES256","kid":"k","typ":"client-authentication+jwt"}`),
			header(`{"alg":"ES256","kid":"k","typ":""}`), header(`{"alg":"ES256","kid":"k","typ":null}`), header(`{"alg":"ES256","kid":"k","typ":1}`),
			header(`{"alg":"ES256","kid":"k","typ":"JOSE"}`), header(`{"alg":"ES256","kid":"k","typ":"at+jwt; x=y"}`),
			header(`{"alg":"ES256","kid":"k","typ":"application/application/at+jwt"}`), header(`{"alg":"ES256","kid":"k","typ":"text/at+jwt"}`),
		},
		auth.ReasonIssuer: {
			claim("iss", ""), claim("iss", `null`), claim("iss", `1`), claim("iss", `""`), claim("iss", `["`+f.url+`"]`),
			claim("iss", `"`+f.url+`/"`), claim("iss", `"`+strings.ToUpper(f.url)+`"`), claim("iss", `"https://evil.example"`),
		},
		auth.ReasonUnknownKey: {
			header(`{"alg":"RS256","kid":"k"}`), header(`{"alg":"ES384","kid":"k"}`), header(`{"alg":"EdDSA","kid":"k"}`),
			header(`{"alg":"ES256","kid":"r"}`), header(`{"alg":"EdDSA"}`),
			header(`{"alg":"ES256","kid":"../../k"}`), header(`{"alg":"ES256","kid":"k\u0000"}`), header(`{"alg":"ES256","kid":"K"}`),
			header(`{"alg":"ES256","kid":"k' or 1=1"}`),
		},
		auth.ReasonAudience: {
			claim("aud", ""), claim("aud", `null`), claim("aud", `""`), claim("aud", `[]`), claim("aud", `[""]`), claim("aud", `1`), claim("aud", `true`),
			claim("aud", `{"sessiond":1}`), claim("aud", `"sessio"`), claim("aud", `"sessiond2"`), claim("aud", `"Sessiond"`), claim("aud", `"sessiond other"`),
			claim("aud", `["other"]`), claim("aud", `["sessiond",1]`), claim("aud", `["sessiond",null]`), claim("aud", `[["sessiond"]]`),
			payload(strings.Replace(claims, `"aud"`, `"AUD"`, 1)),
		},
		auth.ReasonExpired: {claim("exp", `0`), claim("exp", `1`), claim("exp", `1700000000.5`), claim("exp", fmt.Sprint(time.Now().Unix()-1))},
		auth.ReasonNotYetValid: {
			claim("nbf", fmt.Sprint(time.Now().Unix()+60)), claim("iat", fmt.Sprint(time.Now().Unix()+60)), claim("iat", `4102444800`),
		},
		auth.ReasonClaims: {
			claim("exp", ""), claim("exp", `null`), claim("exp", `"4102444800"`), claim("exp", `true`), claim("exp", `[]`), claim("exp", `-1`),
			claim("exp", `1e300`), claim("exp", `1e999`), claim("exp", `253402300800`), claim("exp", `9223372036854775808`),
			claim("nbf", `null`), claim("nbf", `"0"`), claim("nbf", `-1`), claim("nbf", `1e300`), claim("iat", `[]`), claim("iat", `{}`), claim("iat", `-1e300`),
			claim("sub", ""), claim("sub", `null`), claim("sub", `""`), claim("sub", `1`), claim("sub", `["cart"]`), claim("sub", `"a\u0000b"`),
			claim("sub", `"a\nb"`), claim("sub", `"a\u0085b"`), claim("sub", `"a\u202eb"`), claim("sub", `"`+strings.Repeat("s", 257)+`"`),
			claim("client_id", `1`), claim("client_id", `""`), claim("client_id", `null`), claim("client_id", `"a\u0007"`),
		},
	}
	for reason, tokens := range tests {
		t.Run(reason, func(t *testing.T) {
			for i, raw := range tokens {
				t.Run(fmt.Sprint(i), func(t *testing.T) { refuse(t, v, raw, auth.ErrInvalid, reason) })
			}
		})
	}
	accept(t, v, good)
}

// trailingBits changes the unused low bits of the last character of the base64url of 64 bytes.
func trailingBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[last|1])
}

func TestAcceptedForms(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()), jwk("r", rsaKey()))
	v := ready(t, f.config())
	claims := f.claims()
	for _, typ := range []string{"", `,"typ":"JWT"`, `,"typ":"jwt"`, `,"typ":"at+jwt"`, `,"typ":"AT+JWT"`, `,"typ":"application/at+jwt"`, `,"typ":"Application/JWT"`} {
		accept(t, v, signRaw("ES256", p256(), `{"alg":"ES256","kid":"k"`+typ+`}`, string(must(json.Marshal(claims)))))
	}
	accept(t, v, sign("ES256", "", p256(), claims)) // the only key that fits
	for _, changes := range []object{
		{"aud": []string{"other", audience}},
		{"exp": json.Number("4102444800.25")},
		{"exp": json.Number("4.1024448e9")},
		{"nbf": time.Now().Unix() + 25, "iat": json.Number("0")},
		{"sub": strings.Repeat("s", 256)},
		{"scope": 1, "scp": object{}, "permissions": "x"}, // mistyped: no permissions
		{"SUB": "admin", "Scope": "sessions:admin"},       // names differ in case: other claims
	} {
		p := accept(t, v, sign("ES256", "k", p256(), with(claims, changes)))
		if p.Permissions != 0 || p.Subject == "admin" {
			t.Errorf("%v gives %v to %q", changes, p.Permissions, p.Subject)
		}
	}
	for _, tt := range []struct {
		changes object
		want    string
	}{
		{object{"client_id": nil}, ""},
		{object{"client_id": nil, "azp": "web"}, "web"},
		{object{"azp": "web"}, "cart-service"},
	} {
		if p := accept(t, v, sign("ES256", "k", p256(), with(claims, tt.changes))); p.Client != tt.want {
			t.Errorf("%v: client %q, want %q", tt.changes, p.Client, tt.want)
		}
	}
}

func TestRequireTyp(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	c := f.config()
	c.Issuers[0].RequireTyp = "at+jwt"
	v := ready(t, c)
	claims := string(must(json.Marshal(f.claims())))
	accept(t, v, signRaw("ES256", p256(), `{"alg":"ES256","kid":"k","typ":"application/AT+jwt"}`, claims))
	refuse(t, v, signRaw("ES256", p256(), `{"alg":"ES256","kid":"k","typ":"JWT"}`, claims), auth.ErrInvalid, auth.ReasonType)
	refuse(t, v, signRaw("ES256", p256(), `{"alg":"ES256","kid":"k"}`, claims), auth.ErrInvalid, auth.ReasonType)
}

// A public key, in whatever form, is not a shared secret.
func TestPublicKeyIsNoSecret(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("r", rsaKey()))
	v := ready(t, f.config())
	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	for _, secret := range [][]byte{
		der,
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		must(json.Marshal(jwk("r", rsaKey()))),
		rsaKey().N.Bytes(),
		{0},
	} {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			refuse(t, v, sign(alg, "r", secret, f.claims()), auth.ErrInvalid, auth.ReasonAlgorithm)
		}
	}
}

// Keys and addresses in a token's header are not looked at.
func TestHeaderBringsNoKeys(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	evil := newEd25519()
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, keySetJSON(jwk("evil", evil)))
	}))
	t.Cleanup(sink.Close)
	f := newFakeIssuer(t, jwk("k", p256()))
	v := ready(t, f.config())
	for _, kid := range []string{"k", "evil", sink.URL} {
		for name, value := range map[string]any{
			"jwk": jwk("evil", evil), "jku": sink.URL, "x5u": sink.URL, "x5c": []string{b64(evil.Public().(ed25519.PublicKey))},
		} {
			header := string(must(json.Marshal(object{"alg": "EdDSA", "kid": kid, name: value})))
			raw := signRaw("EdDSA", evil, header, string(must(json.Marshal(f.claims()))))
			refuse(t, v, raw, auth.ErrInvalid, auth.ReasonUnknownKey)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the token's address was asked %d times", n)
	}
}

// Two issuers with one kid: each one's keys count for its own tokens only.
func TestIssuersDoNotMix(t *testing.T) {
	t.Parallel()
	keyA, keyB := newP256(), newP256()
	a, b := newFakeIssuer(t, jwk("k", keyA)), newFakeIssuer(t, jwk("k", keyB))
	v := ready(t, auth.Config{Issuers: []auth.Issuer{
		{Issuer: a.url, Audience: audience, Tenant: "a"},
		{Issuer: b.url, Audience: "other", Tenant: "b"},
	}})
	claimsB := with(b.claims(), object{"aud": "other"})
	if p := accept(t, v, sign("ES256", "k", keyA, a.claims())); p.Tenant != "a" || p.Issuer != a.url {
		t.Errorf("principal %+v, want one of a", p)
	}
	if p := accept(t, v, sign("ES256", "k", keyB, claimsB)); p.Tenant != "b" || p.Issuer != b.url {
		t.Errorf("principal %+v, want one of b", p)
	}
	for _, private := range []*ecdsa.PrivateKey{keyA, keyB} {
		claims := a.claims()
		if private == keyA {
			claims = claimsB
		}
		refuse(t, v, sign("ES256", "k", private, claims), auth.ErrInvalid, auth.ReasonSignature)
	}
	refuse(t, v, sign("ES256", "k", keyB, b.claims()), auth.ErrInvalid, auth.ReasonAudience)
}

func FuzzVerify(f *testing.F) {
	issuer := newFakeIssuer(f, jwk("k", p256()), jwk("r", rsaKey()), jwk("", edKey()))
	v := ready(f, issuer.config())
	stranger := newP256()
	claims := string(must(json.Marshal(issuer.claims())))
	for _, header := range []string{
		`{"alg":"ES256","kid":"k"}`, `{"alg":"ES256"}`, `{"alg":"ES256","kid":"k","typ":"at+jwt","jwk":{}}`,
		`{"alg":"none"}`, `{"alg":"ES256","kid":"k","crit":["exp"]}`, `[]`, `null`, ``,
	} {
		f.Add(signRaw("ES256", stranger, header, claims))
	}
	f.Add("..")
	f.Add(rand.Text())
	f.Fuzz(func(t *testing.T, raw string) {
		if p, err := v.Verify(t.Context(), raw); err == nil {
			t.Fatalf("accepted %q as %+v", raw, p)
		}
	})
}
