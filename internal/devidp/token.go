package devidp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	oidccrypto "github.com/zitadel/oidc/v3/pkg/crypto"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const defaultTTL = time.Hour

// MintParams say what a token claims.
type MintParams struct {
	// Subject is the sub claim. Default the client id.
	Subject string
	// Tenant is the tenant claim. Default no such claim.
	Tenant string
	// Permissions become the scope claim. Nil means Config.Permissions; empty, none.
	Permissions []string
	// TTL is the time until exp, in whole seconds. Default an hour; negative makes a token that has expired.
	TTL time.Duration
}

// Mint signs an access token in the form of RFC 9068 (typ at+jwt) with the provider's key.
func (p *Provider) Mint(params MintParams) (string, error) {
	if params.Subject == "" {
		params.Subject = p.config.ClientID
	}
	if params.Permissions == nil {
		params.Permissions = p.config.Permissions
	}
	if params.TTL == 0 {
		params.TTL = defaultTTL
	}
	if err := validateScopes(params.Permissions); err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	claims := p.claims(params.Subject, params.Tenant, params.Permissions, params.TTL)
	claims.NotBefore = 0
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: p.key.alg, Key: jose.JSONWebKey{Key: p.key.private, KeyID: p.key.id}},
		(&jose.SignerOptions{}).WithType("at+jwt"),
	)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return sign(claims, signer)
}

func (p *Provider) claims(subject, tenant string, permissions []string, ttl time.Duration) *oidc.AccessTokenClaims {
	claims := oidc.NewAccessTokenClaims(p.config.Issuer, subject, []string{p.config.Audience}, time.Now().Add(ttl),
		rand.Text(), p.config.ClientID, 0)
	claims.Scopes = permissions
	if tenant != "" {
		claims.Claims = map[string]any{"tenant": tenant}
	}
	return claims
}

func sign(claims *oidc.AccessTokenClaims, signer jose.Signer) (string, error) {
	token, err := oidccrypto.Sign(claims, signer)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// signingKey is a private key as the library wants it.
type signingKey struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
}

var _ op.SigningKey = signingKey{}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) Key() any                                    { return k.private }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.alg }

// LogValue keeps the key out of logs.
func (k signingKey) LogValue() slog.Value { return slog.StringValue(k.id) }

func (k signingKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(k.alg), Use: "sig"}
}

// newSigningKey names the key by its thumbprint (RFC 7638), so that all who have the key name it alike.
func newSigningKey(private any) (signingKey, error) {
	var k signingKey
	switch key := private.(type) {
	case *ecdsa.PrivateKey:
		if key == nil || key.Curve != elliptic.P256() {
			return k, errors.New("signing key is not on curve P-256")
		}
		k = signingKey{alg: jose.ES256, private: key}
	case *rsa.PrivateKey:
		if key == nil || key.N.BitLen() < 2048 {
			return k, errors.New("signing key is shorter than 2048 bits")
		}
		k = signingKey{alg: jose.RS256, private: key}
	default:
		return k, errors.New("signing key is neither ECDSA nor RSA")
	}
	public := k.public()
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return k, fmt.Errorf("signing key: %w", err)
	}
	k.id = base64.RawURLEncoding.EncodeToString(thumbprint)
	return k, nil
}
