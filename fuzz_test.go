package sessiond_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
)

var idForm = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._~-]{0,127}\z`)

func FuzzParseID(f *testing.F) {
	for _, s := range []string{
		"", "a", "sst_", "sst", "a/b", "..", "a\x00", strings.Repeat("a", 129), "é", "0190163d-8694-739b-aea5-966c26f8ad91",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := sessiond.ParseID(s)
		if want := idForm.MatchString(s) && !strings.HasPrefix(s, "sst_"); (err == nil) != want {
			t.Fatalf("ParseID(%q): %v", s, err)
		}
		if err != nil && (id != "" || !errors.Is(err, sessiond.ErrInvalid)) {
			t.Fatalf("ParseID(%q) = %q, %v", s, id, err)
		}
	})
}

// FuzzVerify: no text but the tokens given out is active or names a reason,
// and every text that reaches the store is one that a token could have.
func FuzzVerify(f *testing.F) {
	e := newEnv(f)
	_, token := e.create(sessiond.CreateParams{ID: "live"})
	_, uuidToken := e.create(sessiond.CreateParams{ID: "0190163d-8694-739b-aea5-966c26f8ad91"})
	_, dead := e.create(sessiond.CreateParams{ID: "dead"})
	e.revoke("dead", sessiond.RevokeParams{})
	for _, s := range []sessiond.Token{token, uuidToken, dead, token + "A", token[:40], " " + token, "sst_", "", "live"} {
		f.Add(string(s), false)
		f.Add(string(s), true)
	}
	f.Fuzz(func(t *testing.T, text string, checksum bool) {
		if checksum { // let the fuzzer past it
			text = string(spell([]byte(text)))
		}
		v, err := e.Verify(e.ctx, sessiond.Token(text), sessiond.VerifyParams{NoTouch: true})
		if err != nil {
			t.Fatal(err)
		}
		known := text == string(token) || text == string(uuidToken)
		if v.Active != known || (v.Reason != "") != (text == string(dead)) {
			t.Fatalf("Verify(%q) = %+v", text, v)
		}
		if err := e.RevokeToken(e.ctx, sessiond.Token(strings.ToUpper(text))); err != nil {
			t.Fatal(err)
		}
	})
}

var jsonSeeds = []string{
	``, ` `, `{}`, `[]`, `null`, `1`, `-0`, `1e999`, `"a"`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":[1,2,{"c":null}]}}`,
	`{"a":"\ud800"}`, "\"\xff\"", `{}{}`, `{} x`, `01`, `NaN`, `{"a"}`, `[1,]`, "\ufeff{}", `{"\u0061":1,"a":2}`,
	` { "a" : 1.50 } `,
	strings.Repeat("[", 40) + strings.Repeat("]", 40),
}

func FuzzValidateJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s), 32)
	}
	f.Fuzz(func(t *testing.T, b []byte, depth int) {
		depth &= 63
		err := sessiond.ValidateJSON(b, depth)
		if err != nil {
			if !errors.Is(err, sessiond.ErrMalformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		// What passes is one value by two other parsers, and not too deep.
		if !json.Valid(b) || !jsontext.Value(bytes.Clone(b)).IsValid() {
			t.Fatalf("accepted %q", b)
		}
		d := jsontext.NewDecoder(bytes.NewReader(b))
		for {
			if _, err := d.ReadToken(); err != nil {
				break
			}
			if d.StackDepth() > depth {
				t.Fatalf("%q is deeper than %d", b, depth)
			}
		}
	})
}

// FuzzMergePatch: the result of a merge is valid, merging again changes
// nothing, and the result means what the model says.
func FuzzMergePatch(f *testing.F) {
	for _, tt := range mergeCases {
		f.Add([]byte(tt.target), []byte(tt.patch))
	}
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		if sessiond.ValidateJSON(target, 32) != nil || sessiond.ValidateJSON(patch, 32) != nil {
			return
		}
		checkMerge(t, target, patch)
	})
}

// FuzzCursor: no text but the cursors given out is accepted.
func FuzzCursor(f *testing.F) {
	// The same sessions in every process that fuzzes.
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { return now }
	e := newEnv(f, func(c *sessiond.Config) { c.Store = memstore.New(memstore.Options{Now: clock}) })
	for _, id := range []sessiond.ID{"a", "b", "0190163d-8694-739b-aea5-966c26f8ad91"} {
		e.create(sessiond.CreateParams{ID: id})
		now = now.Add(ms)
	}
	good := map[string]bool{"": true}
	p := sessiond.ListParams{Limit: 1}
	for {
		page, err := e.List(e.ctx, p)
		if err != nil {
			f.Fatal(err)
		}
		if p.Cursor = page.NextCursor; p.Cursor == "" {
			break
		}
		good[p.Cursor] = true
		f.Add(p.Cursor)
		f.Add(p.Cursor[1:])
		f.Add(p.Cursor + "A")
	}
	f.Add("\n")
	f.Fuzz(func(t *testing.T, cursor string) {
		page, err := e.List(e.ctx, sessiond.ListParams{Limit: 1, Cursor: cursor})
		switch {
		case good[cursor] && err != nil, !good[cursor] && !errors.Is(err, sessiond.ErrCursor):
			t.Fatalf("cursor %q: %+v, %v", cursor, page, err)
		}
	})
}
