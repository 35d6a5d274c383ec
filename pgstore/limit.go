package pgstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/jackc/pgx/v5"

	"sessiond.example/sessiond"
)

// makeRoom sees to it that the subject may have one more session, in a transaction
// that keeps others who want the same out until it ends. It returns ErrLimit,
// or ErrExists when the key of a new record is taken; the zero key is that of a
// record which is there already.
func (s *Store) makeRoom(
	ctx context.Context, tx *tx, k sessiond.Key, subject string, limit *sessiond.SubjectLimit,
) (evicted int, err error) {
	high, low := subjectLock(k.Tenant, subject)
	nothing := func(pgx.Rows) error { return nil }
	if err := tx.query(ctx, subjectLockSQL, args{"high": high, "low_half": low}, nothing); err != nil {
		return 0, err
	}
	a := s.now()
	a["tenant"], a["id"], a["subject"] = k.Tenant, string(k.ID), subject
	var taken bool
	var live, open int
	err = tx.query(ctx, roomSQL, a, func(rows pgx.Rows) error { return rows.Scan(&taken, &live, &open) })
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
	a = s.now()
	a["tenant"], a["subject"], a["evict"], a["most"] = k.Tenant, subject, limit.Evict, int64(limit.Max)
	a["by_sub"], a["by_client"], a["request_id"] = limit.By.Sub, limit.By.Client, limit.RequestID
	err = tx.query(ctx, evictSQL, a, func(rows pgx.Rows) error { return rows.Scan(&live, &evicted) })
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
