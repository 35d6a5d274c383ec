package faultmatrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
	"sessiond.example/sessiond/internal/behaviour"
	"sessiond.example/sessiond/server"
)

// RunHTTP checks what a server over the store answers: the truth, or 503 with
// what has become of a write; never that a session or a credential is unknown,
// because the store is not there.
func RunHTTP(t *testing.T, open func(t testing.TB) Target) {
	h := newService(t, newSuite(t, open(t)))
	for _, f := range h.target.Lasting {
		t.Run(f.Name, func(t *testing.T) { h.lasting(t, f) })
	}
	for _, c := range h.target.Cuts {
		t.Run(c.Name, func(t *testing.T) { h.cut(t, c) })
	}
}

// A service is a server over the store, and a manager over the observer.
type service struct {
	*suite
	url     string
	http    *http.Client
	client  *client.Client
	manager *sessiond.Manager // sees what is there
	names   int               // so far
}

func newService(t *testing.T, s *suite) *service {
	t.Helper()
	manager := func(store sessiond.Store) *sessiond.Manager {
		m, err := sessiond.New(sessiond.Config{
			Store: store, Sealer: sessiond.NoSealing{}, Policy: sessiond.DefaultPolicy(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	remote := behaviour.Serve(t, server.Config{
		Manager: manager(s.store), Gateways: map[string]server.Gateway{"web": {Tenant: sessiond.DefaultTenant}},
	})
	return &service{
		suite: s, url: remote.URL, client: remote.Client, manager: manager(s.observer),
		http: &http.Client{Transport: remote.Transport, Timeout: s.target.Patience + slack},
	}
}

// A route is one request to the server. In path and body {id} and {token} are
// those of its session, {subject} is the session's subject.
type route struct {
	name, method, path, body string
	write                    bool
	status                   int // of success
	credential               string
	// applied reports whether the write has happened: got is the session, or the
	// error of getting it.
	applied func(got *sessiond.Session, err error) bool
}

func changed(got *sessiond.Session, err error) bool { return err == nil && got.Version > 1 }

func revoked(_ *sessiond.Session, err error) bool { return errors.Is(err, sessiond.ErrEnded) }

func erased(_ *sessiond.Session, err error) bool { return errors.Is(err, sessiond.ErrNotFound) }

func routes() []route {
	const form = "token={token}"
	return []route{
		{name: "create", method: "POST", path: "/sessions/", body: `{"id":"{id}-new"}`, write: true, status: 201},
		{name: "get", method: "GET", path: "/sessions/{id}", status: 200},
		{name: "put", method: "PUT", path: "/sessions/{id}", body: `{"data":{"a":1}}`, write: true, status: 200,
			applied: changed},
		{name: "patch", method: "PATCH", path: "/sessions/{id}", body: `{"data":{"a":2}}`, write: true, status: 200,
			applied: changed},
		{name: "delete", method: "DELETE", path: "/sessions/{id}", write: true, status: 204, applied: revoked},
		{name: "erase", method: "DELETE", path: "/sessions/{id}?erase=true", write: true, status: 204, applied: erased},
		{name: "touch", method: "POST", path: "/sessions/{id}/touch", write: true, status: 200},
		{name: "rotate", method: "POST", path: "/sessions/{id}/rotate", write: true, status: 200, applied: changed},
		{name: "list", method: "GET", path: "/sessions/?subject={subject}", status: 200},
		{name: "revoke-subject", method: "DELETE", path: "/sessions/?subject={subject}", write: true, status: 200,
			applied: revoked},
		{name: "verify", method: "POST", path: "/verify", body: `{"token":"{token}"}`, status: 200},
		{name: "introspect", method: "POST", path: "/introspect", body: form, status: 200},
		{name: "revoke", method: "POST", path: "/revoke", body: form, write: true, status: 200, applied: revoked},
		{name: "auth", method: "GET", path: "/auth/web", credential: "{token}", status: 200},
	}
}

// A visit is one request and what came of it.
type visit struct {
	route
	session *sessiond.Session
	answer  struct {
		status int
		header http.Header
		body   string
	}
	err error
}

// visit makes a session for a request.
func (h *service) visit(t *testing.T, r route) *visit {
	t.Helper()
	h.names++
	name := fmt.Sprintf("visit-%d", h.names)
	s, token, err := h.manager.Create(t.Context(), sessiond.CreateParams{
		ID: sessiond.ID(name), Subject: "subject-of-" + name,
	})
	if err != nil {
		t.Fatalf("%s: create a session before the fault: %v", r.name, err)
	}
	fill := strings.NewReplacer("{id}", name, "{subject}", s.Subject, "{token}", string(token))
	r.path, r.body, r.credential = fill.Replace(r.path), fill.Replace(r.body), fill.Replace(r.credential)
	if r.credential == "" {
		r.credential = "credential"
	}
	return &visit{route: r, session: s}
}

// request sends the request.
func (h *service) request(ctx context.Context, v *visit) {
	req, err := http.NewRequestWithContext(ctx, v.method, h.url+v.path, strings.NewReader(v.body))
	if err != nil {
		v.err = err
		return
	}
	req.Header.Set("Authorization", "Bearer "+v.credential)
	switch {
	case v.method == http.MethodPatch:
		req.Header.Set("Content-Type", "application/merge-patch+json")
	case strings.HasPrefix(v.body, "token="):
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case v.body != "":
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.http.Do(req)
	if err != nil {
		v.err = err
		return
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, v.err = io.Copy(&body, resp.Body)
	v.answer.status, v.answer.header, v.answer.body = resp.StatusCode, resp.Header, body.String()
}

// judge compares the answer with what is there.
func (h *service) judge(t *testing.T, v *visit) {
	t.Helper()
	if v.err != nil {
		t.Errorf("no answer: %v", v.err)
		return
	}
	var problem struct {
		Type    string `json:"type"`
		Applied string `json:"applied"`
	}
	a := &v.answer
	switch a.status {
	case v.status:
		var said struct {
			Active *bool `json:"active"`
		}
		if v.status == http.StatusOK && v.method == http.MethodPost && !v.write {
			if err := json.Unmarshal([]byte(a.body), &said); err != nil || said.Active == nil || !*said.Active {
				t.Errorf("the token of a live session is answered with %s", a.body)
			}
		}
	case http.StatusServiceUnavailable:
		if err := json.Unmarshal([]byte(a.body), &problem); err != nil {
			t.Errorf("the problem %q: %v", a.body, err)
		}
		if problem.Type != "urn:sessiond:problem:store-unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("answers 503 with %q, Retry-After %q", a.body, a.header.Get("Retry-After"))
		}
		if v.write != (problem.Applied == "no" || problem.Applied == "unknown") {
			t.Errorf("answers 503 with applied %q", problem.Applied)
		}
	default:
		t.Errorf("answers %d %s", a.status, a.body)
	}
	h.compare(t, v, a.status == v.status, problem.Applied)
}

// compare holds what an answer says of a write to what is there.
func (h *service) compare(t *testing.T, v *visit, succeeded bool, applied string) {
	t.Helper()
	id, happened := v.session.ID, v.applied
	if v.name == "create" {
		id += "-new"
		happened = func(_ *sessiond.Session, err error) bool { return err == nil }
	}
	got, err := h.manager.Get(t.Context(), id)
	if err != nil && !errors.Is(err, sessiond.ErrNotFound) && !errors.Is(err, sessiond.ErrEnded) {
		t.Fatalf("get after the fault: %v", err)
	}
	if happened == nil {
		return // it can't be seen
	}
	switch done := happened(got, err); {
	case succeeded && !done:
		t.Errorf("answers success, and nothing was done: the session is %+v, %v", got, err)
	case applied == "no" && done:
		t.Errorf(`answers with "applied":"no", and it was: the session is %+v, %v`, got, err)
	}
}

// lasting sends all requests at once under a fault.
func (h *service) lasting(t *testing.T, f Lasting) {
	h.awaitAnswers(t, "before the fault")
	var visits []*visit
	for _, r := range routes() {
		visits = append(visits, h.visit(t, r))
	}
	id := h.visit(t, routes()[1]).session.ID
	f.Begin(t)
	var wg sync.WaitGroup
	for _, v := range visits {
		wg.Go(func() { h.request(t.Context(), v) })
	}
	var getErr, touchErr error
	wg.Go(func() { _, getErr = h.client.Get(t.Context(), id) })
	wg.Go(func() { _, touchErr = h.client.Touch(t.Context(), id) })
	wg.Wait()
	f.End(t)
	h.awaitAnswers(t, "after the fault")
	time.Sleep(settleAfter)
	statuses := make(map[int]int)
	for _, v := range visits {
		statuses[v.answer.status]++
		t.Run(v.name, func(t *testing.T) { h.judge(t, v) })
	}
	t.Logf("%d requests, by status: %v", len(visits), statuses)
	if getErr != nil && !errors.Is(getErr, sessiond.ErrUnavailable) {
		t.Errorf("the client's Get returns %v", getErr)
	}
	if touchErr != nil && !errors.Is(touchErr, sessiond.ErrUnavailable) && !errors.Is(touchErr, sessiond.ErrUnknown) {
		t.Errorf("the client's Touch returns %v", touchErr)
	}
}

// cut sends the requests one by one, with each request to the store cut in turn.
func (h *service) cut(t *testing.T, f Cut) {
	for _, r := range routes() {
		t.Run(r.name, func(t *testing.T) {
			for skip := range mostCuts {
				h.awaitAnswers(t, "before the fault")
				v := h.visit(t, r)
				f.Arm(skip)
				h.request(t.Context(), v)
				met := f.Met()
				f.End(t)
				if !met && v.answer.status != v.status {
					t.Errorf("nothing is disturbed, and the answer is %d %s", v.answer.status, v.answer.body)
				}
				h.judge(t, v)
				if !met || t.Failed() {
					return
				}
			}
		})
	}
}
