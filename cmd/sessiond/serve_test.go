package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/devidp"
)

// An issuer is an OpenID provider whose address is known before it is served.
type issuer struct {
	*devidp.Provider
	address string
	url     string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{address: freeAddress(t)}
	i.url = "http://" + i.address
	i.Provider, err = devidp.New(devidp.Config{
		Issuer: i.url, Audience: "sessiond", ClientID: "test", ClientSecret: "test", SigningKey: key,
		Permissions: permissionNames(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// serve serves the issuer until the test ends or the returned function is called.
func (i *issuer) serve(t *testing.T) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", i.address)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: i.Provider}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("issuer: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		if err := h.Close(); err != nil {
			t.Errorf("issuer: %v", err)
		}
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// token is a credential with the given permissions.
func (i *issuer) token(t *testing.T, permissions ...string) string {
	t.Helper()
	token, err := i.Mint(devidp.MintParams{Subject: "tester", Permissions: permissions})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// configFile writes a configuration file for free ports and the issuer, with
// more lines at its end.
func (i *issuer) configFile(t *testing.T, more string) string {
	t.Helper()
	return writeFile(t, "config.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
ops_listen: 127.0.0.1:0
auth: {issuers: [{issuer: %q, audience: sessiond}]}
%s
`, i.url, more))
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestServeMemory(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	s := start(t, nil, "serve", "--config", i.configFile(t, "store: {url: 'memory:'}"))
	s.waitReady()
	token := i.token(t, "sessions:create", "sessions:read")
	s.do("POST", "/sessions/", token, `{"id":"mem","data":{"a":1}}`).want(t, http.StatusCreated)
	got := s.do("GET", "/sessions/mem", token, "").want(t, http.StatusOK)
	if !strings.Contains(got.body, `"created_by":{"sub":"tester","client":"test"}`) {
		t.Errorf("body %s", got.body)
	}
	if !strings.Contains(s.stderr.String(), "kept in memory") {
		t.Errorf("no warning about the store in memory:\n%s", &s.stderr)
	}
	s.do("GET", "/auth/web", "", "").want(t, http.StatusUnauthorized) // no gateway, so not found, after the credential
	if code := s.end(); code != 0 || s.stdout.String() != "" {
		t.Errorf("exit code %d, stdout %q", code, &s.stdout)
	}
}

func TestServePebble(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	dir := t.TempDir()
	keys := filepath.Join(dir, "keyset.json")
	if r := run(t, nil, "keyset", "create", keys); r.code != 0 {
		t.Fatal(r)
	}
	config := i.configFile(t, fmt.Sprintf(`
store: {url: 'pebble://%s/store'}
encryption: {keyset_file: %q}
session: {default_lifetime: 1h, max_lifetime: 2h}
gateways: {front: {cookie_name: sid}}
`, dir, keys))
	token := i.token(t, "sessions:create", "sessions:read")
	const canary = "very-secret-canary"

	s := start(t, nil, "serve", "--config", config)
	s.waitReady()
	made := s.do("POST", "/sessions/", token, `{"id":"kept","data":{"a":"`+canary+`"}}`).want(t, http.StatusCreated)
	s.do("POST", "/sessions/", token, `{"expires_in":7201}`).want(t, http.StatusUnprocessableEntity)
	cookie := "Cookie: sid=" + made.member(t, "token")
	s.do("GET", "/auth/front", "", "", cookie).want(t, http.StatusOK)
	if code := s.end(); code != 0 {
		t.Fatalf("exit code %d; stderr:\n%s", code, &s.stderr)
	}

	s = start(t, nil, "serve", "--config", config)
	s.waitReady()
	got := s.do("GET", "/sessions/kept", token, "").want(t, http.StatusOK)
	if !strings.Contains(got.body, canary) {
		t.Errorf("after the restart: %s", got.body)
	}
	s.do("GET", "/auth/front", "", "", cookie).want(t, http.StatusOK)
	s.end()
	checkAbsent(t, filepath.Join(dir, "store"), canary, made.member(t, "token"))
}

// checkAbsent checks that no file under dir has one of the texts.
func checkAbsent(t *testing.T, dir string, texts ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if strings.Contains(string(content), text) {
				t.Errorf("%s has %s in clear", name, text)
			}
		}
	}
}

func TestServeKeysetMissing(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	dir := t.TempDir()
	config := i.configFile(t, fmt.Sprintf("store: {url: 'pebble://%s/store'}\nencryption: {keyset_file: %s/none.json}", dir, dir))
	r := run(t, nil, "serve", "--config", config)
	r.want(t, 1, "encryption.keyset_file")
	r.want(t, 1, "none.json")
	if _, err := os.Stat(filepath.Join(dir, "store")); !os.IsNotExist(err) {
		t.Errorf("a refused start has made the store (%v)", err)
	}
}

func TestServeIssuerDown(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := start(t, nil, "serve", "--config", i.configFile(t, "store: {url: 'memory:'}"))
	token := i.token(t, "sessions:create", "sessions:read")

	refused := s.do("GET", "/sessions/", token, "").want(t, http.StatusServiceUnavailable)
	if !strings.Contains(refused.body, "issuer-unavailable") || refused.header.Get("Retry-After") == "" {
		t.Errorf("answered %v %s", refused.header, refused.body)
	}
	write := s.do("POST", "/sessions/", token, `{}`).want(t, http.StatusServiceUnavailable)
	if write.member(t, "applied") != "no" {
		t.Errorf("answered %s", write.body)
	}
	s.do("GET", "/sessions/", "", "").want(t, http.StatusUnauthorized)
	if got := s.status(s.ops + "/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d without any issuer's keys", got)
	}
	if got := s.status(s.ops + "/healthz"); got != http.StatusOK {
		t.Errorf("/healthz is %d", got)
	}

	stop := i.serve(t)
	s.waitReady()
	s.do("POST", "/sessions/", token, `{"id":"healed"}`).want(t, http.StatusCreated)

	stop()
	if got := s.status(s.ops + "/readyz"); got != http.StatusOK {
		t.Errorf("/readyz is %d after the issuer went down again", got)
	}
	s.do("GET", "/sessions/healed", token, "").want(t, http.StatusOK)
}

// TestServeProtocols covers HTTP/1.1 and HTTP/2 without TLS.
func TestServeProtocols(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	s := start(t, nil, "serve", "--config", i.configFile(t, "store: {url: 'memory:'}"))
	s.waitReady()
	for _, version := range []int{1, 2} {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(version == 1)
		transport.Protocols.SetUnencryptedHTTP2(version == 2)
		s.checkProtocol(transport, version, i.token(t, "sessions:read"))
	}
}

// checkProtocol lists sessions over transport.
func (s *running) checkProtocol(transport *http.Transport, version int, token string) {
	s.t.Helper()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest("GET", s.api+"/sessions/", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != version {
		s.t.Errorf("answered %d over %s, want HTTP/%d", resp.StatusCode, resp.Proto, version)
	}
}

func TestServeOverrides(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	config := i.configFile(t, "store: {url: 'memory:'}\nlog: {level: error}\nsession: {default_lifetime: 1h}")
	level := writeFile(t, "level", "warn\n")
	environ := []string{
		"SESSIOND_CONFIG=" + config, "SESSIOND_LOG_LEVEL_FILE=" + level, "SESSIOND_SESSION_DEFAULT_LIFETIME=2h",
		`SESSIOND_GATEWAYS={"shop":{"tenant":"default","cookie_name":"sid"}}`, "SESSIOND_SESION_RETENTION=1h",
		"SESSIOND_PORT=tcp://10.0.0.1:80", "SESSIOND_TOKEN=secret-canary", "OTHER=1",
	}
	s := start(t, environ, "serve", "--log-level", "info")
	s.waitReady()
	token := i.token(t, "sessions:create")
	made := s.do("POST", "/sessions/", token, `{}`).want(t, http.StatusCreated)
	created, err1 := time.Parse(time.RFC3339, made.member(t, "created_at"))
	expires, err2 := time.Parse(time.RFC3339, made.member(t, "expires_at"))
	if err1 != nil || err2 != nil || expires.Sub(created) != 2*time.Hour {
		t.Errorf("the lifetime is not that of the environment: %s", made.body)
	}
	s.do("GET", "/auth/shop", "", "", "Cookie: sid="+made.member(t, "token")).want(t, http.StatusOK)
	s.end()
	log := s.stderr.String()
	const unknown = `"level":"warn","msg":"configuration","variable":"`
	for _, want := range []string{`"level":"info"`, unknown + "SESSIOND_SESION_RETENTION", unknown + "SESSIOND_PORT"} {
		if !strings.Contains(log, want) {
			t.Errorf("stderr lacks %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, "SESSIOND_TOKEN") || strings.Contains(log, "canary") {
		t.Errorf("stderr tells of the client's token:\n%s", log)
	}
}

func TestServeConfigErrors(t *testing.T) {
	t.Parallel()
	const auth = "auth: {issuers: [{issuer: 'https://id.example.com', audience: sessiond}]}\n"
	for _, tt := range []struct {
		name, file string
		want       []string
	}{
		{"unknown key", auth + "store: {urll: 'memory:'}", []string{"store.urll", "store.url"}},
		{"no issuer", "store: {url: 'memory:'}", []string{"auth.issuers"}},
		{"no audience", "store: {url: 'memory:'}\nauth: {issuers: [{issuer: 'https://id.example.com'}]}", []string{"audience"}},
		{"bad duration", auth + "store: {url: 'memory:'}\nsession: {retention: soon}", []string{"session.retention"}},
		{"all at once", auth + "store: {url: 'memory:'}\nsession: {retention: 1ms, on_limit: panic}\nlog: {level: loud}",
			[]string{"session.retention", "session.on_limit", "log.level"}},
		{"no keyset", auth + "store: {url: 'pebble:///tmp/never'}", []string{"encryption.keyset_file", "sessiond keyset create"}},
		{"other store", auth + "store: {url: 'mysql://user:canary@db/sessions'}", []string{"store.url", "unknown scheme"}},
		{"weak store", auth + "listen: 127.0.0.1:0\nops_listen: 127.0.0.1:0\nstore: {url: 'memory:', require_class: durable}", []string{"store.require_class is durable",
			"ephemeral"}},
		{"unknown class", auth + "store: {url: 'memory:', require_class: best}", []string{"store.require_class"}},
		{"half TLS", auth + "store: {url: 'memory:'}\ntls: {cert_file: /x.pem}", []string{"tls.key_file"}},
		{"not YAML", "listen: [", []string{"config.yaml"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, nil, "serve", "--config", writeFile(t, "config.yaml", tt.file))
			for _, want := range tt.want {
				r.want(t, 1, want)
			}
			if r.stdout != "" || strings.Contains(r.stderr, "canary") {
				t.Errorf("%+v", r)
			}
		})
	}
	run(t, nil, "serve", "--config", "/nowhere/config.yaml").want(t, 1, "/nowhere/config.yaml")
	run(t, []string{"SESSIOND_LISTEN=nonsense"}, "serve").want(t, 1, "listen")
	run(t, nil, "serve", "--nonsense").want(t, 2, "--nonsense")
	run(t, nil, "serve", "extra").want(t, 2, `"extra"`)
}

func TestServeTLSErrors(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	tls := fmt.Sprintf("store: {url: 'memory:'}\ntls: {cert_file: %q, key_file: %q}",
		writeFile(t, "cert.pem", "no certificate"), writeFile(t, "key.pem", "no key"))
	r := run(t, nil, "serve", "--config", i.configFile(t, tls))
	r.want(t, 1, "tls: ")
	r.want(t, 1, "cert.pem")
}
