package sessiond_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/memstore"
)

// TestImportInBatches: a batch is bounded in bytes, too.
func TestImportInBatches(t *testing.T) {
	t.Parallel()
	large := policy(func(p *sessiond.Policy) { p.MaxData = 1 << 20 })
	there, here := inMemory(t, newKeys(t), large), inMemory(t, newKeys(t), large)
	big := data(`{"x":"` + strings.Repeat("x", 1<<20-8) + `"}`)
	for range 6 {
		there.create(sessiond.CreateParams{Data: big})
	}
	batches := 0
	_, err := here.Import(t.Context(), strings.NewReader(there.export(sessiond.ExportParams{Open: true})),
		sessiond.ImportParams{Report: func(sessiond.ImportResult) { batches++ }})
	if err != nil || batches < 2 {
		t.Errorf("%d batches, %v", batches, err)
	}
	sameRecords(t, "big", there.all(), here.all())
}

// TestImportAgain: the same export again changes nothing and tells no one, and a
// dry run writes nothing in the first place.
func TestImportAgain(t *testing.T) {
	t.Parallel()
	there := inMemory(t, newKeys(t), overlapping)
	there.populate()
	text := there.export(sessiond.ExportParams{Open: true})
	here := inMemory(t, newKeys(t), overlapping)
	from := here.position()
	wantResult(t, "dry run", here.dry(text), sessiond.ImportResult{Created: 24, Same: 3})
	here.wantTypes(from)
	if len(here.all()) != 0 {
		t.Error("a dry run has made sessions")
	}
	ctx := sessiond.WithRequestID(t.Context(), "move-1")
	if _, err := here.Import(ctx, strings.NewReader(text), sessiond.ImportParams{}); err != nil {
		t.Fatal(err)
	}
	for _, e := range here.since(from) {
		s := here.get(e.SessionID)
		if e.Type != sessiond.EventCreated || e.Version != s.Version || e.RequestID != "move-1" || e.Subject != s.Subject ||
			e.Actor != s.CreatedBy || e.Time.Before(s.UpdatedAt) {
			t.Errorf("the event %+v of %+v", e, s)
		}
	}
	before, from := here.all(), here.position()
	for range 2 {
		wantResult(t, "dry run again", here.dry(text), sessiond.ImportResult{Same: 27})
		wantResult(t, "again", here.importing(text), sessiond.ImportResult{Same: 27})
	}
	if diff := cmp.Diff(before, here.all()); diff != "" {
		t.Errorf("importing again changed:\n%s", diff)
	}
	here.wantTypes(from)
}

