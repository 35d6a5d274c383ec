package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	fetchTimeout     = 10 * time.Second
	maxResponseBytes = 1 << 20
	wellKnown        = "/.well-known/openid-configuration"
)

// source is where an issuer's keys come from. Nothing but the configuration and the issuer's own discovery document
// decides which addresses are asked; a token never does.
type source struct {
	client    *http.Client
	issuer    string
	jwksURL   string // empty: discover it
	allowHTTP bool
}

// newHTTPClient returns our own client, or a tamed copy of the one given.
func newHTTPClient(given *http.Client, roots *x509.CertPool) *http.Client {
	client := new(http.Client)
	if given != nil {
		*client = *given
	} else {
		client.Transport = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: fetchTimeout / 2}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    fetchTimeout / 2,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // the limit on a response is then also one on what crosses the network
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	client.Jar = nil
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client
}

// keySet returns the issuer's current key set document.
func (s *source) keySet(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	address := s.jwksURL
	if address == "" {
		var err error
		if address, err = s.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	body, err := s.get(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return body, nil
}

// discover returns jwks_uri (OpenID Connect Discovery 1.0 section 4).
func (s *source) discover(ctx context.Context) (string, error) {
	body, err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+wellKnown)
	if err != nil {
		return "", err
	}
	document, ok := decodeObject(body)
	if !ok {
		return "", errors.New("document is not a strict JSON object")
	}
	if issuer, _ := asString(document["issuer"]); issuer != s.issuer {
		return "", errors.New("document is of another issuer: configure the issuer exactly as it names itself")
	}
	address, _ := asString(document["jwks_uri"])
	if err := checkURL(address, s.allowHTTP); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	if !s.allowHTTP && strings.HasPrefix(address, "http:") && !onLoopback(s.issuer) {
		return "", errors.New("jwks_uri: plain http on loopback, which a remote issuer has no business to name")
	}
	return address, nil
}

func onLoopback(address string) bool {
	u, err := url.Parse(address)
	return err == nil && isLoopback(u)
}

func (s *source) get(ctx context.Context, address string) (body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	req.Header.Set("User-Agent", "sessiond")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // only read: nothing can be lost
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: status %d instead of 200 (redirects are not followed)", address, resp.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", address, err)
	}
	if len(body) > maxResponseBytes {
		return nil, fmt.Errorf("get %s: answer is longer than %d bytes", address, maxResponseBytes)
	}
	return body, nil
}
