package sessiond_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Issuer: "https://id", Sub: "ops", Client: "cli"})
		for _, reason := range []sessiond.EndReason{"", sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity} {
			s, token := e.create(sessiond.CreateParams{Subject: "alice", Data: data(`{"a":1}`)})
			time.Sleep(time.Second)
			from := e.position()
			note := strings.Repeat("n", 256)
			e.revoke(s.ID, sessiond.RevokeParams{Reason: reason, Note: note})
			if reason == "" {
				reason = sessiond.EndRevoked
			}
			got := e.ended(s.ID)
			if got.Status != sessiond.StatusRevoked || got.EndReason != reason || got.EndNote != note || got.Version != 2 ||
				got.EndedBy != (sessiond.Actor{Sub: "ops", Client: "cli"}) || !got.EndedAt.Equal(time.Now()) || got.Data != nil {
				t.Errorf("%+v", got)
			}
			if v := e.verify(token); v.Active || v.Reason != reason {
				t.Errorf("%+v", v)
			}
			ev := e.wantTypes(from, sessiond.EventRevoked)
			if len(ev) == 1 && (ev[0].Reason != reason || ev[0].Note != note || ev[0].Actor != got.EndedBy) {
				t.Errorf("%+v", ev[0])
			}
			time.Sleep(time.Second)
			e.revoke(s.ID, sessiond.RevokeParams{Reason: sessiond.EndSecurity, Note: "again"})
			if diff := cmp.Diff(got, e.ended(s.ID)); diff != "" {
				t.Errorf("revoking again changed the end:\n%s", diff)
			}
			e.wantTypes(from, sessiond.EventRevoked)
		}
		wantErr(t, "unknown id", e.Revoke(e.ctx, "unknown", sessiond.RevokeParams{}), sessiond.ErrNotFound)
		wantErr(t, "no id", e.Revoke(e.ctx, "", sessiond.RevokeParams{}), sessiond.ErrNotFound)
		s, _ := e.create(sessiond.CreateParams{})
		for _, reason := range []sessiond.EndReason{"idle", "absolute", "limit", "token_reuse", "restored", "x"} {
			wantInvalid(t, string(reason), e.Revoke(e.ctx, s.ID, sessiond.RevokeParams{Reason: reason}), "/reason")
		}
		for _, note := range []string{"\x00", "\u202e", strings.Repeat("n", 257)} {
			wantInvalid(t, "note", e.Revoke(e.ctx, s.ID, sessiond.RevokeParams{Note: note}), "/note")
		}
		e.get(s.ID)
	})
}

func TestErase(t *testing.T) {
	t.Parallel()
	e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Sub: "ops"})
	_, token := e.create(sessiond.CreateParams{ID: "live"})
	e.create(sessiond.CreateParams{ID: "ended"})
	e.revoke("ended", sessiond.RevokeParams{Reason: sessiond.EndLogout})
	from := e.position()
	for _, id := range []sessiond.ID{"live", "ended"} {
		e.revoke(id, sessiond.RevokeParams{Erase: true, Reason: sessiond.EndSecurity, Note: "asked to"})
		_, err := e.Get(e.ctx, id)
		wantErr(t, "get after erase", err, sessiond.ErrNotFound)
		wantErr(t, "erase again", e.Revoke(e.ctx, id, sessiond.RevokeParams{Erase: true}), sessiond.ErrNotFound)
	}
	if len(e.list(sessiond.ListParams{})) != 0 || e.verify(token) != (sessiond.Verification{}) {
		t.Error("something is left")
	}
	ev := e.wantTypes(from, sessiond.EventRevoked, sessiond.EventErased, sessiond.EventErased)
	for i, want := range []sessiond.Event{
		{SessionID: "live", Version: 2, Reason: sessiond.EndSecurity},
		{SessionID: "live", Version: 3, Reason: sessiond.EndSecurity},
		{SessionID: "ended", Version: 3, Reason: sessiond.EndLogout},
	} {
		got := ev[i]
		if got.SessionID != want.SessionID || got.Version != want.Version || got.Reason != want.Reason ||
			got.Note != "asked to" || got.Actor.Sub != "ops" {
			t.Errorf("event %d: %+v", i, got)
		}
	}
}

