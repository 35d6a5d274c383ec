package keyset_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"sessiond.example/sessiond/keyset"
)

func TestWriteAndLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "keyset.json")
	k, _, err := create(t).Add()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	loaded, err := keyset.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k.Keys(), loaded.Keys()); diff != "" {
		t.Errorf("loaded keys (-want +got):\n%s", diff)
	}
	sealed, _, err := k.Seal([]byte("data"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := loaded.Open(sealed, nil); err != nil || string(opened) != "data" {
		t.Errorf("Open = %q, %v", opened, err)
	}

	// A second create must not destroy the keys.
	other := create(t)
	if err := other.WriteFile(path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("WriteFile over a keyset: %v, want fs.ErrExist with the path", err)
	}
	if again, err := keyset.Load(path); err != nil || again.Primary() != k.Primary() {
		t.Errorf("the refused write changed the file: %v", err)
	}
	if err := other.ReplaceFile(path); err != nil {
		t.Fatal(err)
	}
	if again, err := keyset.Load(path); err != nil || again.Primary() != other.Primary() {
		t.Errorf("ReplaceFile did not replace: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left behind %v, %v, want only the keyset", names, err)
	}

	missing := filepath.Join(dir, "missing", "keyset.json")
	if err := k.WriteFile(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile into a missing directory: %v", err)
	}
	if _, err := keyset.Load(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "keyset create") {
		t.Errorf("Load of a missing file: %v, want fs.ErrNotExist and the remedy", err)
	}
}

func TestReplaceKeepsTheOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	k := create(t)
	if err := k.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 { // only root can give a file away
		uid, gid = 12345, 54321
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.ReplaceFile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != uid || int(s.Gid) != gid || info.Mode() != 0o600 {
		t.Errorf("owner %d, group %d, mode %v", s.Uid, s.Gid, info.Mode())
	}
}

func TestLoadFollowsSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := create(t)
	if err := k.WriteFile(filepath.Join(dir, "real.json")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "keyset.json")
	if err := os.Symlink("real.json", link); err != nil {
		t.Fatal(err)
	}
	if loaded, err := keyset.Load(link); err != nil || loaded.Primary() != k.Primary() {
		t.Errorf("Load through a link: %v", err)
	}
}

func TestLoadRefusesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := toJSON(t, material(t, aead.XChaCha20Poly1305KeyTemplate()))
	refuse := func(name, path, want string) {
		t.Helper()
		_, err := keyset.Load(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with the path and %q", name, err, want)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o601} {
		path := filepath.Join(dir, "open.json")
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		refuse(mode.String(), path, "chmod 600")
	}
	refuse("a directory", dir, "not a regular file")

	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("a named pipe", pipe, "not a regular file")

	huge := filepath.Join(dir, "huge.json")
	if err := os.WriteFile(huge, append(good, bytes.Repeat([]byte(" "), 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("over 1 MiB", huge, "over 1048576 bytes")
}

func TestLoadRefusesContents(t *testing.T) {
	t.Parallel()
	with := func(change func(*tinkpb.Keyset)) []byte {
		keys := material(t, aead.XChaCha20Poly1305KeyTemplate())
		change(keys)
		return toJSON(t, keys)
	}
	good := with(func(*tinkpb.Keyset) {})
	secret := material(t, aead.XChaCha20Poly1305KeyTemplate())
	for _, tt := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "damaged or truncated"},
		{"not JSON", []byte("primaryKeyId: 1"), "damaged or truncated"},
		{"truncated", good[:len(good)-3], "damaged or truncated"},
		{"trailing bytes", append(bytes.Clone(good), "{}"...), "damaged or truncated"},
		{"unknown member", []byte(`{"primaryKeyId":1,"keys":[]}`), "damaged or truncated"},
		{"another JSON document", []byte(`[]`), "damaged or truncated"},
		{"material is not base64", bytes.Replace(good, []byte(`"value":"`), []byte(`"value":"!`), 1), "damaged or truncated"},
		{"no keys", []byte(`{}`), "holds no key"},
		{"no primary", with(func(k *tinkpb.Keyset) { k.PrimaryKeyId ^= 1 }), "make one of its keys primary"},
		{"duplicate id", with(func(k *tinkpb.Keyset) { k.Key = append(k.Key, k.Key[0]) }), "two keys with id"},
		{"disabled primary", with(func(k *tinkpb.Keyset) {
			k.Key[0].Status = tinkpb.KeyStatusType_DISABLED
		}), "disabled primary"},
		{"destroyed key", with(func(k *tinkpb.Keyset) {
			k.Key[0].Status = tinkpb.KeyStatusType_DESTROYED
		}), "status DESTROYED"},
		{"raw prefix", with(func(k *tinkpb.Keyset) {
			k.Key[0].OutputPrefixType = tinkpb.OutputPrefixType_RAW
		}), "output prefix RAW"},
		{"crunchy prefix", with(func(k *tinkpb.Keyset) {
			k.Key[0].OutputPrefixType = tinkpb.OutputPrefixType_CRUNCHY
		}), "output prefix CRUNCHY"},
		{"MAC key", toJSON(t, material(t, mac.HMACSHA256Tag256KeyTemplate())), "HmacKey"},
		{"AES-GCM key", toJSON(t, material(t, aead.AES256GCMKeyTemplate())), "AesGcmKey"},
		{"key without data", with(func(k *tinkpb.Keyset) { k.Key[0].KeyData = nil }), "not accepted"},
		{"short material", with(func(k *tinkpb.Keyset) {
			k.Key[0].KeyData.Value = secret.Key[0].KeyData.Value[:20]
		}), "material is damaged"},
		{"unknown version", with(func(k *tinkpb.Keyset) {
			k.Key[0].KeyData.Value = append([]byte{8, 9}, k.Key[0].KeyData.Value...)
		}), "material is damaged"},
		{"damaged second key", with(func(k *tinkpb.Keyset) {
			bad := secret.Key[0]
			bad.KeyId = k.PrimaryKeyId ^ 1
			bad.KeyData.Value = []byte("\xff\xff")
			k.Key = append(k.Key, bad)
		}), "material is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keyset.json")
			if err := os.WriteFile(path, tt.text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := keyset.Load(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want an error with the path and %q", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	keys := material(f, aead.XChaCha20Poly1305KeyTemplate())
	good := toJSON(f, keys)
	f.Add(good)
	f.Add(good[:40])
	f.Add(toJSON(f, material(f, aead.XAES256GCM160BitNonceKeyTemplate())))
	f.Add(toJSON(f, material(f, aead.AES128GCMNoPrefixKeyTemplate())))
	f.Add([]byte(`{"primaryKeyId":1,"key":[{"keyId":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := keyset.Parse(text)
		if err != nil {
			return
		}
		// Whatever is accepted must work.
		sealed, id, err := k.Seal([]byte("data"), []byte("ad"))
		if err != nil || id != k.Primary() {
			t.Fatalf("Seal used key %d: %v", id, err)
		}
		if opened, err := k.Open(sealed, []byte("ad")); err != nil || string(opened) != "data" {
			t.Fatalf("Open = %q, %v", opened, err)
		}
	})
}
