package behaviour

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
)

func verify(t *tester) {
	s, token := t.created(sessiond.CreateParams{
		ID: "s", Subject: "alice", Data: jsontext.Value(someData), Labels: map[string]string{"k": "v"},
	})
	v, err := t.s.Verify(t.ctx, token, sessiond.VerifyParams{})
	if err != nil || !v.Active || v.Reason != "" {
		t.Fatalf("%+v, %v", v, err)
	}
	s.ETag = ""
	t.same("verified session", v.Session, s)
	for _, bad := range []sessiond.Token{"", "s", "sst_", token + "A", token[:len(token)-1], " " + token, "a\xffb", "a\x00"} {
		v, err := t.s.Verify(t.ctx, bad, sessiond.VerifyParams{})
		if err != nil || v != (sessiond.Verification{}) {
			t.Errorf("%q: %+v, %v", string(bad), v, err)
		}
		if err := t.s.RevokeToken(t.ctx, bad); err != nil && bad != "" {
			t.Errorf("RevokeToken: %v", err)
		}
	}
	if err := t.s.RevokeToken(t.ctx, token); err != nil {
		t.Fatal(err)
	}
	v, err = t.s.Verify(t.ctx, token, sessiond.VerifyParams{})
	if err != nil || v != (sessiond.Verification{Reason: sessiond.EndLogout}) {
		t.Errorf("after the logout: %+v, %v", v, err)
	}
	t.fails("RevokeToken again", t.s.RevokeToken(t.ctx, token), nil)
}

func revoke(t *tester) {
	for _, reason := range []sessiond.EndReason{"", sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity} {
		_, token := t.created(sessiond.CreateParams{ID: "s" + sessiond.ID(reason)})
		t.end("s"+sessiond.ID(reason), sessiond.RevokeParams{Reason: reason, Note: "a note & more"})
		t.end("s"+sessiond.ID(reason), sessiond.RevokeParams{IfMatch: []sessiond.ETag{`"x"`}}) // ignored
		if reason == "" {
			reason = sessiond.EndRevoked
		}
		if v, err := t.s.Verify(t.ctx, token, sessiond.VerifyParams{}); err != nil || v.Active || v.Reason != reason {
			t.Errorf("%+v, %v", v, err)
		}
	}
	t.fails("unknown", t.s.Revoke(t.ctx, "unknown", sessiond.RevokeParams{}), sessiond.ErrNotFound)
	t.end("s", sessiond.RevokeParams{Erase: true})
	_, err := t.s.Get(t.ctx, "s")
	t.fails("get after erase", err, sessiond.ErrNotFound)
	t.fails("erase again", t.s.Revoke(t.ctx, "s", sessiond.RevokeParams{Erase: true}), sessiond.ErrNotFound)
}

// ended asks what each method says of a session that has ended.
func ended(t *tester) {
	t.created(sessiond.CreateParams{ID: "revoked", Data: jsontext.Value(`{"a":1}`)})
	t.end("revoked", sessiond.RevokeParams{Reason: sessiond.EndSecurity, Note: "leak"})
	t.created(sessiond.CreateParams{ID: "expired", IdleTimeout: new(time.Hour)})
	time.Sleep(1100 * time.Millisecond)
	s, err := t.s.Update(t.ctx, "expired", sessiond.UpdateParams{IdleTimeout: new(time.Second)})
	if err != nil || s.Status != sessiond.StatusExpired || s.EndReason != sessiond.EndIdle ||
		s.EndedAt.IsZero() || s.Data != nil {
		t.Fatalf("an update that ends: %+v, %v", s, err)
	}
	for id, want := range map[sessiond.ID]*sessiond.Session{
		"revoked": {Status: sessiond.StatusRevoked, EndReason: sessiond.EndSecurity, EndedBy: by()},
		"expired": {Status: sessiond.StatusExpired, EndReason: sessiond.EndIdle},
	} {
		for name, call := range map[string]func() error{
			"get": func() error { _, err := t.s.Get(t.ctx, id); return err },
			"update": func() error {
				_, err := t.s.Update(t.ctx, id, sessiond.UpdateParams{Data: jsontext.Value(`{}`)})
				return err
			},
			"patch":  func() error { _, err := t.patch(id, `{}`); return err },
			"touch":  func() error { _, err := t.s.Touch(t.ctx, id); return err },
			"rotate": func() error { _, _, err := t.s.Rotate(t.ctx, id, sessiond.RotateParams{}); return err },
		} {
			err := call()
			var end *sessiond.EndedError
			if !errors.As(err, &end) || !errors.Is(err, sessiond.ErrEnded) {
				t.Errorf("%s of the %s session: %v", name, id, err)
				continue
			}
			got := end.Session
			if got.Status != want.Status || got.EndReason != want.EndReason || got.EndedBy != want.EndedBy ||
				got.EndedAt.IsZero() {
				t.Errorf("%s of the %s session: %+v", name, id, got)
			}
		}
	}
	page, err := t.s.List(t.ctx, sessiond.ListParams{Filter: sessiond.Filter{Status: sessiond.StatusRevoked}})
	if err != nil || len(page.Sessions) != 1 || page.Sessions[0].EndNote != "leak" || page.Sessions[0].EndedBy != by() {
		t.Errorf("%+v, %v", page, err)
	}
}

