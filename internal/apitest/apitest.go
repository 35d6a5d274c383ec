// Package apitest holds HTTP conversations of tests to the OpenAPI document of
// package api. [New] wraps a transport; every answer that passes through must be
// one that the document promises, and every request that was accepted must be
// one that the document allows.
package apitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"sessiond.example/sessiond/api"
)

// New returns a transport that sends requests through base, nil for
// [http.DefaultTransport], and fails t when a request or an answer contradicts
// the document:
//
//   - an answer with an undocumented status, header, media type or member, without
//     a documented header, or with a body that does not fit its schema;
//   - an answer of 2xx to a request that the document does not have or does not
//     allow. Requests may be wrong on purpose as long as they are refused.
//
// Bodies of answers are read whole before the answer is handed on, except event
// streams, of which only status and headers are checked. The transport is safe
// for concurrent use; what arrives after t has ended is not checked.
func New(t testing.TB, base http.RoundTripper) http.RoundTripper {
	t.Helper()
	spec, err := load()
	if err != nil {
		t.Fatalf("apitest: %v", err)
	}
	if base == nil {
		base = http.DefaultTransport
	}
	tr := &transport{t: t, base: base, spec: spec}
	t.Cleanup(func() {
		tr.mu.Lock()
		tr.ended = true
		tr.mu.Unlock()
	})
	return tr
}

type transport struct {
	t    testing.TB
	base http.RoundTripper
	spec *spec

	mu    sync.Mutex
	ended bool
}

func (tr *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := &recorder{}
	out := sent.watch(req)
	resp, err := tr.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	x := exchange{spec: tr.spec, req: req, sent: sent.bytes(), resp: resp}
	if !x.streams() {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			// What is cut off is for the caller to find, as without us.
			resp.Body = replay{io.MultiReader(bytes.NewReader(b), failing{err}), resp.Body}
			return resp, nil
		}
		x.body = b
		resp.Body = replay{bytes.NewReader(b), resp.Body}
	}
	for _, err := range x.check() {
		tr.fail(req, resp, err)
	}
	return resp, nil
}

func (tr *transport) fail(req *http.Request, resp *http.Response, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.ended {
		tr.t.Errorf("apitest: %s %s -> %d: %v", req.Method, req.URL.Path, resp.StatusCode, err)
	}
}

// CloseIdleConnections makes [http.Client.CloseIdleConnections] reach the base.
func (tr *transport) CloseIdleConnections() {
	if c, ok := tr.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// replay is a body that has been read before, closing the one it was read from.
type replay struct {
	io.Reader
	io.Closer
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// recorder keeps a copy of a request body on its way out. The transport may
// still be reading when the answer is there, hence the lock.
type recorder struct {
	mu  sync.Mutex
	buf []byte
}

const maxRecorded = 1 << 20

// watch is req with a body that is recorded while it is sent.
func (r *recorder) watch(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	out := req.Clone(req.Context())
	out.Body = &recorded{req.Body, r}
	if get := req.GetBody; get != nil {
		out.GetBody = func() (io.ReadCloser, error) {
			body, err := get()
			if err != nil {
				return nil, err
			}
			r.mu.Lock()
			r.buf = nil
			r.mu.Unlock()
			return &recorded{body, r}, nil
		}
	}
	return out
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.buf)
}

type recorded struct {
	io.ReadCloser
	r *recorder
}

func (b *recorded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.r.mu.Lock()
	if room := maxRecorded - len(b.r.buf); room > 0 {
		b.r.buf = append(b.r.buf, p[:min(n, room)]...)
	}
	b.r.mu.Unlock()
	return n, err
}

// An Operation is one operation of the document.
type Operation struct {
	ID          string   // operationId, the name in logs
	Method      string   // of the documented request; see AnyMethod
	Path        string   // as in the document, such as "/sessions/{id}"
	Permissions []string // alternatives; empty for operations that judge their own token
	AnyMethod   bool     // the path and those below it answer any method
}

// Operations lists the operations of the document by ID.
func Operations() ([]Operation, error) {
	spec, err := load()
	if err != nil {
		return nil, err
	}
	var ops []Operation
	for path, item := range spec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			o := Operation{ID: op.OperationID, Method: method, Path: path}
			o.AnyMethod, _ = op.Extensions["x-any-method"].(bool)
			list, ok := op.Extensions["x-permissions"].([]any)
			if !ok {
				return nil, fmt.Errorf("%s: x-permissions is not a list", op.OperationID)
			}
			for _, p := range list {
				o.Permissions = append(o.Permissions, fmt.Sprint(p))
			}
			ops = append(ops, o)
		}
	}
	slices.SortFunc(ops, func(a, b Operation) int { return strings.Compare(a.ID, b.ID) })
	return ops, nil
}

var load = sync.OnceValues(func() (*spec, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("load the OpenAPI document: %w", err)
	}
	s, err := newSpec(doc)
	if err != nil {
		return nil, errors.Join(errors.New("the OpenAPI document can't be used"), err)
	}
	return s, nil
})
