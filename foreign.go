package sessiond

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Sessions of other systems keep their tokens when they move in. Such a token
// does not name its session, so the session's id is derived from it: whoever
// knows the token finds the session, and no second index is needed. The hash is
// one-way, and knowing the id, or the digest that the other system had stored, is
// of no use: neither hashes to what the record has.

// MaxForeignToken is the largest length of another system's token, in bytes.
const MaxForeignToken = 4096

// tokenKey is the session of m's tenant that t may belong to.
func (m *Manager) tokenKey(t Token) (Key, bool) {
	if strings.HasPrefix(string(t), TokenPrefix) {
		k, err := t.key()
		return k, err == nil && k.Tenant == m.tenant
	}
	if !foreignForm(t) || !ValidTenant(m.tenant) {
		return Key{}, false
	}
	return foreignKey(m.tenant, t.Hash()), true
}

// foreignForm reports whether t can be a token of another system: 1 to 4096
// printable ASCII characters without space.
func foreignForm(t Token) bool {
	if len(t) == 0 || len(t) > MaxForeignToken {
		return false
	}
	for i := range len(t) {
		if t[i] <= ' ' || t[i] > '~' {
			return false
		}
	}
	return true
}

// foreignKey is the key of the session that another system's token belongs to.
func foreignKey(tenant string, h TokenHash) Key {
	return Key{Tenant: tenant, ID: derivedID("foreign token", tenant, string(h[:]))}
}

// ImportForeign makes sessions of the sessions of another system, in m's tenant
// where a line names none. Their tokens go on working: [Manager.Verify],
// [Manager.RevokeToken] and [Manager.Rotate] take them until a rotation replaces
// them by one of ours; then they are dead like every previous token.
//
// The input is JSON Lines. Each line is an object with these members, of which
// only the first is required:
//
//	token_sha256    SHA-256 of the token as its holder sends it, in hex or base64url
//	tenant          whose session it is, m's tenant if absent
//	subject         as CreateParams.Subject
//	data            as CreateParams.Data
//	labels          as CreateParams.Labels
//	created_at      RFC 3339; now if absent
//	last_active_at  RFC 3339; now if absent
//	expires_at      RFC 3339; Policy.DefaultLifetime from now if absent. It is capped at
//	                created_at + Policy.MaxLifetime
//	idle_timeout    seconds; Policy.DefaultIdleTimeout if absent. The policy's bounds hold
//	revoked         true: the session is over, in the other system
//
// The other system may go on serving meanwhile: a later line of the same token
// changes the session here as the members say that are present, and brings later
// activity, unless the session has been changed here since, be it by a rotation
// or an update, or has ended here. A line with revoked ends it in any case. The
// same line again does nothing. Only a session whose record is gone, after the
// retention or an erase, is made anew: don't bring lines of one any more that has
// ended here. The limit of sessions per subject does not apply.
//
// Tokens must be 1 to [MaxForeignToken] printable ASCII characters without space,
// must not begin with [TokenPrefix], and are taken on trust to be random: id and
// hash of one that can be guessed let it be guessed offline.
func (m *Manager) ImportForeign(ctx context.Context, r io.Reader, p ImportParams) (ImportResult, error) {
	i := importer{m: m, p: p, format: &foreignReader{policy: &m.policy, tenant: m.tenant}}
	return i.run(ctx, r)
}

type foreignReader struct {
	policy *Policy
	tenant string // of lines that name none
}

func (f *foreignReader) parse(line []byte, _ int64, skip bool) (a arrival, err, fatal error) {
	if skip {
		return nil, nil, nil
	}
	x, err := f.parseForeign(line)
	if err != nil {
		return nil, err, nil
	}
	return x, nil, nil
}

func (f *foreignReader) end(int64) error { return nil }

// A foreign is a session of another system. What its line does not have is nil.
type foreign struct {
	place   Key
	hash    TokenHash
	subject *string
	data    jsontext.Value
	labels  map[string]string
	created *time.Time
	active  *time.Time
	expires *time.Time
	idle    *time.Duration
	revoked bool
}