func bulk(t *tester) {
	for i := range 3 {
		t.created(sessiond.CreateParams{
			ID: sessiond.ID(fmt.Sprint("a", i)), Subject: "alice", Labels: map[string]string{"n": fmt.Sprint(i), "all": "a&b=c"},
		})
	}
	t.created(sessiond.CreateParams{ID: "b", Subject: "bob"})
	run := func(want int, p sessiond.RevokeMatchingParams) {
		t.Helper()
		if n, complete, err := t.s.RevokeMatching(t.ctx, p); n != want || !complete || err != nil {
			t.Errorf("%+v: %d, %t, %v, want %d", p, n, complete, err, want)
		}
	}
	alice := sessiond.Filter{Subject: "alice"}
	run(3, sessiond.RevokeMatchingParams{Filter: alice, DryRun: true})
	one := sessiond.Filter{Labels: map[string]string{"n": "1", "all": "a&b=c"}}
	run(1, sessiond.RevokeMatchingParams{Filter: one, Reason: sessiond.EndSecurity, Note: "n"})
	run(1, sessiond.RevokeMatchingParams{Filter: alice, Except: "a2"})
	run(1, sessiond.RevokeMatchingParams{Filter: sessiond.Filter{ActiveOnly: true}, Except: "b"})
	run(0, sessiond.RevokeMatchingParams{Filter: alice})
	if s := t.get("b"); s.Status != sessiond.StatusActive {
		t.Errorf("%+v", s)
	}
	_, _, err := t.s.RevokeMatching(t.ctx, sessiond.RevokeMatchingParams{})
	t.fails("no filter", err, sessiond.ErrInvalid)
}

func list(t *tester) {
	var all []*sessiond.Session
	for i := range 7 {
		p := sessiond.CreateParams{
			ID: sessiond.ID(fmt.Sprint("s", i)), Data: jsontext.Value(someData),
			Labels: map[string]string{"odd": fmt.Sprint(i % 2)},
		}
		if i < 3 {
			p.Subject = "ä &="
		}
		s, _ := t.created(p)
		s.ETag = ""
		all = append([]*sessiond.Session{s}, all...)
		time.Sleep(2 * time.Millisecond) // so that the order is that of creation
	}
	for _, include := range []bool{false, true} {
		p := sessiond.ListParams{Limit: 3, IncludeData: include}
		var got []*sessiond.Session
		for {
			page, err := t.s.List(t.ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page.Sessions...)
			if p.Cursor = page.NextCursor; p.Cursor == "" {
				break
			}
		}
		if len(got) != len(all) {
			t.Fatalf("%d sessions, want %d", len(got), len(all))
		}
		for i, want := range all {
			w := *want
			if !include {
				w.Data = nil
			}
			t.same("listed", got[i], &w)
		}
	}
	for name, tt := range map[string]struct {
		f    sessiond.Filter
		want int
	}{
		"subject": {sessiond.Filter{Subject: "ä &="}, 3},
		"label":   {sessiond.Filter{Labels: map[string]string{"odd": "1"}}, 3},
		"active":  {sessiond.Filter{ActiveOnly: true}, 7},
		"status":  {sessiond.Filter{Status: sessiond.StatusExpired}, 0},
		"after":   {sessiond.Filter{CreatedAfter: all[2].CreatedAt}, 3},
		"before":  {sessiond.Filter{CreatedBefore: all[2].CreatedAt}, 4},
		"nanos":   {sessiond.Filter{CreatedBefore: all[2].CreatedAt.Add(1)}, 5},
		"expires": {sessiond.Filter{ExpiresBefore: all[2].IdleExpiresAt}, 4},
	} {
		page, err := t.s.List(t.ctx, sessiond.ListParams{Filter: tt.f})
		if err != nil || len(page.Sessions) != tt.want {
			t.Errorf("%s: %d sessions, %v, want %d", name, len(page.Sessions), err, tt.want)
		}
	}
}

// cursor asks what is said of cursors and parameters that are no good.
func cursor(t *tester) {
	for range 3 {
		t.created(sessiond.CreateParams{})
	}
	page, err := t.s.List(t.ctx, sessiond.ListParams{Limit: 1})
	if err != nil || page.NextCursor == "" {
		t.Fatalf("%+v, %v", page, err)
	}
	_, err = t.s.List(t.ctx, sessiond.ListParams{Cursor: "x"})
	t.fails("malformed cursor", err, sessiond.ErrCursor)
	_, err = t.s.List(t.ctx, sessiond.ListParams{Cursor: page.NextCursor, Filter: sessiond.Filter{ActiveOnly: true}})
	t.fails("foreign cursor", err, sessiond.ErrCursor)
	for name, p := range map[string]sessiond.ListParams{
		"limit": {Limit: sessiond.MaxLimit + 1}, "negative limit": {Limit: -1},
		"limit with data": {Limit: sessiond.MaxLimitData + 1, IncludeData: true},
		"subject":         {Filter: sessiond.Filter{Subject: "\x00"}},
		"status":          {Filter: sessiond.Filter{Status: "x"}},
		"label":           {Filter: sessiond.Filter{Labels: map[string]string{"K": ""}}},
	} {
		_, err := t.s.List(t.ctx, p)
		t.fails("list with bad "+name, err, sessiond.ErrInvalid)
	}
	t.fails("bad reason", t.s.Revoke(t.ctx, "s", sessiond.RevokeParams{Reason: "idle"}), sessiond.ErrInvalid)
	t.fails("bad note", t.s.Revoke(t.ctx, "s", sessiond.RevokeParams{Note: "\x00"}), sessiond.ErrInvalid)
	for _, err := range t.s.Events(t.ctx, sessiond.EventParams{Types: []sessiond.EventType{"session.x"}}) {
		t.fails("bad type", err, sessiond.ErrInvalid)
		break
	}
}
