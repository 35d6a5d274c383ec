package keyset

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	tinkkeyset "github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

const typePrefix = "type.googleapis.com/google.crypto.tink."

// keyTypes are the accepted AEADs: those whose nonces are long enough to be random without a limit on messages.
var keyTypes = map[string]bool{
	typePrefix + "XChaCha20Poly1305Key": true,
	typePrefix + "XAesGcmKey":           true,
}

// Errors of the underlying decoders may quote the input, which is made of keys, and are therefore replaced.
var (
	errSyntax   = errors.New("is not a cleartext Tink keyset in JSON, or damaged or truncated: restore it from a backup")
	errMaterial = errors.New("has a key whose material is damaged: restore it from a backup")
)

// parse reads the JSON form of a keyset. Its errors complete "the keyset ..." and name the remedy.
func parse(text []byte) (*Keyset, error) {
	keys, err := tinkkeyset.NewJSONReader(bytes.NewReader(text)).Read()
	if err != nil {
		return nil, errSyntax
	}
	return build(keys)
}

func validate(keys *tinkpb.Keyset) error {
	if len(keys.GetKey()) == 0 {
		return errors.New("holds no key: restore it from a backup, or create a new one if nothing was sealed yet")
	}
	seen := make(map[uint32]bool, len(keys.GetKey()))
	for _, key := range keys.GetKey() {
		if seen[key.GetKeyId()] {
			return fmt.Errorf("holds two keys with id %d: restore it from a backup", key.GetKeyId())
		}
		seen[key.GetKeyId()] = true
		if err := validateKey(key); err != nil {
			return err
		}
		if key.GetKeyId() == keys.GetPrimaryKeyId() && key.GetStatus() != tinkpb.KeyStatusType_ENABLED {
			return fmt.Errorf("has a disabled primary key %d: enable it or make another key primary", key.GetKeyId())
		}
	}
	if !seen[keys.GetPrimaryKeyId()] {
		return fmt.Errorf("has no key with the id of its primary, %d: make one of its keys primary", keys.GetPrimaryKeyId())
	}
	return nil
}

func validateKey(key *tinkpb.Keyset_Key) error {
	id := key.GetKeyId()
	if url := key.GetKeyData().GetTypeUrl(); !keyTypes[url] {
		return fmt.Errorf("has key %d of type %.40q, which is not accepted: use XChaCha20-Poly1305 or XAES-256-GCM keys",
			id, strings.TrimPrefix(url, typePrefix))
	}
	if key.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK {
		return fmt.Errorf("has key %d with output prefix %v: only keys with prefix TINK can be found by their id",
			id, key.GetOutputPrefixType())
	}
	switch key.GetStatus() {
	case tinkpb.KeyStatusType_ENABLED, tinkpb.KeyStatusType_DISABLED:
		return nil
	default:
		return fmt.Errorf("has key %d with status %v: remove it, or enable or disable it", id, key.GetStatus())
	}
}
