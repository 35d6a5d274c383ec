package auth_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"sessiond.example/sessiond/auth"
)

func TestCache(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	c, clk := f.config(), new(clock)
	c.Now = clk.Now
	v := ready(t, c)

	t.Run("expiry", func(t *testing.T) {
		raw := sign("ES256", "k", p256(), with(f.claims(), object{"exp": clk.Now().Add(time.Minute).Unix()}))
		first := accept(t, v, raw)
		clk.Advance(50 * time.Second)
		if accept(t, v, raw) != first {
			t.Error("the second answer is not from the cache")
		}
		clk.Advance(time.Until(first.Expires.Add(-time.Duration(clk.offset.Load()))) + time.Millisecond)
		refuse(t, v, raw, auth.ErrInvalid, auth.ReasonExpired)
		if n := v.Cached(); n != 0 {
			t.Errorf("%d credentials cached, want 0", n)
		}
	})
	t.Run("clock set back", func(t *testing.T) {
		raw := sign("ES256", "k", p256(), with(f.claims(), object{"iat": clk.Now().Unix()}))
		accept(t, v, raw)
		clk.Advance(-time.Minute)
		refuse(t, v, raw, auth.ErrInvalid, auth.ReasonNotYetValid)
		clk.Advance(time.Minute)
		accept(t, v, raw)
	})
	t.Run("refusals", func(t *testing.T) {
		before := v.Cached()
		for n := range 10 {
			refuse(t, v, sign("ES256", "k", newP256(), with(f.claims(), object{"n": n})), auth.ErrInvalid, auth.ReasonSignature)
		}
		if n := v.Cached() - before; n != 0 {
			t.Errorf("%d refused credentials cached", n)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", edKey()))
	for _, size := range []int{-1, 1, 5, 700} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			c := f.config()
			c.CacheSize = size
			v := ready(t, c)
			for n := range 2 * max(size, 1) {
				raw := sign("EdDSA", "k", edKey(), with(f.claims(), object{"n": n}))
				accept(t, v, raw)
				accept(t, v, raw)
				if cached := v.Cached(); cached > max(size, 0) {
					t.Fatalf("%d credentials cached of %d", cached, size)
				}
			}
			if cached := v.Cached(); size > 0 && cached < size/2 {
				t.Errorf("%d credentials cached of %d", cached, size)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	f := newFakeIssuer(b, jwk("k", p256()))
	claims := with(f.claims(), object{
		"scope": "openid sessions:read sessions:update", "jti": "0197f6f2-7b6e-7c3e-9d2f-0a1b2c3d4e5f", "auth_time": time.Now().Unix(),
		"realm_access": object{"roles": []string{"offline_access", "uma_authorization", "support"}},
	})
	for name, size := range map[string]int{"hit": 0, "miss-ES256": -1} {
		b.Run(name, func(b *testing.B) {
			c := f.config()
			c.CacheSize = size
			v := ready(b, c)
			raw := sign("ES256", "k", p256(), claims)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("signature-ES256", func(b *testing.B) { // the floor of a miss
		signed := "header.payload"
		signature := must(jwt.SigningMethodES256.Sign(signed, p256()))
		for b.Loop() {
			if err := jwt.SigningMethodES256.Verify(signed, signature, p256().Public()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
