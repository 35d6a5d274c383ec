package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

// write makes a file in a directory of the test and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads what has to load without warnings.
func load(t *testing.T, params config.LoadParams) *config.Config {
	t.Helper()
	c, warnings, err := config.Load(params)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Fatalf("warnings: %v", warnings)
	}
	return c
}

// wantError checks that an error mentions each of the parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not contain %q", err, part)
		}
	}
}

func TestLoadNothingIsDefault(t *testing.T) {
	t.Parallel()
	want := config.Default()
	if diff := cmp.Diff(&want, load(t, config.LoadParams{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "~", "tls:\ngateways:\n"} {
		got, err := config.ParseYAML([]byte(empty))
		if err != nil {
			t.Errorf("%q: %v", empty, err)
			continue
		}
		if len(got.Gateways) != 0 {
			t.Errorf("%q: gateways %v", empty, got.Gateways)
		}
		got.Gateways = nil
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", empty, diff)
		}
	}
}

func TestLoadPrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "c.yaml", "listen: a:1\nops_listen: b:1\nlog: {level: debug}\nmetrics: {tenants: 1}\n")
	got := load(t, config.LoadParams{
		File:    file,
		Environ: []string{"SESSIOND_OPS_LISTEN=b:2", "SESSIOND_LOG_LEVEL=warn", "HOME=/", "SESSIOND_LOG_LEVEL=late"},
		Flags:   map[string]string{"log.level": "error"},
	})
	want := config.Default()
	want.Listen, want.OpsListen, want.Log.Level, want.Metrics.Tenants = "a:1", "b:2", "error", 1
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// texts has a value for every key that differs from the default.
var texts = map[string]string{
	"listen": "h:1", "ops_listen": "h:2", "ops_pprof": "true", "tls.cert_file": "/c", "tls.key_file": "/k", "store.url": "memory:",
	"store.require_class": "ephemeral",
	"auth.issuers":        `[{"issuer":"https://a","audience":"b","roles_claims":["x.y",["p.q"]],"roles":{"r.s":["t"]}}]`,
	"auth.jwks_refresh":   "1m", "auth.max_key_age": "1h", "gateways": `{"app":{"touch":false}}`,
	"session.default_lifetime": "1h", "session.max_lifetime": "2h", "session.default_idle_timeout": "1m",
	"session.max_idle_timeout": "3m", "session.retention": "4m", "session.sweep_interval": "5s",
	"session.touch_interval": "6s", "session.rotation_overlap": "7s", "session.on_token_reuse": "revoke",
	"session.max_per_subject": "8", "session.on_limit": "revoke_oldest", "events.retention": "9m",
	"events.max": "10", "events.heartbeat": "11s", "encryption.keyset_file": "/ks", "limits.max_body": "2KiB",
	"limits.max_data": "1024", "log.level": "warn", "log.format": "text", "metrics.tenants": "12",
	"tracing.otlp_endpoint": "http://t",
}

// allTexts is the configuration that texts describes.
func allTexts() *config.Config {
	c := &config.Config{Listen: "h:1", OpsListen: "h:2", OpsPprof: true}
	c.TLS = config.TLS{CertFile: "/c", KeyFile: "/k"}
	c.Store = config.Store{URL: "memory:", RequireClass: "ephemeral"}
	c.Auth = config.Auth{JWKSRefresh: time.Minute, MaxKeyAge: time.Hour, Issuers: []config.Issuer{{
		Issuer: "https://a", Audience: "b",
		RolesClaims: []config.ClaimPath{{"x", "y"}, {"p.q"}},
		Roles:       map[string][]string{"r.s": {"t"}},
	}}}
	c.Gateways = map[string]config.Gateway{"app": {Tenant: "default", CookieName: "__Host-session"}}
	c.Session = config.Session{
		DefaultLifetime: time.Hour, MaxLifetime: 2 * time.Hour, DefaultIdleTimeout: time.Minute,
		MaxIdleTimeout: 3 * time.Minute, Retention: 4 * time.Minute, SweepInterval: 5 * time.Second,
		TouchInterval: 6 * time.Second, RotationOverlap: 7 * time.Second, OnTokenReuse: "revoke",
		MaxPerSubject: 8, OnLimit: "revoke_oldest",
	}
	c.Events = config.Events{Retention: 9 * time.Minute, Max: 10, Heartbeat: 11 * time.Second}
	c.Encryption.KeysetFile = "/ks"
	c.Limits = config.Limits{MaxBody: 2048, MaxData: 1024}
	c.Log = config.Log{Level: "warn", Format: "text"}
	c.Metrics.Tenants = 12
	c.Tracing.OTLPEndpoint = "http://t"
	return c
}

