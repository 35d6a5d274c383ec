package config_test

import (
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

// valid returns a small configuration that is valid.
func valid() *config.Config {
	c := config.Default()
	c.Store.URL = "memory:"
	c.Auth.Issuers = []config.Issuer{{Issuer: "https://id.example.com", Audience: "sessiond"}}
	c.Gateways = map[string]config.Gateway{"web": config.DefaultGateway()}
	return &c
}

// second adds an issuer, and the tenants that two issuers need.
func second(c *config.Config) *config.Issuer {
	c.Auth.Issuers[0].Tenant = "one"
	c.Auth.Issuers = append(c.Auth.Issuers,
		config.Issuer{Issuer: "https://two.example.com", Audience: "sessiond", Tenant: "two"})
	return &c.Auth.Issuers[1]
}

func gateway(c *config.Config, change func(*config.Gateway)) {
	g := c.Gateways["web"]
	change(&g)
	c.Gateways["web"] = g
}

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Config){
		"small":             func(*config.Config) {},
		"any interface":     func(c *config.Config) { c.Listen = ":8080" },
		"IPv6":              func(c *config.Config) { c.Listen = "[::1]:65535" },
		"two free ports":    func(c *config.Config) { c.Listen, c.OpsListen = "127.0.0.1:0", "127.0.0.1:0" },
		"TLS":               func(c *config.Config) { c.TLS = config.TLS{CertFile: "a", KeyFile: "b"} },
		"pebble":            func(c *config.Config) { c.Store.URL, c.Encryption.KeysetFile = "pebble:///var/x", "/k" },
		"memory and keyset": func(c *config.Config) { c.Encryption.KeysetFile = "/k" },
		"issuer on loopback": func(c *config.Config) {
			i := &c.Auth.Issuers[0]
			i.Issuer, i.JWKSURL = "http://127.0.0.1:9000", "http://[::1]:9000/keys?x=1"
		},
		"issuer on localhost": func(c *config.Config) { c.Auth.Issuers[0].Issuer = "http://LocalHost/x/" },
		"http where allowed": func(c *config.Config) {
			c.Auth.Issuers[0].Issuer, c.Auth.Issuers[0].AllowHTTP = "http://id.internal", true
		},
		"full issuer": func(c *config.Config) {
			*second(c) = config.Issuer{
				Issuer: "https://two.example.com", Audience: "a", RequireTyp: "at+jwt",
				TenantClaim: "https://x.example/t", Tenants: []string{"a", "b-2"},
				AllowedPermissions: []string{"sessions:any-tenant"}, LogoutAudiences: []string{"web"},
				RolesClaims: []config.ClaimPath{{"a", "b"}}, Roles: map[string][]string{"r": {"sessions:read"}},
				Subjects: map[string][]string{"s": {"sessions:admin"}},
			}
		},
		"any tenant of a claim": func(c *config.Config) { c.Auth.Issuers[0].TenantClaim = "org" },
		"no idle timeout":       func(c *config.Config) { c.Session.DefaultIdleTimeout = 0 },
		"equal bounds": func(c *config.Config) {
			c.Session.DefaultLifetime, c.Session.MaxLifetime = time.Second, time.Second
			c.Session.DefaultIdleTimeout, c.Session.MaxIdleTimeout = time.Second, time.Second
			c.Limits = config.Limits{MaxBody: 1 << 10, MaxData: 1 << 10}
			c.Auth.JWKSRefresh, c.Auth.MaxKeyAge = time.Second, time.Second
		},
		"a century": func(c *config.Config) {
			c.Session.MaxLifetime, c.Session.MaxIdleTimeout = 876_000*time.Hour, 876_000*time.Hour
		},
		"zero where allowed": func(c *config.Config) {
			c.Session.TouchInterval, c.Session.RotationOverlap, c.Metrics.Tenants = 0, 0, 0
		},
		"revoke": func(c *config.Config) { c.Session.OnTokenReuse, c.Session.OnLimit = "revoke", "revoke_oldest" },
		"cookie name": func(c *config.Config) {
			gateway(c, func(g *config.Gateway) { g.CookieName = "!#$%&'*+-.^_`|~aZ9" })
		},
		"no gateway":   func(c *config.Config) { c.Gateways = nil },
		"long gateway": func(c *config.Config) { c.Gateways[strings.Repeat("a", 63)] = config.DefaultGateway() },
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refusal is one change to a valid configuration and the only problem that it causes.
type refusal struct {
	change func(*config.Config)
	want   string // how the message begins
}

func refuses(t *testing.T, refusals []refusal) {
	t.Helper()
	for _, r := range refusals {
		c := valid()
		r.change(c)
		err := c.Validate()
		if err == nil {
			t.Errorf("no error, want %q", r.want)
			continue
		}
		if !strings.HasPrefix(err.Error(), r.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q, want only %q", err, r.want)
		}
	}
}

func TestValidateRefusesListenersAndStore(t *testing.T) {
	t.Parallel()
	var list []refusal
	for _, address := range []string{"", "8080", "a", "a:b:c", "a:", "a:http", "a:65536", "a:-1", "http://a:1", "a b:1"} {
		list = append(list, refusal{func(c *config.Config) { c.Listen = address }, "listen: "})
	}
	for address, want := range map[string]string{
		"": "is empty", "pebble": "is not an address", "memory:x": "has more than memory:",
		"memory://": "has more than memory:", "pebble:/x": "is not the address of", "pebble://x": "names a host",
		"pebble:///": "names no directory", "pebble:///..": "names no directory", "pebble:x": "is not the address of",
		"pebble://": "names no directory", "pebble:///x?y": "has a query", "pebble:///x#y": "has a query",
		"pebble:///a%00": "contains control", "pebble:///%zz": "is not the address of",
		"postgres:h/d":             "names no server",
		"postgres://":              "names no server",
		"postgres:///":             "names no server",
		"redis://a b":              "contains spaces",
		"redis+cluster://a\x00:1":  "contains spaces or control",
		"redis+tls://a":            "has an unknown scheme",
		"file:///x":                "has an unknown scheme",
		"Memory:":                  "has an unknown scheme",
		"host=localhost user=x":    "is not an address",
		"pebble://localhost/var/x": "names a host",
	} {
		list = append(list, refusal{func(c *config.Config) {
			c.Store.URL, c.Encryption.KeysetFile = address, "/k"
		}, "store.url: " + want})
	}
	refuses(t, append(list, []refusal{
		{func(c *config.Config) { c.OpsListen = "x" }, "ops_listen: "},
		{func(c *config.Config) { c.OpsListen = c.Listen }, "ops_listen: is the same as listen"},
		{func(c *config.Config) { c.TLS.CertFile = "x" }, "tls.key_file: is empty"},
		{func(c *config.Config) { c.TLS.KeyFile = "x" }, "tls.cert_file: is empty"},
		{func(c *config.Config) { c.Store.URL = "pebble:///x" }, "encryption.keyset_file: is required"},
		{func(c *config.Config) { c.Store.URL = "postgres://h/x" }, "encryption.keyset_file: is required"},
		{func(c *config.Config) { c.Store.RequireClass = "Durable" }, `store.require_class: is "Durable"`},
		{func(c *config.Config) { c.Store.RequireClass = "unverified" }, `store.require_class: is "unverified"`},
	}...))
}

func TestSharedStores(t *testing.T) {
	t.Parallel()
	for address, kind := range map[string]string{
		"postgres://u:p@a,b:5432/d?sslmode=require": "postgres", "postgresql://h/d": "postgres",
		"redis://h": "redis", "rediss://h:6379/1?prefix=x": "redis", "redis+cluster://a:1,b:2": "redis",
		"rediss+cluster://a:1": "redis", "redis+sentinel://a,b/name": "redis", "rediss+sentinel://a/name": "redis",
		"memory:": "", "pebble:///x": "",
	} {
		c := valid()
		c.Store.URL, c.Encryption.KeysetFile, c.Store.RequireClass = address, "/k", "best-effort"
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if c.Store.Postgres() != (kind == "postgres") || c.Store.Redis() != (kind == "redis") ||
			c.Store.Shared() != (kind != "") {
			t.Errorf("%s is taken for another kind of store", address)
		}
	}
}

func TestValidateRefusesIssuers(t *testing.T) {
	t.Parallel()
	issuer := func(change func(i *config.Issuer)) func(*config.Config) {
		return func(c *config.Config) { change(&c.Auth.Issuers[0]) }
	}
	const key = "auth.issuers[0]"
	var list []refusal
	for address, want := range map[string]string{
		"": "is empty", "id.example.com": "is not a web address", "https://": "is not a web address",
		"ftp://x": "is not a web address", "https://u:p@x": "has a user name", "http://id.example.com": "is http",
		"http://127.0.0.1.example.com": "is http", "https://x?y": "has a query", "https://x#": "has a fragment",
		"https://x/%zz": "is not a web address", "http://10.0.0.1": "is http",
	} {
		list = append(list, refusal{issuer(func(i *config.Issuer) { i.Issuer = address }), key + ".issuer: " + want})
	}
	refuses(t, append(list, []refusal{
		{func(c *config.Config) { c.Auth.Issuers = nil }, "auth.issuers: is empty"},
		{issuer(func(i *config.Issuer) { i.Audience = "" }), key + ".audience: is empty"},
		{issuer(func(i *config.Issuer) { i.Audience = "a\n" }), key + ".audience: "},
		{issuer(func(i *config.Issuer) { i.JWKSURL = "http://x/keys" }), key + ".jwks_url: is http"},
		{issuer(func(i *config.Issuer) { i.JWKSURL = "https://x/" + strings.Repeat("k", 2048) }),
			key + ".jwks_url: is longer than 2048 bytes"},
		{issuer(func(i *config.Issuer) { i.RequireTyp = "JWT" }), key + ".require_typ: "},
		{issuer(func(i *config.Issuer) { i.Tenant = "A" }), key + ".tenant: "},
		{issuer(func(i *config.Issuer) { i.Tenant, i.TenantClaim = "a", "b" }),
			key + ".tenant: and auth.issuers[0].tenant_claim are both set"},
		{issuer(func(i *config.Issuer) { i.TenantClaim = "a..b" }), key + ".tenant_claim: "},
		{issuer(func(i *config.Issuer) { i.Tenants = []string{"a"} }), key + ".tenants: has no effect"},
		{issuer(func(i *config.Issuer) { i.TenantClaim, i.Tenants = "b", []string{} }),
			key + ".tenants: is an empty list"},
		{issuer(func(i *config.Issuer) { i.TenantClaim, i.Tenants = "b", []string{"a", "-"} }),
			key + ".tenants[1]: "},
		{issuer(func(i *config.Issuer) { i.AllowedPermissions = []string{} }), key + ".allowed_permissions: is an empty"},
		{issuer(func(i *config.Issuer) { i.AllowedPermissions = []string{"sessions:raed"} }),
			key + `.allowed_permissions[0]: "sessions:raed" is not a permission; did you mean "sessions:read"?`},
		{issuer(func(i *config.Issuer) { i.AllowedPermissions = []string{"*"} }), key + ".allowed_permissions[0]: "},
		{issuer(func(i *config.Issuer) { i.LogoutAudiences = []string{"a", "a"} }),
			key + `.logout_audiences[1]: "a" appears twice`},
		{issuer(func(i *config.Issuer) { i.LogoutAudiences = []string{"a", ""} }), key + ".logout_audiences[1]: is empty"},
		{issuer(func(i *config.Issuer) { i.RolesClaims = []config.ClaimPath{{"a", ""}} }), key + ".roles_claims[0]: "},
		{issuer(func(i *config.Issuer) { i.Roles = map[string][]string{"r": nil} }), key + ".roles: is set but"},
		{issuer(func(i *config.Issuer) { i.Subjects = map[string][]string{"a:b": {"read"}} }),
			key + `.subjects["a:b"][0]: "read" is not a permission`},
		{issuer(func(i *config.Issuer) { i.Subjects = map[string][]string{"": nil} }), key + ".subjects: is empty"},
		{func(c *config.Config) { second(c).Tenant = "" }, "auth.issuers[1].tenant: is required with several"},
		{func(c *config.Config) { second(c).Issuer = "https://id.example.com" },
			"auth.issuers[1].issuer: is the same as auth.issuers[0].issuer"},
		{func(c *config.Config) { c.Auth.JWKSRefresh = 0 }, "auth.jwks_refresh: is 0s: write a duration from 1s to 24h"},
		{func(c *config.Config) { c.Auth.MaxKeyAge = 721 * time.Hour }, "auth.max_key_age: is 721h"},
		{func(c *config.Config) { c.Auth.MaxKeyAge = time.Minute }, "auth.max_key_age: is 1m, less than auth.jwks_refresh"},
	}...))
}

func TestValidateRefusesGateways(t *testing.T) {
	t.Parallel()
	var list []refusal
	for _, name := range []string{"", "A", "a b", "-a", "a/b", strings.Repeat("a", 64)} {
		list = append(list, refusal{
			func(c *config.Config) { c.Gateways[name] = config.DefaultGateway() }, "gateways"})
	}
	for _, cookie := range []string{"", "a b", "a=b", "a;", "ä", "a\x00", `"a"`, strings.Repeat("a", 129)} {
		list = append(list, refusal{func(c *config.Config) {
			gateway(c, func(g *config.Gateway) { g.CookieName = cookie })
		}, "gateways.web.cookie_name: "})
	}
	refuses(t, append(list, []refusal{
		{func(c *config.Config) { gateway(c, func(g *config.Gateway) { g.Tenant = "" }) }, "gateways.web.tenant: "},
		{func(c *config.Config) {
			gateway(c, func(g *config.Gateway) { g.ForeignCookies = []string{"x", "a b"} })
		},
			`gateways.web.foreign_cookies[1]: "a b" is not a cookie name`},
		{func(c *config.Config) { gateway(c, func(g *config.Gateway) { g.ForeignCookies = []string{"x", "x"} }) },
			`gateways.web.foreign_cookies[1]: "x" appears twice`},
		{func(c *config.Config) {
			gateway(c, func(g *config.Gateway) { g.ForeignCookies = strings.Split("abcdefghijklmnopq", "") })
		}, "gateways.web.foreign_cookies: has 17 names: name at most 16"},
	}...))
}

func TestValidateRefusesTheRest(t *testing.T) {
	t.Parallel()
	session := func(change func(s *config.Session)) func(*config.Config) {
		return func(c *config.Config) { change(&c.Session) }
	}
	refuses(t, []refusal{
		{session(func(s *config.Session) { s.MaxLifetime = 876_001 * time.Hour }),
			"session.max_lifetime: is 876001h: write a duration from 1s to 876000h"},
		{session(func(s *config.Session) { s.MaxLifetime = 0 }), "session.max_lifetime: "},
		{session(func(s *config.Session) { s.MaxLifetime += time.Millisecond }), "session.max_lifetime: "},
		{session(func(s *config.Session) { s.DefaultLifetime = 721 * time.Hour }),
			"session.default_lifetime: is 721h: write a duration from 1s to session.max_lifetime (720h)"},
		{session(func(s *config.Session) { s.DefaultLifetime = -time.Hour }), "session.default_lifetime: "},
		{session(func(s *config.Session) { s.DefaultLifetime = 1500 * time.Millisecond }),
			"session.default_lifetime: is 1.5s: write whole seconds"},
		{session(func(s *config.Session) { s.DefaultIdleTimeout = -time.Second }), "session.default_idle_timeout: "},
		{session(func(s *config.Session) { s.MaxIdleTimeout = time.Minute }),
			"session.default_idle_timeout: is 30m: write a duration from 1s to session.max_idle_timeout (1m)"},
		{session(func(s *config.Session) { s.MaxIdleTimeout, s.DefaultIdleTimeout = time.Minute, 0 }),
			"session.default_idle_timeout: is 0s although"},
		{session(func(s *config.Session) { s.MaxIdleTimeout = -time.Second }), "session.max_idle_timeout: "},
		{session(func(s *config.Session) { s.Retention = 999 * time.Millisecond }), "session.retention: "},
		{session(func(s *config.Session) { s.SweepInterval = 99 * time.Millisecond }), "session.sweep_interval: "},
		{session(func(s *config.Session) { s.SweepInterval = 2 * time.Hour }), "session.sweep_interval: "},
		{session(func(s *config.Session) { s.TouchInterval = -1 }), "session.touch_interval: "},
		{session(func(s *config.Session) { s.RotationOverlap = 61 * time.Minute }), "session.rotation_overlap: is 1h1m"},
		{session(func(s *config.Session) { s.OnTokenReuse = "" }), "session.on_token_reuse: "},
		{session(func(s *config.Session) { s.OnLimit = "revoke" }),
			`session.on_limit: is "revoke": write reject or revoke_oldest`},
		{session(func(s *config.Session) { s.MaxPerSubject = -1 }), "session.max_per_subject: "},
		{func(c *config.Config) { c.Events.Retention = 0 }, "events.retention: "},
		{func(c *config.Config) { c.Events.Max = 0 }, "events.max: is 0: write a number from 1 to 100000000"},
		{func(c *config.Config) { c.Events.Heartbeat = time.Hour }, "events.heartbeat: "},
		{func(c *config.Config) { c.Limits.MaxBody = 2 << 20 }, "limits.max_body: is 2MiB: write a size from 1KiB to 1MiB"},
		{func(c *config.Config) { c.Limits.MaxData = 1023 }, "limits.max_data: is 1023: "},
		{func(c *config.Config) { c.Limits.MaxData = 64<<10 + 1 }, "limits.max_data: is 65537, more than limits.max_body"},
		{func(c *config.Config) { c.Log.Level = "INFO" }, `log.level: is "INFO": write debug or info`},
		{func(c *config.Config) { c.Log.Format = "text" }, `log.format: is "text": write json`},
		{func(c *config.Config) { c.Metrics.Tenants = 10_001 }, "metrics.tenants: "},
		{func(c *config.Config) { c.Tracing.OTLPEndpoint = "http://x:y@z" },
			"tracing.otlp_endpoint: has a user name or password"},
		{func(c *config.Config) { c.Tracing.OTLPEndpoint = "localhost:4318" }, "tracing.otlp_endpoint: is not a web address"},
		{func(c *config.Config) { c.Tracing.OTLPEndpoint = "https:///v1/traces" },
			"tracing.otlp_endpoint: is not a web address"},
		{func(c *config.Config) { c.Tracing.OTLPEndpoint = "grpc://c:4317" }, "tracing.otlp_endpoint: is not a web address"},
		{func(c *config.Config) { c.Tracing.OTLPEndpoint = "http://c:4318/?token=x" },
			"tracing.otlp_endpoint: has a query or a fragment"},
	})
}

func TestValidateReportsAllProblems(t *testing.T) {
	t.Parallel()
	c := config.Config{Gateways: map[string]config.Gateway{"b": {}, "a": {}}}
	err := c.Validate()
	wantError(t, err, "listen: ", "ops_listen: ", "store.url: ", "encryption.keyset_file: ", "auth.issuers: ",
		"auth.jwks_refresh: ", "gateways.a.tenant: ", "gateways.b.cookie_name: ", "session.max_lifetime: ",
		"session.retention: ", "events.max: ", "limits.max_body: ", "limits.max_data: ", "log.level: ", "log.format: ")
	for range 5 {
		if again := c.Validate(); again.Error() != err.Error() {
			t.Fatal("the order of the problems changes")
		}
	}
	d := config.Default()
	if n := strings.Count(d.Validate().Error(), "\n") + 1; n != 2 {
		t.Errorf("the defaults have %d problems, want 2: issuer and keyset file", n)
	}
}

func TestPebbleDir(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"pebble:///var/lib/sessiond": "/var/lib/sessiond", "pebble:///a/../b/": "/b", "pebble:///a%20b%3F": "/a b?",
		"pebble:///a b": "/a b", "memory:": "", "pebble://a/b": "", "": "",
	} {
		got, ok := config.Store{URL: address}.PebbleDir()
		if got != want || ok != (want != "") {
			t.Errorf("%q: got %q %v, want %q", address, got, ok, want)
		}
	}
}
