package pebblestore_test

// Every version has to open the stores that released versions have left behind.
// testdata has one of each layout version, as a backup, with what is in it.

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pebblestore"
)

var makeFixture = flag.Bool("make-fixture", false, "write testdata/store-vN of a new layout version N anew")

// An inventory is what a store holds, as its managers tell it.
type inventory struct {
	Keyset   json.RawMessage            `json:"keyset"`   // the file
	At       time.Time                  `json:"at"`       // when it is looked at
	Start    sessiond.Position          `json:"start"`    // of the feed
	Tokens   map[string]string          `json:"tokens"`   // by session, the last one
	Sessions map[string]json.RawMessage `json:"sessions"` // by tenant/id, as the API shows them, ended ones without data
	Lists    map[string][]sessiond.ID   `json:"lists"`    // by subject
	Events   []json.RawMessage          `json:"events"`   // of tenant default
	Active   map[string]int64           `json:"active"`
	DataKeys map[uint32]int64           `json:"data_keys"`
}

func fixturePolicy() sessiond.Policy {
	p := sessiond.DefaultPolicy()
	p.Retention = 30 * 24 * time.Hour
	p.RotationOverlap = time.Minute
	return p
}

func manage(t *testing.T, s *pebblestore.Store, keys sessiond.Sealer) *sessiond.Manager {
	t.Helper()
	m, err := sessiond.New(sessiond.Config{Store: s, Sealer: keys, Policy: fixturePolicy()})
	if err != nil {
		t.Fatal(err)
	}
	return m.As(tenant, sessiond.Actor{Sub: "maker", Client: "fixture"})
}

var fixtureIDs = []string{
	"default/plain", "default/full", "default/guest", "default/touched", "default/updated", "default/rotated",
	"default/bound", "default/revoked", "default/logout", "default/idle", "default/absolute", "default/retried",
	"default/018f0c4e-7d1a-7b3c-9e5f-0123456789ab", "other/plain",
}

