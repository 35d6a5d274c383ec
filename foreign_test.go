package sessiond_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
)

// foreignLine is a line about a token of another system: pairs of members and
// their JSON.
func foreignLine(token string, members ...string) string {
	sum := sha256.Sum256([]byte(token))
	b := []byte(`{"token_sha256":"` + hex.EncodeToString(sum[:]) + `"`)
	for i := 0; i < len(members); i += 2 {
		b = fmt.Appendf(b, `,%q:%s`, members[i], members[i+1])
	}
	return string(b) + "}\n"
}

// at is the JSON of a time that is so far from now.
func at(d time.Duration) string {
	return `"` + time.Now().Add(d).UTC().Format("2006-01-02T15:04:05.000Z") + `"`
}

// foreign imports lines of another system without one that fails.
func (e *env) foreign(text string) sessiond.ImportResult {
	e.t.Helper()
	res, err := e.ImportForeign(e.ctx, strings.NewReader(text), sessiond.ImportParams{
		Failed: func(line int64, err error) { e.t.Errorf("line %d: %v", line, err) },
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return res
}

const foreignToken = "s%3Aabc.def+/=="

func TestImportForeign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t).as(sessiond.DefaultTenant, sessiond.Actor{Client: "mover"})
		from := e.position()
		time.Sleep(time.Hour)
		written := time.Now()
		sum := sha256.Sum256([]byte("url"))
		padded := sha256.Sum256([]byte("padded"))
		text := foreignLine(foreignToken,
			"subject", `"alice"`, "data", `{"cart": [1, 2.50]}`, "labels", `{"device":"phone"}`,
			"created_at", at(-24*time.Hour), "last_active_at", at(-5*time.Minute), "expires_at", at(48*time.Hour),
			"idle_timeout", "3600") +
			foreignLine("bare") +
			foreignLine("elsewhere", "tenant", `"shop"`, "subject", `"alice"`) +
			foreignLine("capped", "created_at", at(-719*time.Hour), "expires_at", at(9000*time.Hour)) +
			foreignLine("ahead", "created_at", at(time.Hour), "last_active_at", at(time.Hour)) +
			foreignLine("odd", "created_at", at(-time.Minute), "last_active_at", at(-time.Hour)) +
			foreignLine("precise", "created_at", `"1999-12-31T23:59:59.123456789+00:00"`) +
			foreignLine("idle", "last_active_at", at(-time.Hour), "created_at", at(-2*time.Hour)) +
			foreignLine("expired", "expires_at", at(0)) +
			foreignLine("old", "created_at", at(-720*time.Hour)) +
			foreignLine("over", "revoked", "true") +
			foreignLine("on", "revoked", "false") +
			`{"token_sha256":"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"}` + "\n" +
			`{"token_sha256":"` + base64.URLEncoding.EncodeToString(padded[:]) + `"}` // without a newline
		want := sessiond.ImportResult{Created: 10, Expired: 3, Same: 1}
		dry, err := e.ImportForeign(e.ctx, strings.NewReader(text), sessiond.ImportParams{DryRun: true})
		wantErr(t, "dry run", err, nil)
		wantResult(t, "dry run", dry, want)
		e.wantTypes(from)
		now := time.Now()
		res := e.foreign(text)
		if res.Lines != 14 {
			t.Errorf("%d lines", res.Lines)
		}
		wantResult(t, "import", res, want)
		wantResult(t, "again", e.foreign(text), sessiond.ImportResult{Same: 11, Expired: 3})

		s := e.verify(foreignToken).Session
		if s == nil || s.Subject != "alice" || string(s.Data) != `{"cart":[1,2.50]}` || s.Labels["device"] != "phone" ||
			!s.CreatedAt.Equal(written.Add(-24*time.Hour)) || !s.LastActiveAt.Equal(written.Add(-5*time.Minute)) ||
			!s.ExpiresAt.Equal(written.Add(48*time.Hour)) || s.IdleTimeout != time.Hour || s.Version != 1 ||
			s.CreatedBy != (sessiond.Actor{Client: "mover"}) {
			t.Errorf("%+v", s)
		}
		p := e.Policy()
		if s := e.verify("bare").Session; s == nil || s.Subject != "" || string(s.Data) != `{}` || len(s.Labels) > 0 ||
			!s.CreatedAt.Equal(now) || !s.ExpiresAt.Equal(now.Add(p.DefaultLifetime)) ||
			s.IdleTimeout != p.DefaultIdleTimeout {
			t.Errorf("bare: %+v", s)
		}
		if s := e.verify("capped").Session; s == nil || !s.ExpiresAt.Equal(s.CreatedAt.Add(p.MaxLifetime)) {
			t.Errorf("capped: %+v", s)
		}
		if s := e.verify("ahead").Session; s == nil || !s.CreatedAt.Equal(now) || !s.LastActiveAt.Equal(now) {
			t.Errorf("ahead: %+v", s)
		}
		if s := e.verify("odd").Session; s == nil || !s.LastActiveAt.Equal(s.CreatedAt) {
			t.Errorf("odd: %+v", s)
		}
		if s := e.verify("precise").Session; s == nil || s.CreatedAt.Nanosecond() != 123_000_000 {
			t.Errorf("precise: %+v", s)
		}
		for token, active := range map[sessiond.Token]bool{
			"on": true, "url": true, "padded": true, "expired": false, "old": false, "idle": false, "over": false,
			"elsewhere": false, "precise": true, "unknown": false,
		} {
			if v := e.verify(token); v.Active != active {
				t.Errorf("%s: %+v", string(token), v)
			}
		}
		shop := e.as("shop", sessiond.Actor{})
		if v := shop.verify("elsewhere"); !v.Active || v.Session.Tenant != "shop" {
			t.Errorf("elsewhere: %+v", v)
		}
		if shop.verify(foreignToken).Active {
			t.Error("a token reaches another tenant")
		}
		for _, ev := range e.since(from) {
			if ev.Type != sessiond.EventCreated || ev.Actor.Client != "mover" {
				t.Errorf("%+v", ev)
			}
		}
	})
}