func TestLoadEveryKeyFromEverySource(t *testing.T) {
	t.Parallel()
	var direct, files []string
	dir := t.TempDir()
	for _, key := range config.Keys() {
		text, ok := texts[key]
		if !ok {
			t.Errorf("no value for %s in this test", key)
		}
		direct = append(direct, config.EnvName(key)+"="+text)
		path := filepath.Join(dir, key)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, config.EnvName(key)+"_FILE="+path)
	}
	for name, params := range map[string]config.LoadParams{
		"variables": {Environ: direct}, "files": {Environ: files}, "flags": {Flags: texts},
	} {
		if diff := cmp.Diff(allTexts(), load(t, params)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestEnvNamesAreDistinct(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, key := range config.Keys() {
		for _, name := range []string{config.EnvName(key), config.EnvName(key) + "_FILE"} {
			if other, ok := seen[name]; ok {
				t.Errorf("%s belongs to %s and %s", name, key, other)
			}
			seen[name] = key
		}
	}
	for _, client := range []string{"SESSIOND_SERVER", "SESSIOND_TOKEN", "SESSIOND_CONFIG"} {
		if key, ok := seen[client]; ok {
			t.Errorf("%s of the client commands is also %s", client, key)
		}
	}
}

func TestLoadVariablesEndingInFile(t *testing.T) {
	t.Parallel()
	path := write(t, "cert-path", "/from/file.pem\r\n")
	got := load(t, config.LoadParams{Environ: []string{
		"SESSIOND_TLS_CERT_FILE_FILE=" + path, "SESSIOND_TLS_KEY_FILE=/direct.pem",
	}})
	if want := (config.TLS{CertFile: "/from/file.pem", KeyFile: "/direct.pem"}); got.TLS != want {
		t.Errorf("got %+v, want %+v", got.TLS, want)
	}

	_, _, err := config.Load(config.LoadParams{Environ: []string{
		"SESSIOND_STORE_URL=memory:", "SESSIOND_STORE_URL_FILE=" + path,
	}})
	wantError(t, err, "SESSIOND_STORE_URL and SESSIOND_STORE_URL_FILE are both set")

	_, _, err = config.Load(config.LoadParams{Environ: []string{"SESSIOND_STORE_URL_FILE=" + path + ".absent"}})
	wantError(t, err, "SESSIOND_STORE_URL_FILE: ", ".absent")

	large := write(t, "large", strings.Repeat("x", 1<<20+1))
	_, _, err = config.Load(config.LoadParams{Environ: []string{"SESSIOND_STORE_URL_FILE=" + large}})
	wantError(t, err, "SESSIOND_STORE_URL_FILE: ", "larger than 1 MiB")
}

func TestLoadWarnings(t *testing.T) {
	t.Parallel()
	_, warnings, err := config.Load(config.LoadParams{Environ: []string{
		"SESSIOND_SERVER=http://s", "SESSIOND_TOKEN=t", "SESSIOND_CONFIG=c", "SESSIOND_PORT=tcp://10.0.0.1:80",
		"SESSIOND_LOG_LEVLE=secret", "SESSIONDX=1", "OTHER=1", "malformed",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Warning{
		{Name: "SESSIOND_LOG_LEVLE", Text: `unknown variable, ignored; did you mean "SESSIOND_LOG_LEVEL"?`},
		{Name: "SESSIOND_PORT", Text: "unknown variable, ignored"},
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := want[1].String(); got != "SESSIOND_PORT: unknown variable, ignored" {
		t.Errorf("String: %q", got)
	}
}

func TestLoadReportsAllErrorsOfAllSources(t *testing.T) {
	t.Parallel()
	file := write(t, "c.yaml", "listn: x\nsession:\n  retention: 5\n")
	c, warnings, err := config.Load(config.LoadParams{
		File:    file,
		Environ: []string{"SESSIOND_EVENTS_MAX=many", "SESSIOND_GATEWAYS={", "SESSIOND_X=1"},
		Flags:   map[string]string{"stor.url": "memory:"},
	})
	wantError(t, err, file+`:1: listn: unknown key; did you mean "listen"?`, file+":3: session.retention: ",
		`SESSIOND_EVENTS_MAX: "many" is not`, "SESSIOND_GATEWAYS: not JSON",
		`command line: stor.url: unknown key; did you mean "store.url"?`)
	if c != nil || len(warnings) != 1 {
		t.Errorf("got configuration %v and warnings %v", c, warnings)
	}
}

func TestLoadFileErrors(t *testing.T) {
	t.Parallel()
	_, _, err := config.Load(config.LoadParams{File: filepath.Join(t.TempDir(), "absent.yaml")})
	wantError(t, err, "configuration file: ", "absent.yaml")
	_, _, err = config.Load(config.LoadParams{File: write(t, "large.yaml", strings.Repeat("#", 1<<20+1))})
	wantError(t, err, "larger than 1 MiB")
	_, _, err = config.Load(config.LoadParams{File: t.TempDir()})
	wantError(t, err, "directory")
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	issuer := func(rest string) string { return "auth:\n  issuers:\n    - " + rest + "\n" }
	for _, tt := range []struct{ yaml, want string }{
		{"max_data: 1KiB", `file:1: max_data: unknown key; did you mean "limits.max_data"?`},
		{"session:\n  default_lifetme: 1h", `file:2: session.default_lifetme: unknown key; did you mean "default_lifetime"?`},
		{"zzzzzzzz: 1", "file:1: zzzzzzzz: unknown key"},
		{"Listen: a:1", `file:1: Listen: unknown key; did you mean "listen"?`},
		{issuer("isuer: x"), `file:3: auth.issuers[0].isuer: unknown key; did you mean "issuer"?`},
		{issuer("url: x"), "file:3: auth.issuers[0].url: unknown key"},
		{"gateways: {web: {cookie: x}}", "file:1: gateways.web.cookie: unknown key"},
		{"gateways: {'a b': {x: 1}}", `file:1: gateways["a b"].x: unknown key`},
		{"listen: a:1\nlisten: a:2", "file:2: listen: appears twice, first in line 1"},
		{"gateways:\n  a: {}\n  a: {}", "file:3: gateways.a: appears twice, first in line 2"},
		{issuer("roles: {r: [x], r: [y]}"), "file:3: auth.issuers[0].roles.r: appears twice"},
		{"<<: {listen: a:1}", "file:1: YAML merge keys are not supported"},
		{"gateways:\n  <<: {}", "file:2: gateways: YAML merge keys are not supported"},
		{"? [a]\n: b", "file:1: has a key that is not a name"},
		{"? *x\n: b", "unknown anchor"},
		{"~: b", "file:1: has a key that is not a name"},
		{"!!str listen: b", "file:1: has a key that is not a name"},
		{"listen: !!binary YQ==", "file:1: listen: YAML tags are not supported"},
		{"store: !x {url: a}", "file:1: store: YAML tags are not supported"},
		{"listen:", "file:1: listen: has no value"},
		{"listen: true", "file:1: listen: is a boolean"},
		{"listen: [a]", "file:1: listen: is a list, not a single value"},
		{"listen: {a: b}", "file:1: listen: is a mapping, not a single value"},
		{"tls: x", "file:1: tls: is a single value, not a mapping"},
		{"- a", "file:1: is a list, not a mapping"},
		{"gateways: []", "file:1: gateways: is a list, not a mapping"},
		{"auth: {issuers: {}}", "file:1: auth.issuers: is a mapping, not a list"},
		{"metrics: {tenants: 1.0}", `file:1: metrics.tenants: "1.0" is not a whole number`},
		{"metrics: {tenants: 0x10}", "is not a whole number"},
		{"metrics: {tenants: -1}", "is not a whole number"},
		{"metrics: {tenants: 1_0}", "is not a whole number"},
		{"metrics: {tenants: 99999999999999999999}", "is not a whole number"},
		{"session: {retention: 60}", `file:1: session.retention: "60" is not a duration`},
		{"session: {retention: 1 h}", "is not a duration"},
		{"session: {retention: 1d}", "is not a duration"},
		{"limits: {max_body: 64kb}", `file:1: limits.max_body: "64kb" is not a size`},
		{"gateways: {web: {touch: yes}}", `file:1: gateways.web.touch: "yes" is not a boolean`},
		{issuer("roles_claims: [a..b]"), "file:3: auth.issuers[0].roles_claims[0]: a claim path has no empty names"},
		{issuer("roles_claims: ['']"), "a claim path has no empty names"},
		{issuer("roles_claims: [[]]"), "a claim path has 1 to 16 names"},
		{issuer("roles_claims: [[a, [b]]]"), "roles_claims[0][1]: is a list"},
		{issuer("roles_claims: [{}]"), "roles_claims[0]: is a mapping"},
		{issuer("tenant_claim: [a, b]"), "file:3: auth.issuers[0].tenant_claim: is a list, not a single value"},
		{"listen: a:1\n---\nlisten: b:1", "file: more than one YAML document"},
		{"listen: [", "file: yaml: "},
		{"listen: \"\xff\"", "file: not UTF-8"},
		{"\tlisten: a", "file: yaml: "},
	} {
		_, err := config.ParseYAML([]byte(tt.yaml))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want one with %q", tt.yaml, err, tt.want)
		}
	}
}

func TestLoadRefusesVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ variable, want string }{
		{`AUTH_ISSUERS=[{"isuer":"x"}]`, `SESSIOND_AUTH_ISSUERS: [0].isuer: unknown key; did you mean "issuer"?`},
		{`AUTH_ISSUERS=[{"issuer":"x","issuer":"y"}]`, "SESSIOND_AUTH_ISSUERS: [0].issuer: appears twice"},
		{`AUTH_ISSUERS=[] []`, "SESSIOND_AUTH_ISSUERS: not JSON"},
		{`AUTH_ISSUERS=`, "SESSIOND_AUTH_ISSUERS: not JSON"},
		{`AUTH_ISSUERS=- issuer: x`, "SESSIOND_AUTH_ISSUERS: not JSON"},
		{`AUTH_ISSUERS={}`, "SESSIOND_AUTH_ISSUERS: is a mapping, not a list"},
		{`AUTH_ISSUERS=[{"issuer":true}]`, "SESSIOND_AUTH_ISSUERS: [0].issuer: is a boolean"},
		{`AUTH_ISSUERS=[{"issuer":null}]`, "SESSIOND_AUTH_ISSUERS: [0].issuer: has no value"},
		{`AUTH_ISSUERS=` + strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper than 16"},
		{`GATEWAYS={"web":{"touch":1}}`, `SESSIOND_GATEWAYS: web.touch: "1" is not a boolean`},
		{`SESSION_RETENTION=`, `SESSIOND_SESSION_RETENTION: "" is not a duration`},
		{"LISTEN=\xff", "SESSIOND_LISTEN: not UTF-8"},
	} {
		_, _, err := config.Load(config.LoadParams{Environ: []string{"SESSIOND_" + tt.variable}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.variable, err, tt.want)
		}
	}
}

func TestParseScalarsAsText(t *testing.T) {
	t.Parallel()
	got, err := config.ParseYAML([]byte(
		"gateways: {web: {tenant: 007}, app: }\nsession: {max_per_subject: \"5\"}\nlog: {level: no}\nlisten: 12:30\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]config.Gateway{
		"web": {Tenant: "007", CookieName: "__Host-session", Touch: true}, "app": config.DefaultGateway(),
	}
	if diff := cmp.Diff(want, got.Gateways); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
	if got.Session.MaxPerSubject != 5 || got.Log.Level != "no" || got.Listen != "12:30" {
		t.Errorf("got %+v", got)
	}
}

func TestParseAliases(t *testing.T) {
	t.Parallel()
	got, err := config.ParseYAML([]byte("auth:\n  issuers:\n" +
		"    - {issuer: a, roles: &r {x: [y]}}\n    - {issuer: b, roles: *r}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got.Auth.Issuers[0].Roles, got.Auth.Issuers[1].Roles); diff != "" {
		t.Errorf("anchor and alias differ:\n%s", diff)
	}

	var bomb strings.Builder
	bomb.WriteString("auth:\n  issuers:\n    - &i {issuer: a, tenants: [" + strings.Repeat("a,", 2000) + "a]}\n")
	bomb.WriteString(strings.Repeat("    - *i\n", 2000))
	_, err = config.ParseYAML([]byte(bomb.String()))
	wantError(t, err, "more than 100000 values")

	_, err = config.ParseYAML([]byte("gateways: &a\n  x: *a\n"))
	wantError(t, err, "unknown key")
}

func TestParseBoundsErrors(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "unknown%d: 1\n", i)
	}
	_, err := config.ParseYAML([]byte(many.String()))
	wantError(t, err, "unknown0", "too many errors")
	if n := strings.Count(err.Error(), "\n"); n != 20 {
		t.Errorf("%d lines", n+1)
	}
	_, err = config.ParseYAML([]byte(strings.Repeat("k", 1000) + ": 1"))
	if wantError(t, err, "unknown key"); len(err.Error()) > 200 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}

func TestNoMessageContainsStoreURL(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, address := range []string{
		"postgres://u:hunter2@h/db", "pebble://u:hunter2@/x", "hunter2", "hunter2:", "memory:hunter2",
		"pebble:///x?password=hunter2", "redis+cluster://u:hunter2@a:1,b:2", "pebble://u:hunter2@%zz/", "x:\x01hunter2",
	} {
		c, warnings, err := config.Load(config.LoadParams{
			Environ: []string{"SESSIOND_STORE_URL=" + address, "SESSIOND_STORE_URLS=" + address},
		})
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		problem := c.Validate()
		wantError(t, problem, "store.url")
		var printed strings.Builder
		if err := c.Print(&printed); err != nil {
			t.Error(err)
		}
		if s := fmt.Sprint(warnings, problem, printed.String()); strings.Contains(s, secret) {
			t.Errorf("%q shows its secret:\n%s", address, s)
		}
	}
}

func TestKeysAreInOrder(t *testing.T) {
	t.Parallel()
	keys := config.Keys()
	if i, j := slices.Index(keys, "listen"), slices.Index(keys, "tracing.otlp_endpoint"); i != 0 || j != len(keys)-1 {
		t.Errorf("keys %q", keys)
	}
	if got := config.EnvName("auth.jwks_refresh"); got != "SESSIOND_AUTH_JWKS_REFRESH" {
		t.Errorf("EnvName: %s", got)
	}
}