// TestEraseOfTheExpired: erasing a session before the sweeper has seen its
// deadline tells of the expiry first; after it, not again.
func TestEraseOfTheExpired(t *testing.T) {
	t.Parallel()
	for _, swept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			from := e.position()
			s, _ := e.create(sessiond.CreateParams{ID: "s", ExpiresIn: new(time.Minute)})
			time.Sleep(time.Minute)
			if swept {
				stop := e.run()
				synctest.Wait()
				stop()
			}
			e.revoke("s", sessiond.RevokeParams{Erase: true, IfMatch: []sessiond.ETag{`"x"`}}) // ignored
			ev := e.wantTypes(from, sessiond.EventCreated, sessiond.EventExpired, sessiond.EventErased)
			if len(ev) == 3 && (ev[1].Reason != sessiond.EndAbsolute || !ev[1].Time.Equal(s.ExpiresAt) || ev[2].Version != 3) {
				t.Errorf("swept %t: %+v", swept, ev)
			}
		})
	}
}

func TestRevokeMatching(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Sub: "ops"})
		start := time.Now()
		for i := range 6 {
			e.create(sessiond.CreateParams{
				ID: sessiond.ID(fmt.Sprint("a", i)), Subject: "alice", Labels: map[string]string{"n": fmt.Sprint(i % 2), "x": "y"},
			})
			time.Sleep(time.Second)
		}
		e.create(sessiond.CreateParams{ID: "b", Subject: "bob", ExpiresIn: new(time.Minute)})
		e.as("other", sessiond.Actor{}).create(sessiond.CreateParams{ID: "a0", Subject: "alice"})
		revoke := func(want int, p sessiond.RevokeMatchingParams) {
			t.Helper()
			n, complete, err := e.RevokeMatching(e.ctx, p)
			if n != want || !complete || err != nil {
				t.Errorf("RevokeMatching(%+v) = %d, %t, %v, want %d", p, n, complete, err, want)
			}
		}
		alice := sessiond.Filter{Subject: "alice"}
		from := e.position()
		revoke(6, sessiond.RevokeMatchingParams{Filter: alice, DryRun: true})
		revoke(5, sessiond.RevokeMatchingParams{Filter: alice, DryRun: true, Except: "a0"})
		revoke(7, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{ActiveOnly: true}, DryRun: true})
		soon := sessiond.Filter{ExpiresBefore: start.Add(2 * time.Minute)}
		revoke(1, sessiond.RevokeMatchingParams{Filter: soon, DryRun: true})
		revoke(0, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Status: sessiond.StatusRevoked}, DryRun: true})
		revoke(0, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Labels: map[string]string{"n": "0", "x": "z"}}})
		e.wantTypes(from)
		revoke(2, sessiond.RevokeMatchingParams{
			Filter: sessiond.Filter{Labels: map[string]string{"n": "0", "x": "y"}}, Except: "a0",
			Reason: sessiond.EndSecurity, Note: "leak",
		})
		if s := e.ended("a2"); s.EndReason != sessiond.EndSecurity || s.EndNote != "leak" || s.EndedBy.Sub != "ops" {
			t.Errorf("%+v", s)
		}
		e.wantTypes(from, sessiond.EventRevoked, sessiond.EventRevoked)
		revoke(1, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{
			Subject: "alice", CreatedAfter: start.Add(time.Second), CreatedBefore: start.Add(3 * time.Second),
		}})
		e.ended("a1")
		revoke(3, sessiond.RevokeMatchingParams{Filter: alice})
		revoke(0, sessiond.RevokeMatchingParams{Filter: alice})
		e.get("b")
		e.as("other", sessiond.Actor{}).get("a0")

		for name, p := range map[string]sessiond.RevokeMatchingParams{
			"no filter": {}, "empty labels": {Filter: sessiond.Filter{Labels: map[string]string{}}},
			"dry without filter": {DryRun: true},
		} {
			_, complete, err := e.RevokeMatching(e.ctx, p)
			wantInvalid(t, name, err, "")
			if complete {
				t.Errorf("%s: complete", name)
			}
		}
		_, _, err := e.RevokeMatching(e.ctx, sessiond.RevokeMatchingParams{Filter: alice, Reason: "idle"})
		wantInvalid(t, "reason", err, "/reason")
		_, _, err = e.RevokeMatching(e.ctx, sessiond.RevokeMatchingParams{Filter: alice, Note: "\x00"})
		wantInvalid(t, "note", err, "/note")
		_, _, err = e.RevokeMatching(e.ctx, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "\x00"}})
		wantInvalid(t, "subject", err, "/subject")
		e.get("b")
	})
}

// A crowd is a store of many live sessions that costs little: it does as much
// as a bulk revoke needs.
type crowd struct {
	sessiond.Store
	mu   sync.Mutex
	live []bool
	gone sessiond.ID // someone else ends it before an update gets there
}

