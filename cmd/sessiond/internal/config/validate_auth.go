package config

// Validation of issuers and gateways: who may call, and in which tenant.

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// permissions are the permissions of the API.
var permissions = []string{
	"sessions:create", "sessions:read", "sessions:inspect", "sessions:update",
	"sessions:delete", "sessions:verify", "sessions:admin", "sessions:any-tenant",
}

func (a Auth) validate(p *problems) {
	if len(a.Issuers) == 0 {
		p.add("auth.issuers", "is empty: name at least one OpenID Connect issuer and its audience")
	}
	first := make(map[string]int)
	for i, issuer := range a.Issuers {
		key := fmt.Sprintf("auth.issuers[%d]", i)
		issuer.validate(p, key, len(a.Issuers) == 1)
		if j, seen := first[issuer.Issuer]; seen && issuer.Issuer != "" {
			p.add(key+".issuer", "is the same as auth.issuers[%d].issuer: merge the two", j)
			continue
		}
		first[issuer.Issuer] = i
	}
	if p.between("auth.jwks_refresh", a.JWKSRefresh, time.Second, 24*time.Hour, "") &&
		p.between("auth.max_key_age", a.MaxKeyAge, time.Second, 720*time.Hour, "") && a.MaxKeyAge < a.JWKSRefresh {
		p.add("auth.max_key_age", "is %s, less than auth.jwks_refresh (%s): keys would stop working between two fetches",
			formatDuration(a.MaxKeyAge), formatDuration(a.JWKSRefresh))
	}
}

func (i Issuer) validate(p *problems, key string, only bool) {
	if err := checkIssuerURL(i.Issuer, i.AllowHTTP); err != nil {
		p.add(key+".issuer", "%w", err)
	} else if strings.Contains(i.Issuer, "?") {
		p.add(key+".issuer", "has a query: remove it (OpenID Connect Discovery 1.0, section 3)")
	}
	if i.JWKSURL != "" {
		if err := checkIssuerURL(i.JWKSURL, i.AllowHTTP); err != nil {
			p.add(key+".jwks_url", "%w", err)
		}
	}
	p.text(key+".audience", i.Audience)
	if i.RequireTyp != "" && i.RequireTyp != "at+jwt" {
		p.add(key+".require_typ", "is %s: write at+jwt or remove the key", quote(i.RequireTyp))
	}
	i.validateTenant(p, key, only)
	if i.AllowedPermissions != nil && len(i.AllowedPermissions) == 0 {
		p.add(key+".allowed_permissions", "is an empty list: name the permissions, or remove the key to allow all")
	}
	p.permissions(key+".allowed_permissions", i.AllowedPermissions)
	for n, audience := range i.LogoutAudiences {
		audienceKey := fmt.Sprintf("%s.logout_audiences[%d]", key, n)
		p.text(audienceKey, audience)
		if slices.Contains(i.LogoutAudiences[:n], audience) {
			p.add(audienceKey, "%s appears twice: remove one", quote(audience))
		}
	}
	for n, path := range i.RolesClaims {
		if err := path.check(); err != nil {
			p.add(fmt.Sprintf("%s.roles_claims[%d]", key, n), "%w", err)
		}
	}
	if len(i.Roles) > 0 && len(i.RolesClaims) == 0 {
		p.add(key+".roles", "is set but %s.roles_claims names no claim that holds roles: name one", key)
	}
	p.grants(key+".roles", i.Roles)
	p.grants(key+".subjects", i.Subjects)
}

func (i Issuer) validateTenant(p *problems, key string, only bool) {
	switch {
	case i.Tenant != "" && i.TenantClaim != "":
		p.add(key+".tenant", "and %s.tenant_claim are both set: remove one", key)
	case i.Tenant == "" && i.TenantClaim == "" && !only:
		p.add(key+".tenant", "is required with several issuers: set it or %s.tenant_claim", key)
	}
	if i.Tenant != "" {
		p.tenant(key+".tenant", i.Tenant)
	}
	if i.TenantClaim != "" {
		if _, err := ParseClaimPath(i.TenantClaim); err != nil {
			p.add(key+".tenant_claim", "%w", err)
		}
	}
	switch {
	case i.Tenants != nil && i.TenantClaim == "":
		p.add(key+".tenants", "has no effect without %s.tenant_claim: remove it or set the claim", key)
	case i.Tenants != nil && len(i.Tenants) == 0:
		p.add(key+".tenants", "is an empty list: name the tenants, or remove the key to allow any")
	}
	for n, tenant := range i.Tenants {
		p.tenant(fmt.Sprintf("%s.tenants[%d]", key, n), tenant)
	}
}

