//go:build sessiond_next_layout

package pebblestore

// With the build tag sessiond_next_layout the program plays its own successor:
// it knows one layout version more, and writes one field of records more. A test
// has both work on one directory in turn.

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"sessiond.example/sessiond"
)

const newestLayout = 2

const recNext = 1000

// nextFields adds the field to those that an older program has kept.
func nextFields(unknown []byte) []byte {
	next := protowire.AppendVarint(protowire.AppendTag(nil, recNext, protowire.VarintType), 1)
	if bytes.Contains(unknown, next) {
		return unknown
	}
	return append(bytes.Clone(unknown), next...)
}

// HasNext reports whether the stored record of k has the field.
func (s *Store) HasNext(k sessiond.Key) (bool, error) {
	st, err := readState(s.db, k)
	return err == nil && len(st.unknown) > 0, err
}
