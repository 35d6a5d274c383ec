package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config configures a [Verifier]. Issuers is required.
type Config struct {
	// Issuers whose credentials are accepted; at least one.
	Issuers []Issuer
	// Refresh is the longest time between two loads of an issuer's keys, and so the time within which a key removed
	// there stops working; the actual pause is up to a quarter shorter. At least 100ms. Default 5m.
	Refresh time.Duration
	// MaxKeyAge is how long keys may be used after their last successful load. At least Refresh. Default 24h.
	MaxKeyAge time.Duration
	// HTTPClient asks the issuers. It is copied, without its cookie jar and with redirects off. Default: a client that
	// verifies certificates, uses no proxy and gives up after ten seconds.
	HTTPClient *http.Client
	// Logger is told about loads, failures and skipped keys, never about credentials. Default: none.
	Logger *slog.Logger
	// Now is the clock that credentials and key ages are judged by. Default time.Now.
	Now func() time.Time
	// CacheSize is the greatest number of verified credentials remembered until they expire; negative: none.
	// Default 10,000.
	CacheSize int
}

// Issuer is one OpenID Connect issuer and what its credentials may do.
type Issuer struct {
	// Issuer is the issuer identifier, compared with the iss claim byte by byte: a URL without query or fragment.
	// https, or http on loopback or with AllowHTTP. Required.
	Issuer string
	// Audience is what the aud claim must be or contain. Required.
	Audience string
	// JWKSURL is where the keys are. Default: the jwks_uri of the issuer's discovery document.
	JWKSURL string
	// CAFile is a PEM file of the only certificate authorities trusted for this issuer, read once.
	// Default: the system's. Not together with Config.HTTPClient.
	CAFile string
	// AllowHTTP permits plain http to hosts other than loopback. Default false.
	AllowHTTP bool
	// RequireTyp "at+jwt" demands the header typ of RFC 9068 access tokens. Default "": also JWT, or absent.
	RequireTyp string

	// Tenant is the tenant of every credential. Default "default", if there is one issuer and no TenantClaim.
	Tenant string
	// TenantClaim is the path (see [ParsePath]) of the claim that names the tenant. Not together with Tenant.
	TenantClaim string
	// Tenants are those that TenantClaim may name. Default: any.
	Tenants []string

	// AllowedPermissions limits what credentials of this issuer can have, wherever it comes from. Default: no limit.
	AllowedPermissions []string
	// RolesClaims are the paths of claims that list roles, as an array of strings or one string. Default: none.
	RolesClaims []Path
	// Roles maps a role to its permissions. Needs RolesClaims. Default: none.
	Roles map[string][]string
	// Subjects maps a sub claim to permissions, for credentials without scopes. Default: none.
	Subjects map[string][]string

	// LogoutAudiences are the aud values accepted in this issuer's logout tokens (OpenID Connect Back-Channel Logout
	// 1.0). Default: none accepted.
	LogoutAudiences []string
}

// Path leads to a claim: the name of a member of the claims, then of a member of that object, and so on.
type Path []string

// ParsePath reads a path written as names joined by dots ("realm_access.roles"). A string with "://" in it is one name,
// since namespaced claims are named by URLs. It refuses empty names; a name with a dot needs a Path literal.
func ParsePath(s string) (Path, error) {
	path := Path{s}
	if !strings.Contains(s, "://") {
		path = strings.Split(s, ".")
	}
	if err := path.validate(); err != nil {
		return nil, err
	}
	return path, nil
}

func (p Path) validate() error {
	if len(p) == 0 || len(p) > maxDepth || slices.Contains(p, "") {
		return fmt.Errorf("claim path %q needs 1 to %d names, none of them empty", []string(p), maxDepth)
	}
	return nil
}

// A tenant's name as it may stand in a credential.
var tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

const (
	defaultTenant    = "default"
	defaultRefresh   = 5 * time.Minute
	defaultMaxKeyAge = 24 * time.Hour
	defaultCacheSize = 10_000
	minRefresh       = 100 * time.Millisecond
	maxURLBytes      = 2048
)

// withDefaults returns the configuration with defaults filled in, or why its durations make no sense.
func (c Config) withDefaults() (Config, error) {
	if c.Refresh == 0 {
		c.Refresh = defaultRefresh
	}
	if c.MaxKeyAge == 0 {
		c.MaxKeyAge = max(defaultMaxKeyAge, c.Refresh)
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(c.Issuers) == 0:
		return c, errors.New("auth: no issuer is configured, so nobody could call: configure at least one")
	case c.Refresh < minRefresh:
		return c, fmt.Errorf("auth: key refresh of %v is too short: use at least %v", c.Refresh, minRefresh)
	case c.MaxKeyAge < c.Refresh:
		return c, fmt.Errorf("auth: a maximum key age of %v under the key refresh of %v would refuse everybody "+
			"between two loads: raise it", c.MaxKeyAge, c.Refresh)
	}
	return c, nil
}

