package pebblestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

// The first byte of a key says what it is. README.md has the table.
const (
	keyRecord  = 'r' // tenant, id: the record
	keyCreated = 'c' // tenant, class, place: list order of a tenant
	keySubject = 's' // tenant, subject, class, place: list order of a subject
	keyDue     = 'd' // time, tenant, id: when the sweeper has to look at a live record
	keyEnded   = 'e' // time, tenant, id: when an ended record ended
	keyEvent   = 'f' // number: the feed
	keyActive  = 'n' // tenant: number of records not written down as ended
	keyData    = 'k' // key id: number of records whose data it has sealed
	keyMeta    = 'm' // name: facts about the store
)

// The classes divide list indexes, so that neither lists of live sessions nor
// limits pay for ended records.
const (
	classLive  = '0'
	classEnded = '1'
)

func class(r *sessiond.Record) byte {
	if r.EndedAt.IsZero() {
		return classLive
	}
	return classEnded
}

// Tenants, subjects and IDs contain no zero byte, so one ends them.

func appendNamed(dst []byte, kind byte, k sessiond.Key) []byte {
	return appendSession(append(dst, kind), k)
}

// appendSession appends what names a session at the end of a key.
func appendSession(dst []byte, k sessiond.Key) []byte {
	dst = append(dst, k.Tenant...)
	dst = append(dst, 0)
	return append(dst, k.ID...)
}

func parseSession(b []byte) (k sessiond.Key, err error) {
	tenant, id, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return k, corrupt("name of a session")
	}
	return sessiond.Key{Tenant: string(tenant), ID: sessiond.ID(id)}, nil
}

// appendRun appends what all keys of one run of a list index begin with. Without
// a subject it is the tenant's index.
func appendRun(dst []byte, tenant, subject string, class byte) []byte {
	kind := byte(keyCreated)
	if subject != "" {
		kind = keySubject
	}
	dst = append(dst, kind)
	dst = append(dst, tenant...)
	dst = append(dst, 0)
	if subject != "" {
		dst = append(dst, subject...)
		dst = append(dst, 0)
	}
	return append(dst, class)
}

// appendPlace appends c so that bytes order as [sessiond.Cursor.Before] does:
// everything is complemented, and the end of the ID is larger than any character.
func appendPlace(dst []byte, c sessiond.Cursor) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ^sortable(c.CreatedAt.UnixMilli()))
	for i := range len(c.ID) {
		dst = append(dst, ^c.ID[i])
	}
	return append(dst, 0xff)
}

func parsePlace(b []byte) (sessiond.Cursor, error) {
	if len(b) < 10 || b[len(b)-1] != 0xff {
		return sessiond.Cursor{}, corrupt("list index entry of %d bytes", len(b))
	}
	id := make([]byte, len(b)-9)
	for i := range id {
		id[i] = ^b[8+i]
	}
	return sessiond.Cursor{
		CreatedAt: time.UnixMilli(unsortable(^binary.BigEndian.Uint64(b))).UTC(),
		ID:        sessiond.ID(id),
	}, nil
}

func appendDue(dst []byte, kind byte, ms int64, k sessiond.Key) []byte {
	return appendSession(appendDueTime(dst, kind, ms), k)
}

func appendDueTime(dst []byte, kind byte, ms int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, kind), sortable(ms))
}

func parseDue(b []byte) (ms int64, k sessiond.Key, err error) {
	ms, session, err := cutDue(b)
	if err == nil {
		k, err = parseSession(session)
	}
	return ms, k, err
}

// cutDue divides an entry of an index of the sweeper.
func cutDue(b []byte) (ms int64, session []byte, err error) {
	if len(b) <= 9 {
		return 0, nil, corrupt("due index entry of %d bytes", len(b))
	}
	return unsortable(binary.BigEndian.Uint64(b[1:])), b[9:], nil
}

func appendEventKey(dst []byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, keyEvent), seq)
}

func appendCounter(dst []byte, c counter) []byte {
	if c.key != 0 {
		return binary.BigEndian.AppendUint32(append(dst, keyData), c.key)
	}
	return append(append(dst, keyActive), c.tenant...)
}

func parseCounter(b []byte) (c counter, err error) {
	switch {
	case len(b) > 1 && b[0] == keyActive:
		return counter{tenant: string(b[1:])}, nil
	case len(b) == 5 && b[0] == keyData:
		return counter{key: binary.BigEndian.Uint32(b[1:])}, nil
	}
	return c, corrupt("name of a counter")
}

func parseNamed(b []byte) (k sessiond.Key, err error) {
	if len(b) <= 1 {
		return k, corrupt("record key of %d bytes", len(b))
	}
	return parseSession(b[1:])
}

// The facts about the store.
var (
	metaFormat = []byte("mformat") // version of the layout, big endian
	metaEpoch  = []byte("mepoch")  // random mark of the feed, big endian
	metaClock  = []byte("mclock")  // a time in milliseconds that has been served
	metaFeed   = []byte("mfeed")   // number of the oldest event kept
)

// sortable maps numbers to unsigned ones in the same order.
func sortable(n int64) uint64   { return uint64(n) ^ 1<<63 }
func unsortable(n uint64) int64 { return int64(n ^ 1<<63) }

// after is the smallest key that is larger than all that begin with prefix,
// which must not end in 0xff.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	return end
}

// errCorrupt marks stored bytes that this package can't have written.
type errCorrupt string

func (e errCorrupt) Error() string { return "corrupt store: " + string(e) }

func corrupt(format string, args ...any) error { return errCorrupt(fmt.Sprintf(format, args...)) }
