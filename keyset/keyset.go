// Package keyset seals session data with a Tink keyset.
//
// A [Keyset] holds one or more keys, one of them primary: Seal uses the primary and puts its id in front of the
// ciphertext, Open finds the key by that id and tries no other. To use it, make a file once with [Create] and
// [Keyset.WriteFile], and open it with [OpenFile], which follows later changes of the file. Keys are rotated by writing
// changed keysets: [Keyset.Add] a key that only opens, [Keyset.Promote] it once every replica has loaded it, seal the
// old records again, and [Keyset.Remove] the old key.
//
// The file is a cleartext Tink keyset in JSON, as Tink's own tools read and write it, protected by its mode: it
// must be kept apart from the data it protects, and backed up, because data sealed with a lost key is lost.
//
// New keys are XChaCha20-Poly1305, whose 192-bit random nonces cannot run out. XAES-256-GCM keys made elsewhere are
// accepted as well; other key types and keys without a key id prefix are not.
package keyset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	tinkkeyset "github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/proto"
)

// ErrOpen says that a ciphertext does not open: it is damaged, bound to other associated data, or sealed with a key
// that the keyset does not have enabled. The cases are not told apart.
var ErrOpen = errors.New("sealed data does not open")

// Status says what a key may be used for.
type Status string

// The statuses of keys. A disabled key opens nothing until it is enabled again.
const (
	Enabled  Status = "enabled"
	Disabled Status = "disabled"
)

// KeyInfo describes one key of a keyset. It holds no secret.
type KeyInfo struct {
	ID      uint32
	Primary bool
	Status  Status
}

// Keyset is an immutable set of keys with one primary. It is safe for concurrent use.
type Keyset struct {
	keys *tinkpb.Keyset // never modified
	aead tink.AEAD
}

// Create returns a new keyset with one random key. It exists in memory only until it is written.
func Create() (*Keyset, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	return build(&tinkpb.Keyset{PrimaryKeyId: key.GetKeyId(), Key: []*tinkpb.Keyset_Key{key}})
}

// Seal encrypts plaintext with the primary key and binds it to associatedData, which Open must be given again. It
// returns the id of the key used. The ciphertext is 45 bytes longer than the plaintext (for keys made by this
// package): key id prefix, nonce and tag.
func (k *Keyset) Seal(plaintext, associatedData []byte) (ciphertext []byte, keyID uint32, err error) {
	ciphertext, err = k.aead.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, 0, fmt.Errorf("seal with key %d: %w", k.Primary(), err)
	}
	return ciphertext, k.Primary(), nil
}

// Open decrypts what Seal returned, given the same associatedData. Every failure is an [ErrOpen].
func (k *Keyset) Open(ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, err := k.aead.Decrypt(ciphertext, associatedData)
	if err == nil {
		return plaintext, nil
	}
	// Tink's error is left out: it distinguishes nothing that an operator could act on.
	if id, ok := keyID(ciphertext); ok {
		return nil, fmt.Errorf("%w (key %d)", ErrOpen, id)
	}
	return nil, ErrOpen
}

// keyID returns the id in the Tink output prefix: a byte 1 and the id in big-endian order.
func keyID(ciphertext []byte) (uint32, bool) {
	if len(ciphertext) < 5 || ciphertext[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(ciphertext[1:5]), true
}

// Primary returns the id of the key that Seal uses.
func (k *Keyset) Primary() uint32 { return k.keys.GetPrimaryKeyId() }

// Keys describes all keys, in the order in which they were added.
func (k *Keyset) Keys() []KeyInfo {
	infos := make([]KeyInfo, 0, len(k.keys.GetKey()))
	for _, key := range k.keys.GetKey() {
		status := Enabled
		if key.GetStatus() == tinkpb.KeyStatusType_DISABLED {
			status = Disabled
		}
		infos = append(infos, KeyInfo{ID: key.GetKeyId(), Primary: key.GetKeyId() == k.Primary(), Status: status})
	}
	return infos
}

// Add returns the keyset with one more random key, which is not primary, and its id.
func (k *Keyset) Add() (*Keyset, uint32, error) {
	key, err := newKey()
	for err == nil && k.find(key.GetKeyId()) >= 0 {
		key, err = newKey()
	}
	if err != nil {
		return nil, 0, err
	}
	keys := proto.CloneOf(k.keys)
	keys.Key = append(keys.Key, key)
	added, err := build(keys)
	return added, key.GetKeyId(), err
}

// Promote returns the keyset with the given key as primary. The key must be in it and enabled.
func (k *Keyset) Promote(id uint32) (*Keyset, error) {
	i := k.find(id)
	switch {
	case i < 0:
		return nil, fmt.Errorf("no key %d in the keyset", id)
	case k.keys.GetKey()[i].GetStatus() != tinkpb.KeyStatusType_ENABLED:
		return nil, fmt.Errorf("key %d is disabled: enable it before making it primary", id)
	}
	keys := proto.CloneOf(k.keys)
	keys.PrimaryKeyId = id
	return build(keys)
}

// Remove returns the keyset without the given key, which must be in it and not be primary. What was sealed with the
// key cannot be opened any more.
func (k *Keyset) Remove(id uint32) (*Keyset, error) {
	i := k.find(id)
	switch {
	case i < 0:
		return nil, fmt.Errorf("no key %d in the keyset", id)
	case id == k.Primary():
		return nil, fmt.Errorf("key %d is primary: promote another key first", id)
	}
	keys := proto.CloneOf(k.keys)
	keys.Key = append(keys.Key[:i], keys.Key[i+1:]...)
	return build(keys)
}

// find returns the index of a key, or -1.
func (k *Keyset) find(id uint32) int {
	for i, key := range k.keys.GetKey() {
		if key.GetKeyId() == id {
			return i
		}
	}
	return -1
}

// newKey makes an enabled XChaCha20-Poly1305 key with a random id. Measured against XAES-256-GCM, which derives a key
// per message, it opens 200 bytes in 0.4 and 2 KiB in 0.7 of the time, with one allocation instead of eight.
func newKey() (*tinkpb.Keyset_Key, error) {
	handle, err := tinkkeyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return insecurecleartextkeyset.KeysetMaterial(handle).GetKey()[0], nil
}

// build checks keys and makes the primitive. It takes ownership of keys. Its errors complete "the keyset ...".
func build(keys *tinkpb.Keyset) (*Keyset, error) {
	if err := validate(keys); err != nil {
		return nil, err
	}
	serialized, err := proto.Marshal(keys)
	if err != nil {
		return nil, errMaterial
	}
	handle, err := insecurecleartextkeyset.Read(tinkkeyset.NewBinaryReader(bytes.NewReader(serialized)))
	if err != nil {
		return nil, errMaterial
	}
	// Every key has its own prefix, so Tink's primitive is one map lookup away from the key. It is made once, here.
	a, err := aead.New(handle)
	if err != nil {
		return nil, errMaterial
	}
	return &Keyset{keys: keys, aead: a}, nil
}
