// Package client talks to a sessiond server. A [Client] has the methods of
// [sessiond.Manager] with the same meaning, parameters and errors, so a program
// moves from an embedded manager to a server by changing one line:
//
//	sessions, err := client.New(client.Config{Server: "https://sessiond:8080", Token: token})
//
// The tenant and the actor are those of the credential.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// Config is what [New] needs.
type Config struct {
	Server string // base URL, such as https://sessiond:8080. Required
	// Token gives the OIDC access token for a request; it should cache. Required
	Token func(context.Context) (string, error)
	// Tenant names another tenant than the credential's own, which takes the
	// permission sessions:any-tenant. Default: the credential's
	Tenant string
	// Transport sends requests. Default: http.DefaultTransport
	Transport http.RoundTripper
}

// StaticToken is a Config.Token that always gives the same token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// Errors that only a remote service has. Methods also return the errors of
// [sessiond.Manager]; every answer that is not a success is an [*Error].
var (
	// ErrUnauthenticated: the server does not accept the credential.
	ErrUnauthenticated = errors.New("credential not accepted")
	// ErrDenied: the credential lacks a permission, or may not name the tenant.
	ErrDenied = errors.New("permission denied")
)

// An Error is an answer that is not a success. It matches the sentinel that the
// problem stands for.
type Error struct {
	Problem *api.Problem
	err     error
}

func (e *Error) Error() string {
	text := e.Problem.Title
	if e.Problem.Detail != "" {
		text += ": " + e.Problem.Detail
	}
	for _, f := range e.Problem.Errors {
		text += "; " + strings.TrimSpace(f.Pointer+" "+f.Detail)
	}
	if e.Problem.RequestID != "" {
		text += " (request " + e.Problem.RequestID + ")"
	}
	return text
}

// Unwrap is the sentinel, or the [*sessiond.EndedError] or
// [*sessiond.InvalidError], that the problem stands for; nil for none.
func (e *Error) Unwrap() error { return e.err }

// A Client is a remote [sessiond.Manager]. It is safe for concurrent use. It
// does not retry, except that net/http may repeat reads, and creates with an
// IdempotencyKey, on another connection: an error that matches
// [sessiond.ErrUnavailable] tells that a write was not applied,
// [sessiond.ErrUnknown] that it may have been.
type Client struct {
	cfg  Config
	base string
	http *http.Client
}

// New makes a client. It does not connect.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.Server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("client: server must be a URL such as https://sessiond:8080")
	}
	if cfg.Token == nil {
		return nil, errors.New("client: Config.Token is required")
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		cfg:  cfg,
		base: strings.TrimRight(cfg.Server, "/"),
		http: &http.Client{Transport: cfg.Transport, CheckRedirect: refuse},
	}, nil
}

// InTenant is a client for another tenant, as with Config.Tenant.
func (c *Client) InTenant(tenant string) *Client {
	o := *c
	o.cfg.Tenant = tenant
	return &o
}

// A call is one request.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	media        string // of body
	body         []byte
	limit        int64 // of the answer's body; 0: enough for a session
	token        bool  // the answer must have a token
}

const (
	oneSession   = 1 << 20
	manySessions = 64 << 20
)

// write reports whether the call may change something.
func (r *call) write() bool {
	return r.method != http.MethodGet && r.path != api.PathVerify && r.path != api.PathIntrospect
}

// send sends a request with the credential and returns its successful answer,
// whose body the caller closes.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // of a write, too: nothing was sent
	}
	u := c.base + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.media != "" {
		req.Header.Set("Content-Type", r.media)
	}
	if c.cfg.Tenant != "" {
		req.Header.Set(api.HeaderTenant, c.cfg.Tenant)
	}
	if id := sessiond.RequestID(ctx); id != "" {
		req.Header.Set(api.HeaderRequestID, id)
	}
	credential, err := c.cfg.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: no credential: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, r.transportError(ctx, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, r.answerError(resp)
}