// TestForeignLife follows a session from its import to the end of its token.
func TestForeignLife(t *testing.T) {
	t.Parallel()
	for _, overlap := range []time.Duration{0, 10 * time.Second} {
		for _, revoke := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, policy(func(p *sessiond.Policy) { p.RotationOverlap, p.RevokeOnReuse = overlap, revoke }))
				e.foreign(foreignLine(foreignToken, "subject", `"alice"`, "data", `{"a":1}`))
				id := e.verify(foreignToken).Session.ID
				if !strings.Contains(string(id), "-8") || len(id) != 36 {
					t.Errorf("the id is %s", id)
				}
				_, _, err := e.Rotate(e.ctx, id, sessiond.RotateParams{Token: "another"})
				wantErr(t, "rotate with another token", err, sessiond.ErrToken)
				s, token := e.rotate(id, sessiond.RotateParams{Token: foreignToken})
				if s.ID != id || s.Version != 2 || !strings.HasPrefix(string(token), sessiond.TokenPrefix) {
					t.Errorf("%+v", s)
				}
				if got := e.verify(foreignToken).Active; got != (overlap > 0) {
					t.Errorf("within the overlap: active %t", got)
				}
				time.Sleep(overlap)
				if v := e.verify(foreignToken); v != (sessiond.Verification{}) {
					t.Errorf("after the overlap: %+v", v)
				}
				if e.verify(token).Active == revoke {
					t.Errorf("the new token, reuse revokes: %t", revoke)
				}
				if revoke {
					if s := e.ended(id); s.EndReason != sessiond.EndTokenReuse {
						t.Errorf("%+v", s)
					}
					return
				}
				_, token = e.rotate(id, sessiond.RotateParams{Token: token})
				if e.verify(foreignToken).Active || !e.verify(token).Active {
					t.Error("after another rotation")
				}
				wantErr(t, "RevokeToken with the dead token", e.RevokeToken(e.ctx, foreignToken), nil)
				if !e.verify(token).Active {
					t.Error("the dead token ended the session")
				}
			})
		}
	}
	e := newEnv(t)
	e.foreign(foreignLine(foreignToken))
	id := e.verify(foreignToken).Session.ID
	wantErr(t, "RevokeToken", e.RevokeToken(e.ctx, foreignToken), nil)
	if s := e.ended(id); s.EndReason != sessiond.EndLogout {
		t.Errorf("%+v", s)
	}
	if v := e.verify(foreignToken); v.Active || v.Reason != sessiond.EndLogout {
		t.Errorf("%+v", v)
	}
	wantResult(t, "after the end", e.foreign(foreignLine(foreignToken)), sessiond.ImportResult{Kept: 1})
	if e.verify(foreignToken).Active {
		t.Error("it came back")
	}
}

