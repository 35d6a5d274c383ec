package keyset_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	tinkkeyset "github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"sessiond.example/sessiond/keyset"
)

func create(t testing.TB) *keyset.Keyset {
	t.Helper()
	k, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// material returns the keys of a new keyset of another kind, to be tampered with.
func material(t testing.TB, template *tinkpb.KeyTemplate) *tinkpb.Keyset {
	t.Helper()
	handle, err := tinkkeyset.NewHandle(template)
	if err != nil {
		t.Fatal(err)
	}
	return insecurecleartextkeyset.KeysetMaterial(handle)
}

func toJSON(t testing.TB, keys *tinkpb.Keyset) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tinkkeyset.NewJSONWriter(&b).Write(keys); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSealOpen(t *testing.T) {
	t.Parallel()
	xaes, err := keyset.Parse(toJSON(t, material(t, aead.XAES256GCM192BitNonceKeyTemplate())))
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*keyset.Keyset{"XChaCha20-Poly1305": create(t), "XAES-256-GCM": xaes} {
		for _, plaintext := range []string{"", "{}", strings.Repeat("x", 32<<10)} {
			sealed, id, err := k.Seal([]byte(plaintext), []byte("place"))
			if err != nil {
				t.Fatalf("%s: Seal: %v", name, err)
			}
			if id != k.Primary() {
				t.Errorf("%s: sealed with key %d, want the primary %d", name, id, k.Primary())
			}
			opened, err := k.Open(sealed, []byte("place"))
			if err != nil || string(opened) != plaintext {
				t.Errorf("%s: Open = %.20q, %v, want %.20q", name, opened, err, plaintext)
			}
		}
	}
}

func TestSealIsRandomized(t *testing.T) {
	t.Parallel()
	k := create(t)
	first, _, err := k.Seal([]byte("same"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := k.Seal([]byte("same"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) {
		t.Error("sealing twice gave the same bytes")
	}
	if got, want := len(first), len("same")+45; got != want {
		t.Errorf("sealed length %d, want %d as documented", got, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	k := create(t)
	const plaintext = "very secret data"
	sealed, id, err := k.Seal([]byte(plaintext), []byte("tenant a"))
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(name string, k *keyset.Keyset, ciphertext []byte, ad string) {
		t.Helper()
		opened, err := k.Open(ciphertext, []byte(ad))
		if !errors.Is(err, keyset.ErrOpen) || opened != nil {
			t.Errorf("%s: Open = %q, %v, want ErrOpen", name, opened, err)
			return
		}
		if len(err.Error()) > 60 || strings.Contains(err.Error(), plaintext) {
			t.Errorf("%s: error %q says too much", name, err)
		}
	}
	refuse("moved to another place", k, sealed, "tenant b")
	refuse("no associated data", k, sealed, "")
	refuse("another keyset", create(t), sealed, "tenant a")
	for n := range len(sealed) {
		refuse(fmt.Sprintf("cut to %d bytes", n), k, sealed[:n], "tenant a")
	}
	refuse("one byte more", k, append(bytes.Clone(sealed), 0), "tenant a")
	for bit := range len(sealed) * 8 {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		refuse(fmt.Sprintf("bit %d flipped", bit), k, flipped, "tenant a")
	}
	_, err = k.Open(sealed, nil)
	if want := fmt.Sprintf("sealed data does not open (key %d)", id); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	first := create(t)
	old, oldID, err := first.Seal([]byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	added, newID, err := first.Add()
	if err != nil {
		t.Fatal(err)
	}
	want := []keyset.KeyInfo{{oldID, true, keyset.Enabled}, {newID, false, keyset.Enabled}}
	if diff := cmp.Diff(want, added.Keys()); diff != "" {
		t.Errorf("after Add (-want +got):\n%s", diff)
	}
	promoted, err := added.Promote(newID)
	if err != nil {
		t.Fatal(err)
	}
	renewed, id, err := promoted.Seal([]byte("new"), nil)
	if err != nil || id != newID || promoted.Primary() != newID {
		t.Errorf("after Promote sealed with key %d, %v, want %d", id, err, newID)
	}
	// Replicas that have not seen the promotion open what the others seal.
	for name, sealed := range map[string][]byte{"old": old, "new": renewed} {
		for _, k := range []*keyset.Keyset{added, promoted} {
			if opened, err := k.Open(sealed, nil); err != nil || string(opened) != name {
				t.Errorf("Open(%s) = %q, %v", name, opened, err)
			}
		}
	}
	retired, err := promoted.Remove(oldID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := retired.Open(old, nil); !errors.Is(err, keyset.ErrOpen) {
		t.Errorf("with a removed key Open = %v, want ErrOpen", err)
	}
	if _, err := retired.Open(renewed, nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]keyset.KeyInfo{{oldID, true, keyset.Enabled}}, first.Keys()); diff != "" {
		t.Errorf("the first keyset changed (-want +got):\n%s", diff)
	}
}

func TestRotationRefuses(t *testing.T) {
	t.Parallel()
	k, id, err := create(t).Add()
	if err != nil {
		t.Fatal(err)
	}
	other := k.Primary() ^ id ^ 1
	if _, err := k.Promote(other); err == nil {
		t.Error("promoted an unknown key")
	}
	if _, err := k.Remove(other); err == nil {
		t.Error("removed an unknown key")
	}
	if _, err := k.Remove(k.Primary()); err == nil {
		t.Error("removed the primary key")
	}

	keys := material(t, aead.XChaCha20Poly1305KeyTemplate())
	disabled := material(t, aead.XChaCha20Poly1305KeyTemplate()).GetKey()[0]
	disabled.KeyId = keys.GetPrimaryKeyId() ^ 1
	alone := &tinkpb.Keyset{PrimaryKeyId: disabled.GetKeyId(), Key: []*tinkpb.Keyset_Key{disabled}}
	enabled, err := keyset.Parse(toJSON(t, alone))
	if err != nil {
		t.Fatal(err)
	}
	sealed, _, err := enabled.Seal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	disabled.Status = tinkpb.KeyStatusType_DISABLED
	keys.Key = append(keys.Key, disabled)
	k, err = keyset.Parse(toJSON(t, keys))
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Keys()[1]; got.Status != keyset.Disabled {
		t.Errorf("status %q, want disabled", got.Status)
	}
	if _, err := k.Open(sealed, nil); !errors.Is(err, keyset.ErrOpen) {
		t.Errorf("with a disabled key Open = %v, want ErrOpen", err)
	}
	if _, err := k.Promote(disabled.GetKeyId()); err == nil {
		t.Error("promoted a disabled key")
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	k := create(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ad := []byte{byte(i)}
			for range 50 {
				sealed, _, err := k.Seal(ad, ad)
				if err != nil {
					t.Error(err)
					return
				}
				if opened, err := k.Open(sealed, ad); err != nil || !bytes.Equal(opened, ad) {
					t.Errorf("Open = %v, %v", opened, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	k := create(f)
	sealed, _, err := k.Seal([]byte(`{"a":1}`), []byte("ad"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, []byte("ad2"))
	f.Add(sealed[:5], []byte("ad"))
	f.Add(append([]byte{1}, make([]byte, 60)...), []byte{})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, ciphertext, ad []byte) {
		if opened, err := k.Open(ciphertext, ad); !errors.Is(err, keyset.ErrOpen) {
			t.Errorf("Open = %q, %v, want ErrOpen", opened, err)
		}
	})
}

func BenchmarkKeyset(b *testing.B) {
	xaes, err := keyset.Parse(toJSON(b, material(b, aead.XAES256GCM192BitNonceKeyTemplate())))
	if err != nil {
		b.Fatal(err)
	}
	keysets := []struct {
		name string
		*keyset.Keyset
	}{{"XChaCha20Poly1305", create(b)}, {"XAES256GCM", xaes}}
	ad := make([]byte, 64)
	for _, k := range keysets {
		for _, size := range []int{200, 2048} {
			plaintext := make([]byte, size)
			rand.Read(plaintext)
			sealed, _, err := k.Seal(plaintext, ad)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("Open/%s/%d", k.name, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := k.Open(sealed, ad); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("Seal/%s/%d", k.name, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := k.Seal(plaintext, ad); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
