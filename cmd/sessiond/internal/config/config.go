// Package config is the configuration of "sessiond serve": what can be set, where it may be set, and which settings
// are refused.
//
// The [Config] type is the manual. The comment of every field is also the comment of that key in the sample file,
// which [Reference] returns. A program calls [Load], which lays the command line over the environment over the file
// over [Default], then [Config.Validate], and may show the result with [Config.Print].
//
// Loading is strict: unknown and repeated keys, wrong types and values without a unit are errors, all reported at
// once with the key and, in a file, the line. Nothing here opens the files and addresses that a configuration names,
// and no message contains the value of store.url.
package config

import "time"

// Config is everything that can be set. Durations are written as Go durations ("90s", "12h"), sizes as a number of
// bytes or with KiB, MiB or GiB ("64KiB"). Every key can also be given as an environment variable: store.url is
// SESSIOND_STORE_URL, lists and maps are JSON, and SESSIOND_STORE_URL_FILE names a file that holds the value.
type Config struct {
	// Address of the API, host:port. An empty host is every interface, port 0 a free port. Default 127.0.0.1:8080.
	Listen string `yaml:"listen"`

	// Address for operators: /healthz, /readyz, /metrics, /guarantee, /openapi.json and /docs, without credentials. Must
	// differ from listen. Default 127.0.0.1:9090.
	OpsListen string `yaml:"ops_listen"`

	// Serve profiles of the running program under /debug/pprof/ on ops_listen. They show how the program works and
	// cost it time: for the search for a cause. Default false.
	OpsPprof bool `yaml:"ops_pprof"`

	// TLS on the API address. Without it the API speaks cleartext HTTP/1.1 and HTTP/2 and belongs behind a proxy.
	TLS TLS `yaml:"tls"`

	// Where sessions are kept.
	Store Store `yaml:"store"`

	// Who may call the API.
	Auth Auth `yaml:"auth"`

	// Proxies that ask /auth/<name> about each request (forward authentication). The name is 1-63 of a-z, 0-9 and
	// "-", not beginning with "-". /auth/<name> exists only for the names listed here. Default {}.
	Gateways map[string]Gateway `yaml:"gateways"`

	// How long sessions live, and what ends them.
	Session Session `yaml:"session"`

	// The feed of changes at GET /events.
	Events Events `yaml:"events"`

	// Encryption of session data at rest.
	Encryption Encryption `yaml:"encryption"`

	// Bounds on what a caller may send.
	Limits Limits `yaml:"limits"`

	// Logging, one line per operation on standard error.
	Log Log `yaml:"log"`

	// What /metrics exports.
	Metrics Metrics `yaml:"metrics"`

	// Distributed tracing.
	Tracing Tracing `yaml:"tracing"`
}

// TLS is the certificate of the API address. Both files or neither.
type TLS struct {
	// PEM file with the certificate and its chain. Default "".
	CertFile string `yaml:"cert_file"`

	// PEM file with the private key of the certificate. Default "".
	KeyFile string `yaml:"key_file"`
}

// Store says where sessions are kept.
type Store struct {
	// "memory:" keeps sessions in the process and forgets them with it; "pebble:///dir" is the embedded durable store
	// in the absolute directory /dir, for one process at a time. Several servers share a PostgreSQL database
	// ("postgres://user@host/db") or a Redis or Valkey server ("redis://host:6379/0"), cluster
	// ("redis+cluster://a:6379,b:6379") or set of sentinels ("redis+sentinel://a:26379,b:26379/name"); rediss is redis
	// over TLS. Default pebble:///var/lib/sessiond.
	URL string `yaml:"url"`

	// The weakest durability to start with: ephemeral, best-effort, durable or replicated. The server asks the store
	// for the settings that it depends on, and does not start when they give less. "" takes what there is. Default "".
	RequireClass string `yaml:"require_class"`
}

// Auth says whose bearer tokens are accepted.
type Auth struct {
	// The OpenID Connect issuers whose JWTs are accepted, each with an audience of ours. Required: at least one.
	// Default [].
	Issuers []Issuer `yaml:"issuers"`

	// How often the keys of an issuer are fetched again; a key that the issuer removed stops working within this
	// time. 1s to 24h. Default 5m.
	JWKSRefresh time.Duration `yaml:"jwks_refresh"`

	// How long known keys go on working while their issuer cannot be reached. From jwks_refresh to 720h.
	// Default 24h.
	MaxKeyAge time.Duration `yaml:"max_key_age"`
}

