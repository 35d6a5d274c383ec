// Package devidp is a small OpenID provider for development and tests: discovery, a key set and the client credentials
// grant, over real HTTP, with tokens that a sessiond server accepts like those of any other issuer.
//
// [LoadOrCreateState] keeps the provider's key and client under a directory; [New] makes the HTTP handler from them;
// [Provider.Mint] signs tokens without HTTP, also in another process that has the same state. There are no users and
// no login page. It is not for production: whoever reads the state file can be anyone.
//
// Protocol handling is that of github.com/zitadel/oidc, which logs to the default slog logger: the routes
// it registers and requests it refuses, without credentials.
package devidp

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	tokenPath = "/oauth/token"
	keysPath  = "/keys"
	maxBody   = 64 << 10
)

// Config says what a Provider issues.
type Config struct {
	// Issuer is the URL under which the handler is served, exactly as clients configure it: http or https, host and
	// port, no path. Required.
	Issuer string
	// Audience is the aud claim of every token. Required.
	Audience string
	// ClientID and ClientSecret are the credentials of the one client. Required.
	ClientID     string
	ClientSecret string
	// Permissions are the scopes that the client may ask for, and that it gets when it asks for none. They are also
	// what Mint puts into a token when it is not told otherwise. Default none.
	Permissions []string
	// Tenant is the tenant claim of tokens from the token endpoint. Default no such claim.
	Tenant string
	// SigningKey signs all tokens: an *ecdsa.PrivateKey on P-256 (ES256) or an *rsa.PrivateKey of at least 2048 bits
	// (RS256). Required.
	SigningKey any
	// Logger is told of issued tokens, at debug level and without the token. Default none.
	Logger *slog.Logger
}

// Provider is an OpenID provider. It is an http.Handler for the root of its issuer and safe for concurrent use.
type Provider struct {
	op.UnimplementedServer

	config  Config
	key     signingKey
	handler http.Handler
}

// New checks config and returns a provider. Serving it at config.Issuer is the caller's task.
func New(config Config) (*Provider, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("development issuer: %w", err)
	}
	key, err := newSigningKey(config.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("development issuer: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.Permissions = slices.Clone(config.Permissions)
	p := &Provider{config: config, key: key}

	// Endpoints that are left out do not exist.
	library := op.RegisterServer(p, op.Endpoints{
		Token:   op.NewEndpoint(tokenPath),
		JwksURI: op.NewEndpoint(keysPath),
	}, op.WithServerCORSOptions(nil))
	mux := http.NewServeMux()
	mux.Handle("GET "+oidc.DiscoveryEndpoint, library)
	mux.Handle("GET "+keysPath, library)
	mux.Handle("POST "+tokenPath, tokenEndpoint(library))
	p.handler = mux
	return p, nil
}

func (c Config) validate() error {
	issuer, err := url.Parse(c.Issuer)
	switch {
	case err != nil || issuer.Scheme != "http" && issuer.Scheme != "https" || issuer.Host == "" ||
		c.Issuer != issuer.Scheme+"://"+issuer.Host:
		return fmt.Errorf("issuer %q is not an http or https URL of host and port only", c.Issuer)
	case c.Audience == "":
		return errors.New("audience is missing")
	case c.ClientID == "" || c.ClientSecret == "":
		return errors.New("client id or secret is missing")
	}
	return validateScopes(c.Permissions)
}

// validateScopes holds each to the scope-token of RFC 6749, section 3.3, so that one cannot smuggle in another.
func validateScopes(scopes []string) error {
	for _, scope := range scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool {
			return r <= ' ' || r > '~' || r == '"' || r == '\\'
		}) {
			return fmt.Errorf("permission %q is not a scope", scope)
		}
	}
	return nil
}

// ServeHTTP serves discovery, the key set and the token endpoint.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// tokenEndpoint adds what the library leaves to its users.
func tokenEndpoint(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.URL.RawQuery != "" {
			// RFC 6749, section 2.3.1: credentials must not be in the URI. The library would read them there.
			op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("parameters belong into the body"), nil)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(&challengeWriter{ResponseWriter: w}, r)
	})
}

// challengeWriter names the authentication scheme in answers that ask for it (RFC 6749, section 5.2).
type challengeWriter struct{ http.ResponseWriter }

func (w *challengeWriter) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="sessiond development issuer"`)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Discovery implements [op.Server].
func (p *Provider) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(&oidc.DiscoveryConfiguration{
		Issuer:                            p.config.Issuer,
		TokenEndpoint:                     p.config.Issuer + tokenPath,
		JwksURI:                           p.config.Issuer + keysPath,
		ScopesSupported:                   p.config.Permissions,
		GrantTypesSupported:               []oidc.GrantType{oidc.GrantTypeClientCredentials},
		SubjectTypesSupported:             []string{"public"},
		IDTokenSigningAlgValuesSupported:  []string{string(p.key.alg)},
		TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost},
	}), nil
}

// Keys implements [op.Server].
func (p *Provider) Keys(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.key.public()}}), nil
}

// VerifyClient implements [op.Server].
func (p *Provider) VerifyClient(_ context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	// Hashes have one length, so comparing them tells nothing about that of the secret.
	want, got := sha256.Sum256([]byte(p.config.ClientSecret)), sha256.Sum256([]byte(r.Data.ClientSecret))
	if r.Data.ClientID != p.config.ClientID || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return nil, op.NewStatusError(oidc.ErrInvalidClient(), http.StatusUnauthorized)
	}
	return client{id: p.config.ClientID}, nil
}

// ClientCredentialsExchange implements [op.Server].
func (p *Provider) ClientCredentialsExchange(
	ctx context.Context, r *op.ClientRequest[oidc.ClientCredentialsRequest],
) (*op.Response, error) {
	granted := p.config.Permissions
	if asked := r.Data.Scope; len(asked) > 0 {
		granted = slices.DeleteFunc(slices.Clone(granted), func(s string) bool { return !slices.Contains(asked, s) })
		if len(granted) == 0 {
			return nil, oidc.ErrInvalidScope().WithDescription("none of the requested scopes may be granted")
		}
	}
	claims := p.claims(p.config.ClientID, p.config.Tenant, granted, defaultTTL)
	signer, err := op.SignerFromKey(p.key)
	if err != nil {
		return nil, err
	}
	token, err := sign(claims, signer)
	if err != nil {
		return nil, err
	}
	p.config.Logger.LogAttrs(ctx, slog.LevelDebug, "token issued", slog.String("principal", p.config.ClientID),
		slog.Any("permissions", granted))
	return op.NewResponse(&oidc.AccessTokenResponse{
		AccessToken: token,
		TokenType:   oidc.BearerToken,
		ExpiresIn:   uint64(defaultTTL.Seconds()),
		Scope:       granted,
	}), nil
}
