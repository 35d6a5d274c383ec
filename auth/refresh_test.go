package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/auth"
)

// bubble runs a verifier of an issuer without a network, in virtual time.
func bubble(t *testing.T, f *fakeIssuer, adjust func(*auth.Config), test func(t *testing.T, v *auth.Verifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := f.config()
		c.HTTPClient = &http.Client{Transport: f}
		if adjust != nil {
			adjust(&c)
		}
		v := run(t, c)
		synctest.Wait()
		test(t, v)
	})
}

func TestRemovedKeyStopsWithinTheInterval(t *testing.T) {
	t.Parallel()
	kept := newP256()
	f := offlineIssuer(jwk("old", p256()), jwk("kept", kept))
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		old, other := sign("ES256", "old", p256(), f.claims()), sign("ES256", "kept", kept, f.claims())
		first := accept(t, v, old)
		accept(t, v, other)
		f.publish(jwk("kept", kept))
		if accept(t, v, old) != first {
			t.Error("the second answer is not from the cache")
		}
		time.Sleep(5 * time.Minute)
		refuse(t, v, old, auth.ErrInvalid, auth.ReasonUnknownKey)
		accept(t, v, other)
		if n := f.fetches.Load(); n > 4 { // at the start, after at most 5 minutes, because of the unknown kid
			t.Errorf("%d loads in 5 minutes", n)
		}
		f.publish(jwk("kept", kept), jwk("old", p256()))
		time.Sleep(5 * time.Minute)
		accept(t, v, old)
	})
}

func TestSwappedKey(t *testing.T) {
	t.Parallel()
	before, after := newP256(), newP256()
	f := offlineIssuer(jwk("k", before))
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		oldToken, newToken := sign("ES256", "k", before, f.claims()), sign("ES256", "k", after, f.claims())
		accept(t, v, oldToken)
		f.publish(jwk("k", after))
		refuse(t, v, newToken, auth.ErrInvalid, auth.ReasonSignature) // asks nobody
		if n := f.fetches.Load(); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
		time.Sleep(5 * time.Minute)
		accept(t, v, newToken)
		refuse(t, v, oldToken, auth.ErrInvalid, auth.ReasonSignature)
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	f.down = true
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		good, forged := sign("ES256", "k", p256(), f.claims()), sign("ES256", "k", newP256(), f.claims())
		expired := sign("ES256", "k", p256(), with(f.claims(), object{"exp": 1}))
		check := func(sentinel error, reason string) {
			t.Helper()
			for _, raw := range []string{good, forged, expired} {
				refuse(t, v, raw, sentinel, reason)
			}
			refuse(t, v, "a.b.c", auth.ErrInvalid, auth.ReasonMalformed)
			refuse(t, v, sign("ES256", "k", p256(), with(f.claims(), object{"iss": "https://x.example"})), auth.ErrInvalid, auth.ReasonIssuer)
		}
		check(auth.ErrUnavailable, auth.ReasonKeysNotLoaded)
		if v.Ready() || len(v.KeyAges()) != 0 {
			t.Errorf("Ready %v, KeyAges %v without keys", v.Ready(), v.KeyAges())
		}

		time.Sleep(10 * time.Minute)
		check(auth.ErrUnavailable, auth.ReasonKeysNotLoaded)
		f.set(func(f *fakeIssuer) { f.down = false })
		time.Sleep(30 * time.Second) // the longest pause between two attempts
		accept(t, v, good)
		refuse(t, v, forged, auth.ErrInvalid, auth.ReasonSignature)
		refuse(t, v, expired, auth.ErrInvalid, auth.ReasonExpired)

		f.set(func(f *fakeIssuer) { f.down = true })
		time.Sleep(23 * time.Hour)
		accept(t, v, good)
		accept(t, v, sign("ES256", "k", p256(), with(f.claims(), object{"jti": "new"})))
		refuse(t, v, forged, auth.ErrInvalid, auth.ReasonSignature)
		refuse(t, v, sign("ES256", "new", p256(), f.claims()), auth.ErrUnavailable, auth.ReasonKeysRefresh)
		if age := v.KeyAges()[f.url]; age < 23*time.Hour || age > 23*time.Hour+5*time.Minute {
			t.Errorf("age of the keys %v, want about 23h", age)
		}
		time.Sleep(time.Hour + time.Second)
		check(auth.ErrUnavailable, auth.ReasonKeysStale)
		if !v.Ready() {
			t.Error("not ready because an issuer is down")
		}

		f.set(func(f *fakeIssuer) { f.down = false })
		time.Sleep(30 * time.Second)
		accept(t, v, good)
		if age := v.KeyAges()[f.url]; age > 30*time.Second {
			t.Errorf("age of the keys %v after the outage", age)
		}
	})
}

func TestFailedLoadsKeepTheKeys(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		good := sign("ES256", "k", p256(), f.claims())
		for _, body := range append(brokenKeySets(), strings.Repeat(" ", 1<<20)+keySetJSON(jwk("k", newP256()))) {
			before := f.fetches.Load()
			f.set(func(f *fakeIssuer) { f.keySet = body })
			time.Sleep(5 * time.Minute)
			accept(t, v, good)
			accept(t, v, sign("ES256", "k", p256(), with(f.claims(), object{"jti": rand.Text()})))
			if n := f.fetches.Load() - before; n < 1 || n > 20 {
				t.Errorf("%d loads in 5 minutes", n)
			}
		}
		for _, status := range []int{204, 301, 302, 307, 404, 500, 503} {
			f.set(func(f *fakeIssuer) { f.keySet, f.status = keySetJSON(jwk("k", newP256())), status })
			time.Sleep(5 * time.Minute)
			accept(t, v, good)
		}
		f.set(func(f *fakeIssuer) { f.status = 0; f.keySet = keySetJSON(jwk("other", newP256())) })
		time.Sleep(5 * time.Minute)
		refuse(t, v, good, auth.ErrInvalid, auth.ReasonUnknownKey)
	})
}