// TestImportDelta brings what has changed since, and leaves alone what was changed
// or has ended here.
func TestImportDelta(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		there, here := inMemory(t, keys), inMemory(t, keys)
		tokens := map[sessiond.ID]sessiond.Token{}
		for _, id := range []sessiond.ID{
			"same", "updated", "bound", "rotated", "touched", "revoked", "erased", "changed-here", "changed-here-then-there",
			"both-once", "ended-here", "ended-here-updated-there", "erased-here", "revoked-changed-here", "touched-here",
			"expires", "id-of-another", "twice-there-then-here",
		} {
			_, tokens[id] = there.create(sessiond.CreateParams{ID: id, Data: data(`{"v":1}`)})
		}
		wantResult(t, "first", here.importing(there.export(sessiond.ExportParams{})), sessiond.ImportResult{Created: 18})

		change := func(p *place, value string, ids ...sessiond.ID) {
			for _, id := range ids {
				_, err := p.Update(p.ctx, id, sessiond.UpdateParams{Data: data(`{"v":"` + value + `"}`)})
				wantErr(t, "update", err, nil)
			}
		}
		there.create(sessiond.CreateParams{ID: "gone", ExpiresIn: new(time.Second)})
		change(there, "there", "twice-there-then-here")
		change(there, "there again", "twice-there-then-here")
		time.Sleep(time.Minute)
		change(here, "here", "twice-there-then-here")
		change(here, "here", "changed-here", "changed-here-then-there", "both-once", "revoked-changed-here")
		change(here, "here", "changed-here")
		here.revoke("ended-here", sessiond.RevokeParams{Reason: sessiond.EndSecurity})
		here.revoke("ended-here-updated-there", sessiond.RevokeParams{})
		here.revoke("erased-here", sessiond.RevokeParams{Erase: true})
		here.revoke("id-of-another", sessiond.RevokeParams{Erase: true})
		here.create(sessiond.CreateParams{ID: "id-of-another"})
		if _, err := here.Touch(here.ctx, "touched-here"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		change(there, "there", "updated", "changed-here", "changed-here-then-there", "both-once", "ended-here-updated-there")
		change(there, "there again", "updated", "changed-here-then-there", "ended-here-updated-there")
		change(there, "once more", "ended-here-updated-there")
		_, tokens["rotated"] = there.rotate("rotated", sessiond.RotateParams{})
		there.rotate("bound", sessiond.RotateParams{Subject: "alice"})
		there.revoke("revoked", sessiond.RevokeParams{Reason: sessiond.EndLogout, Note: "bye"})
		there.revoke("revoked-changed-here", sessiond.RevokeParams{Reason: sessiond.EndSecurity})
		there.revoke("erased", sessiond.RevokeParams{Erase: true})
		if _, err := there.Touch(there.ctx, "touched"); err != nil {
			t.Fatal(err)
		}
		there.create(sessiond.CreateParams{ID: "new", Subject: "bob"})
		there.create(sessiond.CreateParams{ID: "short", ExpiresIn: new(time.Second)})
		if _, err := there.Update(there.ctx, "expires", sessiond.UpdateParams{ExpiresIn: new(time.Second)}); err != nil {
			t.Fatal(err)
		}

		text := there.export(sessiond.ExportParams{})
		time.Sleep(2 * time.Second)
		from := here.position()
		var failed []string
		params := sessiond.ImportParams{Failed: func(_ int64, err error) { failed = append(failed, err.Error()) }}
		want := sessiond.ImportResult{
			Created: 2, // new, erased-here
			Updated: 5, // updated, bound, rotated, touched, changed-here-then-there
			Ended:   3, // revoked, revoked-changed-here, expires
			Same:    2, // same, touched-here
			Expired: 1, // short
			Kept:    5, // changed-here, both-once, ended-here, ended-here-updated-there, twice-there-then-here
			Failed:  1, // id-of-another
		}
		for round := range 2 {
			res, err := here.Import(here.ctx, strings.NewReader(text), params)
			wantErr(t, "delta", err, nil)
			if round == 1 { // everything has been brought
				want = sessiond.ImportResult{Same: 11, Expired: 2, Kept: 5, Failed: 1}
				failed = failed[1:]
			}
			wantResult(t, fmt.Sprint("delta ", round), res, want)
			if len(failed) != 1 || !strings.Contains(failed[0], "id-of-another belongs to another session") {
				t.Errorf("failed: %q", failed)
			}
		}

		data := func(id sessiond.ID) string { return string(here.get(id).Data) }
		for id, want := range map[sessiond.ID]string{
			"same": `{"v":1}`, "updated": `{"v":"there again"}`, "changed-here": `{"v":"here"}`, "both-once": `{"v":"here"}`,
			"twice-there-then-here": `{"v":"here"}`, "changed-here-then-there": `{"v":"there again"}`, "erased": `{"v":1}`, "new": `{}`, "erased-here": `{"v":1}`,
		} {
			if got := data(id); got != want {
				t.Errorf("%s has data %s, want %s", id, got, want)
			}
		}
		for id, want := range map[sessiond.ID]sessiond.EndReason{
			"revoked": sessiond.EndLogout, "revoked-changed-here": sessiond.EndSecurity, "ended-here": sessiond.EndSecurity,
			"ended-here-updated-there": sessiond.EndRevoked, "expires": sessiond.EndAbsolute,
		} {
			if s := here.ended(id); s.EndReason != want {
				t.Errorf("%s ended with %s, want %s", id, s.EndReason, want)
			}
		}
		if s := here.ended("revoked"); s.EndNote != "bye" || !s.EndedAt.Equal(time.Now()) {
			t.Errorf("revoked: %+v", s)
		}
		for _, id := range []sessiond.ID{"same", "updated", "bound", "rotated", "touched"} {
			if a, b := there.get(id), here.get(id); !cmp.Equal(a, b) {
				t.Errorf("%s:\n%s", id, cmp.Diff(a, b))
			}
		}
		if s := here.get("touched-here"); !s.LastActiveAt.After(there.get("touched-here").LastActiveAt) {
			t.Error("activity was taken back")
		}
		if !here.verify(tokens["rotated"]).Active || here.verify(tokens["bound"]).Active {
			t.Error("the rotated token is not the one that works")
		}
		types, now := map[sessiond.EventType]int{}, time.Now()
		for _, e := range here.since(from) {
			if types[e.Type]++; !e.Time.Equal(now) {
				t.Errorf("an event of another time: %+v", e)
			}
		}
		if diff := cmp.Diff(map[sessiond.EventType]int{
			sessiond.EventCreated: 2, sessiond.EventUpdated: 4, sessiond.EventRevoked: 2, sessiond.EventExpired: 1,
		}, types); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestImportOfAnIdleSession: activity here counts, also for a change that was made
// there.
func TestImportOfAnIdleSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		there, here := inMemory(t, keys), inMemory(t, keys)
		there.create(sessiond.CreateParams{ID: "s"})
		here.importing(there.export(sessiond.ExportParams{}))
		time.Sleep(20 * time.Minute)
		if _, err := here.Touch(here.ctx, "s"); err != nil {
			t.Fatal(err)
		}
		if _, err := there.Update(there.ctx, "s", sessiond.UpdateParams{Data: data(`{"v":2}`)}); err != nil {
			t.Fatal(err)
		}
		text := there.export(sessiond.ExportParams{})
		time.Sleep(15 * time.Minute)
		wantResult(t, "idle there", here.importing(text), sessiond.ImportResult{Updated: 1})
		if s := here.get("s"); string(s.Data) != `{"v":2}` || !s.LastActiveAt.Equal(time.Now().Add(-15*time.Minute)) {
			t.Errorf("%+v", s)
		}
		time.Sleep(15 * time.Minute)
		wantResult(t, "idle everywhere", here.importing(text), sessiond.ImportResult{Expired: 1})
	})
}