func (f *foreignReader) parseForeign(line []byte) (*foreign, error) {
	var x foreign
	var v lineValidator
	tenant := f.tenant
	err := v.object(line, func(name, pointer string, raw jsontext.Value) bool {
		switch name {
		case "token_sha256":
			x.hash = v.digest(pointer, raw)
		case "tenant":
			tenant = v.text(pointer, raw)
		case "subject":
			x.subject = new(v.text(pointer, raw))
			v.check(ValidText(*x.subject), pointer, textRule)
		case "data":
			x.data = v.data(raw, f.policy)
		case "labels":
			x.labels = v.labelsOf(pointer, raw)
		case "created_at":
			x.created = new(v.time(pointer, raw))
		case "last_active_at":
			x.active = new(v.time(pointer, raw))
		case "expires_at":
			x.expires = new(v.time(pointer, raw))
		case "idle_timeout":
			if x.idle = v.seconds(pointer, raw); x.idle != nil {
				v.idleTimeout(*x.idle, f.policy)
			}
		case "revoked":
			x.revoked = v.flag(pointer, raw)
		default:
			return false
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	v.check(x.hash != (TokenHash{}), "/token_sha256", "is required")
	v.check(ValidTenant(tenant), "/tenant", tenantRule)
	x.place = foreignKey(tenant, x.hash)
	return &x, v.err()
}

func (x *foreign) key() Key { return x.place }

func (x *foreign) activity() time.Time { return *x.active }

func (x *foreign) absent() outcome {
	if x.revoked {
		return outcomeSame
	}
	return outcomeExpired
}

func (x *foreign) creation(m *Manager, now time.Time) (*Record, error) {
	if x.revoked {
		return nil, nil
	}
	// Times of a clock that is ahead of the store's must not lie in its future.
	created := earlier(now, orZero(x.created))
	r := &Record{
		Key: x.place, Incarnation: newIncarnation(), Version: 1, CreatedBy: m.by(), TokenHash: x.hash,
		CreatedAt: created, UpdatedAt: created, LastActiveAt: now, Labels: maps.Clone(x.labels),
		ExpiresAt:   earlier(now.Add(m.policy.DefaultLifetime), created.Add(m.policy.MaxLifetime)),
		IdleTimeout: m.policy.DefaultIdleTimeout, CreateHash: foreignMark(1),
	}
	if x.active != nil {
		r.LastActiveAt = earlier(now, *x.active)
		r.Touch(created) // never before it
	}
	x.deadlines(m, r)
	if x.subject != nil {
		r.Subject = *x.subject
	}
	if !now.Before(r.Deadline()) {
		return nil, nil
	}
	if x.data == nil {
		return r, nil
	}
	return r, m.seal(r, x.data)
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// deadlines moves those that the line has.
func (x *foreign) deadlines(m *Manager, r *Record) {
	if x.expires != nil {
		r.ExpiresAt = earlier(*x.expires, r.CreatedAt.Add(m.policy.MaxLifetime))
	}
	if x.idle != nil {
		r.IdleTimeout = *x.idle
	}
}

// foreignMark is the CreateHash of an imported session at the version to which an
// import has brought it. Any change here raises the version, so that the mark
// does not fit any more.
func foreignMark(version int64) [32]byte {
	return sha256.Sum256(appendParts(nil, "foreign session", strconv.FormatInt(version, 10)))
}

func (x *foreign) judge(m *Manager, here *Record, now time.Time) (outcome, error) {
	live := here.EndedAt.IsZero()
	switch {
	case x.revoked && live:
		return outcomeEnded, nil
	case x.revoked:
		return outcomeSame, nil
	case !live, here.TokenHash != x.hash, here.CreateHash != foreignMark(here.Version):
		return outcomeKept, nil
	}
	changed, err := x.changes(m, here)
	switch {
	case err != nil:
		return 0, err
	case changed:
		return outcomeUpdated, nil
	case x.active != nil && earlier(*x.active, now).After(here.LastActiveAt):
		return outcomeTouched, nil
	default:
		return outcomeSame, nil
	}
}

// changes reports whether the line says otherwise than the record.
func (x *foreign) changes(m *Manager, here *Record) (bool, error) {
	after := *here
	x.deadlines(m, &after)
	changed := !after.ExpiresAt.Equal(here.ExpiresAt) || after.IdleTimeout != here.IdleTimeout ||
		x.labels != nil && !maps.Equal(x.labels, here.Labels)
	if x.subject != nil && *x.subject != here.Subject {
		if here.Subject != "" {
			return false, invalid("/subject", "is not that of the session here")
		}
		changed = true
	}
	if x.data == nil || changed {
		return changed, nil
	}
	data, err := m.open(here)
	if err != nil {
		return false, fmt.Errorf("as it is here: %w", err)
	}
	return !bytes.Equal(data, x.data), nil
}

func (x *foreign) apply(m *Manager, r *Record, now time.Time) error {
	if x.revoked {
		r.End(now, EndRevoked, "", m.by())
		return nil
	}
	x.deadlines(m, r)
	if x.labels != nil {
		r.Labels = maps.Clone(x.labels)
	}
	if x.subject != nil {
		r.Subject = *x.subject
	}
	if x.active != nil {
		r.Touch(earlier(*x.active, now))
	}
	r.Version++
	r.UpdatedAt, r.CreateHash = now, foreignMark(r.Version)
	if x.data == nil {
		return nil
	}
	return m.seal(r, x.data)
}
