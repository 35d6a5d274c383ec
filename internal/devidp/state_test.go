package devidp_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/internal/devidp"
)

func state(t *testing.T, dir string) *devidp.State {
	t.Helper()
	s, err := devidp.LoadOrCreateState(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStateSurvives(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data")
	first := state(t, dir)
	if first.ClientID == "" || len(first.ClientSecret) < 26 {
		t.Errorf("client %q with a secret of %d characters", first.ClientID, len(first.ClientSecret))
	}
	again := state(t, dir)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("reloaded state (-first +again):\n%s", diff)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "issuer.json"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the directory holds %v, %v", names, err)
	}
	other := state(t, t.TempDir())
	if other.ClientSecret == first.ClientSecret || other.SigningKey.Equal(first.SigningKey) {
		t.Error("two states share secrets")
	}

	// A token minted from the reloaded state verifies against a provider that runs with the first.
	_, issuer := start(t, func(c *devidp.Config) { c.SigningKey = first.SigningKey })
	elsewhere, _ := start(t, func(c *devidp.Config) { c.SigningKey, c.Issuer = again.SigningKey, issuer })
	token, err := elsewhere.Mint(devidp.MintParams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := verify(t, issuer, token); err != nil {
		t.Error(err)
	}
}

func TestStateIsCreatedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secrets := make([]string, 8)
	var wg sync.WaitGroup
	for i := range secrets {
		wg.Go(func() {
			s, err := devidp.LoadOrCreateState(dir)
			if err != nil {
				t.Error(err)
				return
			}
			secrets[i] = s.ClientSecret
		})
	}
	wg.Wait()
	for _, secret := range secrets {
		if secret != secrets[0] {
			t.Fatal("racing processes got different states")
		}
	}
}

func TestStateRefusesFiles(t *testing.T) {
	t.Parallel()
	original := t.TempDir()
	secret := state(t, original).ClientSecret
	good, err := os.ReadFile(filepath.Join(original, "issuer.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		text []byte
		mode os.FileMode
		want string
	}{
		{"readable by others", good, 0o644, "chmod 600"},
		{"empty", nil, 0o600, "damaged"},
		{"truncated", good[:len(good)/2], 0o600, "damaged"},
		{"trailing bytes", append(bytes.Clone(good), "{}"...), 0o600, "damaged"},
		{"no secret", bytes.ReplaceAll(good, []byte(secret), nil), 0o600, "no client credentials"},
		{"no key", []byte(fmt.Sprintf(`{"client_id":"a","client_secret":%q}`, secret)), 0o600, "no signing key"},
		{"unknown member", []byte(`{"a":1}`), 0o600, "damaged"},
		{"oversize", append(bytes.Repeat([]byte(" "), 64<<10), good...), 0o600, "damaged"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "issuer.json")
		if err := os.WriteFile(path, tt.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := devidp.LoadOrCreateState(dir)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error with the path and %q", tt.name, err, tt.want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds the secret", tt.name)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "issuer.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := devidp.LoadOrCreateState(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
}

func TestStateRedactsItself(t *testing.T) {
	t.Parallel()
	s := state(t, t.TempDir())
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("state", "state", s)
	if strings.Contains(log.String(), s.ClientSecret) || !strings.Contains(log.String(), s.ClientID) {
		t.Errorf("log: %s", log.String())
	}
}

func FuzzState(f *testing.F) {
	dir := f.TempDir()
	if _, err := devidp.LoadOrCreateState(dir); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "issuer.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"client_id":"a","client_secret":"b","signing_key":"AAAA"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := devidp.ParseState(text)
		if err == nil && (s.SigningKey == nil || s.ClientID == "" || s.ClientSecret == "") {
			t.Error("accepted a state with something missing")
		}
	})
}
