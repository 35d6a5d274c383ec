package api_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// codesOf lists the constants of type Code in problem.go by name.
func codesOf(t *testing.T) map[string]api.Code {
	t.Helper()
	codes := map[string]api.Code{}
	for name, value := range constants(t, "problem.go", "Code") {
		codes[name] = api.Code(value)
	}
	return codes
}

// constants lists the string constants of a type in a file, by name.
func constants(t *testing.T, file, typ string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != typ {
			return true
		}
		for i, v := range spec.Values {
			if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				found[spec.Names[i].Name] = text
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Fatalf("%s has no constants of type %s", file, typ)
	}
	return found
}

func TestEveryCodeHasStatusAndTitle(t *testing.T) {
	titles := map[string]bool{}
	for name, code := range codesOf(t) {
		p := api.NewProblem(code, "detail")
		if http.StatusText(p.Status) == "" || p.Status < 400 || p.Title == "" || p.Detail != "detail" {
			t.Errorf("%s: %+v", name, p)
		}
		if titles[p.Title] {
			t.Errorf("%s: title %q is another code's too", name, p.Title)
		}
		titles[p.Title] = true
		b, err := api.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back api.Problem
		if err := api.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(*p, back); diff != "" || back.Code() != code {
			t.Errorf("%s comes back as %q: %s", name, back.Code(), diff)
		}
	}
	for _, typ := range []string{"", "about:blank", "internal", "urn:sessiond:problem:", "urn:sessiond:problem:other"} {
		if p := (&api.Problem{Type: typ}); p.Code() != "" || p.Err() != nil {
			t.Errorf("%q is taken for %q, %v", typ, p.Code(), p.Err())
		}
	}
}

// meanings says for every sentinel of the root package what a caller is told
// and what a client makes of that.
var meanings = map[string]struct {
	err     error
	code    api.Code
	applied string
	back    error // nil: the code alone does not say
}{
	"ErrNotFound":  {sessiond.ErrNotFound, api.CodeSessionNotFound, "", sessiond.ErrNotFound},
	"ErrExists":    {sessiond.ErrExists, api.CodeSessionExists, "", sessiond.ErrExists},
	"ErrLimit":     {sessiond.ErrLimit, api.CodeSessionLimit, "", sessiond.ErrLimit},
	"ErrVersion":   {sessiond.ErrVersion, api.CodeVersionMismatch, "", sessiond.ErrVersion},
	"ErrInvalid":   {sessiond.ErrInvalid, api.CodeInvalidSession, "", sessiond.ErrInvalid},
	"ErrMalformed": {sessiond.ErrMalformed, api.CodeMalformed, "", sessiond.ErrMalformed},
	"ErrUnavailable": {
		sessiond.ErrUnavailable, api.CodeStoreUnavailable, api.AppliedNo, sessiond.ErrUnavailable},
	"ErrUnknown": {sessiond.ErrUnknown, api.CodeStoreUnavailable, api.AppliedUnknown, sessiond.ErrUnknown},
	// Always comes as an EndedError, see TestEndedSessions.
	"ErrEnded": {&sessiond.EndedError{Session: &sessiond.Session{Status: sessiond.StatusRevoked}},
		api.CodeSessionRevoked, "", sessiond.ErrEnded},
	// These share their code with other problems.
	"ErrCursor": {sessiond.ErrCursor, api.CodeMalformed, "", sessiond.ErrMalformed},
	"ErrToken":  {sessiond.ErrToken, api.CodeDenied, "", nil},
	// Nothing that a caller could act on.
	"ErrSealed": {sessiond.ErrSealed, api.CodeInternal, "", nil},
}