// TestImportOfAnOldExport: what could bring back a session whose end is forgotten
// is refused.
func TestImportOfAnOldExport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		there, here := inMemory(t, keys), inMemory(t, keys)
		there.create(sessiond.CreateParams{ID: "s", ExpiresIn: new(100 * time.Hour), IdleTimeout: new(time.Duration(0))})
		text := there.export(sessiond.ExportParams{})
		here.importing(text)
		here.revoke("s", sessiond.RevokeParams{})
		defer here.run()()
		time.Sleep(24*time.Hour - ms)
		wantResult(t, "while it is known", here.importing(text), sessiond.ImportResult{Kept: 1})
		time.Sleep(2 * time.Second)
		_, failed, err := here.failures(text)
		wantErr(t, "later", err, sessiond.ErrInvalid)
		_, err = here.Get(here.ctx, "s")
		if wantErr(t, "get", err, sessiond.ErrNotFound); len(failed) > 0 {
			t.Errorf("%q", failed)
		}
		res, err := here.Import(here.ctx, strings.NewReader(text), sessiond.ImportParams{AcceptOld: true})
		wantErr(t, "accepted", err, nil)
		wantResult(t, "accepted", res, sessiond.ImportResult{Created: 1})
	})
}

// TestClockAhead: times of a clock that runs ahead are not in the future here.
func TestClockAhead(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	ahead := placeOf(t, memstore.New(memstore.Options{Now: func() time.Time { return time.Now().Add(time.Minute) }}), keys)
	here := inMemory(t, keys)
	s, token := ahead.create(sessiond.CreateParams{ID: "s"})
	text := ahead.export(sessiond.ExportParams{})
	here.importing(text)
	got := here.get("s")
	if now := time.Now(); got.CreatedAt.After(now) || got.UpdatedAt.After(now) || got.LastActiveAt.After(now) ||
		!got.ExpiresAt.Equal(s.ExpiresAt) || got.Version != 1 || got.ETag != s.ETag || !here.verify(token).Active {
		t.Errorf("%+v", got)
	}
	here.importing(text)
	if again := here.get("s"); again.Version != 1 || again.LastActiveAt.After(time.Now()) {
		t.Errorf("%+v", again)
	}
}

// TestImportResumes: an import that the store ends is taken up at the line it
// tells, or from the beginning.
func TestImportResumes(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	there := inMemory(t, keys)
	for i := range 2500 {
		there.create(sessiond.CreateParams{ID: sessiond.ID(fmt.Sprint("s-", i))})
	}
	text := there.export(sessiond.ExportParams{})
	for _, resume := range []bool{true, false} {
		for _, fault := range []faultstore.Fault{faultstore.Refused, faultstore.ReplyLost} {
			if resume == (fault == faultstore.ReplyLost) {
				continue // two of the pairs will do
			}
			here := inMemory(t, keys)
			here.store.FailNth(faultstore.Create, 1500, fault)
			var reported sessiond.ImportResult
			res, err := here.Import(t.Context(), strings.NewReader(text), sessiond.ImportParams{
				Report: func(r sessiond.ImportResult) { reported = r },
			})
			if want := map[faultstore.Fault]error{
				faultstore.Refused: sessiond.ErrUnavailable, faultstore.ReplyLost: sessiond.ErrUnknown,
			}[fault]; !errors.Is(err, want) || !strings.Contains(err.Error(), "line 1") {
				t.Errorf("interrupted: %v", err)
			}
			if res.Lines != 1000 || reported.Lines != 1000 || res.Failed != 0 {
				t.Errorf("interrupted: %+v, reported %+v", res, reported)
			}
			var skip int64
			if resume {
				skip = res.Lines
			}
			res, err = here.Import(t.Context(), strings.NewReader(text), sessiond.ImportParams{Skip: skip})
			wantErr(t, "again", err, nil)
			if n := res.Created + res.Same; n != 2500-max(skip-1, 0) || res.Created > 1500 {
				t.Errorf("again, from %d: %+v", skip, res)
			}
			sameRecords(t, "resumed", there.all(), here.all())
		}
	}
	here := inMemory(t, keys)
	ctx, cancel := context.WithCancel(t.Context())
	res, err := here.Import(ctx, strings.NewReader(text), sessiond.ImportParams{Report: func(sessiond.ImportResult) { cancel() }})
	wantErr(t, "cancelled", err, context.Canceled)
	if res.Lines != 1000 || len(here.all()) != 999 {
		t.Errorf("cancelled: %+v", res)
	}
	here.store.FailNext(faultstore.Stats, faultstore.Refused)
	_, err = here.Import(t.Context(), strings.NewReader(text), sessiond.ImportParams{})
	wantErr(t, "store", err, sessiond.ErrUnavailable)
}
