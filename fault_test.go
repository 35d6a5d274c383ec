package sessiond_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
)

// calls are the methods of a manager, with the store operation that each
// stands or falls with.
var calls = []struct {
	name  string
	op    faultstore.Op
	write bool
	call  func(e *env, ctx context.Context, token sessiond.Token) error
}{
	{"create", faultstore.Create, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, _, err := e.Create(ctx, sessiond.CreateParams{ID: "new"})
		return err
	}},
	{"create-again", faultstore.Update, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, _, err := e.Create(ctx, sessiond.CreateParams{ID: "s", Subject: "alice", IdempotencyKey: "k"})
		return err
	}},
	{"get", faultstore.Get, false, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, err := e.Get(ctx, "s")
		return err
	}},
	{"update", faultstore.Update, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, err := e.Update(ctx, "s", sessiond.UpdateParams{Data: data(`{"a":1}`)})
		return err
	}},
	{"patch", faultstore.Update, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, err := e.Patch(ctx, "s", sessiond.PatchParams{Patch: data(`{"data":{"a":1}}`)})
		return err
	}},
	{"touch", faultstore.Touch, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, err := e.Touch(ctx, "s")
		return err
	}},
	{"rotate", faultstore.Update, true, func(e *env, ctx context.Context, token sessiond.Token) error {
		_, fresh, err := e.Rotate(ctx, "s", sessiond.RotateParams{Token: token})
		if err != nil && fresh != "" {
			e.t.Error("a token comes with an error")
		}
		return err
	}},
	{"revoke", faultstore.Update, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		return e.Revoke(ctx, "s", sessiond.RevokeParams{})
	}},
	{"erase", faultstore.Erase, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		return e.Revoke(ctx, "s", sessiond.RevokeParams{Erase: true})
	}},
	{"revoke-token", faultstore.Update, true, func(e *env, ctx context.Context, token sessiond.Token) error {
		return e.RevokeToken(ctx, token)
	}},
	{"revoke-matching", faultstore.Update, true, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, complete, err := e.RevokeMatching(ctx, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}})
		if err != nil && complete {
			e.t.Error("a bulk revoke failed and is complete")
		}
		return err
	}},
	{"revoke-matching-list", faultstore.List, false, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, complete, err := e.RevokeMatching(ctx, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}})
		if err != nil && complete {
			e.t.Error("a bulk revoke failed and is complete")
		}
		return err
	}},
	{"list", faultstore.List, false, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, err := e.List(ctx, sessiond.ListParams{})
		return err
	}},
	{"verify", faultstore.Get, false, func(e *env, ctx context.Context, token sessiond.Token) error {
		v, err := e.Verify(ctx, token, sessiond.VerifyParams{})
		if err != nil && v != (sessiond.Verification{}) {
			e.t.Errorf("an answer comes with an error: %+v", v)
		}
		return err
	}},
	{"stats", faultstore.Stats, false, func(e *env, ctx context.Context, _ sessiond.Token) error {
		_, err := e.Stats(ctx)
		return err
	}},
}

// TestOutcomes: a store that fails is told as such, in the two forms, and never
// taken for a missing, ended or inactive session.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range calls {
		for _, fault := range []faultstore.Fault{faultstore.Refused, faultstore.ReplyLost} {
			e := newEnv(t)
			s, token := e.create(sessiond.CreateParams{ID: "s", Subject: "alice", IdempotencyKey: "k"})
			from := e.position()
			e.store.FailNext(c.op, fault)
			err := c.call(e, e.ctx, token)
			want := sessiond.ErrUnavailable
			if c.write && fault == faultstore.ReplyLost {
				want = sessiond.ErrUnknown
			}
			wantErr(t, c.name, err, want)
			for _, wrong := range []error{
				sessiond.ErrNotFound, sessiond.ErrEnded, sessiond.ErrExists, sessiond.ErrVersion, sessiond.ErrToken,
				sessiond.ErrInvalid, sessiond.ErrSealed, sessiond.ErrLimit,
			} {
				if errors.Is(err, wrong) {
					t.Errorf("%s: %v is also %v", c.name, err, wrong)
				}
			}
			if errors.Is(err, sessiond.ErrUnavailable) && errors.Is(err, sessiond.ErrUnknown) {
				t.Errorf("%s: %v is both", c.name, err)
			}
			if fault == faultstore.ReplyLost {
				continue
			}
			if diff := cmp.Diff(s, e.get("s")); diff != "" || !e.verify(token).Active {
				t.Errorf("%s was not applied and changed the session:\n%s", c.name, diff)
			}
			e.wantTypes(from)
			if err := c.call(e, e.ctx, token); err != nil {
				t.Errorf("%s again: %v", c.name, err)
			}
		}
	}
}

