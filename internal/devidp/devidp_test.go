package devidp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/internal/devidp"
)

const (
	audience = "sessiond"
	id       = "shop"
	secret   = "correct horse battery staple"
)

var permissions = []string{"sessions:create", "sessions:read", "sessions:update"}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// start serves a provider at its issuer URL. change may adapt its configuration.
func start(t *testing.T, change func(*devidp.Config)) (*devidp.Provider, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer := "http://" + server.Listener.Addr().String()
	config := devidp.Config{
		Issuer: issuer, Audience: audience, ClientID: id, ClientSecret: secret, Permissions: permissions,
		SigningKey: ecKey(t),
	}
	if change != nil {
		change(&config)
	}
	p, err := devidp.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p
	server.Start()
	t.Cleanup(server.Close)
	return p, issuer
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: %s, %s", url, resp.Status, resp.Header.Get("Content-Type"))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

type metadata struct {
	Issuer        string   `json:"issuer"`
	TokenEndpoint string   `json:"token_endpoint"`
	JWKSURI       string   `json:"jwks_uri"`
	GrantTypes    []string `json:"grant_types_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
}

func discover(t *testing.T, issuer string) metadata {
	t.Helper()
	var m metadata
	getJSON(t, issuer+"/.well-known/openid-configuration", &m)
	if m.Issuer != issuer {
		t.Errorf("issuer %q, want exactly %q", m.Issuer, issuer)
	}
	return m
}

type jwk struct {
	KeyID string `json:"kid"`
	Type  string `json:"kty"`
	Alg   string `json:"alg"`
	Use   string `json:"use"`
	X     string `json:"x"`
	Y     string `json:"y"`
	N     string `json:"n"`
	E     string `json:"e"`
	D     string `json:"d"`
}

func number(t *testing.T, s string) *big.Int {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(b)
}

// verify checks a token as a resource server would: against discovery and the key set, and nothing else.
func verify(t *testing.T, issuer, token string) (*jwt.Token, jwt.MapClaims, error) {
	t.Helper()
	var set struct{ Keys []jwk }
	getJSON(t, discover(t, issuer).JWKSURI, &set)
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(token, claims, func(token *jwt.Token) (any, error) {
		for _, k := range set.Keys {
			if k.D != "" {
				t.Fatal("the key set holds a private key")
			}
			if k.KeyID != token.Header["kid"] || k.Alg != token.Header["alg"] || k.Use != "sig" {
				continue
			}
			if k.Type == "RSA" {
				return &rsa.PublicKey{N: number(t, k.N), E: int(number(t, k.E).Int64())}, nil
			}
			point := append([]byte{4}, number(t, k.X).FillBytes(make([]byte, 32))...)
			point = append(point, number(t, k.Y).FillBytes(make([]byte, 32))...)
			return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		}
		return nil, fmt.Errorf("no key %v", token.Header["kid"])
	}, jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithValidMethods([]string{"ES256", "RS256"}))
	return parsed, claims, err
}

type answer struct {
	Status      int    `json:"-"`
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Body        string `json:"-"`
	Header      http.Header
}

// ask sends a form to the token endpoint, with basic authentication if the id is not empty.
func ask(t *testing.T, endpoint string, form url.Values, id, secret string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) // RFC 6749, section 2.3.1
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: resp.StatusCode, Body: string(body), Header: resp.Header}
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("%s: %q: %v", resp.Status, body, err)
	}
	return a
}

func grant(scope string) url.Values {
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope != "" {
		form.Set("scope", scope)
	}
	return form
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[string]any{"ES256": ecKey(t), "RS256": rsaKey} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			_, issuer := start(t, func(c *devidp.Config) { c.SigningKey, c.Tenant = key, "acme" })
			m := discover(t, issuer)
			if diff := cmp.Diff([]string{"client_credentials"}, m.GrantTypes); diff != "" {
				t.Errorf("grant types (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"client_secret_basic", "client_secret_post"}, m.AuthMethods); diff != "" {
				t.Errorf("authentication methods (-want +got):\n%s", diff)
			}
			a := ask(t, m.TokenEndpoint, grant(""), id, secret)
			if a.Status != http.StatusOK || a.TokenType != "Bearer" || a.ExpiresIn != 3600 {
				t.Fatalf("answer %d %s", a.Status, a.Body)
			}
			if got := a.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q", got)
			}
			token, claims, err := verify(t, issuer, a.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			if token.Header["alg"] != alg || token.Header["typ"] != "JWT" {
				t.Errorf("header %v", token.Header)
			}
			for _, name := range []string{"exp", "iat", "nbf", "jti"} {
				if claims[name] == nil {
					t.Errorf("no claim %s", name)
				}
				delete(claims, name)
			}
			want := jwt.MapClaims{
				"iss": issuer, "aud": []any{audience}, "sub": id, "client_id": id, "tenant": "acme",
				"scope": strings.Join(permissions, " "),
			}
			if diff := cmp.Diff(want, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	_, issuer := start(t, nil)
	endpoint := discover(t, issuer).TokenEndpoint
	post := func(id, secret string) url.Values {
		form := grant("")
		form.Set("client_id", id)
		form.Set("client_secret", secret)
		return form
	}
	if a := ask(t, endpoint, post(id, secret), "", ""); a.Status != http.StatusOK {
		t.Errorf("client_secret_post: %d %s", a.Status, a.Body)
	}
	for name, a := range map[string]answer{
		"wrong secret":          ask(t, endpoint, grant(""), id, secret+"x"),
		"empty secret":          ask(t, endpoint, grant(""), id, ""),
		"unknown client":        ask(t, endpoint, grant(""), "other", secret),
		"wrong secret in body":  ask(t, endpoint, post(id, "x"), "", ""),
		"no secret in the body": ask(t, endpoint, post(id, ""), "", ""),
	} {
		if a.Status != http.StatusUnauthorized || a.Error != "invalid_client" || a.AccessToken != "" ||
			!strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: %d %s %v", name, a.Status, a.Body, a.Header)
		}
		if strings.Contains(a.Body, secret) {
			t.Errorf("%s: the answer holds the secret", name)
		}
	}
	for name, a := range map[string]answer{
		"no credentials":  ask(t, endpoint, grant(""), "", ""),
		"two credentials": ask(t, endpoint, post(id, secret), id, secret),
		"in the URI":      ask(t, endpoint+"?"+post(id, secret).Encode(), nil, "", ""),
		"no grant type":   ask(t, endpoint, nil, id, secret),
		"oversize":        ask(t, endpoint, grant(strings.Repeat("x", 64<<10)), id, secret),
	} {
		if a.Status != http.StatusBadRequest || a.Error != "invalid_request" {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	_, issuer := start(t, nil)
	endpoint := discover(t, issuer).TokenEndpoint
	for asked, want := range map[string]string{
		"":                              "sessions:create sessions:read sessions:update",
		"sessions:read":                 "sessions:read",
		"sessions:read sessions:create": "sessions:create sessions:read",
		"openid sessions:read sessions:admin sessions:*": "sessions:read",
	} {
		a := ask(t, endpoint, grant(asked), id, secret)
		_, claims, err := verify(t, issuer, a.AccessToken)
		if err != nil {
			t.Fatalf("%q: %v: %s", asked, err, a.Body)
		}
		if a.Scope != want || claims["scope"] != want {
			t.Errorf("asked for %q, granted %q, claimed %q, want %q", asked, a.Scope, claims["scope"], want)
		}
	}
	if a := ask(t, endpoint, grant("sessions:admin"), id, secret); a.Status != 400 || a.Error != "invalid_scope" {
		t.Errorf("a scope beyond the client's: %d %s", a.Status, a.Body)
	}
}

func TestOtherGrantsAndRoutesDoNotExist(t *testing.T) {
	t.Parallel()
	_, issuer := start(t, nil)
	endpoint := discover(t, issuer).TokenEndpoint
	for _, grantType := range []string{
		"authorization_code", "refresh_token", "password", "urn:ietf:params:oauth:grant-type:jwt-bearer",
		"urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:device_code",
	} {
		form := url.Values{"grant_type": {grantType}, "code": {"x"}, "redirect_uri": {"x"}, "refresh_token": {"x"},
			"assertion": {"x"}, "device_code": {"x"}, "subject_token": {"x"}}
		if a := ask(t, endpoint, form, id, secret); a.Status < 400 || a.Status > 499 || a.AccessToken != "" {
			t.Errorf("%s: %d %s", grantType, a.Status, a.Body)
		}
	}
	for path, want := range map[string]int{
		"/": 404, "/authorize": 404, "/userinfo": 404, "/introspect": 404, "/healthz": 404, "/oauth/token": 405,
	} {
		resp, err := http.Get(issuer + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestMint(t *testing.T) {
	t.Parallel()
	p, issuer := start(t, nil)
	mint := func(params devidp.MintParams) string {
		t.Helper()
		token, err := p.Mint(params)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	before := time.Now().Truncate(time.Second)
	token, claims, err := verify(t, issuer, mint(devidp.MintParams{
		Subject: "alice", Tenant: "acme", Permissions: []string{"sessions:admin", "sessions:read"}, TTL: 5 * time.Minute,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if token.Header["typ"] != "at+jwt" {
		t.Errorf("header %v", token.Header)
	}
	issued, err := claims.GetIssuedAt()
	if err != nil || issued.Before(before) || issued.After(time.Now()) {
		t.Errorf("issued at %v, %v", issued, err)
	}
	// Both are rounded on their own.
	expires, err := claims.GetExpirationTime()
	if err != nil || expires.Sub(issued.Time)-5*time.Minute > time.Second || expires.Sub(issued.Time) < 5*time.Minute {
		t.Errorf("expires at %v, %v, issued at %v", expires, err, issued)
	}
	if claims["jti"] == "" {
		t.Error("no jti")
	}
	for _, name := range []string{"exp", "iat", "jti"} {
		delete(claims, name)
	}
	want := jwt.MapClaims{
		"iss": issuer, "aud": []any{audience}, "sub": "alice", "client_id": id, "tenant": "acme",
		"scope": "sessions:admin sessions:read",
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}

	_, claims, err = verify(t, issuer, mint(devidp.MintParams{}))
	if err != nil {
		t.Fatal(err)
	}
	if claims["sub"] != id || claims["scope"] != strings.Join(permissions, " ") || claims["tenant"] != nil {
		t.Errorf("default claims %v", claims)
	}
	_, claims, err = verify(t, issuer, mint(devidp.MintParams{Permissions: []string{}}))
	if err != nil || claims["scope"] != nil {
		t.Errorf("without permissions the scope is %v, %v", claims["scope"], err)
	}
	if _, _, err := verify(t, issuer, mint(devidp.MintParams{TTL: -time.Minute})); err == nil {
		t.Error("an expired token verifies")
	}
	other, _ := start(t, func(c *devidp.Config) { c.Issuer = issuer })
	foreign, err := other.Mint(devidp.MintParams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := verify(t, issuer, foreign); err == nil {
		t.Error("a token signed with another key verifies")
	}
	for _, bad := range []string{"", "sessions:read sessions:admin", "a\"b", "ü", "a\n"} {
		if token, err := p.Mint(devidp.MintParams{Permissions: []string{bad}}); err == nil {
			t.Errorf("permission %q gave %s", bad, token)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*devidp.Config){
		"no issuer":          func(c *devidp.Config) { c.Issuer = "" },
		"relative issuer":    func(c *devidp.Config) { c.Issuer = "127.0.0.1:80" },
		"issuer with path":   func(c *devidp.Config) { c.Issuer += "/realm" },
		"issuer with slash":  func(c *devidp.Config) { c.Issuer += "/" },
		"issuer with query":  func(c *devidp.Config) { c.Issuer += "?a" },
		"issuer with user":   func(c *devidp.Config) { c.Issuer = "http://me@localhost" },
		"other scheme":       func(c *devidp.Config) { c.Issuer = "ftp://localhost" },
		"no audience":        func(c *devidp.Config) { c.Audience = "" },
		"no client":          func(c *devidp.Config) { c.ClientID = "" },
		"no secret":          func(c *devidp.Config) { c.ClientSecret = "" },
		"bad permission":     func(c *devidp.Config) { c.Permissions = []string{"a b"} },
		"no key":             func(c *devidp.Config) { c.SigningKey = nil },
		"nil key":            func(c *devidp.Config) { c.SigningKey = (*ecdsa.PrivateKey)(nil) },
		"key of other curve": func(c *devidp.Config) { c.SigningKey = weak },
		"key of other kind":  func(c *devidp.Config) { c.SigningKey = edwards },
	} {
		config := devidp.Config{Issuer: "http://localhost:1", Audience: audience, ClientID: id, ClientSecret: secret,
			SigningKey: ecKey(t)}
		if _, err := devidp.New(config); err != nil {
			t.Fatal(err)
		}
		change(&config)
		if _, err := devidp.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	_, issuer := start(t, func(c *devidp.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	a := ask(t, issuer+"/oauth/token", grant(""), id, secret)
	if !strings.Contains(log.String(), `"token issued"`) || strings.Contains(log.String(), secret) ||
		strings.Contains(log.String(), a.AccessToken) {
		t.Errorf("log: %s", log.String())
	}
}
