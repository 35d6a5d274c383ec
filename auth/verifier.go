// Package auth decides who calls: it verifies the JSON Web Tokens of OpenID Connect issuers and says what their bearers
// may do.
//
// A [Verifier] is made from a [Config], which fails closed: there is no issuer without an audience, and no way to turn
// a check off. [Verifier.Run] keeps the issuers' keys current; [Verifier.Verify] turns a token into a [Principal] or an
// [Error]. What the principal may do is asked with [Principal.Can]; doing so on every route is the caller's part.
//
//	v, err := auth.New(auth.Config{Issuers: []auth.Issuer{{Issuer: "https://id.example.com", Audience: "sessiond"}}})
//	go v.Run(ctx)
//	p, err := v.Verify(ctx, token)
//	if err == nil && p.Can(auth.Read) { ... }
//
// The rules follow RFC 7515, 7517, 7518, 7519, 8037, 8725 and 9068 and are stricter where those leave a choice: one
// spelling of a token only, no repeated JSON members, asymmetric algorithms only, keys of the token's own issuer only.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Principal is an authenticated caller. Issuer and Subject together say who it is. Principals are shared between
// requests: do not change one.
type Principal struct {
	Issuer      string      // iss
	Subject     string      // sub; 1 to 256 bytes without control and bidirectional characters
	Client      string      // client_id, else azp, with the bounds of Subject; may be empty
	Tenant      string      // the tenant it acts in
	Permissions Permissions // what it may do, with everything included in that
	Expires     time.Time   // exp: from this instant on the credential is not valid
}

// Can reports whether the principal has every permission in want.
func (p *Principal) Can(want Permissions) bool { return p.Permissions.Has(want) }

// Verifier verifies credentials. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	clients []*http.Client // our own
	cache   *cache
	now     func() time.Time
	ran     atomic.Bool
}

// New returns a verifier. It checks the configuration, reads the CA files and starts nothing: until [Verifier.Run] has
// loaded an issuer's keys, that issuer's credentials are unavailable. An error names the issuer and what to do.
func New(c Config) (*Verifier, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	v := &Verifier{issuers: make(map[string]*issuer), cache: newCache(c.CacheSize), now: c.Now}
	for n := range c.Issuers {
		settings := &c.Issuers[n]
		if v.issuers[settings.Issuer] != nil {
			return nil, fmt.Errorf("auth: issuer %q: configured twice: merge the two entries", settings.Issuer)
		}
		i, err := v.newIssuer(&c, settings)
		if err != nil {
			return nil, fmt.Errorf("auth: issuer %q: %w", settings.Issuer, err)
		}
		v.issuers[settings.Issuer] = i
	}
	return v, nil
}

func (v *Verifier) newIssuer(c *Config, settings *Issuer) (*issuer, error) {
	if err := settings.validate(); err != nil {
		return nil, err
	}
	g, err := settings.grants()
	if err != nil {
		return nil, err
	}
	if g.tenant == "" && g.tenantPath == nil {
		if len(c.Issuers) > 1 {
			return nil, errors.New("one of several issuers needs a tenant of its own: set a tenant or a tenant claim")
		}
		g.tenant = defaultTenant
	}
	client := newHTTPClient(c.HTTPClient, nil)
	if settings.CAFile != "" {
		if c.HTTPClient != nil {
			return nil, errors.New("a CA file has no effect on an HTTP client that was passed in: remove one of them")
		}
		roots, err := readCAFile(settings.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: name a readable PEM file, or leave it out to trust the system's", err)
		}
		client = newHTTPClient(nil, roots)
	}
	if c.HTTPClient == nil {
		v.clients = append(v.clients, client)
	}
	return &issuer{
		name:      settings.Issuer,
		audience:  settings.Audience,
		strictTyp: settings.RequireTyp == typAccessToken,

		logoutAudiences: settings.LogoutAudiences,
		grants:          g,
		source: source{client: client, issuer: settings.Issuer, jwksURL: settings.JWKSURL,
			allowHTTP: settings.AllowHTTP},
		refresh:   c.Refresh,
		maxKeyAge: c.MaxKeyAge,
		now:       c.Now,
		logger:    c.Logger,
		waiting:   make(chan struct{}, maxDemandWaiters),
		wake:      make(chan struct{}, 1),
	}, nil
}

// Run loads every issuer's keys at once and then at least every Config.Refresh, retrying a failed load after 1 to 30
// seconds. It returns nil when ctx ends, after everything it started has stopped. It may be called once.
func (v *Verifier) Run(ctx context.Context) error {
	if v.ran.Swap(true) {
		return errors.New("auth: Run was called twice on one verifier")
	}
	var group errgroup.Group
	for _, i := range v.issuers {
		group.Go(func() error {
			i.run(ctx)
			return nil
		})
	}
	err := group.Wait()
	for _, client := range v.clients {
		client.CloseIdleConnections()
	}
	return err
}

// Verify returns whose credential raw is: the JWT alone, without "Bearer". Every error is an [*Error]. Verify may wait
// up to five seconds, or until ctx ends, for the issuer's new keys if the credential's key is unknown; it is otherwise
// immediate. While an issuer's keys are missing or too old its well-formed tokens are ErrUnavailable, whatever else may
// be wrong with them: nothing they say can be believed.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Principal, error) {
	if len(raw) > MaxTokenBytes {
		return nil, invalid(ReasonTooLong)
	}
	hash := hashToken(raw)
	if entry := v.cache.get(&hash, v.now()); entry != nil {
		return entry.principal, nil
	}
	entry, err := v.verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	v.cache.put(&hash, entry, v.now())
	return entry.principal, nil
}

func (v *Verifier) verify(ctx context.Context, raw string) (*verified, error) {
	t, err := parseToken(raw)
	if err != nil {
		return nil, err
	}
	// The only use of a claim before the signature is verified: it chooses whose keys are tried.
	name, _ := asString(t.claims["iss"])
	i := v.issuers[name]
	if i == nil {
		return nil, invalid(ReasonIssuer)
	}
	_, event := t.claims["events"] // a logout token or another security event (RFC 8417), also under an older typ
	if event || t.typ == typLogoutToken || i.strictTyp && t.typ != typAccessToken {
		return nil, invalid(ReasonType)
	}
	keys, err := i.keysFor(ctx, t)
	if err != nil {
		return nil, err
	}
	signer := t.signer(keys)
	if signer == nil {
		return nil, invalid(ReasonSignature)
	}
	principal, notBefore, err := i.principal(t.claims, v.now())
	if err != nil {
		return nil, err
	}
	return &verified{principal: principal, notBefore: notBefore, issuer: i, key: signer}, nil
}

// Ready reports whether the keys of at least one issuer have been loaded.
func (v *Verifier) Ready() bool {
	for _, i := range v.issuers {
		if i.set.Load() != nil {
			return true
		}
	}
	return false
}

// KeyAges returns, by issuer, the time since its keys were last loaded; issuers whose keys never were are left out.
func (v *Verifier) KeyAges() map[string]time.Duration {
	ages := make(map[string]time.Duration, len(v.issuers))
	now := v.now()
	for name, i := range v.issuers {
		if set := i.set.Load(); set != nil {
			ages[name] = max(now.Sub(set.loaded), 0)
		}
	}
	return ages
}
