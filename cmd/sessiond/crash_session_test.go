package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
)

// A shadow is what a writer knows of one of its sessions.
type shadow struct {
	params  sessiond.CreateParams // of its create
	acked   *sessiond.Session     // as the last answer showed it, live; nil before the first
	end     *sessiond.Session     // set once it is known to have ended
	token   sessiond.Token        // the current one; empty when its answer was lost
	dead    []sessiond.Token      // superseded ones
	pending *pending              // the operation whose outcome is unknown
	history []change              // what made its versions
	changed bool                  // since it was last checked
	unseen  bool                  // it has ended before its id was known
}

// A change is what the event of one version must tell.
type change struct {
	typ      sessiond.EventType
	requests []string // it carries the id of one of them
	reason   sessiond.EndReason
	optional bool // it may not have happened
}

// A pending operation may or may not have been applied.
type pending struct {
	op     string
	after  func(*sessiond.Session) // makes the session before it the one after it
	reason sessiond.EndReason      // of a revoke
	acked  bool                    // of a revoke: answered, so it only may have come after the expiry
}

const (
	opCreate = "create"
	opTouch  = "touch"
	opRotate = "rotate"
	opRevoke = "revoke"
	opUpdate = "update"
)

// A writer is the only one to write to its sessions. Its sessions have its name
// as subject.
type writer struct {
	t      *testing.T
	remote *client.Client
	name   string
	random *rand.Rand

	live, over []*shadow
	steps      int
	requests   int

	served time.Time // latest service time that an answer has shown
	passed time.Time // service time that must have passed, since sessions have expired at it
}

func newWriter(t *testing.T, remote *client.Client, name string, seed uint64) *writer {
	return &writer{t: t, remote: remote, name: name, random: rand.New(rand.NewPCG(seed, 1))}
}

func (w *writer) all() []*shadow { return append(slices.Clone(w.over), w.live...) }

// step does one operation and reports whether the server still answers.
func (w *writer) step() bool {
	w.steps++
	n := w.random.IntN(100)
	if len(w.live) < 6 && n < 40 || len(w.live) == 0 {
		return w.create()
	}
	s := w.live[w.random.IntN(len(w.live))]
	switch {
	case n < 30:
		return w.update(s)
	case n < 50:
		return w.patch(s)
	case n < 65:
		return w.touch(s)
	case n < 75:
		return w.rotate(s)
	case n < 83:
		return w.revoke(s)
	case n < 88 && s.params.IdempotencyKey != "" && s.acked.Version == 1:
		return w.recreate(s)
	case n < 94:
		return w.verify(s)
	default:
		return w.get(s)
	}
}

// request is the context of the next request, with an id of its own.
func (w *writer) request() (ctx context.Context, cancel func(), id string) {
	w.requests++
	id = fmt.Sprintf("%s.%d", w.name, w.requests)
	ctx, cancel = context.WithTimeout(sessiond.WithRequestID(context.Background(), id), 10*time.Second)
	return ctx, cancel, id
}

// create begins a session.
func (w *writer) create() bool {
	ctx, cancel, request := w.request()
	defer cancel()
	s := &shadow{params: w.newParams(request), changed: true}
	s.history = []change{{typ: sessiond.EventCreated, requests: []string{request}, optional: true}}
	got, token, err := w.remote.Create(ctx, s.params)
	var answered *client.Error
	switch {
	case err == nil:
		w.created(s, got, token)
		w.time(got.CreatedAt)
		w.live = append(w.live, s)
		return true
	case errors.As(err, &answered):
		w.t.Errorf("create %+v was answered %v", s.params, err)
		return false
	case errors.Is(err, sessiond.ErrUnavailable) && s.params.IdempotencyKey == "":
		return false // never sent
	default:
		// net/http repeats a request with Idempotency-Key by itself, so a refused
		// connection does not tell that it was never sent.
		s.pending = &pending{op: opCreate}
		w.live = append(w.live, s)
		return false
	}
}

