package auth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/auth"
)

func TestProbeIssuer(t *testing.T) {
	t.Parallel()
	unusable := with(jwk("enc", p384()), object{"use": "enc"})
	f := newFakeIssuer(t, jwk("a", p256()), jwk("b", rsaKey()), with(jwk("c", rsaKey()), object{"alg": "PS256"}),
		jwk("d", edKey()), jwk("e", p521()), jwk("f", p384()), unusable)
	got, err := auth.ProbeIssuer(t.Context(), auth.Issuer{Issuer: f.url, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	if got.Took <= 0 || !got.Dated || got.Ahead.Abs() > 2*time.Second {
		t.Errorf("took %v, ahead %v, dated %v", got.Took, got.Ahead, got.Dated)
	}
	got.Took, got.Ahead = 0, 0
	want := auth.Probe{
		Keys: 6, Skipped: 1, Dated: true,
		Algorithms: []string{"ES256", "ES384", "ES512", "EdDSA", "PS256", "RSA"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProbeIssuerClock(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		w.Write([]byte(keySetJSON(jwk("a", p256()))))
	}))
	defer s.Close()
	got, err := auth.ProbeIssuer(t.Context(), auth.Issuer{Issuer: s.URL, Audience: audience, JWKSURL: s.URL})
	if err != nil || (got.Ahead-time.Hour).Abs() > 2*time.Second {
		t.Errorf("ahead %v, %v; want an hour", got.Ahead, err)
	}
}

func TestProbeIssuerFailures(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, with(jwk("a", p256()), object{"use": "enc"}))
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, tt := range []struct {
		settings auth.Issuer
		want     string
	}{
		{auth.Issuer{Issuer: f.url}, "audience"},
		{auth.Issuer{Issuer: f.url, Audience: audience}, "no key that can verify a signature; the first of 1: use is not sig"},
		{auth.Issuer{Issuer: f.url + "/", Audience: audience}, "another issuer"},
		{auth.Issuer{Issuer: gone.URL, Audience: audience}, "refused"},
		{auth.Issuer{Issuer: f.url, Audience: audience, CAFile: "/nowhere"}, "CA file"},
	} {
		if _, err := auth.ProbeIssuer(t.Context(), tt.settings); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v; want %q", tt.settings, err, tt.want)
		}
	}
}
