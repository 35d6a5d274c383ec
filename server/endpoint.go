package server

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/auth"
)

// A call is one request on its way, and what has been found out about it. It lives as long as the request and is not
// reused: net/http reads the header values that are stored in it after the handler has returned.
type call struct {
	*Server
	w         http.ResponseWriter
	r         *http.Request
	ctx       context.Context
	started   time.Time
	route     *route      // nil until known, and for paths and methods that are not served
	oauth     bool        // problem documents carry an OAuth error code
	id        sessiond.ID // what stands in the place of a session's id in the path, also text that can't be one
	principal *auth.Principal
	tenant    string
	body      []byte
	op        Operation
	endTrace  func(Operation) // nil without Config.Trace
	sent      bool            // the answer's header has been written

	values [10]string // see set
	used   int
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Server: s, w: w, r: r, ctx: r.Context(), started: time.Now()}
	c.op.Method = r.Method
	c.op.RequestID = requestID(r.Header[api.HeaderRequestID])
	c.op.TraceID = traceID(r.Header["Traceparent"])
	if s.cfg.Trace != nil {
		c.ctx, c.op.TraceID, c.endTrace = s.cfg.Trace(r)
	}
	c.setCommonHeaders()
	defer c.finish()
	if err := c.serve(); err != nil {
		c.fail(err)
	}
}

// finish ends the request: a panic is answered like any other bug, and the operation is told. It must be deferred
// itself, or recover does nothing.
func (c *call) finish() {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			c.observe()
			panic(p)
		}
		// The value of a panic may hold anything; those of the runtime hold no more than an index.
		what := fmt.Sprintf("%T", p)
		if err, ok := p.(runtime.Error); ok {
			what = err.Error()
		}
		c.cfg.Logger.Error("panic while serving", "request_id", c.op.RequestID, "op", c.op.Op, "panic", what,
			"stack", string(debug.Stack()))
		if c.sent {
			c.observe()
			panic(http.ErrAbortHandler) // the client must not take what it got for the whole
		}
		clear(c.w.Header()) // of what the handler had in mind
		c.setCommonHeaders()
		c.fail(errPanic)
	}
	c.observe()
}

var errPanic = errors.New("panic") // logged where it was recovered

func (c *call) observe() {
	c.op.Duration = time.Since(c.started)
	if c.cfg.Observe != nil {
		c.cfg.Observe(c.op)
	}
	if c.endTrace != nil {
		c.endTrace(c.op)
	}
}

// serve does what all routes have in common, in the order in which refusals are due: credential, then whether there is
// such a resource, permission, input, room. The rest is up to the route's handler.
func (c *call) serve() error {
	if name, ok := gatewayName(c.r.URL); ok && c.gateways[name] != nil {
		c.useRoute(c.table.gateway, c.table.gateway.methods[""])
		return c.handle()
	}
	res, id := c.table.lookup(c.r.URL)
	if res != nil {
		c.useRoute(res, res.methods[c.r.Method])
		c.setID(id)
	}
	open := res != nil && res.open
	if !open {
		if err := c.authenticate(); err != nil {
			return err
		}
	}
	switch {
	case res == nil:
		return refuse(api.CodeNotFound, "there is no such resource")
	case c.route == nil:
		return refuse(api.CodeMethodNotAllowed, "the resource does not have this method").with("Allow", res.allow)
	}
	if !open {
		if err := c.require(c.route.anyOf...); err != nil {
			return err
		}
		if err := c.chooseTenant(); err != nil {
			return err
		}
	}
	if !c.route.query && c.r.URL.RawQuery != "" {
		return malformed("there are no query parameters here")
	}
	return c.handle()
}

