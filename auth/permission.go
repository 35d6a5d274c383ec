package auth

import "strings"

// Permissions is a set of permissions, one bit each. The zero value permits nothing.
type Permissions uint16

// The permissions. A credential names them with the prefix "sessions:" ("sessions:create"); nothing else, no wildcard
// and no other spelling, means one of them.
const (
	Create    Permissions = 1 << iota // create sessions, rotate any session's token
	Read                              // read sessions with their data; includes Inspect and Verify
	Inspect                           // read sessions without their data
	Update                            // change and touch sessions
	Delete                            // revoke sessions
	Verify                            // ask about a session by its token
	Admin                             // erase records, revoke without a subject
	AnyTenant                         // name another tenant than the credential's own
)

// AllPermissions are all that there are.
const AllPermissions = AnyTenant<<1 - 1

// permissionNames is indexed by bit number.
var permissionNames = [...]string{
	"sessions:create",
	"sessions:read",
	"sessions:inspect",
	"sessions:update",
	"sessions:delete",
	"sessions:verify",
	"sessions:admin",
	"sessions:any-tenant",
}

// ParsePermission returns the single permission with exactly this name, such as "sessions:read", without what it
// includes. It reports false for every other string.
func ParsePermission(name string) (Permissions, bool) {
	for bit, known := range permissionNames {
		if name == known {
			return 1 << bit, true
		}
	}
	return 0, false
}

// Has reports whether every permission of want is in p. It is true for an empty want.
func (p Permissions) Has(want Permissions) bool { return p&want == want }

// List returns the names of the permissions in p, in the order of the constants. It is nil for an empty set.
func (p Permissions) List() []string {
	var names []string
	for bit, name := range permissionNames {
		if p&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names in p separated by spaces, in the order of the constants: the form of an OAuth scope
// (RFC 6749 section 3.3).
func (p Permissions) String() string { return strings.Join(p.List(), " ") }

// closure adds what the permissions in p include.
func (p Permissions) closure() Permissions {
	if p.Has(Read) {
		p |= Inspect | Verify
	}
	return p
}

// limitedTo cuts p, the permissions a credential names, down to allowed, those its issuer may give, and adds what the
// remaining ones include.
//
// The order matters. The limit is closed first, so that an issuer limited to Read may also give the narrower Inspect
// alone. What the credential names is cut before it is closed, so that Read cut away takes what it includes with it: a
// credential that says only "sessions:read", from an issuer limited to Verify, gets nothing rather than a permission
// that nobody wrote down. The result never exceeds the closed limit.
func (p Permissions) limitedTo(allowed Permissions) Permissions {
	return (p & allowed.closure()).closure()
}