// recreate repeats an idempotent create, whether or not its first answer came.
func (w *writer) recreate(s *shadow) bool {
	ctx, cancel, request := w.request()
	defer cancel()
	s.changed = true
	got, token, err := w.remote.Create(ctx, s.params)
	var answered *client.Error
	switch {
	case err == nil && s.acked == nil:
		s.history[0].requests = append(s.history[0].requests, request)
		w.created(s, got, token)
		return true
	case err == nil:
		s.dead = append(s.dead, s.token)
		s.token = token
		w.same(s, "repeated create", s.acked, got)
		return true
	case errors.Is(err, sessiond.ErrExists) && w.mayHaveExpired(s):
		if s.acked == nil {
			w.isOver(s)
			s.unseen, s.pending = true, nil
		}
		return true // another operation will find out
	case errors.As(err, &answered):
		w.t.Errorf("repeated create %+v was answered %v", s.params, err)
		return false
	default:
		s.token = "" // it may have been replaced
		return false
	}
}

func (w *writer) newParams(request string) sessiond.CreateParams {
	p := sessiond.CreateParams{
		Subject: w.name,
		Data:    jsontext.Value(fmt.Sprintf(`{"n":0,"pad":%q}`, strings.Repeat("x", w.random.IntN(1000)))),
		Labels:  map[string]string{"made": "by-" + request},
	}
	switch w.random.IntN(3) {
	case 0:
		p.ID = sessiond.ID("crash-" + request)
		p.IdempotencyKey = request
	case 1:
		p.IdempotencyKey = request
	default:
		p.ID = sessiond.ID("crash-" + request)
	}
	short := time.Duration(1+w.random.IntN(2)) * time.Second
	switch w.random.IntN(6) {
	case 0:
		p.ExpiresIn = &short
	case 1:
		p.IdleTimeout = &short
	}
	return p
}

func (w *writer) update(s *shadow) bool {
	n := w.random.IntN(1 << 30)
	p := sessiond.UpdateParams{Data: jsontext.Value(fmt.Sprintf(`{"n":%d}`, n))}
	if n%4 == 0 {
		p.Labels = map[string]string{"n": fmt.Sprint(n)}
	}
	after := func(want *sessiond.Session) {
		want.Data = p.Data
		if p.Labels != nil {
			want.Labels = p.Labels
		}
	}
	return w.write(s, opUpdate, sessiond.EventUpdated, after, func(ctx context.Context) (*sessiond.Session, error) {
		if n%2 == 0 {
			p.IfMatch = []sessiond.ETag{s.acked.ETag}
		}
		return w.remote.Update(ctx, s.acked.ID, p)
	})
}

func (w *writer) patch(s *shadow) bool {
	n := w.random.IntN(1 << 30)
	name := fmt.Sprintf("p%d", n%3)
	after := func(want *sessiond.Session) {
		members := make(map[string]any)
		if err := json.Unmarshal(want.Data, &members); err != nil {
			w.t.Errorf("data %s: %v", want.Data, err)
		}
		members[name] = n
		merged, err := json.Marshal(members)
		if err != nil {
			w.t.Errorf("data %v: %v", members, err)
		}
		want.Data = merged
	}
	return w.write(s, opUpdate, sessiond.EventUpdated, after, func(ctx context.Context) (*sessiond.Session, error) {
		patch := jsontext.Value(fmt.Sprintf(`{"data":{%q:%d}}`, name, n))
		return w.remote.Patch(ctx, s.acked.ID, sessiond.PatchParams{Patch: patch})
	})
}

func (w *writer) touch(s *shadow) bool {
	return w.write(s, opTouch, "", nil, func(ctx context.Context) (*sessiond.Session, error) {
		return w.remote.Touch(ctx, s.acked.ID)
	})
}

func (w *writer) rotate(s *shadow) bool {
	nothing := func(*sessiond.Session) {}
	return w.write(s, opRotate, sessiond.EventRotated, nothing, func(ctx context.Context) (*sessiond.Session, error) {
		got, token, err := w.remote.Rotate(ctx, s.acked.ID, sessiond.RotateParams{Token: s.token})
		if err == nil {
			s.dead = append(s.dead, s.token)
			s.token = token
		}
		return got, err
	})
}

