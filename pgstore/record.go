package pgstore

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"sessiond.example/sessiond"
)

// recordColumns are the columns of a stored record, in the order of row.scan.
const recordColumns = `s.tenant, s.id, s.incarnation, s.revision, s.version, s.subject, s.labels, s.data, s.data_key,
  s.created_at, s.updated_at, s.last_active_at, s.expires_at, s.idle_timeout, s.created_sub, s.created_client,
  s.token_hash, s.previous_token_hash, s.previous_token_until, s.create_hash,
  s.ended_at, s.end_reason, s.end_note, s.ended_sub, s.ended_client`

// A stored is a record as it is in its row, and the row's revision, which is one
// more after every change but a touch.
type stored struct {
	rec      *sessiond.Record
	revision int64
}

// A row takes the columns of a record from a result.
type row struct {
	tenant, id, subject, createdSub, createdClient zeronull.Text
	endReason, endNote, endedSub, endedClient      zeronull.Text
	incarnation, labels, data                      []byte
	tokenHash, previousTokenHash, createHash       []byte
	revision, version, dataKey, idle               zeronull.Int8
	created, updated, active, expires              zeronull.Int8
	previous, ends                                 *int64
}

// scan reads the current row of rows: first what dst names, then a record. All
// columns of the record may be null, as those of an outer join are; then there
// is none.
func (r *row) scan(rows pgx.Rows, dst ...any) (stored, error) {
	*r = row{}
	dst = append(dst, &r.tenant, &r.id, &r.incarnation, &r.revision, &r.version, &r.subject, &r.labels, &r.data,
		&r.dataKey, &r.created, &r.updated, &r.active, &r.expires, &r.idle, &r.createdSub, &r.createdClient,
		&r.tokenHash, &r.previousTokenHash, &r.previous, &r.createHash,
		&r.ends, &r.endReason, &r.endNote, &r.endedSub, &r.endedClient)
	if err := rows.Scan(dst...); err != nil {
		return stored{}, err
	}
	if r.tenant == "" {
		return stored{}, nil
	}
	rec := &sessiond.Record{
		Key: sessiond.Key{Tenant: string(r.tenant), ID: sessiond.ID(r.id)}, Subject: string(r.subject),
		Data: r.data, DataKey: uint32(r.dataKey),
		CreatedAt: fromMS(int64(r.created)), UpdatedAt: fromMS(int64(r.updated)),
		LastActiveAt: fromMS(int64(r.active)), ExpiresAt: fromMS(int64(r.expires)),
		IdleTimeout: time.Duration(r.idle) * time.Millisecond,
		Version:     int64(r.version), CreatedBy: sessiond.Actor{Sub: string(r.createdSub), Client: string(r.createdClient)},
		EndReason: sessiond.EndReason(r.endReason), EndNote: string(r.endNote),
		EndedBy: sessiond.Actor{Sub: string(r.endedSub), Client: string(r.endedClient)},
	}
	if r.previous != nil {
		rec.PreviousTokenUntil = fromMS(*r.previous)
	}
	if r.ends != nil {
		rec.EndedAt = fromMS(*r.ends)
	}
	if r.labels != nil {
		if err := json.Unmarshal(r.labels, &rec.Labels); err != nil {
			return stored{}, fmt.Errorf("labels of %s: %w", rec.ID, err)
		}
	}
	for _, f := range []struct{ dst, src []byte }{
		{rec.Incarnation[:], r.incarnation}, {rec.TokenHash[:], r.tokenHash},
		{rec.PreviousTokenHash[:], r.previousTokenHash}, {rec.CreateHash[:], r.createHash},
	} {
		if f.src != nil && copy(f.dst, f.src) != len(f.src) {
			return stored{}, fmt.Errorf("a hash or the incarnation of %s has %d bytes", rec.ID, len(f.src))
		}
	}
	return stored{rec, int64(r.revision)}, nil
}

func fromMS(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// orNull is the milliseconds of t, null when t is zero.
func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// hashOrNull is h, null when it is all zeros.
func hashOrNull(h [32]byte) []byte {
	if h == ([32]byte{}) {
		return nil
	}
	return h[:]
}

// labelsJSON is labels as a JSON object, null when there are none.
func labelsJSON(labels map[string]string) (any, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	for k, v := range labels {
		// The encoder would replace what is not UTF-8 by something else.
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("pgstore: a label is not valid UTF-8")
		}
	}
	b, err := json.Marshal(labels)
	if err != nil {
		return nil, fmt.Errorf("pgstore: labels: %w", err)
	}
	return string(b), nil
}

// putRecord adds what may change of r to the arguments of a statement.
func putRecord(a args, r *sessiond.Record) error {
	labels, err := labelsJSON(r.Labels)
	if err != nil {
		return err
	}
	a["tenant"], a["id"], a["incarnation"] = r.Tenant, string(r.ID), r.Incarnation[:]
	a["version"], a["subject"], a["labels"] = r.Version, r.Subject, labels
	a["data"], a["data_key"] = r.Data, int64(r.DataKey)
	a["idle_timeout"] = r.IdleTimeout.Milliseconds()
	a["token_hash"], a["create_hash"] = r.TokenHash[:], hashOrNull(r.CreateHash)
	a["previous_token_hash"], a["previous_token_until"] = hashOrNull(r.PreviousTokenHash), orNull(r.PreviousTokenUntil)
	a["updated_at"], a["last_active_at"] = r.UpdatedAt.UnixMilli(), r.LastActiveAt.UnixMilli()
	a["expires_at"], a["ended_at"] = r.ExpiresAt.UnixMilli(), orNull(r.EndedAt)
	a["end_reason"], a["end_note"] = string(r.EndReason), r.EndNote
	a["ended_sub"], a["ended_client"] = r.EndedBy.Sub, r.EndedBy.Client
	return nil
}

// putEvent adds an event to the arguments of a statement; nil is none.
func putEvent(a args, e *sessiond.Event) {
	if e == nil {
		e = &sessiond.Event{}
	}
	a["event_id"], a["event_type"], a["event_at"] = e.ID, string(e.Type), e.Time.UnixMilli()
	a["event_subject"], a["event_version"] = e.Subject, e.Version
	a["event_reason"], a["event_note"] = string(e.Reason), e.Note
	a["event_sub"], a["event_client"], a["event_request_id"] = e.Actor.Sub, e.Actor.Client, e.RequestID
}
