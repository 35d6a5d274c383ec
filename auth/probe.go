package auth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// A Probe is what an issuer answered when it was asked once for its keys, by the rules that a [Verifier] follows.
type Probe struct {
	Keys       int           // usable for signatures
	Skipped    int           // entries of the key set that are not
	Algorithms []string      // of the usable keys, sorted; "RSA" for a key that leaves open which
	Took       time.Duration // discovery and key set together
	Ahead      time.Duration // of our clock before the issuer's, to a second or so
	Dated      bool          // the issuer told its time (RFC 9110 section 6.6.1), so that Ahead means something
}

// ProbeIssuer asks an issuer for its keys. It is for diagnosis: a [Verifier] does the same by itself. The error says
// what is wrong with the configuration, the connection or the answers; with an error the probe has what was found out.
func ProbeIssuer(ctx context.Context, settings Issuer) (Probe, error) {
	if settings.TenantClaim == "" && settings.Tenant == "" {
		settings.Tenant = defaultTenant // which one it is does not matter here
	}
	v, err := New(Config{Issuers: []Issuer{settings}})
	if err != nil {
		return Probe{}, err
	}
	source := v.issuers[settings.Issuer].source
	defer source.client.CloseIdleConnections()
	dates := &dateReader{RoundTripper: source.client.Transport}
	source.client.Transport = dates

	var p Probe
	start := time.Now()
	body, err := source.keySet(ctx)
	p.Took, p.Ahead, p.Dated = time.Since(start), dates.ahead, dates.dated
	if err != nil {
		return p, err
	}
	keys, passed, err := parseKeySet(body)
	p.Keys, p.Skipped = len(keys), len(passed)
	for _, k := range keys {
		p.Algorithms = append(p.Algorithms, k.algorithm())
	}
	slices.Sort(p.Algorithms)
	p.Algorithms = slices.Compact(p.Algorithms)
	if err != nil && len(passed) > 0 {
		err = fmt.Errorf("%w; the first of %d: %w", err, len(passed), passed[0].err)
	}
	return p, err
}

// algorithm is the only one that k fits, or its family.
func (k *key) algorithm() string {
	switch {
	case k.alg != "":
		return k.alg
	case k.kind == kindP256:
		return "ES256"
	case k.kind == kindP384:
		return "ES384"
	case k.kind == kindP521:
		return "ES512"
	case k.kind == kindEd25519:
		return "EdDSA"
	default:
		return "RSA"
	}
}

// A dateReader compares the clock with that of the latest answer.
type dateReader struct {
	http.RoundTripper
	ahead time.Duration
	dated bool
}

// RoundTrip implements [http.RoundTripper].
func (d *dateReader) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := d.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		between := start.Add(time.Since(start) / 2)
		d.ahead, d.dated = between.Sub(date.Add(time.Second/2)), true // whole seconds were cut off
	}
	return resp, nil
}
