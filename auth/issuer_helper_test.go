package auth_test

// A fake issuer: real keys, real signatures, and HTTP that the tests can break.

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"sessiond.example/sessiond/auth"
)

const audience = "sessiond"

var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	p256   = sync.OnceValue(newP256)
	p384   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	edKey  = sync.OnceValue(newEd25519)
)

func newP256() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func newEd25519() ed25519.PrivateKey {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return must(private, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

type object = map[string]any

// with returns o with some members replaced; a nil member is removed.
func with(o, changes object) object {
	o = maps.Clone(o)
	for name, v := range changes {
		if o[name] = v; v == nil {
			delete(o, name)
		}
	}
	return o
}

// jwk returns the public key as a JWK with the given kid.
func jwk(kid string, private crypto.Signer) object {
	o := object{"use": "sig"}
	if kid != "" {
		o["kid"] = kid
	}
	switch public := private.Public().(type) {
	case *rsa.PublicKey:
		o["kty"], o["n"], o["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point := must(public.Bytes())[1:]
		o["kty"], o["crv"] = "EC", public.Curve.Params().Name
		o["x"], o["y"] = b64(point[:len(point)/2]), b64(point[len(point)/2:])
	case ed25519.PublicKey:
		o["kty"], o["crv"], o["x"] = "OKP", "Ed25519", b64(public)
	}
	return o
}

func keySetJSON(keys ...object) string {
	return string(must(json.Marshal(object{"keys": append([]object{}, keys...)})))
}

// signRaw signs exactly these bytes.
func signRaw(alg string, private any, header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(must(jwt.GetSigningMethod(alg).Sign(signed, private)))
}

func sign(alg, kid string, private any, claims object) string {
	header := object{"alg": alg, "typ": "at+jwt"}
	if kid != "" {
		header["kid"] = kid
	}
	return signRaw(alg, private, string(must(json.Marshal(header))), string(must(json.Marshal(claims))))
}

// fakeIssuer answers discovery and key set requests, as a handler or, without a network, as a round tripper.
type fakeIssuer struct {
	url     string
	fetches atomic.Int64 // of the key set

	mu        sync.Mutex
	discovery string // empty: a correct one
	keySet    string
	status    int           // other than 0: the answer to everything
	down      bool          // the round tripper fails
	hold      chan struct{} // not nil: key set requests wait for it
}

func (f *fakeIssuer) set(change func(*fakeIssuer)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeIssuer) publish(keys ...object) {
	f.set(func(f *fakeIssuer) { f.keySet = keySetJSON(keys...) })
}

func (f *fakeIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	discovery, keySet, status, hold := f.discovery, f.keySet, f.status, f.hold
	f.mu.Unlock()
	isKeySet := r.URL.Path == "/keys"
	if isKeySet {
		f.fetches.Add(1)
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	}
	switch {
	case status != 0:
		w.Header().Set("Location", f.url+"/keys")
		w.WriteHeader(status)
	case isKeySet:
		fmt.Fprint(w, keySet)
	case r.URL.Path == "/.well-known/openid-configuration" && discovery != "":
		fmt.Fprint(w, discovery)
	case r.URL.Path == "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, f.url, f.url+"/keys")
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (f *fakeIssuer) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down {
		return nil, errors.New("no route to host")
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// newFakeIssuer starts an issuer on a loopback port.
func newFakeIssuer(t testing.TB, keys ...object) *fakeIssuer {
	t.Helper()
	f := new(fakeIssuer)
	f.publish(keys...)
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// offlineIssuer is one that is reached through its round tripper.
func offlineIssuer(keys ...object) *fakeIssuer {
	f := &fakeIssuer{url: "https://id.example"}
	f.publish(keys...)
	return f
}

func (f *fakeIssuer) claims() object {
	return object{
		"iss": f.url, "aud": audience, "sub": "cart", "client_id": "cart-service",
		"iat": time.Now().Unix(), "exp": time.Now().Add(100 * time.Hour).Unix(),
	}
}

func (f *fakeIssuer) config() auth.Config {
	return auth.Config{Issuers: []auth.Issuer{{Issuer: f.url, Audience: audience}}}
}

// clock runs with the real one, at an offset.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

// run returns a running verifier, without waiting for keys. It stops with the test.
func run(t testing.TB, c auth.Config) *auth.Verifier {
	t.Helper()
	v, err := auth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return v
}

// ready is run, and waits until the keys of every issuer are there.
func ready(t testing.TB, c auth.Config) *auth.Verifier {
	t.Helper()
	v := run(t, c)
	for start := time.Now(); len(v.KeyAges()) < len(c.Issuers); time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("the keys were not loaded")
		}
	}
	return v
}

// reload makes the verifier load the issuer's keys, by means of an unknown kid after the cool-down.
func reload(t *testing.T, v *auth.Verifier, f *fakeIssuer, c *clock) {
	t.Helper()
	before := f.fetches.Load()
	c.Advance(auth.DemandCoolDown + time.Second)
	_, _ = v.Verify(t.Context(), sign("ES256", rand.Text(), p256(), f.claims())) // refused, whichever way
	if f.fetches.Load() != before+1 {
		t.Fatalf("%d loads instead of 1", f.fetches.Load()-before)
	}
}

func accept(t *testing.T, v *auth.Verifier, raw string) *auth.Principal {
	t.Helper()
	p, err := v.Verify(t.Context(), raw)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return p
}

func refuse(t *testing.T, v *auth.Verifier, raw string, sentinel error, reasons ...string) {
	t.Helper()
	p, err := v.Verify(t.Context(), raw)
	var e *auth.Error
	if p != nil || !errors.As(err, &e) {
		t.Fatalf("Verify = %v, %v, want an *auth.Error", p, err)
	}
	if !errors.Is(err, sentinel) || !slices.Contains(reasons, e.Reason) {
		t.Fatalf("Verify: %v, want %v: one of %q", err, sentinel, reasons)
	}
	for _, part := range strings.Split(raw, ".") {
		if len(part) > 8 && strings.Contains(err.Error(), part) {
			t.Errorf("error %q quotes the token", err)
		}
	}
}