// look fills f from the store, but for what only its maker knows.
func (f *inventory) look(t *testing.T, s *pebblestore.Store, keys sessiond.Sealer) {
	t.Helper()
	ctx := t.Context()
	m := manage(t, s, keys)
	f.Sessions, f.Lists = make(map[string]json.RawMessage), make(map[string][]sessiond.ID)
	for _, name := range fixtureIDs {
		owner, id := filepath.Split(name)
		got, err := m.As(filepath.Clean(owner), sessiond.Actor{}).Get(ctx, sessiond.ID(id))
		var ended *sessiond.EndedError
		if errors.As(err, &ended) {
			got = ended.Session
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.Sessions[name] = api.AppendSession(nil, got, "")
	}
	for _, subject := range []string{"alice", "bob", "käthe@example.org"} {
		page, err := m.List(ctx, sessiond.ListParams{Filter: sessiond.Filter{Subject: subject}, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range page.Sessions {
			f.Lists[subject] = append(f.Lists[subject], got.ID)
		}
	}
	batch, err := s.Events(ctx, sessiond.EventQuery{Tenant: tenant, After: f.Start, Limit: 1000})
	if err != nil || batch.Reset {
		t.Fatalf("%+v, %v", batch, err)
	}
	f.Events = nil
	for i := range batch.Events {
		line, err := api.Marshal(api.NewEvent(&batch.Events[i]))
		if err != nil {
			t.Fatal(err)
		}
		f.Events = append(f.Events, line)
	}
	stats, err := s.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.Active, f.DataKeys = stats.Active, stats.DataKeys
}

func TestStoreOfLayout1(t *testing.T) {
	t.Parallel()
	base := filepath.Join("testdata", "store-v1")
	if *makeFixture {
		newFixture(t, base)
	}
	var f inventory
	text, err := os.ReadFile(base + ".json")
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	keys := loadKeys(t, f.Keyset)
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	archive := gunzip(t, base+".tar.gz")
	for _, e := range unpack(t, archive)[1:] {
		if err := os.WriteFile(filepath.Join(dir, e.h.Name), e.body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := &hands{}
	h.advance(f.At.Sub(epoch))
	s := open(t, dir, pebblestore.Options{Clock: h, MustExist: true})
	defer closeStore(t, s)
	got := f
	got.look(t, s, keys)
	sameJSON := cmp.Transformer("json", func(b json.RawMessage) (v any) {
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		return v
	})
	if diff := cmp.Diff(f, got, sameJSON); diff != "" {
		t.Error(diff)
	}
	f.use(t, s, keys)

	// As a backup it is one of the first format.
	restored := filepath.Join(t.TempDir(), "restored")
	p := pebblestore.RestoreParams{Source: bytes.NewReader(archive), Dir: restored, Clock: h}
	if _, err := pebblestore.Restore(t.Context(), p); err != nil {
		t.Error(err)
	}
}

// use checks tokens, and that everything still works.
func (f *inventory) use(t *testing.T, s *pebblestore.Store, keys sessiond.Sealer) {
	t.Helper()
	ctx := t.Context()
	m := manage(t, s, keys)
	for name, token := range f.Tokens {
		var want struct{ Status string }
		if err := json.Unmarshal(f.Sessions[name], &want); err != nil {
			t.Fatal(err)
		}
		owner, _ := filepath.Split(name)
		v, err := m.As(filepath.Clean(owner), sessiond.Actor{}).Verify(ctx, sessiond.Token(token), sessiond.VerifyParams{})
		if err != nil || v.Active != (want.Status == "active") {
			t.Errorf("%s, which is %s: %+v, %v", name, want.Status, v, err)
		}
	}
	again, _, err := m.Create(ctx, retried())
	if err != nil || again.ID != "retried" {
		t.Errorf("a repeated create: %+v, %v", again, err)
	}
	if _, err := m.Update(ctx, "full", sessiond.UpdateParams{Data: jsontext.Value(`{}`)}); err != nil {
		t.Error(err)
	}
	if n, complete, err := m.RevokeMatching(ctx, sessiond.RevokeMatchingParams{
		Filter: sessiond.Filter{Subject: "alice"},
	}); n == 0 || !complete || err != nil {
		t.Errorf("%d, %v, %v", n, complete, err)
	}
	for {
		res, err := s.Sweep(ctx, sessiond.SweepParams{Limit: 100, EventRetention: time.Hour, MaxEvents: 1})
		if err != nil {
			t.Fatal(err)
		}
		if !res.More {
			break
		}
	}
	if _, err := m.Fence(ctx, sessiond.FenceParams{Before: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
		t.Error(err)
	}
	stats, err := s.Stats(ctx)
	if err != nil || stats.Active[tenant] != 0 || stats.Active["other"] != 0 || len(stats.DataKeys) != 0 {
		t.Errorf("after the end of all: %+v, %v", stats, err)
	}
}

func loadKeys(t *testing.T, file []byte) *keyset.Keyset {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := keyset.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func gunzip(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return b
}

// retried is a create that may be repeated.
func retried() sessiond.CreateParams {
	return sessiond.CreateParams{ID: "retried", Subject: "bob", Data: jsontext.Value(`{"n":1}`), IdempotencyKey: "key-1"}
}

// newFixture makes a store with sessions of every kind. It has both tables and a
// log to be replayed.
func newFixture(t *testing.T, base string) {
	t.Helper()
	old, _ := createKeys(t)
	keys, file := addKey(t, old)
	h := &hands{}
	dir := t.TempDir()
	s := open(t, dir, pebblestore.Options{Clock: h})
	f := inventory{Keyset: file, Start: end(t, s), Tokens: make(map[string]string)}

	f.early(t, manage(t, s, old), h)
	closeStore(t, s)
	h.advance(time.Minute)
	s = open(t, dir, pebblestore.Options{Clock: h})
	defer closeStore(t, s)
	f.late(t, manage(t, s, keys), h)
	for {
		res, err := s.Sweep(t.Context(), sessiond.SweepParams{
			Limit: 100, Retention: 30 * 24 * time.Hour, EventRetention: 24 * time.Hour, MaxEvents: 1000,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !res.More {
			break
		}
	}
	h.advance(time.Second)

	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := s.Backup(t.Context(), z, "fixture"); err != nil {
		t.Fatal(err)
	}
	f.At = h.Wall()
	f.look(t, s, keys)
	text, err := json.MarshalIndent(&f, "", "\t")
	if err = errors.Join(err, z.Close(), os.MkdirAll("testdata", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(base+".tar.gz", b.Bytes(), 0o644),
		os.WriteFile(base+".json", append(text, '\n'), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func createKeys(t *testing.T) (*keyset.Keyset, []byte) {
	t.Helper()
	k, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	return k, keysetFile(t, k)
}

// addKey adds a key and promotes it, so that the file has two.
func addKey(t *testing.T, k *keyset.Keyset) (*keyset.Keyset, []byte) {
	t.Helper()
	added, id, err := k.Add()
	if err == nil {
		added, err = added.Promote(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return added, keysetFile(t, added)
}

func keysetFile(t *testing.T, k *keyset.Keyset) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := k.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// early makes sessions that are in tables by the time of the backup.
func (f *inventory) early(t *testing.T, m *sessiond.Manager, h *hands) {
	t.Helper()
	short, long, none := time.Minute, 48*time.Hour, time.Duration(0)
	object := func(id string) jsontext.Value { return jsontext.Value(fmt.Sprintf(`{"id":%q}`, id)) }
	ctx := sessiond.WithRequestID(t.Context(), "request-1")
	make := func(m *sessiond.Manager, p sessiond.CreateParams) {
		t.Helper()
		h.advance(time.Second)
		_, token, err := m.Create(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		f.Tokens[m.Tenant()+"/"+string(p.ID)] = string(token) // which would hide itself
	}
	make(m, sessiond.CreateParams{ID: "plain"})
	make(m, sessiond.CreateParams{
		ID: "full", Subject: "käthe@example.org", Data: jsontext.Value(`{"n":1.50,"s":"<ü>","deep":{"a":[1,null,true]}}`),
		Labels: map[string]string{"device": "phone", "ip": "192.0.2.1", "empty": ""}, ExpiresIn: &long, IdleTimeout: &long,
	})
	make(m, sessiond.CreateParams{ID: "guest", Data: object("guest")})
	make(m, sessiond.CreateParams{ID: "touched", Subject: "alice", Data: object("touched")})
	make(m, sessiond.CreateParams{ID: "updated", Subject: "alice", Data: object("updated")})
	make(m, sessiond.CreateParams{ID: "rotated", Subject: "alice", Data: object("rotated")})
	make(m, sessiond.CreateParams{ID: "bound", Data: object("bound")})
	make(m, sessiond.CreateParams{ID: "revoked", Subject: "bob", Data: object("revoked")})
	make(m, sessiond.CreateParams{ID: "logout", Subject: "bob", IdleTimeout: &none})
	make(m, sessiond.CreateParams{ID: "idle", Subject: "bob", IdleTimeout: &short, Data: object("idle")})
	make(m, sessiond.CreateParams{ID: "absolute", Subject: "bob", ExpiresIn: &short, Data: object("absolute")})
	make(m, sessiond.CreateParams{ID: "018f0c4e-7d1a-7b3c-9e5f-0123456789ab", Subject: "alice", IdleTimeout: &none})
	make(m, retried())
	make(m.As("other", sessiond.Actor{Client: "tenant"}), sessiond.CreateParams{ID: "plain", Data: object("other")})
}

// late changes them, so that the changes are in the log.
func (f *inventory) late(t *testing.T, m *sessiond.Manager, h *hands) {
	t.Helper()
	ctx := sessiond.WithRequestID(t.Context(), "request-2")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		h.advance(time.Second)
	}
	_, err := m.Touch(ctx, "touched")
	check(err)
	_, err = m.Update(ctx, "updated", sessiond.UpdateParams{
		Data: jsontext.Value(`{"new":"data"}`), Labels: map[string]string{"device": "tablet"},
	})
	check(err)
	_, token, err := m.Rotate(ctx, "rotated", sessiond.RotateParams{})
	check(err)
	f.Tokens["default/rotated"] = string(token)
	_, token, err = m.Rotate(ctx, "bound", sessiond.RotateParams{Subject: "alice"})
	check(err)
	f.Tokens["default/bound"] = string(token)
	check(m.Revoke(ctx, "revoked", sessiond.RevokeParams{Reason: sessiond.EndSecurity, Note: "stolen phone"}))
	check(m.As(tenant, sessiond.Actor{Sub: "bob"}).Revoke(ctx, "logout", sessiond.RevokeParams{Reason: sessiond.EndLogout}))
}
