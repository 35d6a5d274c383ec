package auth_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sessiond.example/sessiond/auth"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const id = "https://id.example/realm"
	good := auth.Issuer{Issuer: id, Audience: audience}
	// Each changes the one good issuer; the error must name it and contain the text.
	tests := map[string]struct {
		change func(*auth.Issuer)
		want   string
	}{
		"audience":                  {func(i *auth.Issuer) { i.Audience = "" }, "audience"},
		"query":                     {func(i *auth.Issuer) { i.Issuer += "?a=b" }, "query"},
		"empty query":               {func(i *auth.Issuer) { i.Issuer += "?" }, "query"},
		"fragment":                  {func(i *auth.Issuer) { i.Issuer += "#" }, "fragment"},
		"password":                  {func(i *auth.Issuer) { i.Issuer = "https://u:p@id.example/realm" }, "password"},
		"scheme":                    {func(i *auth.Issuer) { i.Issuer = "ftp://id.example/realm" }, "https"},
		"no scheme":                 {func(i *auth.Issuer) { i.Issuer = "id.example/realm" }, "absolute"},
		"no host":                   {func(i *auth.Issuer) { i.Issuer = "https:///realm" }, "absolute"},
		"port only":                 {func(i *auth.Issuer) { i.Issuer = "https://:443/realm" }, "absolute"},
		"http":                      {func(i *auth.Issuer) { i.Issuer = "http://id.example/realm" }, "allow_http"},
		"http, looks like loopback": {func(i *auth.Issuer) { i.Issuer = "http://127.0.0.1.id.example/realm" }, "allow_http"},
		"http, any address":         {func(i *auth.Issuer) { i.Issuer = "http://0.0.0.0/realm" }, "allow_http"},
		"http keys":                 {func(i *auth.Issuer) { i.JWKSURL = "http://id.example/realm/keys" }, "allow_http"},
		"keys no URL":               {func(i *auth.Issuer) { i.JWKSURL = "/keys" }, "absolute"},
		"typ":                       {func(i *auth.Issuer) { i.RequireTyp = "JWT" }, "at+jwt"},
		"tenant":                    {func(i *auth.Issuer) { i.Tenant = "Shop" }, "tenant name"},
		"tenant too long":           {func(i *auth.Issuer) { i.Tenant = strings.Repeat("a", 64) }, "tenant name"},
		"tenant with line feed":     {func(i *auth.Issuer) { i.Tenant = "shop\n" }, "tenant name"},
		"tenant and claim":          {func(i *auth.Issuer) { i.Tenant, i.TenantClaim = "shop", "org" }, "remove one"},
		"tenants without claim":     {func(i *auth.Issuer) { i.Tenants = []string{"a"} }, "tenant claim"},
		"tenants with fixed":        {func(i *auth.Issuer) { i.Tenant, i.Tenants = "a", []string{"a"} }, "tenant claim"},
		"tenants empty":             {func(i *auth.Issuer) { i.TenantClaim, i.Tenants = "org", []string{} }, "fill it"},
		"tenants, one bad":          {func(i *auth.Issuer) { i.TenantClaim, i.Tenants = "org", []string{"a", "b/c"} }, "tenant name"},
		"tenant claim path":         {func(i *auth.Issuer) { i.TenantClaim = "org..id" }, "claim path"},
		"allowed unknown":           {func(i *auth.Issuer) { i.AllowedPermissions = []string{"sessions:reed"} }, "sessions:read,"},
		"allowed wildcard":          {func(i *auth.Issuer) { i.AllowedPermissions = []string{"sessions:*"} }, "unknown permission"},
		"allowed empty":             {func(i *auth.Issuer) { i.AllowedPermissions = []string{} }, "fill it"},
		"role unknown": {func(i *auth.Issuer) {
			i.RolesClaims = []auth.Path{{"roles"}}
			i.Roles = map[string][]string{"support": {"inspect"}}
		}, `"support": unknown permission "inspect"`},
		"roles without claims": {func(i *auth.Issuer) { i.Roles = map[string][]string{"support": {"sessions:read"}} }, "roles claims"},
		"roles claim empty":    {func(i *auth.Issuer) { i.RolesClaims = []auth.Path{{}} }, "claim path"},
		"roles claim hole":     {func(i *auth.Issuer) { i.RolesClaims = []auth.Path{{"a", ""}} }, "claim path"},
		"subject unknown":      {func(i *auth.Issuer) { i.Subjects = map[string][]string{"cart": {"verify"}} }, `"cart"`},
		"logout audience":      {func(i *auth.Issuer) { i.LogoutAudiences = []string{""} }, "logout audience"},
		"logout audiences":     {func(i *auth.Issuer) { i.LogoutAudiences = []string{"a", "b", "a"} }, "repeated"},
		"CA file missing":      {func(i *auth.Issuer) { i.CAFile = empty + ".none" }, "CA file"},
		"CA file empty":        {func(i *auth.Issuer) { i.CAFile = empty }, "no PEM certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := good
			tt.change(&settings)
			_, err := auth.New(auth.Config{Issuers: []auth.Issuer{settings}})
			if err == nil || !strings.Contains(err.Error(), "realm") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want an error with %q", err, tt.want)
			}
		})
	}

	second := auth.Issuer{Issuer: id + "2", Audience: audience, Tenant: "b"}
	whole := map[string]struct {
		config auth.Config
		want   string
	}{
		"no issuer":        {auth.Config{}, "at least one"},
		"no URL":           {auth.Config{Issuers: []auth.Issuer{{Audience: audience}}}, "URL is empty"},
		"twice":            {auth.Config{Issuers: []auth.Issuer{second, second}}, "twice"},
		"without tenant":   {auth.Config{Issuers: []auth.Issuer{second, good}}, "set a tenant"},
		"negative refresh": {auth.Config{Issuers: []auth.Issuer{good}, Refresh: -1}, "refresh"},
		"short refresh":    {auth.Config{Issuers: []auth.Issuer{good}, Refresh: time.Millisecond}, "refresh"},
		"short age":        {auth.Config{Issuers: []auth.Issuer{good}, MaxKeyAge: time.Minute}, "key age"},
		"client and CA": {
			auth.Config{Issuers: []auth.Issuer{{Issuer: id, Audience: audience, CAFile: empty}}, HTTPClient: http.DefaultClient}, "CA file",
		},
	}
	for name, tt := range whole {
		if _, err := auth.New(tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.want)
		}
	}
}

