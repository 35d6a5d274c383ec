package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/auth"
)

// A route is one method of one path.
type route struct {
	method  string // GET serves HEAD too; empty: any method, and the path and everything below
	pattern string
	op      string
	anyOf   []auth.Permissions // one of them is enough; handlers may ask for more. None: judges its own token
	body    bodyKind
	query   bool // takes parameters; otherwise any is refused
	write   bool // a 503 says whether it was applied
	class   class
	handler func(*call) error
}

// bodyKind is what a route takes as body.
type bodyKind uint8

const (
	noBody       bodyKind = iota // anything but an empty body is refused
	jsonBody                     // application/json
	optionalJSON                 // the same, or an empty body
	patchBody                    // application/merge-patch+json
	formBody                     // application/x-www-form-urlencoded, of an OAuth endpoint
	anyBody                      // never looked at
)

// routes is everything that is served.
func routes() []route {
	const (
		get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
		query, write               = true, true
	)
	anyOf := func(p ...auth.Permissions) []auth.Permissions { return p }
	return []route{
		{post, api.PathSessions, "create", anyOf(auth.Create), jsonBody, !query, write, classWrite, (*call).create},
		{get, api.PathSessions, "list", anyOf(auth.Read, auth.Inspect), noBody, query, !write, classList, (*call).list},
		{del, api.PathSessions, "revoke_matching", anyOf(auth.Delete), noBody, query, write, classRevokeMany, (*call).revokeMatching},
		{get, api.PathSession, "get", anyOf(auth.Read, auth.Inspect), noBody, !query, !write, classCheck, (*call).get},
		{put, api.PathSession, "update", anyOf(auth.Update), jsonBody, !query, write, classWrite, (*call).update},
		{patch, api.PathSession, "patch", anyOf(auth.Update), patchBody, !query, write, classWrite, (*call).patch},
		{del, api.PathSession, "delete", anyOf(auth.Delete), noBody, query, write, classRevoke, (*call).revoke},
		{post, api.PathTouch, "touch", anyOf(auth.Update), optionalJSON, !query, write, classWrite, (*call).touch},
		{post, api.PathRotate, "rotate", anyOf(auth.Create, auth.Verify), optionalJSON, !query, write, classWrite, (*call).rotate},
		{post, api.PathVerify, "verify", anyOf(auth.Verify), jsonBody, !query, !write, classCheck, (*call).verify},
		{post, api.PathIntrospect, "introspect", anyOf(auth.Verify), formBody, !query, !write, classCheck, (*call).introspect},
		{post, api.PathRevoke, "revoke", anyOf(auth.Verify), formBody, !query, write, classRevoke, (*call).revokeToken},
		{get, api.PathEvents, "events", anyOf(auth.Read, auth.Inspect), noBody, query, !write, classNone, (*call).events},
		{post, api.PathLogout, "backchannel_logout", nil, formBody, !query, write, classRevokeMany, (*call).backchannelLogout},
		{"", api.PathAuth, "auth", nil, anyBody, query, !write, classCheck, (*call).forwardAuth},
	}
}

// A resource is the routes of one path.
type resource struct {
	pattern string
	methods map[string]*route
	allow   string // the methods, as the header Allow lists them
	oauth   bool   // its problem documents carry an OAuth error code
	open    bool   // its routes judge their own tokens
}

// A table finds the resource of a path. It stands in for [http.ServeMux], which redirects, decodes paths before it
// compares them, and answers a wrong method before the credential was looked at. Here a path has one spelling, byte by
// byte; whatever is spelled in another way is not found.
type table struct {
	fixed   map[string]*resource // by path
	session map[string]*resource // below /sessions/{id}, by what follows the id
	gateway *resource
}

const (
	sessionsPrefix = api.PathSessions + "/"
	sessionID      = "{id}"
	authPrefix     = "/auth/"
)

func newTable(routes []route) table {
	t := table{fixed: make(map[string]*resource), session: make(map[string]*resource)}
	byPattern := make(map[string]*resource)
	for i := range routes {
		rt := &routes[i]
		res := byPattern[rt.pattern]
		if res == nil {
			res = &resource{pattern: rt.pattern, methods: make(map[string]*route)}
			byPattern[rt.pattern] = res
		}
		res.methods[rt.method] = rt
		res.oauth = res.oauth || rt.body == formBody
		res.open = rt.anyOf == nil
		if rt.method == http.MethodGet {
			res.methods[http.MethodHead] = rt
		}
	}
	for pattern, res := range byPattern {
		var methods []string
		for m := range res.methods {
			methods = append(methods, m)
		}
		slices.Sort(methods)
		res.allow = strings.Join(methods, ", ")
		if tail, ok := strings.CutPrefix(pattern, sessionsPrefix+sessionID); ok {
			t.session[tail] = res
		} else {
			t.fixed[pattern] = res
		}
	}
	t.fixed[sessionsPrefix] = t.fixed[api.PathSessions]
	t.gateway = byPattern[api.PathAuth]
	delete(t.fixed, api.PathAuth)
	return t
}

// lookup is the resource of a path, nil when there is none, and the text in the place of the session's id.
func (t *table) lookup(u *url.URL) (res *resource, id string) {
	if u.RawPath != "" { // spelled with escapes that no path of ours needs
		return nil, ""
	}
	if res := t.fixed[u.Path]; res != nil {
		return res, ""
	}
	id, ok := strings.CutPrefix(u.Path, sessionsPrefix)
	if !ok {
		return nil, ""
	}
	id, tail := cutAt(id, '/')
	if id == "" || id == "." || id == ".." {
		return nil, ""
	}
	return t.session[tail], id
}

// gatewayName is the name in a path of forward authentication. The rest of the path belongs to someone else.
func gatewayName(u *url.URL) (name string, ok bool) {
	if !strings.HasPrefix(u.Path, authPrefix) {
		return "", false
	}
	rest, ok := strings.CutPrefix(u.EscapedPath(), authPrefix)
	name, _ = cutAt(rest, '/')
	return name, ok
}

// cutAt splits s before the first sep.
func cutAt(s string, sep byte) (before, rest string) {
	if i := strings.IndexByte(s, sep); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}
