// Package behaviour checks what a program may rely on, whether it holds a
// [sessiond.Manager] or talks to one through a server. Running the same suite
// over both proves that the wire loses nothing.
package behaviour

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sessiond.example/sessiond"
)

// Sessions are the methods that [sessiond.Manager] and a client of the server
// have in common.
type Sessions interface {
	Create(context.Context, sessiond.CreateParams) (*sessiond.Session, sessiond.Token, error)
	Get(context.Context, sessiond.ID) (*sessiond.Session, error)
	Update(context.Context, sessiond.ID, sessiond.UpdateParams) (*sessiond.Session, error)
	Patch(context.Context, sessiond.ID, sessiond.PatchParams) (*sessiond.Session, error)
	Touch(context.Context, sessiond.ID) (*sessiond.Session, error)
	Rotate(context.Context, sessiond.ID, sessiond.RotateParams) (*sessiond.Session, sessiond.Token, error)
	Revoke(context.Context, sessiond.ID, sessiond.RevokeParams) error
	RevokeMatching(context.Context, sessiond.RevokeMatchingParams) (n int, complete bool, err error)
	List(context.Context, sessiond.ListParams) (*sessiond.SessionPage, error)
	Verify(context.Context, sessiond.Token, sessiond.VerifyParams) (sessiond.Verification, error)
	RevokeToken(context.Context, sessiond.Token) error
	Events(context.Context, sessiond.EventParams) iter.Seq2[sessiond.EventBatch, error]
}

// Actor is whom the sessions under test must act for, in the default tenant.
var Actor = sessiond.Actor{Issuer: "https://id.example", Sub: "tester", Client: "tests"}

// Policy is what the sessions under test must run with.
func Policy() sessiond.Policy {
	p := sessiond.DefaultPolicy()
	p.MaxData = 1024
	p.MaxPerSubject = 3
	p.MaxLifetime = 48 * time.Hour
	return p
}

// Run checks the sessions that open returns, which must be empty. It opens
// once for each subtest. No subtest waits for time to pass.
func Run(t *testing.T, open func(t *testing.T) Sessions) {
	for name, test := range map[string]func(*tester){
		"create":     create,
		"idempotent": idempotent,
		"input":      input,
		"update":     update,
		"patch":      patch,
		"conditions": conditions,
		"touch":      touch,
		"rotate":     rotate,
		"verify":     verify,
		"revoke":     revoke,
		"ended":      ended,
		"bulk":       bulk,
		"list":       list,
		"cursor":     cursor,
		"events":     events,
		"cancelled":  cancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&tester{T: t, s: open(t), ctx: t.Context()})
		})
	}
}

type tester struct {
	*testing.T
	s   Sessions
	ctx context.Context
}

// same compares sessions, but for the tenant, which the wire does not name.
func (t *tester) same(what string, got, want *sessiond.Session) {
	t.Helper()
	if diff := cmp.Diff(want, got, Equal...); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Equal are the differences between sessions that don't count: the tenant is
// the credential's, and no labels are no labels.
var Equal = []cmp.Option{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(sessiond.Session{}, "Tenant")}

func (t *tester) fails(what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// invalid checks that an error points to the member that is wrong.
func (t *tester) invalid(what string, err error, pointer string) {
	t.Helper()
	var bad *sessiond.InvalidError
	if !errors.As(err, &bad) {
		t.Errorf("%s: got error %v, want an InvalidError", what, err)
		return
	}
	for _, f := range bad.Fields {
		if f.Pointer == pointer {
			return
		}
	}
	t.Errorf("%s: got fields %+v, want one for %q", what, bad.Fields, pointer)
}

func (t *tester) created(p sessiond.CreateParams) (*sessiond.Session, sessiond.Token) {
	t.Helper()
	s, token, err := t.s.Create(t.ctx, p)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return s, token
}

func (t *tester) get(id sessiond.ID) *sessiond.Session {
	t.Helper()
	s, err := t.s.Get(t.ctx, id)
	if err != nil {
		t.Fatalf("Get %s: %v", id, err)
	}
	return s
}

func (t *tester) active(token sessiond.Token) bool {
	t.Helper()
	v, err := t.s.Verify(t.ctx, token, sessiond.VerifyParams{NoTouch: true})
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return v.Active
}

func (t *tester) patch(id sessiond.ID, text string) (*sessiond.Session, error) {
	return t.s.Patch(t.ctx, id, sessiond.PatchParams{Patch: jsontext.Value(text)})
}

func (t *tester) end(id sessiond.ID, p sessiond.RevokeParams) {
	t.Helper()
	if err := t.s.Revoke(t.ctx, id, p); err != nil {
		t.Fatalf("Revoke %s: %v", id, err)
	}
}

// by is the actor as sessions and events show it.
func by() sessiond.Actor { return sessiond.Actor{Sub: Actor.Sub, Client: Actor.Client} }
