// Package server is the HTTP service: it decides who may do what, reads requests strictly, and answers with what a
// [sessiond.Manager] says.
//
// [New] makes the handler and [NewHTTPServer] an [http.Server] with bounds that fit it:
//
//	s, err := server.New(server.Config{Manager: manager, Verifier: verifier})
//	h := server.NewHTTPServer(s, logger)
//	go h.Serve(listener)
//	...
//	s.Shutdown()    // ends the event streams
//	h.Shutdown(ctx) // waits for the other requests
//
// routes.go lists everything that is served. A request goes through [Server.ServeHTTP], which does in one place what
// all routes have in common (endpoint.go), to the handler of its route, which returns an error or has answered. Errors
// become problem documents (RFC 9457) in respond.go and nowhere else.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/internal/admission"
)

// Config is what [New] needs.
type Config struct {
	Manager  *sessiond.Manager // what is served, in all tenants. Required
	Verifier Verifier          // judges the callers' credentials. Required
	// Logout judges the logout tokens of issuers. Default: none is accepted
	Logout LogoutVerifier
	// Gateways may ask for forward authentication, each under the path /auth/ and its name. Default: none
	Gateways map[string]Gateway
	// MaxBody is the largest size of a request body in bytes, at least 1 KiB. Default 64 KiB
	MaxBody int64
	// Heartbeat is the longest silence of an event stream, at least 10ms. Default 15s
	Heartbeat time.Duration
	// MaxStreams is how many event streams may be open at once; further ones are answered with 503. Default 1000
	MaxStreams int
	// MaxInFlight is how many requests may be in the works at once, at least 64; event streams are not counted. Part of it
	// is kept for those that end sessions; see admission.go. Further ones are answered with 503. Default 2048
	MaxInFlight int
	// Observe is called once for every request, by its goroutine, after the answer was written. Default: none
	Observe func(Operation)
	// Trace begins the trace of a request, before anything is done for it. The context goes to everything that follows,
	// traceID to Operation.TraceID, and end is called once, where Observe is. Default: none
	Trace func(*http.Request) (_ context.Context, traceID string, end func(Operation))
	// StreamOpened and StreamClosed are called when an event stream begins and ends. Default: none
	StreamOpened, StreamClosed func()
	// Logger is told of bugs and of stores that fail, with the request id, never of what requests carry. Default: none
	Logger *slog.Logger
}

// A Verifier judges credentials, as [auth.Verifier] does. Its errors match one of the sentinels of package auth; any
// other error counts as [auth.ErrUnavailable].
type Verifier interface {
	Verify(ctx context.Context, raw string) (*auth.Principal, error)
}

// A Gateway is a reverse proxy that asks, for each request that it passes on, whose session it belongs to.
type Gateway struct {
	Tenant     string // only sessions of this tenant are accepted. Required
	CookieName string // of the cookie that carries the token. Default: none, only Authorization is looked at
	NoTouch    bool   // asking is not activity of the session's holder. Default false
	// ForeignCookies carry the tokens of other systems, as they are in the cookie, whose sessions were imported; see
	// sessiond.Manager.ImportForeign. They are looked at when a request has no token of ours. CookieName may be one of
	// them: then the token's prefix tells whose it is. At most 16. Default: none
	ForeignCookies []string
}

// An Operation is one finished request. It has room for neither data nor secrets.
type Operation struct {
	Op        string        // what was asked for, such as "create" or "verify"; empty if no route matched
	Route     string        // path pattern that matched, such as "/sessions/{id}"; empty if none did
	Method    string        // of the request; any text that a client sends
	Status    int           // of the answer
	Duration  time.Duration // from the request's header to the answer's end; of an event stream, its whole life
	SessionID string        // empty when no single session was meant, or the id can't be one
	Tenant    string        // in which the request acted; empty before the credential was accepted
	Principal string        // the credential's subject; empty before it was accepted, and for gateways
	RequestID string        // as in the answer's X-Request-Id
	// TraceID is that of the request's traceparent (W3C Trace Context), or what Config.Trace said; empty without both
	TraceID string
	// Reason is why the session ended, when the request asked for its end or caused it; else empty
	Reason sessiond.EndReason
	// AuthFailure is why the credential was refused, else empty: a reason of [auth.Error] or one of AuthMissing,
	// AuthMultiple, AuthScope and AuthTenant. Tokens of sessions are no credentials.
	AuthFailure string
}

// Values of Operation.AuthFailure that do not come from package auth.
const (
	AuthMissing  = "missing"         // no credential
	AuthMultiple = "multiple"        // more than one
	AuthScope    = "scope"           // a permission is missing
	AuthTenant   = auth.ReasonTenant // a tenant that the credential may not name
)

// A Server is the [http.Handler] of the API. It is safe for concurrent use.
type Server struct {
	cfg      Config
	table    table
	gateways map[string]*gateway
	gate     *admission.Gate
	streams  atomic.Int64
	closing  context.Context // ends with Shutdown
	shutdown context.CancelFunc
}

// New makes a server. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Manager == nil || cfg.Verifier == nil {
		return nil, errors.New("server: Config.Manager and Config.Verifier are required")
	}
	setDefault(&cfg.MaxBody, 64<<10)
	setDefault(&cfg.Heartbeat, 15*time.Second)
	setDefault(&cfg.MaxStreams, 1000)
	setDefault(&cfg.MaxInFlight, 2048)
	if cfg.MaxBody < 1<<10 || cfg.Heartbeat < 10*time.Millisecond || cfg.MaxStreams < 1 || cfg.MaxInFlight < 64 {
		return nil, errors.New("server: MaxBody must be at least 1 KiB, Heartbeat 10ms, MaxStreams 1 and MaxInFlight 64")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, table: newTable(routes()), gateways: make(map[string]*gateway, len(cfg.Gateways))}
	s.gate = newGate(cfg.MaxInFlight)
	s.closing, s.shutdown = context.WithCancel(context.Background())
	for name, g := range cfg.Gateways {
		if !validGatewayName(name) {
			return nil, fmt.Errorf("server: gateway %q: the name must be of [A-Za-z0-9._~-], neither one dot nor two", name)
		}
		if !sessiond.ValidTenant(g.Tenant) {
			return nil, fmt.Errorf("server: gateway %q: the tenant must have 1 to 63 characters of [a-z0-9-]", name)
		}
		if g.CookieName != "" && !validCookieName(g.CookieName) {
			return nil, fmt.Errorf("server: gateway %q: a cookie can't have this name (RFC 6265 section 4.1.1)", name)
		}
		for i, cookie := range g.ForeignCookies {
			if !validCookieName(cookie) || slices.Contains(g.ForeignCookies[:i], cookie) || i >= maxForeignCookies {
				return nil, fmt.Errorf("server: gateway %q: %q is not one of up to %d different names of foreign cookies",
					name, cookie, maxForeignCookies)
			}
		}
		// No data is asked for, so none is decrypted.
		s.gateways[name] = &gateway{Gateway: g, manager: cfg.Manager.As(g.Tenant, sessiond.Actor{}).WithoutData()}
	}
	return s, nil
}

const maxForeignCookies = 16

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func validGatewayName(s string) bool {
	const unreserved = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-" // RFC 3986 section 2.3
	return s != "" && s != "." && s != ".." && strings.Trim(s, unreserved) == ""
}

func validCookieName(s string) bool {
	cookie := http.Cookie{Name: s, Value: "x"}
	return cookie.Valid() == nil
}

// Shutdown ends all event streams and refuses new ones. Call it before [http.Server.Shutdown], which would wait for
// them. It may be called more than once.
func (s *Server) Shutdown() { s.shutdown() }