// grants checks a table of permissions by role or subject.
func (p *problems) grants(key string, table map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		p.text(key, name)
		p.permissions(join(key, name), table[name])
	}
}

func (p *problems) permissions(key string, list []string) {
	for n, permission := range list {
		if !slices.Contains(permissions, permission) {
			p.add(fmt.Sprintf("%s[%d]", key, n), "%s is not a permission%s", quote(permission),
				suggestPermission(permission))
		}
	}
}

func suggestPermission(name string) string {
	if s := suggest(name, permissions); s != "" {
		return s
	}
	return ": write " + strings.Join(permissions, " or ")
}

// text checks names that are compared with claims.
func (p *problems) text(key, value string) {
	switch {
	case value == "":
		p.add(key, "is empty: write the exact text that tokens contain")
	case len(value) > 1024 || !utf8.ValidString(value) || strings.ContainsFunc(value, isControl):
		p.add(key, "%s is longer than 1024 bytes or has control characters: write the exact text that tokens contain",
			quote(value))
	}
}

func (p *problems) tenant(key, value string) {
	if !isName(value) {
		p.add(key, "%s is not a tenant: write 1 to 63 of a-z, 0-9 and -, not beginning with -", quote(value))
	}
}

// isName is the form of tenants and gateways: [a-z0-9][a-z0-9-]{0,62}.
func isName(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// checkIssuerURL does not quote the URL: it may hold a password, which is one of the things that are refused.
func checkIssuerURL(s string, allowHTTP bool) error {
	if s == "" {
		return errors.New("is empty: write the URL of the issuer")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("is not a web address: write https:// and a host")
	case len(s) > 2048:
		return errors.New("is longer than 2048 bytes: use a shorter one")
	case u.User != nil:
		return errors.New("has a user name or password: remove it")
	case strings.Contains(s, "#"):
		return errors.New("has a fragment: remove it")
	case u.Scheme == "http" && !allowHTTP && !isLoopback(u.Hostname()):
		return errors.New("is http and not on loopback: use https, or set allow_http where nobody can change the traffic")
	}
	return nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}

const (
	maxForeignCookies = 16
	notCookieName     = "%s is not a cookie name: use 1 to 128 letters, digits and !#$%%&'*+-.^_`|~ " +
		"(RFC 6265, section 4.1.1)"
)

func (g Gateway) validate(p *problems, name string) {
	key := join("gateways", name)
	if !isName(name) {
		p.add(key, "is not a gateway name: use 1 to 63 of a-z, 0-9 and -, not beginning with -")
	}
	p.tenant(key+".tenant", g.Tenant)
	if !isCookieName(g.CookieName) {
		p.add(key+".cookie_name", notCookieName, quote(g.CookieName))
	}
	if len(g.ForeignCookies) > maxForeignCookies {
		p.add(key+".foreign_cookies", "has %d names: name at most %d", len(g.ForeignCookies), maxForeignCookies)
	}
	for n, name := range g.ForeignCookies {
		cookie := fmt.Sprintf("%s.foreign_cookies[%d]", key, n)
		switch {
		case !isCookieName(name):
			p.add(cookie, notCookieName, quote(name))
		case slices.Contains(g.ForeignCookies[:n], name):
			p.add(cookie, "%s appears twice: remove one", quote(name))
		}
	}
}

// isCookieName reports a token in the sense of RFC 6265, section 4.1.1.
func isCookieName(s string) bool {
	const token = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
	return s != "" && len(s) <= 128 && strings.Trim(s, token) == ""
}
