package pgstore

import (
	"crypto/sha256"
	"encoding/binary"

	"sessiond.example/sessiond"
)

// makeRoom sees to it that the subject may have one more session, in a transaction
// that keeps others who want the same out until it ends. It returns ErrLimit,
// or ErrExists when the key of a new record is taken; the zero key is that of a
// record which is there already.
func (s *Store) makeRoom(
	tx *tx, k sessiond.Key, subject string, limit *sessiond.SubjectLimit,
) (evicted int, err error) {
	high, low := subjectLock(k.Tenant, subject)
	lock := subjectLockSQL.args().int32("high", high).int32("low_half", low)
	if err := tx.query(lock, func(r *row) error { r.next(); return nil }); err != nil {
		return 0, err
	}
	var taken bool
	var live, open int
	err = tx.query(s.timed(roomSQL).key(k).text("subject", subject), func(r *row) error {
		taken, live, open = r.bool(), int(r.int()), int(r.int())
		return nil
	})
	switch {
	case err != nil:
		return 0, err
	case taken:
		return 0, sessiond.ErrExists
	case open < limit.Max:
		return 0, nil
	case live >= limit.Max && !limit.Evict:
		return 0, sessiond.ErrLimit
	}
	a := s.timed(evictSQL).text("tenant", k.Tenant).text("subject", subject)
	a.bool("evict", limit.Evict).int("most", int64(limit.Max))
	a.text("by_sub", limit.By.Sub).text("by_client", limit.By.Client).text("request_id", limit.RequestID)
	err = tx.query(a, func(r *row) error {
		live, evicted = int(r.int()), int(r.int())
		return nil
	})
	if err == nil && live-evicted >= limit.Max {
		err = sessiond.ErrLimit
	}
	return evicted, err
}

// subjectLock is the two halves of a subject's number among advisory locks. Two
// subjects that share one only wait for each other.
func subjectLock(tenant, subject string) (high, low int32) {
	sum := sha256.Sum256([]byte(tenant + "\x00" + subject))
	return int32(binary.BigEndian.Uint32(sum[:])), int32(binary.BigEndian.Uint32(sum[4:]))
}