// TestForeignActivity: the token of another system counts as activity like ours.
func TestForeignActivity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.run()()
		e.foreign(foreignLine(foreignToken))
		for range 4 {
			time.Sleep(20 * time.Minute)
			v, err := e.Verify(e.ctx, foreignToken, sessiond.VerifyParams{})
			if err != nil || !v.Active {
				t.Fatalf("%+v, %v", v, err)
			}
			synctest.Wait()
		}
		time.Sleep(30 * time.Minute)
		if v := e.verify(foreignToken); v.Active || v.Reason != sessiond.EndIdle {
			t.Errorf("%+v", v)
		}
	})
}

// TestForeignSecrets: neither the id, nor the digest that another system had
// stored, nor anything but the token is of use, and nothing but what can be a
// token reaches the store.
func TestForeignSecrets(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.foreign(foreignLine(foreignToken) + foreignLine("sst_looks-like-ours") + foreignLine("with space") + foreignLine("é"))
	id := e.verify(foreignToken).Session.ID
	sum := sha256.Sum256([]byte(foreignToken))
	twice := sha256.Sum256(sum[:])
	for _, bad := range []string{
		string(id), "sst_" + string(id), hex.EncodeToString(sum[:]), strings.ToUpper(hex.EncodeToString(sum[:])),
		base64.RawURLEncoding.EncodeToString(sum[:]), string(sum[:]), hex.EncodeToString(twice[:]),
		foreignToken + "x", foreignToken[1:], strings.ToUpper(foreignToken), "sst_" + foreignToken,
		"sst_looks-like-ours", "foreign token",
	} {
		if v := e.verify(sessiond.Token(bad)); v != (sessiond.Verification{}) {
			t.Errorf("%q: %+v", bad, v)
		}
		_, _, err := e.Rotate(e.ctx, id, sessiond.RotateParams{Token: sessiond.Token(bad)})
		wantErr(t, "rotate with "+bad, err, sessiond.ErrToken)
		wantErr(t, "RevokeToken", e.RevokeToken(e.ctx, sessiond.Token(bad)), nil)
	}
	_, err := e.Get(e.ctx, sessiond.ID(foreignToken))
	wantErr(t, "the token as an id", err, sessiond.ErrNotFound)
	calls := e.store.Calls(faultstore.Get)
	for _, bad := range []string{
		"", " ", "with space", "é", "\x00", "a\n", "a\tb", "\x7f", strings.Repeat("x", sessiond.MaxForeignToken+1),
	} {
		if v := e.verify(sessiond.Token(bad)); v != (sessiond.Verification{}) {
			t.Errorf("%q: %+v", bad, v)
		}
	}
	e.as("-replicas", sessiond.Actor{}).verify(foreignToken)
	if n := e.store.Calls(faultstore.Get) - calls; n != 0 {
		t.Errorf("%d of them reached the store", n)
	}
	if !e.verify(foreignToken).Active {
		t.Error("the token died")
	}
	shop := e.as("shop", sessiond.Actor{})
	shop.foreign(foreignLine(foreignToken))
	if shop.verify(foreignToken).Session.ID == id {
		t.Error("ids of two tenants tell that the token is the same")
	}
	longest := strings.Repeat("x", sessiond.MaxForeignToken)
	e.foreign(foreignLine(longest))
	if !e.verify(sessiond.Token(longest)).Active {
		t.Error("the longest token is not active")
	}
	// Whoever may create sessions can take the id, but not with that token.
	e.revoke(id, sessiond.RevokeParams{Erase: true})
	_, ours := e.create(sessiond.CreateParams{ID: id})
	if e.verify(foreignToken).Active || !e.verify(ours).Active {
		t.Error("the token is that of another session")
	}
	wantResult(t, "the id is taken", e.foreign(foreignLine(foreignToken)), sessiond.ImportResult{Kept: 1})
}