// Ten thousand unknown kids in ten seconds cost one load; good tokens are not held up.
func TestUnknownKeysAskOnce(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		good := sign("ES256", "k", p256(), f.claims())
		for range 10_000 {
			raw := b64([]byte(`{"alg":"EdDSA","kid":"`+rand.Text()+`"}`)) + "." + b64([]byte(`{"iss":"`+f.url+`"}`)) + ".AA"
			refuse(t, v, raw, auth.ErrInvalid, auth.ReasonUnknownKey)
			time.Sleep(time.Millisecond)
		}
		accept(t, v, good)
		if n := f.fetches.Load(); n != 2 {
			t.Errorf("%d loads, want the first and one more", n)
		}
		time.Sleep(auth.DemandCoolDown)
		added := newP256()
		f.publish(jwk("k", p256()), jwk("new", added))
		accept(t, v, sign("ES256", "new", added, f.claims()))
		if n := f.fetches.Load(); n != 3 {
			t.Errorf("%d loads, want 3", n)
		}
	})
}

// Whoever comes while a load for an unknown kid is under way waits for it, up to a limit of time and of number; there is
// only the one load, and tokens of known keys do not wait.
func TestUnknownKeysShareALoad(t *testing.T) {
	t.Parallel()
	added := newP256()
	f := offlineIssuer(jwk("k", p256()))
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		good, rotated := sign("ES256", "k", p256(), f.claims()), sign("ES256", "new", added, f.claims())
		f.publish(jwk("k", p256()), jwk("new", added))
		hold := make(chan struct{})
		f.set(func(f *fakeIssuer) { f.hold = hold })
		var waiting sync.WaitGroup
		var accepted, refused atomic.Int64
		for range 100 {
			waiting.Go(func() {
				if _, err := v.Verify(t.Context(), rotated); err == nil {
					accepted.Add(1)
				} else if errors.Is(err, auth.ErrUnavailable) {
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		accept(t, v, good)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := v.Verify(canceled, rotated); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("with an ended context: %v", err)
		}
		if time.Since(start) != 0 {
			t.Error("somebody waited")
		}
		if n := refused.Load(); n != 36 {
			t.Errorf("%d refused at once, want all but 64", n)
		}
		close(hold)
		waiting.Wait()
		if n := accepted.Load(); n != 64 {
			t.Errorf("%d accepted, want 64", n)
		}
		if n := f.fetches.Load(); n != 2 {
			t.Errorf("%d loads, want 2", n)
		}
	})
}

func TestUnknownKeyOfAHangingIssuer(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	bubble(t, f, nil, func(t *testing.T, v *auth.Verifier) {
		unknown := sign("ES256", "new", newP256(), f.claims())
		f.set(func(f *fakeIssuer) { f.hold = make(chan struct{}) })
		start := time.Now()
		refuse(t, v, unknown, auth.ErrUnavailable, auth.ReasonKeysRefresh)
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("waited %v, want 5s", waited)
		}
		time.Sleep(6 * time.Second) // the load has been given up
		start = time.Now()
		refuse(t, v, unknown, auth.ErrUnavailable, auth.ReasonKeysRefresh) // in the cool-down
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v, want none", waited)
		}
		accept(t, v, sign("ES256", "k", p256(), f.claims()))
	})
}

func TestStoppedVerifier(t *testing.T) {
	t.Parallel()
	f := offlineIssuer(jwk("k", p256()))
	synctest.Test(t, func(t *testing.T) {
		c := f.config()
		c.HTTPClient = &http.Client{Transport: f}
		v, err := auth.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- v.Run(ctx) }()
		synctest.Wait()
		if err := v.Run(ctx); err == nil {
			t.Error("Run twice is no error")
		}
		f.set(func(f *fakeIssuer) { f.hold = make(chan struct{}) })
		waiter := make(chan error)
		go func() {
			_, err := v.Verify(t.Context(), sign("ES256", "new", p256(), f.claims()))
			waiter <- err
		}()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run = %v after its context ended", err)
		}
		if err := <-waiter; !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("who waited got %v", err)
		}
		refuse(t, v, sign("ES256", "new", p256(), f.claims()), auth.ErrUnavailable, auth.ReasonKeysRefresh)
		accept(t, v, sign("ES256", "k", p256(), f.claims()))
		if time.Since(start) != 0 {
			t.Error("somebody waited")
		}
	})
}

// While keys come and go, a token is never accepted after a load saw its key gone.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	stays := newP256()
	f := newFakeIssuer(t, jwk("stays", stays), jwk("0", p256()))
	c, clk := f.config(), new(clock)
	c.Now = clk.Now
	v := ready(t, c)
	always := sign("ES256", "stays", stays, f.claims())
	done := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := v.Verify(t.Context(), always); err != nil {
					t.Errorf("Verify: %v", err)
					return
				}
			}
		})
	}
	private, kid := p256(), "0"
	for range 10 {
		raw := sign("ES256", kid, private, f.claims())
		accept(t, v, raw)
		accept(t, v, raw)
		private, kid = newP256(), rand.Text()
		f.publish(jwk(kid, private), jwk("stays", stays))
		reload(t, v, f, clk)
		refuse(t, v, raw, auth.ErrInvalid, auth.ReasonUnknownKey)
	}
	close(done)
	callers.Wait()
}
