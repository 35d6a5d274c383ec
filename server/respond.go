package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// Answers are on the hot path. Header values that never change are slices made once, the others lie in the call, under
// keys that are canonical already; bodies are appended to pooled buffers and written at once with their length.

// Shared header values. Nobody may change them.
var (
	valueNoStore   = []string{"no-store"}
	valueNoSniff   = []string{"nosniff"}
	valueCSP       = []string{"default-src 'none'; frame-ancestors 'none'"}
	valueNoReferer = []string{"no-referrer"}
	valueJSON      = []string{api.MediaJSON}
	valueProblem   = []string{api.MediaProblem}
)

// setCommonHeaders sets what every answer has.
func (c *call) setCommonHeaders() {
	h := c.w.Header()
	h["Cache-Control"] = valueNoStore
	h["X-Content-Type-Options"] = valueNoSniff
	h["Content-Security-Policy"] = valueCSP
	h["Referrer-Policy"] = valueNoReferer
	c.set(api.HeaderRequestID, c.op.RequestID)
}

// set sets a header under its canonical key.
func (c *call) set(key, value string) {
	if c.used == len(c.values) {
		c.w.Header().Set(key, value)
		return
	}
	i := c.used
	c.values[i] = value
	c.used++
	c.w.Header()[key] = c.values[i : i+1 : i+1]
}

// buffers hold bodies on their way out. They are cleared after use: bodies may have data and tokens.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 2048)) }}

// writeWith answers with the body that appendBody appends to a buffer.
func (c *call) writeWith(status int, contentType []string, appendBody func([]byte) []byte) {
	const keep = 64 << 10
	buf := buffers.Get().(*[]byte)
	b := append(appendBody((*buf)[:0]), '\n')
	c.write(status, contentType, b)
	clear(b)
	if cap(b) <= keep {
		*buf = b[:0]
		buffers.Put(buf)
	}
}

// write answers with a body. net/http itself tells the length of a body that fits into its buffer of 2 KiB, cheaper than
// with a header of ours; it has to be told of larger ones, and of those that a HEAD only asks about.
func (c *call) write(status int, contentType []string, body []byte) {
	const buffered = 2 << 10
	c.w.Header()["Content-Type"] = contentType
	if len(body) > buffered || c.r.Method == http.MethodHead {
		c.set("Content-Length", strconv.Itoa(len(body)))
	}
	c.writeHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body) // fails when the client has gone, and then nobody waits for the answer
	}
}

// writeEmpty answers without a body.
func (c *call) writeEmpty(status int) {
	if status != http.StatusNoContent {
		c.set("Content-Length", "0")
	}
	c.writeHeader(status)
}

func (c *call) writeHeader(status int) {
	c.op.Status, c.sent = status, true
	c.w.WriteHeader(status)
}

// writeSession answers with a session, and its token if that is not empty.
func (c *call) writeSession(status int, s *sessiond.Session, token sessiond.Token) {
	c.set("Etag", string(s.ETag))
	c.op.Reason = s.EndReason
	c.writeWith(status, valueJSON, func(b []byte) []byte { return api.AppendSession(b, s, token) })
}

// writeMessage answers 200 with one of the messages of package api.
func (c *call) writeMessage(message any) error {
	b, err := api.Marshal(message)
	if err != nil {
		return err
	}
	c.write(http.StatusOK, valueJSON, append(b, '\n'))
	return nil
}

// A refusal is an error that is a problem of HTTP itself, not one of package sessiond.
type refusal struct {
	code        api.Code
	detail      string // shown to the caller
	key, header string // one more header of the answer, if key is not empty
}

func (e *refusal) Error() string { return string(e.code) + ": " + e.detail }

func refuse(code api.Code, detail string) *refusal { return &refusal{code: code, detail: detail} }

// malformed refuses input that is not what HTTP or JSON want, or a bad parameter.
func malformed(detail string) *refusal { return refuse(api.CodeMalformed, detail) }

// with adds a header to the answer.
func (e *refusal) with(key, value string) *refusal {
	e.key, e.header = key, value
	return e
}

// fail answers with the problem document of an error. No other place writes one.
func (c *call) fail(err error) {
	p := c.problem(err)
	p.RequestID = c.op.RequestID
	if p.Status == http.StatusServiceUnavailable {
		c.set("Retry-After", strconv.Itoa(1+rand.IntN(3)))
	}
	if c.oauth {
		p.OAuth = oauthError(p, c.op.AuthFailure)
	}
	b, err := api.Marshal(p)
	if err != nil {
		// Nothing in a problem can fail to be encoded; if it does, the status still tells.
		c.cfg.Logger.Error("problem not encoded", "request_id", c.op.RequestID, "err", err)
	}
	c.write(p.Status, valueProblem, append(b, '\n'))
}

// problem is the document that tells the caller of err.
func (c *call) problem(err error) *api.Problem {
	var refused *refusal
	if errors.As(err, &refused) {
		if refused.key != "" {
			c.set(refused.key, refused.header)
		}
		p := api.NewProblem(refused.code, refused.detail)
		if p.Status == http.StatusServiceUnavailable {
			c.setApplied(p, api.AppliedNo)
		}
		return p
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		// The client has gone, most likely. The stores promise that nothing was applied.
		if !errors.Is(err, sessiond.ErrUnknown) {
			err = sessiond.ErrUnavailable
		}
	}
	p := api.FromError(err)
	switch p.Status {
	case http.StatusServiceUnavailable:
		c.setApplied(p, p.Applied)
		if c.ctx.Err() == nil {
			c.cfg.Logger.Warn("store unavailable", "request_id", c.op.RequestID, "op", c.op.Op, "err", err)
		}
	case http.StatusInternalServerError:
		if !errors.Is(err, errPanic) {
			c.cfg.Logger.Error("request failed", "request_id", c.op.RequestID, "op", c.op.Op, "err", err)
		}
	}
	return p
}

// setApplied says what became of a write. Other requests have nothing to apply.
func (c *call) setApplied(p *api.Problem, applied string) {
	p.Applied = ""
	if c.route != nil && c.route.write {
		p.Applied = applied
	}
}

// oauthError is the error code of RFC 6749 section 5.2, RFC 6750 section 3.1 and RFC 7009 section 2.2.1 for a problem.
func oauthError(p *api.Problem, authFailure string) string {
	switch p.Status {
	case http.StatusUnauthorized:
		if authFailure == AuthMissing {
			return "invalid_client"
		}
		return "invalid_token"
	case http.StatusForbidden:
		if authFailure == AuthScope {
			return "insufficient_scope"
		}
		return "access_denied"
	case http.StatusServiceUnavailable:
		return "temporarily_unavailable"
	case http.StatusInternalServerError:
		return "server_error"
	default:
		return "invalid_request"
	}
}