// TestForeignDelta: later lines change the session until something here has.
func TestForeignDelta(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		first := foreignLine("t", "data", `{"v":1}`, "created_at", at(0), "last_active_at", at(0), "expires_at", at(time.Hour))
		e.foreign(first)
		s := e.verify("t").Session
		id := s.ID
		steps := []struct {
			what    string
			members []string
			types   []sessiond.EventType
		}{
			{"data", []string{"data", `{"v":2}`}, []sessiond.EventType{sessiond.EventUpdated}},
			{"the same data", []string{"data", `{ "v": 2 }`}, nil},
			{"nothing", nil, nil},
			{"labels", []string{"labels", `{"a":"b"}`}, []sessiond.EventType{sessiond.EventUpdated}},
			{"activity", []string{"last_active_at", at(40 * time.Second)}, nil},
			{"earlier activity", []string{"last_active_at", at(10 * time.Second)}, nil},
			{"subject", []string{"subject", `"alice"`, "data", `{"v":3}`}, []sessiond.EventType{sessiond.EventUpdated}},
			{"deadlines", []string{"expires_at", at(2 * time.Hour), "idle_timeout", "600"},
				[]sessiond.EventType{sessiond.EventUpdated}},
			{"no labels, no data", []string{"labels", `{}`, "data", `{}`, "last_active_at", at(50 * time.Second)},
				[]sessiond.EventType{sessiond.EventUpdated}},
		}
		time.Sleep(time.Minute)
		version := int64(1)
		for _, step := range steps {
			for range 2 { // the second time there is nothing to do
				from := e.position()
				e.foreign(foreignLine("t", step.members...))
				e.wantTypes(from, step.types...)
				version += int64(len(step.types))
				step.types = nil
			}
			if s := e.verify("t").Session; s == nil || s.Version != version {
				t.Fatalf("%s: %+v", step.what, s)
			}
		}
		s = e.get(id)
		if s.Subject != "alice" || string(s.Data) != `{}` || len(s.Labels) > 0 || s.IdleTimeout != 10*time.Minute ||
			!s.ExpiresAt.Equal(s.CreatedAt.Add(2*time.Hour)) || !s.LastActiveAt.Equal(s.CreatedAt.Add(50*time.Second)) {
			t.Errorf("%+v", s)
		}
		_, failed, err := foreignFailures(e, foreignLine("t", "subject", `"bob"`))
		if err != nil || len(failed) != 1 || !strings.Contains(failed[0], "/subject") {
			t.Errorf("another subject: %q, %v", failed, err)
		}
		// A read and activity here are no change.
		if _, err := e.Touch(e.ctx, id); err != nil {
			t.Fatal(err)
		}
		wantResult(t, "after a touch", e.foreign(foreignLine("t", "data", `{"v":4}`)), sessiond.ImportResult{Updated: 1})
		up := sessiond.UpdateParams{Labels: map[string]string{"here": "yes"}}
		if _, err := e.Update(e.ctx, id, up); err != nil {
			t.Fatal(err)
		}
		before := e.get(id)
		kept := foreignLine("t", "data", `{"v":5}`, "labels", `{}`, "last_active_at", at(0))
		wantResult(t, "after an update", e.foreign(kept), sessiond.ImportResult{Kept: 1})
		if after := e.get(id); string(after.Data) != string(before.Data) || after.Version != before.Version {
			t.Errorf("%+v", after)
		}
		_, token := e.rotate(id, sessiond.RotateParams{})
		wantResult(t, "after a rotation", e.foreign(kept), sessiond.ImportResult{Kept: 1})
		if !e.verify(token).Active {
			t.Error("the new token died")
		}
		from := e.position()
		wantResult(t, "revoked there", e.foreign(foreignLine("t", "revoked", "true")), sessiond.ImportResult{Ended: 1})
		wantResult(t, "again", e.foreign(foreignLine("t", "revoked", "true")), sessiond.ImportResult{Same: 1})
		e.wantTypes(from, sessiond.EventRevoked)
		if s := e.ended(id); s.EndReason != sessiond.EndRevoked || e.verify(token).Active {
			t.Errorf("%+v", s)
		}

		// A deadline that was moved into the past ends the session.
		e.foreign(foreignLine("u"))
		id = e.verify("u").Session.ID
		wantResult(t, "expired there", e.foreign(foreignLine("u", "expires_at", at(0))), sessiond.ImportResult{Ended: 1})
		if s := e.ended(id); s.EndReason != sessiond.EndAbsolute {
			t.Errorf("%+v", s)
		}
		// Lines of one token take effect in their order.
		var lines strings.Builder
		for i := range 500 {
			lines.WriteString(foreignLine("v", "data", fmt.Sprintf(`{"v":%d}`, i)))
		}
		wantResult(t, "many", e.foreign(lines.String()), sessiond.ImportResult{Created: 1, Updated: 499})
		if s := e.verify("v").Session; string(s.Data) != `{"v":499}` || s.Version != 500 {
			t.Errorf("%+v", s)
		}
	})
}

func foreignFailures(e *env, text string) (res sessiond.ImportResult, failed []string, err error) {
	res, err = e.ImportForeign(e.ctx, strings.NewReader(text), sessiond.ImportParams{Failed: func(line int64, err error) {
		failed = append(failed, fmt.Sprint(line, ": ", err))
	}})
	return res, failed, err
}

