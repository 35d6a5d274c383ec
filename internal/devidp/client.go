package devidp

import (
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// client describes the one client to the library: a confidential one that may do nothing but ask for tokens for itself.
type client struct{ id string }

var _ op.Client = client{}

func (c client) GetID() string                             { return c.id }
func (client) ApplicationType() op.ApplicationType         { return op.ApplicationTypeWeb }
func (client) AuthMethod() oidc.AuthMethod                 { return oidc.AuthMethodBasic }
func (client) GrantTypes() []oidc.GrantType                { return []oidc.GrantType{oidc.GrantTypeClientCredentials} }
func (client) AccessTokenType() op.AccessTokenType         { return op.AccessTokenTypeJWT }
func (client) RedirectURIs() []string                      { return nil }
func (client) PostLogoutRedirectURIs() []string            { return nil }
func (client) ResponseTypes() []oidc.ResponseType          { return nil }
func (client) LoginURL(string) string                      { return "" }
func (client) IDTokenLifetime() time.Duration              { return 0 }
func (client) DevMode() bool                               { return false }
func (client) IsScopeAllowed(string) bool                  { return false }
func (client) IDTokenUserinfoClaimsAssertion() bool        { return false }
func (client) ClockSkew() time.Duration                    { return 0 }
func (client) RestrictAdditionalIdTokenScopes() scopesFunc { return keepScopes }

func (client) RestrictAdditionalAccessTokenScopes() scopesFunc { return keepScopes }

type scopesFunc = func([]string) []string

func keepScopes(scopes []string) []string { return scopes }