func TestEverySentinelHasAMeaning(t *testing.T) {
	parsed, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, name := range spec.Names {
				if strings.HasPrefix(name.Name, "Err") {
					names = append(names, name.Name)
				}
			}
		}
		return true
	})
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(meanings))); diff != "" {
		t.Errorf("sentinels of errors.go and of this test (-root +test):\n%s", diff)
	}
	for name, m := range meanings {
		for _, err := range []error{m.err, fmt.Errorf("host db-7: %w", m.err)} {
			p := api.FromError(err)
			if p.Code() != m.code || p.Applied != m.applied {
				t.Errorf("FromError(%s) is %s, applied %q; want %s, %q", name, p.Code(), p.Applied, m.code, m.applied)
			}
			if strings.Contains(p.Detail, "db-7") {
				t.Errorf("FromError(%s) tells internal text: %s", name, p.Detail)
			}
			if back := p.Err(); m.back == nil && back != nil || m.back != nil && !errors.Is(back, m.back) {
				t.Errorf("FromError(%s).Err() = %v, want %v", name, back, m.back)
			}
		}
	}
}

func TestOtherErrorsStayInside(t *testing.T) {
	p := api.FromError(errors.New("dial tcp 10.0.0.7: refused"))
	if p.Code() != api.CodeInternal || strings.Contains(p.Detail, "10.0.0.7") {
		t.Errorf("%+v", p)
	}
	both := fmt.Errorf("%w, after %w", sessiond.ErrUnavailable, sessiond.ErrUnknown)
	if p := api.FromError(both); p.Applied != api.AppliedUnknown {
		t.Errorf("an unknown outcome is told as %q", p.Applied)
	}
}

func TestEndedSessions(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	for _, s := range []*sessiond.Session{
		{Status: sessiond.StatusExpired, EndedAt: at, EndReason: sessiond.EndIdle},
		{Status: sessiond.StatusRevoked, EndedAt: at, EndReason: sessiond.EndLogout,
			EndedBy: sessiond.Actor{Sub: "s", Client: "c"}},
	} {
		sent := *s
		sent.Tenant, sent.ID, sent.Subject, sent.EndNote = "t", "a", "secret-subject", "secret-note"
		b, err := api.Marshal(api.FromError(fmt.Errorf("get: %w", &sessiond.EndedError{Session: &sent})))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "secret") {
			t.Errorf("the problem tells too much: %s", b)
		}
		var p api.Problem
		if err := api.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		var ended *sessiond.EndedError
		if p.Status != http.StatusGone || !errors.As(p.Err(), &ended) {
			t.Fatalf("%s became %v", b, p.Err())
		}
		if diff := cmp.Diff(s, ended.Session); diff != "" {
			t.Errorf("(-sent +read):\n%s", diff)
		}
	}
}

func TestInvalidFieldsSurvive(t *testing.T) {
	sent := &sessiond.InvalidError{Fields: []sessiond.FieldError{{Pointer: "/a~1b", Detail: "x"}, {Detail: "y"}}}
	var got *sessiond.InvalidError
	if !errors.As(api.FromError(fmt.Errorf("create: %w", sent)).Err(), &got) {
		t.Fatal("not an InvalidError")
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("(-sent +read):\n%s", diff)
	}
	if !errors.As(api.NewProblem(api.CodeInvalidSession, "why").Err(), &got) || len(got.Fields) != 1 ||
		got.Fields[0].Detail != "why" {
		t.Errorf("a problem without errors becomes %+v", got)
	}
}

func TestEventSurvivesTheWire(t *testing.T) {
	for _, e := range []sessiond.Event{
		{ID: "x.1", Type: sessiond.EventCreated, Time: time.UnixMilli(1).UTC(), Tenant: "t", SessionID: "a", Version: 1},
		{ID: "x.2", Type: sessiond.EventRevoked, Time: time.UnixMilli(2).UTC(), Tenant: "t", SessionID: "a", Subject: "é\"",
			Version: 2, Reason: sessiond.EndLogout, Note: "n", Actor: sessiond.Actor{Sub: "s"}, RequestID: "r"},
	} {
		b, err := api.Marshal(api.NewEvent(&e))
		if err != nil {
			t.Fatal(err)
		}
		var read api.Event
		if err := api.Unmarshal(b, &read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, read.Event("t")); diff != "" {
			t.Errorf("(-sent +read):\n%s", diff)
		}
	}
}