func TestImportForeignRefusesLines(t *testing.T) {
	t.Parallel()
	e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxIdleTimeout, p.MaxData = time.Hour, 100 }))
	digest := strings.Repeat("ab", 32)
	for line, says := range map[string]string{
		`{}`:                                                     "/token_sha256 is required",
		`{"token":"secret-token"}`:                               "/token unknown member",
		`{"token_sha256":"secret"}`:                              "/token_sha256",
		`{"token_sha256":"` + digest[1:] + `"}`:                  "/token_sha256",
		`{"token_sha256":"` + digest[1:] + `x"}`:                 "/token_sha256",
		`{"token_sha256":"` + digest + `00"}`:                    "/token_sha256",
		`{"token_sha256":1}`:                                     "/token_sha256",
		`{"token_sha256":null}`:                                  "/token_sha256",
		foreignLine("t", "tenant", `"Shop"`):                     "/tenant",
		foreignLine("t", "tenant", `""`):                         "/tenant",
		foreignLine("t", "subject", `null`):                      "/subject",
		foreignLine("t", "subject", `"\n"`):                      "/subject",
		foreignLine("t", "data", `[]`):                           "/data",
		foreignLine("t", "data", `{"a":1,"a":2}`):                "duplicate",
		foreignLine("t", "data", `{"a":"`+digest+digest+`"}`):    "/data must be at most 100 bytes",
		foreignLine("t", "labels", `{"a":1}`):                    "/labels/a",
		foreignLine("t", "idle_timeout", `0`):                    "/idle_timeout",
		foreignLine("t", "idle_timeout", `3601`):                 "/idle_timeout",
		foreignLine("t", "idle_timeout", `"600"`):                "/idle_timeout",
		foreignLine("t", "created_at", `1700000000`):             "/created_at",
		foreignLine("t", "expires_at", `"tomorrow"`):             "/expires_at",
		foreignLine("t", "expires_at", `"1960-01-01T00:00:00Z"`): "/expires_at",
		foreignLine("t", "revoked", `"yes"`):                     "/revoked",
		foreignLine("t", "id", `"a"`):                            "/id unknown member",
		foreignLine("t") + `{`:                                   "cut off",
		"x":                                                      "cut off",
		"":                                                       "",
		"\n":                                                     "malformed",
	} {
		res, failed, err := foreignFailures(e, line)
		switch {
		case says == "":
			wantErr(t, "nothing", err, nil)
		case says == "cut off":
			wantErr(t, line, err, io.ErrUnexpectedEOF)
		case err != nil && !errors.Is(err, io.ErrUnexpectedEOF), err == nil && (len(failed) != 1 || res.Failed != 1):
			t.Errorf("%s: %+v, %q, %v", line, res, failed, err)
		case err == nil && !strings.Contains(failed[0], says):
			t.Errorf("%s: %q, want %q", line, failed, says)
		}
		if strings.Contains(fmt.Sprint(failed, err), "secret") || strings.Contains(fmt.Sprint(failed, err), digest) {
			t.Errorf("%s: %q shows a secret", line, failed)
		}
	}
	_, failed, _ := foreignFailures(e.as("-x", sessiond.Actor{}), foreignLine("t"))
	if len(failed) != 1 || !strings.Contains(failed[0], "/tenant") {
		t.Errorf("no tenant: %q", failed)
	}
}

// TestForeignRaces: imports that race with changes here never bring an ended
// session back, nor a token that was replaced.
func TestForeignRaces(t *testing.T) {
	t.Parallel()
	for round := range 30 {
		e := newEnv(t)
		e.foreign(foreignLine("t"))
		id := e.verify("t").Session.ID
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := range 10 {
					_, err := e.ImportForeign(e.ctx, strings.NewReader(foreignLine("t", "data", fmt.Sprintf(`{"v":%d}`, i*100+n),
						"last_active_at", at(time.Duration(n)*ms))), sessiond.ImportParams{})
					wantErr(t, "import", err, nil)
				}
			})
		}
		var token sessiond.Token
		wg.Go(func() {
			var err error
			if round%2 == 0 {
				err = e.Revoke(e.ctx, id, sessiond.RevokeParams{})
			} else {
				_, token, err = e.Rotate(e.ctx, id, sessiond.RotateParams{Token: "t"})
			}
			wantErr(t, "change", err, nil)
		})
		wg.Wait()
		if e.verify("t").Active || round%2 == 1 && !e.verify(token).Active {
			t.Fatal("an import undid a change")
		}
		seen := int64(0)
		for _, s := range e.list(sessiond.ListParams{}) {
			seen = s.Version
		}
		if seen < 2 {
			t.Errorf("version %d", seen)
		}
	}
}
