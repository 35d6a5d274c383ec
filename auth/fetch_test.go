package auth_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/auth"
)

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) await(t *testing.T, text string) {
	t.Helper()
	for start := time.Now(); !strings.Contains(l.String(), text); time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("no %q in the log:\n%s", text, l)
		}
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	accepted := newFakeIssuer(t, jwk("k", p256()))
	v := ready(t, accepted.config())
	accept(t, v, sign("ES256", "k", p256(), accepted.claims()))

	// Each is a document of an issuer on loopback, and what the log must say.
	for name, tt := range map[string]struct{ document, want string }{
		"another issuer":   {`{"issuer":"https://x.example","jwks_uri":"URL/keys"}`, "another issuer"},
		"slash":            {`{"issuer":"URL/","jwks_uri":"URL/keys"}`, "another issuer"},
		"no issuer":        {`{"jwks_uri":"URL/keys"}`, "another issuer"},
		"issuer mistyped":  {`{"issuer":["URL"],"jwks_uri":"URL/keys"}`, "another issuer"},
		"no address":       {`{"issuer":"URL"}`, "jwks_uri"},
		"http":             {`{"issuer":"URL","jwks_uri":"http://169.254.169.254/latest"}`, "plain http"},
		"file":             {`{"issuer":"URL","jwks_uri":"file:///etc/passwd"}`, "jwks_uri"},
		"password":         {`{"issuer":"URL","jwks_uri":"https://u:p@x.example/keys"}`, "jwks_uri"},
		"relative":         {`{"issuer":"URL","jwks_uri":"/keys"}`, "jwks_uri"},
		"repeated":         {`{"issuer":"URL","issuer":"URL","jwks_uri":"URL/keys"}`, "strict JSON"},
		"not JSON":         {`<html>`, "strict JSON"},
		"too long":         {`{"issuer":"URL","jwks_uri":"URL/keys","x":"` + strings.Repeat("x", 1<<20) + `"}`, "longer than"},
		"keys not there":   {`{"issuer":"URL","jwks_uri":"URL/none"}`, "404"},
		"keys are no keys": {`{"issuer":"URL","jwks_uri":"URL/.well-known/openid-configuration"}`, "key set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeIssuer(t, jwk("k", p256()))
			f.set(func(f *fakeIssuer) { f.discovery = strings.ReplaceAll(tt.document, "URL", f.url) })
			c, l := f.config(), new(logs)
			c.Logger = slog.New(slog.NewTextHandler(l, nil))
			v := run(t, c)
			l.await(t, tt.want)
			if v.Ready() {
				t.Error("ready")
			}
			refuse(t, v, sign("ES256", "k", p256(), f.claims()), auth.ErrUnavailable, auth.ReasonKeysNotLoaded)
		})
	}
}

// A slash at the end of an issuer belongs to its name, but is not doubled in the address of its document.
func TestDiscoveryOfIssuerWithSlash(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	f.set(func(f *fakeIssuer) {
		f.discovery = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, f.url+"/", f.url+"/keys")
	})
	c := f.config()
	c.Issuers[0].Issuer += "/"
	v := ready(t, c)
	accept(t, v, sign("ES256", "k", p256(), with(f.claims(), object{"iss": f.url + "/"})))
	refuse(t, v, sign("ES256", "k", p256(), f.claims()), auth.ErrInvalid, auth.ReasonIssuer)
}

func TestRemoteIssuerNamesLoopback(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	f.discovery = `{"issuer":"https://id.example","jwks_uri":"http://127.0.0.1/keys"}`
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		if v.Ready() || f.fetches.Load() != 0 {
			t.Error("a remote issuer's document leads to plain http on this machine")
		}
	})
	bubble(t, f, func(c *auth.Config) { c.Issuers[0].AllowHTTP = true }, func(t *testing.T, v *auth.Verifier) {
		accept(t, v, sign("ES256", "k", p256(), f.claims()))
	})
}

func TestJWKSURL(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	f.set(func(f *fakeIssuer) { f.discovery = "not asked for" })
	c := f.config()
	c.Issuers[0].JWKSURL = f.url + "/keys"
	accept(t, ready(t, c), sign("ES256", "k", p256(), f.claims()))
}