// Issuer is an OpenID Connect issuer and what its tokens may do here.
type Issuer struct {
	// The issuer's URL, exactly as in the "iss" claim. https, without query and fragment; http only on loopback or
	// with allow_http. Required. Default "".
	Issuer string `yaml:"issuer"`

	// What the "aud" claim has to be or to contain, exactly. Required. Default "".
	Audience string `yaml:"audience"`

	// Where the issuer's keys are; empty: asked of the issuer by discovery. Same schemes as issuer. Default "".
	JWKSURL string `yaml:"jwks_url,omitempty"`

	// PEM file with the certificate authorities to trust for this issuer, instead of the system's. Default "".
	CAFile string `yaml:"ca_file,omitempty"`

	// Accept http URLs that are not on loopback. Whoever can change that traffic can then make tokens.
	// Default false.
	AllowHTTP bool `yaml:"allow_http,omitempty"`

	// "at+jwt" accepts only tokens of that type (RFC 9068); empty also accepts "JWT" and none. Default "".
	RequireTyp string `yaml:"require_typ,omitempty"`

	// The tenant of every token of this issuer. With a single issuer and neither tenant nor tenant_claim it is
	// "default"; with several issuers each needs one of the two. Default "".
	Tenant string `yaml:"tenant,omitempty"`

	// The claim that names the tenant instead, as a dotted path; a URL is one name. Default "".
	TenantClaim string `yaml:"tenant_claim,omitempty"`

	// The tenants that tenant_claim may name. Without the key, any. Default [].
	Tenants []string `yaml:"tenants,omitempty"`

	// The most that a token of this issuer can be permitted, wherever it takes its permissions from. Without the
	// key, everything: sessions:create, sessions:read, sessions:inspect, sessions:update, sessions:delete,
	// sessions:verify, sessions:admin and sessions:any-tenant. Default [].
	AllowedPermissions []string `yaml:"allowed_permissions,omitempty"`

	// Audiences accepted in this issuer's logout tokens (OpenID Connect Back-Channel Logout): the client ids of the
	// applications. Without any, its logout tokens are refused. Default [].
	LogoutAudiences []string `yaml:"logout_audiences,omitempty"`

	// Claims that hold role names. Each is a path through nested objects, either dotted ("realm_access.roles"; a URL
	// is one name) or a list of names. Default [].
	RolesClaims []ClaimPath `yaml:"roles_claims,omitempty"`

	// The permissions of each role found there. Default {}.
	Roles map[string][]string `yaml:"roles,omitempty"`

	// The permissions of single subjects ("sub" claim), for credentials without scopes. Default {}.
	Subjects map[string][]string `yaml:"subjects,omitempty"`
}

// Gateway is a proxy that asks for forward authentication.
type Gateway struct {
	// The tenant whose sessions are accepted. Default "default".
	Tenant string `yaml:"tenant"`

	// The cookie that carries the session token. Default __Host-session.
	CookieName string `yaml:"cookie_name"`

	// Whether a request through the gateway counts as activity of the session. Default true.
	Touch bool `yaml:"touch"`

	// Cookies of other systems, at most 16, that carry the tokens of sessions that were imported with
	// "sessiond import --format foreign". A session token of sessiond, if there is one, comes first. cookie_name may be
	// one of them. Default [].
	ForeignCookies []string `yaml:"foreign_cookies,omitempty"`
}