// write does one operation on a session that is known to be live.
func (w *writer) write(
	s *shadow, op string, typ sessiond.EventType, after func(*sessiond.Session),
	call func(context.Context) (*sessiond.Session, error),
) bool {
	ctx, cancel, request := w.request()
	defer cancel()
	s.changed = true
	served, sent := w.served, time.Now()
	got, err := call(ctx)
	if err != nil {
		p := &pending{op: op, after: after}
		return w.failed(s, p, change{typ: typ, requests: []string{request}}, err)
	}
	w.wasLive(got, served, sent)
	want := *s.acked
	if op == opTouch {
		w.touched(&want, got)
	} else {
		after(&want)
		want.Version++
		want.UpdatedAt, want.ETag = got.UpdatedAt, got.ETag
		s.history = append(s.history, change{typ: typ, requests: []string{request}})
		w.time(got.UpdatedAt)
	}
	w.same(s, op, &want, got)
	s.acked = got
	return true
}

func (w *writer) revoke(s *shadow) bool {
	ctx, cancel, request := w.request()
	defer cancel()
	s.changed = true
	reason := []sessiond.EndReason{sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity}[w.random.IntN(3)]
	err := w.remote.Revoke(ctx, s.acked.ID, sessiond.RevokeParams{Reason: reason})
	made := change{typ: sessiond.EventRevoked, requests: []string{request}, reason: reason}
	if err != nil {
		return w.failed(s, &pending{op: opRevoke, reason: reason}, made, err)
	}
	// The answer is the same for a session that has expired before, so look.
	made.optional = true
	s.history = append(s.history, made)
	s.pending = &pending{op: opRevoke, reason: reason, acked: true}
	return w.get(s)
}

// failed judges an operation that did not succeed, and reports whether the server still answers.
func (w *writer) failed(s *shadow, p *pending, made change, err error) bool {
	var (
		ended    *sessiond.EndedError
		answered *client.Error
	)
	switch {
	case errors.As(err, &ended):
		w.ended(s, ended.Session)
		return true
	case errors.As(err, &answered):
		w.t.Errorf("%s of %s was answered %v", p.op, s.acked.ID, err)
		return false
	case errors.Is(err, sessiond.ErrUnavailable):
		return false // never sent
	case errors.Is(err, sessiond.ErrUnknown):
		s.pending = p
		if made.typ != "" {
			made.optional = true
			s.history = append(s.history, made)
		}
		return false
	default:
		w.t.Errorf("%s of %s: %v", p.op, s.acked.ID, err)
		return false
	}
}

func (w *writer) verify(s *shadow) bool {
	if s.token == "" {
		return w.rotate(s)
	}
	ctx, cancel, _ := w.request()
	defer cancel()
	served, sent := w.served, time.Now()
	v, err := w.remote.Verify(ctx, s.token, sessiond.VerifyParams{NoTouch: true})
	switch {
	case errors.Is(err, sessiond.ErrUnavailable):
		return false
	case err != nil:
		w.t.Errorf("verify: %v", err)
		return false
	case !v.Active:
		if !v.Reason.Expiry() || !w.mayHaveExpired(s) {
			w.t.Errorf("the token of %s is not active (%q), though nobody has ended it", s.acked.ID, v.Reason)
		}
		return true // another operation will find out when it ended
	}
	w.wasLive(v.Session, served, sent)
	v.Session.ETag = s.acked.ETag // verifications have none
	w.same(s, "verify", s.acked, v.Session)
	return true
}

// get reads the session, settles what was pending, and reports whether the server still answers.
func (w *writer) get(s *shadow) bool {
	ctx, cancel, _ := w.request()
	defer cancel()
	served, sent := w.served, time.Now()
	got, err := w.remote.Get(ctx, s.id())
	var (
		ended    *sessiond.EndedError
		answered *client.Error
	)
	switch {
	case err == nil:
		w.settle(s, got, served, sent)
		return true
	case errors.As(err, &ended):
		w.ended(s, ended.Session)
		return true
	case errors.Is(err, sessiond.ErrNotFound):
		w.settleMissing(s)
		return true
	case errors.Is(err, sessiond.ErrUnavailable) && !errors.As(err, &answered):
		return false
	default:
		w.t.Errorf("get of %s: %v", s.id(), err)
		return false
	}
}
