package sessiond_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/pebblestore"
)

var movedSessions = flag.Int("moved", 1000, "how many sessions TestMoveMany moves")

// A place is a store with its keys, which an import may come from or go to.
type place struct {
	*env
	records sessiond.Store
}

func newKeys(t testing.TB) *keyset.Keyset {
	t.Helper()
	k, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func placeOf(t testing.TB, s sessiond.Store, k sessiond.Sealer, edit ...func(*sessiond.Config)) *place {
	faulty := faultstore.New(s)
	e := newEnv(t, append(edit, func(c *sessiond.Config) { c.Store, c.Sealer = faulty, k })...)
	e.store = faulty
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &place{e, s}
}

func inMemory(t testing.TB, k sessiond.Sealer, edit ...func(*sessiond.Config)) *place {
	return placeOf(t, memstore.New(memstore.Options{}), k, edit...)
}

func onDisk(t testing.TB, k sessiond.Sealer, edit ...func(*sessiond.Config)) *place {
	t.Helper()
	s, err := pebblestore.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return placeOf(t, s, k, edit...)
}

func (p *place) export(params sessiond.ExportParams) string {
	p.t.Helper()
	var b bytes.Buffer
	if _, err := p.Export(p.ctx, &b, params); err != nil {
		p.t.Fatalf("Export: %v", err)
	}
	return b.String()
}

// importing imports without an error, and without a line that fails.
func (p *place) importing(text string) sessiond.ImportResult {
	p.t.Helper()
	res, err := p.Import(p.ctx, strings.NewReader(text), sessiond.ImportParams{
		Failed: func(line int64, err error) { p.t.Errorf("line %d: %v", line, err) },
	})
	if err != nil {
		p.t.Fatalf("Import: %v", err)
	}
	return res
}

// wantResult compares all but the number of lines.
func wantResult(t testing.TB, what string, got, want sessiond.ImportResult) {
	t.Helper()
	if got.Lines = 0; got != want {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// all is every record of a place, with its data in clear.
func (p *place) all() map[sessiond.Key]sessiond.Record {
	p.t.Helper()
	found := make(map[sessiond.Key]sessiond.Record)
	var after sessiond.Key
	for {
		records, err := p.records.Scan(p.ctx, after, 100)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, r := range records {
			c := *r
			if len(c.Labels) == 0 {
				c.Labels = nil
			}
			if c.Data != nil {
				s, err := p.As(r.Tenant, sessiond.Actor{}).Get(p.ctx, r.ID)
				if err != nil {
					p.t.Fatal(err)
				}
				c.Data, c.DataKey = s.Data, 0
			}
			found[r.Key] = c
			after = r.Key
		}
		if len(records) < 100 {
			return found
		}
	}
}

// sameRecords compares the live ones.
func sameRecords(t testing.TB, what string, want, got map[sessiond.Key]sessiond.Record) {
	t.Helper()
	for k, r := range want {
		if !r.EndedAt.IsZero() {
			delete(want, k)
		}
	}
	if reflect.DeepEqual(want, got) { // much faster
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-there +here):\n%s", what, diff)
	}
}

// populate makes sessions with every field filled in, in several tenants, and
// returns a token of each live one.
func (p *place) populate() map[sessiond.Key]sessiond.Token {
	p.t.Helper()
	tokens := make(map[sessiond.Key]sessiond.Token)
	for _, tenant := range []string{sessiond.DefaultTenant, "shop", "zoo"} {
		size := 100
		if tenant == "zoo" {
			size = 30 << 10
		}
		e := p.as(tenant, sessiond.Actor{Issuer: "https://id", Sub: "sign-in \"é\"", Client: "web"})
		for i, params := range []sessiond.CreateParams{
			{ID: "guest"},
			{ID: "A.b_c~d-1", Subject: "alice 😀", Data: data(`{"n":1.50,"t":"\u00e9<>","o":{"a":[1,null]}}`)},
			{Subject: "bob", Labels: map[string]string{"empty": "", "ip": "192.0.2.1"}, IdleTimeout: new(time.Duration(0))},
			{Subject: "carol", IdempotencyKey: "k", Data: data(`{"first":true}`)},
			{ID: "big", Data: data(`{"x":"` + strings.Repeat("x", size) + `"}`), ExpiresIn: new(700 * time.Hour)},
			{ID: "rotated", Subject: "dave"}, {ID: "updated"}, {ID: "touched"}, {ID: "revoked"},
		} {
			s, token := e.create(params)
			var err error
			switch s.ID {
			case "rotated":
				_, token = e.rotate("rotated", sessiond.RotateParams{})
			case "updated":
				_, err = e.Update(e.ctx, "updated", sessiond.UpdateParams{
					Data: data(`{"a":2}`), ExpiresIn: new(time.Hour), IdleTimeout: new(90 * time.Second),
				})
			case "touched":
				time.Sleep(2 * ms)
				_, err = e.Touch(e.ctx, "touched")
			case "revoked":
				e.revoke("revoked", sessiond.RevokeParams{})
				continue
			}
			if err != nil {
				p.t.Fatal(err)
			}
			tokens[sessiond.Key{Tenant: tenant, ID: s.ID}] = token
			if i == 0 {
				time.Sleep(2 * ms)
			}
		}
	}
	return tokens
}

func overlapping(c *sessiond.Config) { c.Policy.RotationOverlap = time.Minute }

// TestMoveEveryField moves sessions between all pairs of stores, sealed and open,
// and back.
func TestMoveEveryField(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(testing.TB, sessiond.Sealer, ...func(*sessiond.Config)) *place{
		"memory": inMemory, "disk": onDisk,
	}
	for from, open1 := range kinds {
		for to, open2 := range kinds {
			for _, open := range []bool{false, true} {
				what := fmt.Sprintf("%s to %s, open %t", from, to, open)
				keys := newKeys(t)
				there := open1(t, keys, overlapping)
				tokens := there.populate()
				text := there.export(sessiond.ExportParams{Open: open, Source: from})
				for _, secret := range []string{`"n":1.50`, `"first":true`} {
					if strings.Contains(text, secret) != open {
						t.Errorf("%s: data in clear: %t", what, !open)
					}
				}
				if open {
					keys = newKeys(t)
				}
				here := open2(t, keys, overlapping)
				res := here.importing(text)
				wantResult(t, what, res, sessiond.ImportResult{Created: 24, Same: 3})
				if lines := int64(strings.Count(text, "\n")); res.Lines != lines {
					t.Errorf("%s: %d lines of %d", what, res.Lines, lines)
				}
				sameRecords(t, what, there.all(), here.all())
				here.wantTokens(tokens)
				for k := range tokens {
					a, b := there.as(k.Tenant, sessiond.Actor{}).get(k.ID), here.as(k.Tenant, sessiond.Actor{}).get(k.ID)
					if diff := cmp.Diff(a, b); diff != "" {
						t.Errorf("%s: %v (-there +here):\n%s", what, k, diff)
					}
				}
				// The record kept its place in the create that a client may repeat.
				_, fresh, err := here.As(sessiond.DefaultTenant, sessiond.Actor{Issuer: "https://id", Sub: "sign-in \"é\""}).
					Create(t.Context(), sessiond.CreateParams{
						Subject: "carol", IdempotencyKey: "k", Data: data(`{"first":true}`),
					})
				if err != nil || !here.verify(fresh).Active {
					t.Errorf("%s: the create can't be repeated: %v", what, err)
				}
			}
		}
	}
}

func (p *place) wantTokens(tokens map[sessiond.Key]sessiond.Token) {
	p.t.Helper()
	for k, token := range tokens {
		if v := p.as(k.Tenant, sessiond.Actor{}).verify(token); !v.Active || v.Session.ID != k.ID {
			p.t.Errorf("the token of %v: %+v", k, v)
		}
	}
}

func TestExportOfATenant(t *testing.T) {
	t.Parallel()
	there := inMemory(t, newKeys(t))
	there.populate()
	// The service's own records are no sessions.
	_, err := there.records.Create(t.Context(), sessiond.Creation{
		Record: &sessiond.Record{Key: sessiond.Key{Tenant: "-own", ID: "x"}, Version: 1}, Lifetime: time.Hour,
	})
	if err != nil || strings.Contains(there.export(sessiond.ExportParams{}), "-own") {
		t.Errorf("the service's own records are in the export, %v", err)
	}
	var total int64
	for _, tenant := range []string{sessiond.DefaultTenant, "none", "shop", "zoo"} {
		text := there.export(sessiond.ExportParams{Tenant: tenant})
		if n := strings.Count(text, `"tenant":`); n != strings.Count(text, `{"tenant":"`+tenant+`",`) {
			t.Errorf("%s: other tenants are in it", tenant)
		}
		total += inMemory(t, sessiond.NoSealing{}).dry(text).Lines - 2
	}
	if all := there.export(sessiond.ExportParams{}); total != int64(strings.Count(all, "\n"))-2 {
		t.Errorf("the tenants have %d lines", total)
	}
	for pointer, p := range map[string]sessiond.ExportParams{
		"/tenant": {Tenant: "-x"}, "/source": {Source: "\n"},
		"/after": {Tenant: "a", WalkParams: sessiond.WalkParams{After: sessiond.Key{Tenant: "b"}}},
	} {
		_, err := there.Export(t.Context(), io.Discard, p)
		wantInvalid(t, "export", err, pointer)
	}
}

func (p *place) dry(text string) sessiond.ImportResult {
	p.t.Helper()
	res, err := p.Import(p.ctx, strings.NewReader(text), sessiond.ImportParams{DryRun: true})
	if err != nil {
		p.t.Fatal(err)
	}
	return res
}

// TestMoveBack: what moved away and was changed there comes back.
func TestMoveBack(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	there, here := inMemory(t, keys), inMemory(t, keys)
	there.create(sessiond.CreateParams{ID: "s"})
	here.importing(there.export(sessiond.ExportParams{}))
	time.Sleep(2 * ms)
	_, token := here.rotate("s", sessiond.RotateParams{})
	wantResult(t, "back", there.importing(here.export(sessiond.ExportParams{})), sessiond.ImportResult{Updated: 1})
	if !there.verify(token).Active {
		t.Error("the token does not work")
	}
	sameRecords(t, "moved back", here.all(), there.all())
}

// TestMoveMany moves many sessions between stores on disk.
func TestMoveMany(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	there, here := onDisk(t, keys), onDisk(t, keys)
	tokens := make([]sessiond.Token, *movedSessions)
	parallel(len(tokens), func(i int) {
		_, token, err := there.Create(t.Context(), sessiond.CreateParams{
			Subject: fmt.Sprint("user-", i/3), Data: data(fmt.Sprintf(`{"cart":[%d]}`, i)), Labels: map[string]string{"n": "x"},
		})
		if err != nil {
			t.Error(err)
		}
		tokens[i] = token
	})
	began := time.Now()
	r, w := io.Pipe()
	go func() {
		_, err := there.Export(t.Context(), w, sessiond.ExportParams{WalkParams: sessiond.WalkParams{Pace: 1 << 30}})
		w.CloseWithError(err)
	}()
	res, err := here.Import(t.Context(), r, sessiond.ImportParams{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sessions moved in %v", len(tokens), time.Since(began).Round(ms))
	wantResult(t, "moved", res, sessiond.ImportResult{Created: int64(len(tokens))})
	parallel(len(tokens), func(i int) {
		v, err := here.Verify(t.Context(), tokens[i], sessiond.VerifyParams{NoTouch: true})
		if err != nil || !v.Active || string(v.Session.Data) != fmt.Sprintf(`{"cart":[%d]}`, i) {
			t.Errorf("token %d: %+v, %v", i, v, err)
		}
	})
	stats, err := here.Stats(t.Context())
	if err != nil || stats.Active[sessiond.DefaultTenant] != int64(len(tokens)) {
		t.Errorf("%+v, %v", stats, err)
	}
}

// parallel calls f for 0 to n-1, many at a time.
func parallel(n int, f func(i int)) {
	const workers = 64
	done := make(chan struct{})
	for w := range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := w; i < n; i += workers {
				f(i)
			}
		}()
	}
	for range workers {
		<-done
	}
}

// TestExportResumes: parts of an export that was cut off again and again are the
// whole.
func TestExportResumes(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	there, here := inMemory(t, keys), inMemory(t, keys)
	big := data(`{"x":"` + strings.Repeat("x", 20<<10) + `"}`)
	const sessions = 100
	for range sessions {
		there.create(sessiond.CreateParams{Data: big})
	}
	var after sessiond.Key
	var written int64
	for parts := 1; ; parts++ {
		if parts > 20 {
			t.Fatal("it does not end")
		}
		var b bytes.Buffer
		w := &failing{w: &b, left: 700 << 10}
		done, err := there.Export(t.Context(), w, sessiond.ExportParams{WalkParams: sessiond.WalkParams{After: after}})
		written += done.Changed
		after = done.After
		_, imported := here.Import(t.Context(), &b, sessiond.ImportParams{})
		if err == nil {
			wantErr(t, "the last part", imported, nil)
			break
		}
		wantErr(t, "export", err, errFull)
		wantErr(t, "import of a part", imported, io.ErrUnexpectedEOF)
	}
	if written < sessions {
		t.Errorf("%d written", written)
	}
	sameRecords(t, "parts", there.all(), here.all())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := there.Export(ctx, io.Discard, sessiond.ExportParams{})
	wantErr(t, "cancelled", err, context.Canceled)
	there.store.FailNext(faultstore.Scan, faultstore.Refused)
	_, err = there.Export(t.Context(), io.Discard, sessiond.ExportParams{})
	wantErr(t, "store", err, sessiond.ErrUnavailable)
}

var errFull = errors.New("full")

// A failing writer takes so many bytes and no more. What is cut is cut within a line.
type failing struct {
	w    io.Writer
	left int
}

func (f *failing) Write(b []byte) (int, error) {
	if len(b) <= f.left {
		f.left -= len(b)
		return f.w.Write(b)
	}
	n, err := f.w.Write(b[:f.left])
	return n, errors.Join(errFull, err)
}