// Session holds the lifetimes of sessions. The API speaks whole seconds, so the first four must be whole seconds.
type Session struct {
	// Absolute lifetime of a session whose creator names none. 1s to max_lifetime. Default 12h.
	DefaultLifetime time.Duration `yaml:"default_lifetime"`

	// The longest absolute lifetime, counted from creation. 1s to 876000h (100 years). Default 720h.
	MaxLifetime time.Duration `yaml:"max_lifetime"`

	// Idle timeout of a session whose creator names none; 0s: none, only where max_idle_timeout is 0s too. 0s to
	// max_idle_timeout, or to 876000h where that is 0s. Default 30m.
	DefaultIdleTimeout time.Duration `yaml:"default_idle_timeout"`

	// The longest idle timeout; 0s: unbounded, and a session may do without. 0s to 876000h. Default 0s.
	MaxIdleTimeout time.Duration `yaml:"max_idle_timeout"`

	// How long the record of an ended session is kept, without its data. 1s to 876000h. Default 24h.
	Retention time.Duration `yaml:"retention"`

	// How often the sweeper looks for sessions whose deadline has passed. 100ms to 1h. Default 1s.
	SweepInterval time.Duration `yaml:"sweep_interval"`

	// The smallest gap between two recorded activities of a session (a twentieth of its idle timeout if that is
	// shorter). At least 0s, which records each. Default 1m.
	TouchInterval time.Duration `yaml:"touch_interval"`

	// How long the previous token is still accepted after a rotation. 0s to 1h. Default 0s.
	RotationOverlap time.Duration `yaml:"rotation_overlap"`

	// What a previous token does that comes after the overlap: "ignore" refuses it, "revoke" also ends the session.
	// Default ignore.
	OnTokenReuse string `yaml:"on_token_reuse"`

	// How many active sessions a subject may have; 0: no limit. Default 0.
	MaxPerSubject int `yaml:"max_per_subject"`

	// What happens to a session too many: "reject" refuses it, "revoke_oldest" ends the oldest instead.
	// Default reject.
	OnLimit string `yaml:"on_limit"`
}

// Events is the feed of changes.
type Events struct {
	// How long events are kept for readers that come back. 1s to 720h. Default 1h.
	Retention time.Duration `yaml:"retention"`

	// How many events are kept at most. 1 to 100000000. Default 1000000.
	Max int `yaml:"max"`

	// How often a stream without events sends a heartbeat. 100ms to 10m. Default 15s.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

// Encryption is the encryption of session data at rest.
type Encryption struct {
	// File with the data encryption keys, as "sessiond keyset create" makes it. Required, except with a memory:
	// store. Default "".
	KeysetFile string `yaml:"keyset_file"`
}

// Limits bounds what a caller may send.
type Limits struct {
	// The largest request body. 1KiB to 1MiB. Default 64KiB.
	MaxBody Size `yaml:"max_body"`

	// The largest data of a session, as stored. 1KiB to max_body. Default 32KiB.
	MaxData Size `yaml:"max_data"`
}

// Log is logging.
type Log struct {
	// The least important lines that are written: debug, info, warn or error. Default info.
	Level string `yaml:"level"`

	// One JSON object per line; there is no other format. Default json.
	Format string `yaml:"format"`
}

// Metrics is what /metrics exports.
type Metrics struct {
	// How many tenants get a label value of their own; the others share "_other". 0 to 10000. Default 100.
	Tenants int `yaml:"tenants"`
}

// Tracing is distributed tracing.
type Tracing struct {
	// Base URL of an OpenTelemetry collector that takes OTLP over HTTP, as in http://localhost:4318; /v1/traces is
	// appended. Empty: no traces. Headers, sampling and so on are set by OpenTelemetry's own variables, such as
	// OTEL_EXPORTER_OTLP_HEADERS and OTEL_TRACES_SAMPLER. Default "".
	OTLPEndpoint string `yaml:"otlp_endpoint"`
}

// Default returns the configuration in which nothing was set. It is not valid by itself: it lacks an issuer and a
// keyset file.
func Default() Config {
	return Config{
		Listen:    "127.0.0.1:8080",
		OpsListen: "127.0.0.1:9090",
		Store:     Store{URL: "pebble:///var/lib/sessiond"},
		Auth:      Auth{JWKSRefresh: 5 * time.Minute, MaxKeyAge: 24 * time.Hour},
		Session: Session{
			DefaultLifetime:    12 * time.Hour,
			MaxLifetime:        720 * time.Hour,
			DefaultIdleTimeout: 30 * time.Minute,
			Retention:          24 * time.Hour,
			SweepInterval:      time.Second,
			TouchInterval:      time.Minute,
			OnTokenReuse:       "ignore",
			OnLimit:            "reject",
		},
		Events:  Events{Retention: time.Hour, Max: 1_000_000, Heartbeat: 15 * time.Second},
		Limits:  Limits{MaxBody: 64 << 10, MaxData: 32 << 10},
		Log:     Log{Level: "info", Format: "json"},
		Metrics: Metrics{Tenants: 100},
	}
}

// DefaultGateway returns a gateway of which only the name was given.
func DefaultGateway() Gateway {
	return Gateway{Tenant: "default", CookieName: "__Host-session", Touch: true}
}