// validate checks one issuer. The error says what is wrong and what to do, without the issuer's name.
func (c *Issuer) validate() error {
	if c.Issuer == "" {
		return errors.New("the issuer URL is empty: set it to the exact iss of its tokens")
	}
	if err := checkURL(c.Issuer, c.AllowHTTP); err != nil {
		return err
	}
	if strings.Contains(c.Issuer, "?") {
		return errors.New("an issuer URL has no query (OpenID Connect Discovery 1.0 section 3): remove it")
	}
	if c.JWKSURL != "" {
		if err := checkURL(c.JWKSURL, c.AllowHTTP); err != nil {
			return fmt.Errorf("key set URL: %w", err)
		}
	}
	if c.Audience == "" {
		return errors.New("the audience is empty, so tokens meant for other services would be accepted: " +
			"set the aud value that the issuer puts into tokens for this service")
	}
	if c.RequireTyp != "" && c.RequireTyp != typAccessToken {
		return fmt.Errorf("required typ %q is unknown: use %q or leave it out", c.RequireTyp, typAccessToken)
	}
	for i, audience := range c.LogoutAudiences {
		if audience == "" || slices.Contains(c.LogoutAudiences[:i], audience) {
			return fmt.Errorf("logout audience %q is empty or repeated: remove it", audience)
		}
	}
	return c.validateTenant()
}

func (c *Issuer) validateTenant() error {
	switch {
	case c.Tenant != "" && c.TenantClaim != "":
		return errors.New("both a fixed tenant and a tenant claim are set: remove one")
	case c.TenantClaim == "" && len(c.Tenants) > 0:
		return errors.New("a list of tenants limits the tenant claim, but none is set: set it, or remove the list")
	case c.TenantClaim != "" && c.Tenants != nil && len(c.Tenants) == 0:
		return errors.New("the list of tenants is empty, so no token could name one: fill it, or leave it out for any")
	case c.Tenant != "" && !tenantName.MatchString(c.Tenant):
		return fmt.Errorf("tenant %q is no tenant name: it must match %s", c.Tenant, tenantName)
	}
	for _, tenant := range c.Tenants {
		if !tenantName.MatchString(tenant) {
			return fmt.Errorf("tenant %q in the list of tenants is no tenant name: it must match %s", tenant, tenantName)
		}
	}
	return nil
}

// grants is what an issuer's credentials may do, in the form the verifier uses.
type grants struct {
	allowed    Permissions
	rolePaths  []Path
	byRole     map[string]Permissions
	bySubject  map[string]Permissions
	tenant     string // fixed, or
	tenantPath Path   // where it stands in the claims
	tenants    map[string]bool
}

func (c *Issuer) grants() (g grants, err error) {
	g = grants{allowed: AllPermissions, tenant: c.Tenant}
	if c.AllowedPermissions != nil {
		if len(c.AllowedPermissions) == 0 {
			return g, errors.New("the list of allowed permissions is empty, so no token could do anything: " +
				"fill it, or leave it out for no limit")
		}
		if g.allowed, err = parsePermissions(c.AllowedPermissions); err != nil {
			return g, fmt.Errorf("allowed permissions: %w", err)
		}
	}
	if len(c.Roles) > 0 && len(c.RolesClaims) == 0 {
		return g, errors.New("roles are mapped, but no claim is named that lists them: set the roles claims")
	}
	for _, path := range c.RolesClaims {
		if err := path.validate(); err != nil {
			return g, fmt.Errorf("roles claims: %w", err)
		}
		g.rolePaths = append(g.rolePaths, slices.Clone(path))
	}
	if g.byRole, err = parsePermissionMap(c.Roles); err != nil {
		return g, fmt.Errorf("roles: %w", err)
	}
	if g.bySubject, err = parsePermissionMap(c.Subjects); err != nil {
		return g, fmt.Errorf("subjects: %w", err)
	}
	if c.TenantClaim == "" {
		return g, nil
	}
	if g.tenantPath, err = ParsePath(c.TenantClaim); err != nil {
		return g, fmt.Errorf("tenant claim: %w", err)
	}
	if c.Tenants != nil {
		g.tenants = make(map[string]bool, len(c.Tenants))
		for _, tenant := range c.Tenants {
			g.tenants[tenant] = true
		}
	}
	return g, nil
}

func parsePermissionMap(m map[string][]string) (map[string]Permissions, error) {
	parsed := make(map[string]Permissions, len(m))
	for name, list := range m {
		p, err := parsePermissions(list)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		parsed[name] = p
	}
	return parsed, nil
}

func parsePermissions(names []string) (Permissions, error) {
	var set Permissions
	for _, name := range names {
		p, ok := ParsePermission(name)
		if !ok {
			return 0, fmt.Errorf("unknown permission %q: use one of %s", name, strings.Join(permissionNames[:], ", "))
		}
		set |= p
	}
	return set, nil
}

// checkURL checks an address that is going to be fetched.
func checkURL(s string, allowHTTP bool) error {
	u, err := url.Parse(s)
	switch {
	case len(s) > maxURLBytes:
		return fmt.Errorf("URL is longer than %d bytes", maxURLBytes)
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%q is not an absolute URL", s)
	case u.User != nil:
		return errors.New("a URL with a user or password is refused: remove it")
	case strings.Contains(s, "#"):
		return fmt.Errorf("%q has a fragment: remove it", s)
	case u.Scheme == "https", u.Scheme == "http" && (allowHTTP || isLoopback(u)):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%q is plain http, over which keys can be forged: use https, or set allow_http", s)
	default:
		return fmt.Errorf("%q must be https", s)
	}
}

func isLoopback(u *url.URL) bool {
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback()
}

func readCAFile(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %q holds no PEM certificate", path)
	}
	return pool, nil
}