func TestNewAccepts(t *testing.T) {
	t.Parallel()
	for _, settings := range []auth.Issuer{
		{Issuer: "https://id.example"},
		{Issuer: "https://id.example:8443/realms/main/"},
		{Issuer: "http://localhost:8080"},
		{Issuer: "http://127.9.9.9/x"},
		{Issuer: "http://[::1]:80"},
		{Issuer: "http://id.internal", AllowHTTP: true},
		{Issuer: "https://id.example", JWKSURL: "http://127.0.0.1/keys?x=1"},
		{Issuer: "https://id.example", TenantClaim: "a.b", Tenants: []string{"a-1", strings.Repeat("9", 63)}},
		{Issuer: "https://id.example", LogoutAudiences: []string{"a", "b"}, RequireTyp: "at+jwt"},
	} {
		settings.Audience = audience
		if _, err := auth.New(auth.Config{Issuers: []auth.Issuer{settings}}); err != nil {
			t.Errorf("New: %v", err)
		}
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]auth.Path{
		"roles":                            {"roles"},
		"realm_access.roles":               {"realm_access", "roles"},
		"resource_access.sessiond.roles":   {"resource_access", "sessiond", "roles"},
		"https://x.example/claims/a.roles": {"https://x.example/claims/a.roles"},
	} {
		got, err := auth.ParsePath(s)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("ParsePath(%q): %v\n%s", s, err, diff)
		}
	}
	for _, s := range []string{"", ".", "a.", ".a", "a..b", strings.Repeat("a.", 40) + "a"} {
		if got, err := auth.ParsePath(s); err == nil {
			t.Errorf("ParsePath(%q) = %q", s, got)
		}
	}
}