// TestCancelledCallsDoNothing: a context that has ended prevents every call.
func TestCancelledCallsDoNothing(t *testing.T) {
	t.Parallel()
	for _, c := range calls {
		e := newEnv(t)
		s, token := e.create(sessiond.CreateParams{ID: "s", Subject: "alice", IdempotencyKey: "k"})
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		wantErr(t, c.name, c.call(e, ctx, token), context.Canceled)
		if diff := cmp.Diff(s, e.get("s")); diff != "" || !e.verify(token).Active {
			t.Errorf("%s was cancelled and changed the session:\n%s", c.name, diff)
		}
	}
}

// TestLostRepliesCanBeRepeated: after an unknown outcome the same call again
// leads to the state that was wanted.
func TestLostRepliesCanBeRepeated(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	p := sessiond.CreateParams{Subject: "alice", IdempotencyKey: "k"}
	e.store.FailNext(faultstore.Create, faultstore.ReplyLost)
	_, _, err := e.Create(e.ctx, p)
	wantErr(t, "create", err, sessiond.ErrUnknown)
	s, token := e.create(p)
	if len(e.list(sessiond.ListParams{})) != 1 || !e.verify(token).Active {
		t.Error("the repeated create made a second session, or a dead token")
	}
	up := sessiond.UpdateParams{Data: data(`{"a":1}`), IfMatch: []sessiond.ETag{s.ETag}}
	e.store.FailNext(faultstore.Update, faultstore.ReplyLost)
	_, err = e.Update(e.ctx, s.ID, up)
	wantErr(t, "update", err, sessiond.ErrUnknown)
	_, err = e.Update(e.ctx, s.ID, up)
	wantErr(t, "update again, which was applied", err, sessiond.ErrVersion)
	e.store.FailNext(faultstore.Update, faultstore.ReplyLost)
	wantErr(t, "revoke", e.Revoke(e.ctx, s.ID, sessiond.RevokeParams{}), sessiond.ErrUnknown)
	wantErr(t, "revoke again", e.Revoke(e.ctx, s.ID, sessiond.RevokeParams{}), nil)
}

// TestBulkRevokeCounts what has ended for certain.
func TestBulkRevokeCounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for range 5 {
		e.create(sessiond.CreateParams{Subject: "alice"})
	}
	e.store.FailNth(faultstore.Update, 3, faultstore.Refused)
	p := sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}}
	n, complete, err := e.RevokeMatching(e.ctx, p)
	wantErr(t, "bulk revoke", err, sessiond.ErrUnavailable)
	ended := e.list(sessiond.ListParams{Filter: sessiond.Filter{Status: sessiond.StatusRevoked}})
	if complete || len(ended) != n || n > 4 {
		t.Errorf("%d, complete %t, %d have ended", n, complete, len(ended))
	}
	m, complete, err := e.RevokeMatching(e.ctx, p)
	if n+m != 5 || !complete || err != nil {
		t.Errorf("again: %d, %t, %v", m, complete, err)
	}
}

// TestRunSurvivesTheStore: the sweeper goes on when the store is back.
func TestRunSurvivesTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.run()()
		e.create(sessiond.CreateParams{ID: "s", ExpiresIn: new(time.Minute)})
		from := e.position()
		e.store.FailAlways(faultstore.Sweep, faultstore.Refused)
		time.Sleep(5 * time.Minute)
		e.ended("s") // in time, all the same
		e.wantTypes(from)
		e.store.Heal()
		time.Sleep(2 * time.Second)
		e.wantTypes(from, sessiond.EventExpired)
	})
}

// TestOneWinnerPerVersion: of parallel conditional writes that saw the same
// version exactly one is applied.
func TestOneWinnerPerVersion(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, _ := e.create(sessiond.CreateParams{ID: "s"})
	const rounds, writers = 20, 8
	for round := range rounds {
		var wg sync.WaitGroup
		var mu sync.Mutex
		winners := 0
		for w := range writers {
			wg.Go(func() {
				value := fmt.Sprint(round, "-", w)
				up := sessiond.UpdateParams{Data: data(`{"v":"` + value + `"}`), IfMatch: []sessiond.ETag{s.ETag}}
				if round%2 == 1 {
					up.Data, up.Labels = nil, map[string]string{"v": value}
				}
				_, err := e.Update(e.ctx, "s", up)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners++
				case !errors.Is(err, sessiond.ErrVersion):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		next := e.get("s")
		if winners != 1 || next.Version != s.Version+1 {
			t.Fatalf("round %d: %d winners, version %d after %d", round, winners, next.Version, s.Version)
		}
		s = next
	}
}