// transportError says what a failure to get an answer means.
func (r *call) transportError(ctx context.Context, err error) error {
	var dial *net.OpError
	unsent := errors.As(err, &dial) && dial.Op == "dial"
	if r.header[api.HeaderIdempotencyKey] != nil {
		// net/http repeats such a request by itself when a connection breaks: that
		// the last attempt was not sent says nothing of the first.
		unsent = false
	}
	switch {
	case r.write() && !unsent:
		return fmt.Errorf("%w: %w", sessiond.ErrUnknown, err)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%w: %w", sessiond.ErrUnavailable, err)
	}
}

// answerError turns an answer that is not a success into an [*Error]. Answers
// that do not come from a sessiond, such as a proxy's, are never taken for one.
func (r *call) answerError(resp *http.Response) error {
	p := &api.Problem{}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || media(resp) != api.MediaProblem || api.Unmarshal(body, p) != nil || p.Code() == "" {
		sentinel := sessiond.ErrUnavailable
		if r.write() {
			sentinel = sessiond.ErrUnknown
		}
		return fmt.Errorf("%w: %s %s was answered %d by something that is not sessiond",
			sentinel, r.method, r.path, resp.StatusCode)
	}
	e := &Error{Problem: p, err: p.Err()}
	switch p.Code() {
	case api.CodeMalformed:
		e.err = r.malformed(p)
	case api.CodeUnauthenticated:
		e.err = ErrUnauthenticated
	case api.CodeDenied:
		e.err = ErrDenied
		if strings.HasSuffix(r.path, "/rotate") && resp.Header.Get("WWW-Authenticate") == "" {
			e.err = sessiond.ErrToken
		}
	}
	return e
}

// malformed says what a manager would have called an input that the server
// could not read. Only a patch is JSON of the caller's; the rest is parameters.
func (r *call) malformed(p *api.Problem) error {
	switch {
	case r.media == api.MediaMergePatch:
		return sessiond.ErrMalformed
	case r.query.Has("cursor"):
		return sessiond.ErrCursor
	default:
		return &sessiond.InvalidError{Fields: []sessiond.FieldError{{Detail: p.Detail}}}
	}
}

// do sends a request and decodes its JSON answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, r call, out any) (http.Header, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if r.limit == 0 {
		r.limit = oneSession
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, r.limit+1))
	switch {
	case err != nil:
		return nil, r.transportError(ctx, err)
	case out == nil && (len(body) > 0 || resp.Header.Get(api.HeaderRequestID) == ""):
		err = errNotOurs
	case out == nil:
		return resp.Header, nil
	case int64(len(body)) > r.limit:
		err = errors.New("the answer is too large")
	case media(resp) != api.MediaJSON:
		err = errors.New("the answer is not JSON")
	default:
		err = api.Unmarshal(body, out)
	}
	if err != nil {
		return nil, r.transportError(ctx, err)
	}
	return resp.Header, nil
}

var errNotOurs = errors.New("the answer is not one of sessiond")

func media(resp *http.Response) string {
	m, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return m
}

// session sends a request that is answered with a session.
func (c *Client) session(ctx context.Context, r call) (*sessiond.Session, sessiond.Token, error) {
	var wire api.Session
	header, err := c.do(ctx, r, &wire)
	if err != nil {
		return nil, "", err
	}
	s, err := wire.Session(c.tenant(), sessiond.ETag(header.Get("ETag")))
	if err == nil && r.token && wire.Token == "" {
		err = errors.New("the answer has no token")
	}
	if err != nil {
		return nil, "", r.transportError(ctx, err)
	}
	return s, sessiond.Token(wire.Token), nil
}

// tenant is the tenant of what the server answers, as far as the client knows.
func (c *Client) tenant() string { return c.cfg.Tenant }

func sessionPath(id sessiond.ID, suffix string) string {
	return api.PathSessions + "/" + url.PathEscape(string(id)) + suffix
}

func ifMatch(h http.Header, tags []sessiond.ETag) http.Header {
	if len(tags) == 0 {
		return h
	}
	if h == nil {
		h = http.Header{}
	}
	values := make([]string, len(tags))
	for i, t := range tags {
		values[i] = string(t)
	}
	h.Set("If-Match", strings.Join(slices.Compact(values), ", "))
	return h
}