func (c *crowd) record(i int) *sessiond.Record {
	return &sessiond.Record{
		Key:     sessiond.Key{Tenant: sessiond.DefaultTenant, ID: sessiond.ID(strconv.Itoa(i))},
		Subject: "alice", Version: 1, ExpiresAt: time.Now().Add(time.Hour),
	}
}

func (c *crowd) List(_ context.Context, q sessiond.Query) (p sessiond.Page, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := 0
	if q.After != nil {
		if from, err = strconv.Atoi(string(q.After.ID)); err != nil {
			return p, err
		}
		from++
	}
	for i := from; i < len(c.live); i++ {
		if len(p.Records) == q.Limit {
			p.Next = new(sessiond.Cursor{ID: sessiond.ID(strconv.Itoa(i - 1))})
			return p, nil
		}
		if c.live[i] {
			p.Records = append(p.Records, c.record(i))
		}
	}
	return p, nil
}

func (c *crowd) Update(
	_ context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	i, err := strconv.Atoi(string(k.ID))
	if err != nil {
		return sessiond.Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.record(i)
	if c.live[i] = c.live[i] && k.ID != c.gone; !c.live[i] {
		return sessiond.Result{Record: r}, sessiond.ErrEnded
	}
	_, err = fn(time.Now(), r)
	c.live[i] = err != nil
	return sessiond.Result{Record: r}, err
}

// TestRevokeMatchingBound: a call ends at most MaxRevoke sessions and says when
// there are more.
func TestRevokeMatchingBound(t *testing.T) {
	t.Parallel()
	const total = sessiond.MaxRevoke + 3
	c := &crowd{live: slices.Repeat([]bool{true}, total)}
	m, err := sessiond.New(sessiond.Config{Store: c, Sealer: sessiond.NoSealing{}})
	if err != nil {
		t.Fatal(err)
	}
	p := sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}, Except: "5"}
	for _, tt := range []struct {
		dry      bool
		n        int
		complete bool
	}{{true, sessiond.MaxRevoke, false}, {false, sessiond.MaxRevoke, false}, {false, 2, true}, {false, 0, true}} {
		p.DryRun = tt.dry
		if n, complete, err := m.RevokeMatching(t.Context(), p); n != tt.n || complete != tt.complete || err != nil {
			t.Errorf("%+v: %d, %t, %v", tt, n, complete, err)
		}
	}
	for i, live := range c.live {
		if live != (i == 5) {
			t.Errorf("session %d is live: %t", i, live)
		}
	}
}

// TestRevokeMatchingBoundSkipsNothing: close to the bound, a session that someone
// else ends does not make a call pass over those behind it.
func TestRevokeMatchingBoundSkipsNothing(t *testing.T) {
	t.Parallel()
	c := &crowd{live: slices.Repeat([]bool{true}, sessiond.MaxRevoke+sessiond.MaxLimit+1), gone: "10000"}
	c.live[len(c.live)-1] = false // so that the last page is empty
	m, err := sessiond.New(sessiond.Config{Store: c, Sealer: sessiond.NoSealing{}})
	if err != nil {
		t.Fatal(err)
	}
	p := sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}, Except: "5"}
	for call, complete := range []bool{false, true} {
		if _, got, err := m.RevokeMatching(t.Context(), p); got != complete || err != nil {
			t.Errorf("call %d: complete %t, %v", call, got, err)
		}
	}
	for i, live := range c.live {
		if live != (i == 5) {
			t.Errorf("session %d is live: %t", i, live)
		}
	}
}

// TestRevokeMatchingLeavesNothingFromBefore runs against creates, touches and
// patches: whatever was created before a complete call has ended after it.
func TestRevokeMatchingLeavesNothingFromBefore(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const before = 300
	for i := range before {
		e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("before-", i)), Subject: "alice"})
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("during-", w, "-", i)), Subject: "alice"})
				id := sessiond.ID(fmt.Sprint("before-", i%before))
				_, _ = e.Touch(e.ctx, id) // may have ended
				_, _ = e.patch(id, `{"data":{"a":1}}`)
				if i == 500 {
					return
				}
			}
		})
	}
	n, complete, err := e.RevokeMatching(e.ctx, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{Subject: "alice"}})
	close(stop)
	wg.Wait()
	if n < before || !complete || err != nil {
		t.Errorf("%d, %t, %v", n, complete, err)
	}
	for i := range before {
		e.ended(sessiond.ID(fmt.Sprint("before-", i)))
	}
}
