package pebblestore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sessiond.example/sessiond"
)

// Stored is what the codec keeps beside the record.
type Stored struct {
	Record  *sessiond.Record
	Filed   int64
	Unknown []byte
}

func EncodeRecord(s Stored) []byte {
	return appendRecord(nil, &state{rec: s.Record, filed: s.Filed, unknown: s.Unknown})
}

func DecodeRecord(k sessiond.Key, b []byte) (Stored, error) {
	st, err := decodeRecord(k, b)
	return Stored{st.rec, st.filed, st.unknown}, err
}

func EncodeEvent(e sessiond.Event) []byte { return appendEvent(nil, &e) }

func DecodeEvent(b []byte) (sessiond.Event, error) { return decodeEvent(b) }

func EncodePlace(c sessiond.Cursor) []byte { return appendPlace(nil, c) }

func DecodePlace(b []byte) (sessiond.Cursor, error) { return parsePlace(b) }

func DecodeDue(b []byte) (int64, sessiond.Key, error) { return parseDue(b) }

// HoldStripe keeps changes of k from being published until release is called.
func (s *Store) HoldStripe(k sessiond.Key) (release func()) {
	st := s.stripe(s.hash(k))
	st.mu.Lock()
	return st.mu.Unlock
}

const ComparerName = comparerName

var (
	MetaFormat = metaFormat
	TailMerger = tailMerger
)

// EncodeTail is what a touch writes.
func EncodeTail(s Stored) []byte { return appendTail(nil, &state{rec: s.Record, filed: s.Filed}) }

// Compact brings everything to where the engine keeps old keys.
func (s *Store) Compact(ctx context.Context) error {
	return errors.Join(s.db.Flush(), s.db.Compact(ctx, []byte{0}, []byte{0xff}, false))
}

// Unsettled is how many commits were applied and are not yet settled.
func (s *Store) Unsettled() int64 { return s.unsettled.Load() }

// SyncInterval is the least time between two syncs while so many commits wait.
func SyncInterval(unsettled int64) time.Duration {
	var n atomic.Int64
	n.Store(unsettled)
	return syncInterval(&n)()
}
