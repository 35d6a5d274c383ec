package config

// What is refused although it could be read: values out of bounds and settings that contradict each other.

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// century is the longest time that sessions are kept: 100 years of 365 days.
const century = 100 * 365 * 24 * time.Hour

// Validate checks everything that can be checked without opening a file or a connection. The error joins all problems,
// each beginning with its key and saying what to do. It contains neither store.url nor other text that may be secret.
func (c *Config) Validate() error {
	var p problems
	c.validateListeners(&p)
	if err := c.Store.check(); err != nil {
		p.add("store.url", "%w", err)
	}
	if c.Store.RequireClass != "" {
		p.oneOf("store.require_class", c.Store.RequireClass, "ephemeral", "best-effort", "durable", "replicated")
	}
	if c.Encryption.KeysetFile == "" && !c.Store.Memory() {
		p.add("encryption.keyset_file", `is required unless store.url is memory:; `+
			`make one with "sessiond keyset create FILE"`)
	}
	c.Auth.validate(&p)
	for _, name := range slices.Sorted(maps.Keys(c.Gateways)) {
		c.Gateways[name].validate(&p, name)
	}
	c.Session.validate(&p)
	c.Events.validate(&p)
	c.validateLimits(&p)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json")
	p.number("metrics.tenants", c.Metrics.Tenants, 0, 10_000)
	if err := c.Tracing.check(); err != nil {
		p.add("tracing.otlp_endpoint", "%w", err)
	}
	return errors.Join(p...)
}

// problems collects what is wrong.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %w", key, fmt.Errorf(format, args...)))
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(key, "is %s: write %s", quote(value), strings.Join(allowed, " or "))
	}
}

func (p *problems) number(key string, value, least, most int) {
	if value < least || value > most {
		p.add(key, "is %d: write a number from %d to %d", value, least, most)
	}
}

// between checks bounds and reports whether they hold. most is named by mostKey if that is not empty.
func (p *problems) between(key string, value, least, most time.Duration, mostKey string) bool {
	if value >= least && value <= most {
		return true
	}
	upper := formatDuration(most)
	if mostKey != "" {
		upper = mostKey + " (" + upper + ")"
	}
	p.add(key, "is %s: write a duration from %s to %s", formatDuration(value), formatDuration(least), upper)
	return false
}

// inSeconds is between for what callers of the API see in seconds.
func (p *problems) inSeconds(key string, value, least, most time.Duration, mostKey string) bool {
	if value%time.Second != 0 {
		p.add(key, "is %s: write whole seconds", formatDuration(value))
		return false
	}
	return p.between(key, value, least, most, mostKey)
}

func (c *Config) validateListeners(p *problems) {
	p.address("listen", c.Listen)
	p.address("ops_listen", c.OpsListen)
	if c.Listen == c.OpsListen && !strings.HasSuffix(c.Listen, ":0") {
		p.add("ops_listen", "is the same as listen: use another port")
	}
	if c.TLS.CertFile != "" && c.TLS.KeyFile == "" {
		p.add("tls.key_file", "is empty but tls.cert_file is not: set both or neither")
	}
	if c.TLS.CertFile == "" && c.TLS.KeyFile != "" {
		p.add("tls.cert_file", "is empty but tls.key_file is not: set both or neither")
	}
}

func (p *problems) address(key, value string) {
	host, port, err := net.SplitHostPort(value)
	if err != nil || strings.ContainsAny(host, "/ \t") || strings.ContainsFunc(host, isControl) {
		p.add(key, "%s is not an address: write host:port, as in 127.0.0.1:8080 or [::1]:8080", quote(value))
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		p.add(key, "%s has no valid port: write a number from 0 to 65535 after the colon", quote(value))
	}
}

func (s Session) validate(p *problems) {
	if p.inSeconds("session.max_lifetime", s.MaxLifetime, time.Second, century, "") {
		p.inSeconds("session.default_lifetime", s.DefaultLifetime, time.Second, s.MaxLifetime, "session.max_lifetime")
	}
	if p.inSeconds("session.max_idle_timeout", s.MaxIdleTimeout, 0, century, "") {
		switch {
		case s.MaxIdleTimeout == 0:
			p.inSeconds("session.default_idle_timeout", s.DefaultIdleTimeout, 0, century, "")
		case s.DefaultIdleTimeout == 0:
			p.add("session.default_idle_timeout", "is 0s although session.max_idle_timeout bounds idle timeouts: "+
				"write at least 1s or set session.max_idle_timeout to 0s")
		default:
			p.inSeconds("session.default_idle_timeout", s.DefaultIdleTimeout, time.Second, s.MaxIdleTimeout,
				"session.max_idle_timeout")
		}
	}
	p.between("session.retention", s.Retention, time.Second, century, "")
	p.between("session.sweep_interval", s.SweepInterval, 100*time.Millisecond, time.Hour, "")
	if s.TouchInterval < 0 {
		p.add("session.touch_interval", "is %s: write 0s or more", formatDuration(s.TouchInterval))
	}
	p.between("session.rotation_overlap", s.RotationOverlap, 0, time.Hour, "")
	p.oneOf("session.on_token_reuse", s.OnTokenReuse, "ignore", "revoke")
	if s.MaxPerSubject < 0 {
		p.add("session.max_per_subject", "is %d: write 0 (no limit) or more", s.MaxPerSubject)
	}
	p.oneOf("session.on_limit", s.OnLimit, "reject", "revoke_oldest")
}

func (e Events) validate(p *problems) {
	p.between("events.retention", e.Retention, time.Second, 720*time.Hour, "")
	p.number("events.max", e.Max, 1, 100_000_000)
	p.between("events.heartbeat", e.Heartbeat, 100*time.Millisecond, 10*time.Minute, "")
}

// check does not quote the URL: it may hold a password, which is one of the things that are refused.
func (t Tracing) check() error {
	if t.OTLPEndpoint == "" {
		return nil
	}
	const remedy = "write the collector's base URL, as in http://localhost:4318"
	u, err := url.Parse(t.OTLPEndpoint)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("is not a web address: " + remedy)
	case u.User != nil:
		return errors.New("has a user name or password: remove it and set OTEL_EXPORTER_OTLP_HEADERS instead")
	case strings.ContainsAny(t.OTLPEndpoint, "?#"):
		return errors.New("has a query or a fragment: " + remedy)
	}
	return nil
}

func (c *Config) validateLimits(p *problems) {
	const least, most = 1 << 10, 1 << 20
	inBounds := true
	for _, limit := range []struct {
		key   string
		value Size
	}{{"limits.max_body", c.Limits.MaxBody}, {"limits.max_data", c.Limits.MaxData}} {
		if limit.value < least || limit.value > most {
			p.add(limit.key, "is %s: write a size from %s to %s", limit.value, Size(least), Size(most))
			inBounds = false
		}
	}
	if inBounds && c.Limits.MaxData > c.Limits.MaxBody {
		p.add("limits.max_data", "is %s, more than limits.max_body (%s): data must fit into a request body",
			c.Limits.MaxData, c.Limits.MaxBody)
	}
}
