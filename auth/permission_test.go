package auth_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sessiond.example/sessiond/auth"
)

func TestPermissionNames(t *testing.T) {
	t.Parallel()
	want := map[string]auth.Permissions{
		"sessions:create": auth.Create, "sessions:read": auth.Read, "sessions:inspect": auth.Inspect,
		"sessions:update": auth.Update, "sessions:delete": auth.Delete, "sessions:verify": auth.Verify,
		"sessions:admin": auth.Admin, "sessions:any-tenant": auth.AnyTenant,
	}
	names := auth.PermissionNames()
	if len(names) != len(want) {
		t.Errorf("%d permissions, want %d", len(names), len(want))
	}
	var all auth.Permissions
	for name, p := range want {
		if got, ok := auth.ParsePermission(name); got != p || !ok || p.String() != name {
			t.Errorf("ParsePermission(%q) = %v, %v", name, got, ok)
		}
		all |= p
	}
	if diff := cmp.Diff(names, all.List()); diff != "" {
		t.Errorf("List differs in content or order:\n%s", diff)
	}
	if got := (auth.Verify | auth.Create).String(); got != "sessions:create sessions:verify" {
		t.Errorf("String = %q", got)
	}
	for _, name := range []string{
		"", "read", "sessions:", "sessions:*", "*", "Sessions:read", "sessions:READ", "sessions:read ", "sessions:readx", "sessions/read",
	} {
		if p, ok := auth.ParsePermission(name); ok || p != 0 {
			t.Errorf("ParsePermission(%q) = %v, %v", name, p, ok)
		}
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	read := auth.Read | auth.Inspect | auth.Verify
	roles := func(i *auth.Issuer) {
		i.RolesClaims = []auth.Path{{"realm_access", "roles"}, {"https://x.example/roles"}}
		i.Roles = map[string][]string{"support": {"sessions:inspect", "sessions:delete"}, "reader": {"sessions:read"}}
	}
	allow := func(names ...string) func(*auth.Issuer) {
		return func(i *auth.Issuer) { i.AllowedPermissions = names }
	}
	tests := map[string]struct {
		configure func(*auth.Issuer)
		claims    object
		want      auth.Permissions
	}{
		"none":                 {claims: object{}},
		"scope":                {claims: object{"scope": "openid sessions:create sessions:update"}, want: auth.Create | auth.Update},
		"scope, other spacing": {claims: object{"scope": "sessions:create\tsessions:update,sessions:delete"}},
		"scope, array":         {claims: object{"scope": []string{"sessions:create"}}},
		"scp, string":          {claims: object{"scp": "sessions:create sessions:admin"}, want: auth.Create | auth.Admin},
		"scp, array":           {claims: object{"scp": []string{"sessions:create", "openid"}}, want: auth.Create},
		"scp, array of joined": {claims: object{"scp": []string{"sessions:create sessions:admin"}}},
		"scp, mixed array":     {claims: object{"scp": []any{"sessions:create", 1}}},
		"permissions":          {claims: object{"permissions": []string{"sessions:any-tenant"}}, want: auth.AnyTenant},
		"permissions, string":  {claims: object{"permissions": "sessions:create"}},
		"all together": {
			claims: object{"scope": "sessions:create", "scp": "sessions:update", "permissions": []string{"sessions:delete"}},
			want:   auth.Create | auth.Update | auth.Delete,
		},
		"wildcards":      {claims: object{"scope": "* sessions:* sessions sessions: SESSIONS:CREATE read admin"}},
		"read includes":  {claims: object{"scope": "sessions:read"}, want: read},
		"admin does not": {claims: object{"scope": "sessions:admin"}, want: auth.Admin},

		"role":               {roles, object{"realm_access": object{"roles": []string{"support", "x"}}}, auth.Inspect | auth.Delete},
		"role by URL":        {roles, object{"https://x.example/roles": []string{"reader"}}, read},
		"role, string":       {roles, object{"https://x.example/roles": "support"}, auth.Inspect | auth.Delete},
		"role elsewhere":     {roles, object{"roles": []string{"support"}, "realm_access.roles": []string{"support"}}, 0},
		"role, mistyped":     {roles, object{"realm_access": []string{"roles"}, "https://x.example/roles": object{"support": 1}}, 0},
		"role, mixed":        {roles, object{"realm_access": object{"roles": []any{"support", nil}}}, 0},
		"role as permission": {roles, object{"realm_access": object{"roles": []string{"sessions:create"}}}, 0},

		"subject": {
			func(i *auth.Issuer) { i.Subjects = map[string][]string{"cart": {"sessions:verify"}} }, object{}, auth.Verify,
		},
		"other subject": {
			func(i *auth.Issuer) { i.Subjects = map[string][]string{"Cart": {"sessions:verify"}} }, object{}, 0,
		},
		"subject, limited": {
			func(i *auth.Issuer) {
				i.Subjects = map[string][]string{"cart": {"sessions:admin", "sessions:update"}}
				i.AllowedPermissions = []string{"sessions:update"}
			}, object{}, auth.Update,
		},

		"limited":                  {allow("sessions:create"), object{"scope": "sessions:create sessions:admin"}, auth.Create},
		"read cut away":            {allow("sessions:verify"), object{"scope": "sessions:read"}, 0},
		"read cut away, not named": {allow("sessions:verify"), object{"scope": "sessions:read sessions:verify"}, auth.Verify},
		"narrower than the limit":  {allow("sessions:read"), object{"scope": "sessions:inspect"}, auth.Inspect},
		"read within the limit":    {allow("sessions:read"), object{"scope": "sessions:read sessions:create"}, read},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := f.config()
			if tt.configure != nil {
				tt.configure(&c.Issuers[0])
			}
			p := accept(t, ready(t, c), sign("ES256", "k", p256(), with(f.claims(), tt.claims)))
			if p.Permissions != tt.want {
				t.Errorf("permissions %q, want %q", p.Permissions, tt.want)
			}
			if !p.Can(tt.want) || p.Can(tt.want|auth.Update|auth.Admin|auth.AnyTenant|auth.Create|auth.Delete) {
				t.Errorf("Can disagrees with %q", p.Permissions)
			}
		})
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	f := newFakeIssuer(t, jwk("k", p256()))
	fixed := auth.Issuer{Tenant: "shop"}
	claim := auth.Issuer{TenantClaim: "org.tenant", Tenants: []string{"a", "b"}}
	open := auth.Issuer{TenantClaim: "https://x.example/tenant"}
	tests := map[string]struct {
		settings auth.Issuer
		claims   object
		want     string // empty: refused
	}{
		"default":               {auth.Issuer{}, object{"tenant": "other"}, "default"},
		"fixed":                 {fixed, object{"tenant": "other"}, "shop"},
		"by claim":              {claim, object{"org": object{"tenant": "b"}}, "b"},
		"claim missing":         {claim, object{}, ""},
		"claim not an object":   {claim, object{"org": "b"}, ""},
		"claim null":            {claim, object{"org": object{"tenant": nil}}, ""},
		"claim an array":        {claim, object{"org": object{"tenant": []string{"b"}}}, ""},
		"claim a number":        {claim, object{"org": object{"tenant": 1}}, ""},
		"claim outside":         {claim, object{"org": object{"tenant": "c"}}, ""},
		"claim in capitals":     {claim, object{"org": object{"tenant": "B"}}, ""},
		"path as one name":      {claim, object{"org.tenant": "b"}, ""},
		"any":                   {open, object{"https://x.example/tenant": "whatever-1"}, "whatever-1"},
		"any, not a name":       {open, object{"https://x.example/tenant": "../b"}, ""},
		"any, empty":            {open, object{"https://x.example/tenant": ""}, ""},
		"any, with a line feed": {open, object{"https://x.example/tenant": "b\n"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.settings.Issuer, tt.settings.Audience = f.url, audience
			v := ready(t, auth.Config{Issuers: []auth.Issuer{tt.settings}})
			raw := sign("ES256", "k", p256(), with(f.claims(), tt.claims))
			if tt.want == "" {
				refuse(t, v, raw, auth.ErrTenant, auth.ReasonTenant)
			} else if p := accept(t, v, raw); p.Tenant != tt.want {
				t.Errorf("tenant %q, want %q", p.Tenant, tt.want)
			}
			// Only a genuine credential learns about tenants.
			refuse(t, v, sign("ES256", "k", newP256(), with(f.claims(), tt.claims)), auth.ErrInvalid, auth.ReasonSignature)
		})
	}
}