// Requests to an issuer follow no redirect and carry nothing of ours.
func TestRequestsToIssuers(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		fmt.Fprint(w, keySetJSON(jwk("k", p256())))
	}))
	t.Cleanup(target.Close)
	var carried atomic.Int64
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["Cookie"])+len(r.Header["Authorization"]) > 0 {
			carried.Add(1)
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b", Path: "/"})
		http.Redirect(w, r, target.URL, http.StatusFound)
	}))
	t.Cleanup(issuer.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]*http.Client{"own": nil, "given": {Jar: jar}} {
		l := new(logs)
		v := run(t, auth.Config{
			Issuers:    []auth.Issuer{{Issuer: issuer.URL, Audience: audience, JWKSURL: issuer.URL + "/keys"}},
			HTTPClient: client, Refresh: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(l, nil)),
		})
		l.await(t, "status 302")
		for start := time.Now(); strings.Count(l.String(), "status 302") < 3; time.Sleep(time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Fatalf("%s: no further attempts:\n%s", name, l)
			}
		}
		if v.Ready() || elsewhere.Load() != 0 || carried.Load() != 0 {
			t.Errorf("%s: ready %v, %d redirects followed, %d requests with cookies", name, v.Ready(), elsewhere.Load(), carried.Load())
		}
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	f := new(fakeIssuer)
	f.publish(jwk("k", p256()))
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it meets clients that hang up
	server.StartTLS()
	t.Cleanup(server.Close)
	f.url = server.URL
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := f.config()
	trusting.Issuers[0].CAFile = file
	accept(t, ready(t, trusting), sign("ES256", "k", p256(), f.claims()))

	c, l := f.config(), new(logs)
	c.Logger = slog.New(slog.NewTextHandler(l, nil))
	v := run(t, c)
	l.await(t, "certificate")
	if v.Ready() {
		t.Error("an unknown authority is trusted")
	}
}

// A hanging issuer is given up after ten seconds, and asked again.
func TestHangingIssuer(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	hang := func(*auth.Config) { f.hold = make(chan struct{}) } // in the bubble, or its clock would not pass
	bubble(t, f, hang, func(t *testing.T, v *auth.Verifier) {
		time.Sleep(9 * time.Second)
		if n := f.fetches.Load(); n != 1 {
			t.Fatalf("%d loads at once", n)
		}
		f.set(func(f *fakeIssuer) { f.hold = nil })
		time.Sleep(3 * time.Second)
		accept(t, v, sign("ES256", "k", p256(), f.claims()))
	})
}

// What is wrong with a key set is logged once, keys that come and go each time, and no credential ever.
func TestLog(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()), object{"kty": "oct", "k": "c2VjcmV0", "kid": "\u202ex"})
	l := new(logs)
	adjust := func(c *auth.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) }
	bubble(t, f, adjust, func(t *testing.T, v *auth.Verifier) {
		raw := sign("ES256", "k", newP256(), f.claims())
		refuse(t, v, raw, auth.ErrInvalid, auth.ReasonSignature)
		time.Sleep(time.Hour)
		for text, want := range map[string]int{
			"issuer key skipped": 1, "issuer keys loaded": 1, `\u202e`: 1, "\u202e": 0, "c2VjcmV0": 0, raw: 0, "cart": 0,
		} {
			if n := strings.Count(l.String(), text); n != want {
				t.Errorf("%q is in the log %d times, want %d:\n%s", text, n, want, l)
			}
		}
		f.publish(jwk("k2", p256()))
		time.Sleep(5 * time.Minute)
		l.await(t, "added=1 removed=1")
	})
}

// The pauses between loads differ, never exceed the interval, and are not much shorter.
func TestRefreshPauses(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c := f.config()
		c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/keys" {
				at = append(at, time.Now())
			}
			return f.RoundTrip(r)
		})}
		v, err := auth.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if err := v.Run(ctx); err != nil {
			t.Fatal(err)
		}
		pauses := make(map[time.Duration]bool)
		for i := 1; i < len(at); i++ {
			pause := at[i].Sub(at[i-1])
			pauses[pause] = true
			if pause > 5*time.Minute || pause < 3*time.Minute {
				t.Errorf("pause %v between loads", pause)
			}
		}
		if len(at) < 24 || len(pauses) < 10 {
			t.Errorf("%d loads with %d different pauses in two hours", len(at), len(pauses))
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
