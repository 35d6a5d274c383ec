package redisstore

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"sessiond.example/sessiond"
)

// partitions is how many parts the sessions are divided into, and how many the index of
// subjects. Everything of one part is in one slot of a cluster. It can't change for a store.
const partitions = 64

// A layout names the keys of a store. README.md has the table.
type layout struct {
	prefix   string
	meta     string // facts about the store
	lease    string // of the sweeper
	sessions [partitions]partition
	subjects [partitions]string // what their keys begin with
}

// A partition has a share of the sessions, with everything that one script changes
// together with a session.
type partition struct {
	number int
	tag    string // what its keys begin with
	clock  string // its time: see clock.lua
	meta   string // of the feed: n, c, f, fc
	counts string // records by tenant and by data key
	events string // the feed
	due    string // live records by the time when the sweeper has to look
	over   string // ended records by their end
	all    string // records by tenant and ID
}

func newLayout(prefix string) *layout {
	l := &layout{prefix: prefix, meta: prefix + "meta", lease: prefix + "sweeper"}
	for i := range l.sessions {
		tag := fmt.Sprintf("{%sp%02d}:", prefix, i)
		l.sessions[i] = partition{
			number: i, tag: tag, clock: tag + "clock", meta: tag + "meta", counts: tag + "counts", events: tag + "events",
			due: tag + "due", over: tag + "over", all: tag + "all",
		}
		l.subjects[i] = fmt.Sprintf("{%ss%02d}:", prefix, i)
	}
	return l
}

// share is the number of the partition of what two texts name. It must stay as it is.
func share(a, b string) int {
	h := fnv.New64a()
	h.Write([]byte(a))
	h.Write([]byte{0})
	h.Write([]byte(b))
	n := h.Sum64()
	return int((n ^ n>>32) % partitions)
}

func (l *layout) partition(k sessiond.Key) *partition {
	return &l.sessions[share(k.Tenant, string(k.ID))]
}

// Tenants and IDs contain no colon.

func (p *partition) record(k sessiond.Key) string {
	return p.tag + "r:" + k.Tenant + ":" + string(k.ID)
}
func (p *partition) live(tenant string) string  { return p.tag + "l:" + tenant }
func (p *partition) ended(tenant string) string { return p.tag + "o:" + tenant }

// The keys of a subject's entries.
type subjectKeys struct{ pending, live, ended string }

func (l *layout) subject(tenant, subject string) subjectKeys {
	tag, name := l.subjects[share(tenant, subject)], tenant+":"+subject
	return subjectKeys{pending: tag + "q:" + name, live: tag + "l:" + name, ended: tag + "o:" + name}
}

func (s subjectKeys) all() []string { return []string{s.pending, s.live, s.ended} }

// member names a session in indexes that hold sessions of all tenants. As bytes, members
// order by tenant and ID.
func member(k sessiond.Key) string { return k.Tenant + "\x00" + string(k.ID) }

func parseMember(s string) (sessiond.Key, error) {
	tenant, id, ok := strings.Cut(s, "\x00")
	if !ok || tenant == "" || id == "" {
		return sessiond.Key{}, corrupt("index entry of %d bytes", len(s))
	}
	return sessiond.Key{Tenant: tenant, ID: sessiond.ID(id)}, nil
}

// placeDigits is the number of digits of a creation time in a place. Times before
// 1970 are not stored.
const placeDigits = 15

const lastPlaceTime = 999_999_999_999_999 // in the year 33658

// place is where a record is in lists: as bytes, places order by creation, then ID.
func place(c sessiond.Cursor) string { return placeTime(c.CreatedAt.UnixMilli()) + string(c.ID) }

// placeTime is the beginning of places of a time. One before 1970 comes before all.
func placeTime(ms int64) string {
	digits := strconv.FormatInt(min(max(ms, -1), lastPlaceTime), 10)
	if len(digits) < placeDigits && digits[0] != '-' {
		digits = strings.Repeat("0", placeDigits-len(digits)) + digits
	}
	return digits
}

func parsePlace(s string) (sessiond.Cursor, error) {
	if len(s) <= placeDigits {
		return sessiond.Cursor{}, corrupt("place of %d bytes", len(s))
	}
	ms, err := strconv.ParseUint(s[:placeDigits], 10, 63)
	if err != nil {
		return sessiond.Cursor{}, corrupt("place without a time")
	}
	return sessiond.Cursor{CreatedAt: fromMS(int64(ms)), ID: sessiond.ID(s[placeDigits:])}, nil
}

// A spot is a record in the index of its subject: its place and its incarnation, so that a
// later session of the same ID has another one.
func spot(r *sessiond.Record) string {
	return place(r.Cursor()) + "\x00" + string(r.Incarnation[:])
}

func parseSpot(s string) (c sessiond.Cursor, inc sessiond.Incarnation, err error) {
	at := len(s) - len(inc) - 1
	if at < 0 || s[at] != 0 {
		return c, inc, corrupt("index entry of %d bytes", len(s))
	}
	copy(inc[:], s[at+1:])
	c, err = parsePlace(s[:at])
	return c, inc, err
}

// A pending entry names a session in the index of its subject before the session has its time.
func pendingEntry(inc sessiond.Incarnation, id sessiond.ID) string {
	return string(inc[:]) + string(id)
}

func parsePending(s string) (inc sessiond.Incarnation, id sessiond.ID, err error) {
	if len(s) <= len(inc) {
		return inc, "", corrupt("pending entry of %d bytes", len(s))
	}
	return sessiond.Incarnation([]byte(s[:len(inc)])), sessiond.ID(s[len(inc):]), nil
}

// errCorrupt marks stored bytes that this package can't have written.
type errCorrupt string

func (e errCorrupt) Error() string { return "corrupt store: " + string(e) }

func corrupt(format string, args ...any) error { return errCorrupt(fmt.Sprintf(format, args...)) }