func (c *call) useRoute(res *resource, rt *route) {
	c.route, c.op.Route, c.oauth = rt, res.pattern, res.oauth
	if rt != nil {
		c.op.Op = rt.op
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead || rt != nil && rt.method == "" {
		c.ctx = sessiond.WithRequestID(c.ctx, c.op.RequestID)
	}
}

// setID remembers the session that the path names. Text that can't be an id names none, as the manager says when its
// turn has come: what is wrong with the input comes first.
func (c *call) setID(id string) {
	c.id = sessiond.ID(id)
	if id == "" {
		return
	}
	if _, err := sessiond.ParseID(id); err == nil {
		c.op.SessionID = id
	}
}

// authenticate finds out who calls, from exactly one credential (RFC 6750 section 2.1).
func (c *call) authenticate() error {
	values := c.r.Header["Authorization"]
	if len(values) > 1 || len(values) == 1 && severalCredentials(values[0]) {
		c.op.AuthFailure = AuthMultiple
		return malformed("there must be one credential only")
	}
	var raw string
	var given bool // other schemes are no credential of ours
	if len(values) == 1 {
		raw, given = cutBearer(values[0])
	}
	if !given {
		c.op.AuthFailure = AuthMissing
		return refuse(api.CodeUnauthenticated, "a credential is required").with("Www-Authenticate", "Bearer")
	}
	p, err := c.cfg.Verifier.Verify(c.ctx, raw)
	if err == nil {
		c.principal, c.tenant = p, p.Tenant
		c.op.Principal, c.op.Tenant = p.Subject, p.Tenant
		return nil
	}
	var refused *auth.Error
	if errors.As(err, &refused) {
		c.op.AuthFailure = refused.Reason
	}
	switch {
	case errors.Is(err, auth.ErrInvalid):
		return errInvalidToken()
	case errors.Is(err, auth.ErrTenant):
		return refuse(api.CodeDenied, "the credential names no tenant that its issuer may name")
	default:
		if c.op.AuthFailure == "" {
			c.op.AuthFailure = auth.ReasonKeysRefresh
		}
		return refuse(api.CodeIssuerUnavailable, "the credential can't be judged now: the issuer's keys are not at hand")
	}
}

// severalCredentials reports whether a field value joins a credential of ours with something else. The credentials of
// other schemes may have commas of their own (RFC 9110 section 11.4).
func severalCredentials(value string) bool {
	return strings.Contains(value, ",") && strings.Contains(strings.ToLower(value), "bearer")
}

// errInvalidToken refuses a credential or a session's token that was given and is no good (RFC 6750 section 3.1).
func errInvalidToken() error {
	return refuse(api.CodeUnauthenticated, "the credential is not valid").
		with("Www-Authenticate", `Bearer error="invalid_token"`)
}

// cutBearer is what follows the scheme Bearer, in any case (RFC 9110 section 11.1).
func cutBearer(value string) (token string, ok bool) {
	const scheme = "bearer"
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	rest := value[len(scheme):]
	if rest != "" && rest[0] != ' ' {
		return "", false
	}
	return strings.Trim(rest, " "), true
}

// require refuses a caller that has none of the permissions.
func (c *call) require(anyOf ...auth.Permissions) error {
	for _, p := range anyOf {
		if c.principal.Can(p) {
			return nil
		}
	}
	c.op.AuthFailure = AuthScope
	names := make([]string, len(anyOf))
	for i, p := range anyOf {
		names[i] = p.String()
	}
	return refuse(api.CodeDenied, "the permission "+strings.Join(names, " or ")+" is missing").
		with("Www-Authenticate", `Bearer error="insufficient_scope", scope="`+names[0]+`"`)
}

// chooseTenant follows the header Sessiond-Tenant, if there is one.
func (c *call) chooseTenant() error {
	values := c.r.Header[api.HeaderTenant]
	switch {
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return malformed("the header " + api.HeaderTenant + " must not be repeated")
	case values[0] == c.tenant:
		return nil
	case !sessiond.ValidTenant(values[0]) || !c.principal.Can(auth.AnyTenant):
		c.op.AuthFailure = AuthTenant
		return refuse(api.CodeDenied, "the credential may not name this tenant")
	}
	c.tenant = values[0]
	c.op.Tenant = c.tenant
	return nil
}

// manager acts in the call's tenant on behalf of its principal.
func (c *call) manager() *sessiond.Manager {
	p := c.principal
	return c.cfg.Manager.As(c.tenant, sessiond.Actor{Issuer: p.Issuer, Sub: p.Subject, Client: p.Client})
}

// reader is manager, with data only for a principal who may read it.
func (c *call) reader() *sessiond.Manager {
	if c.principal.Can(auth.Read) {
		return c.manager()
	}
	return c.manager().WithoutData()
}

// requestID is the request's own id if it is fit to be repeated, or a new one.
func requestID(values []string) string {
	if len(values) == 1 && validRequestID(values[0]) {
		return values[0]
	}
	// Only to tell requests apart: no secret, so the fast source will do.
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

func validRequestID(s string) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// traceID is the trace-id of a traceparent header of version 00 (W3C Trace Context, section 3.2), or empty.
func traceID(values []string) string {
	if len(values) != 1 {
		return ""
	}
	const form = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	v := values[0]
	if len(v) != len(form) || !strings.HasPrefix(v, "00-") || v[35] != '-' || v[52] != '-' {
		return ""
	}
	id := v[3:35]
	if strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}
