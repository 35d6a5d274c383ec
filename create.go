package sessiond

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// CreateParams describe a new session. The zero value is a guest session with
// the policy's defaults.
type CreateParams struct {
	ID      ID                // default: a new UUIDv7
	Subject string            // whose session it is; empty: a guest. See ValidText
	Data    jsontext.Value    // a JSON object of at most Policy.MaxData bytes. Default {}
	Labels  map[string]string // at most MaxLabels; see ValidLabelKey and ValidText

	ExpiresIn   *time.Duration // 1s to Policy.MaxLifetime in whole seconds. Default: Policy.DefaultLifetime
	IdleTimeout *time.Duration // whole seconds, 0 for none. Default: Policy.DefaultIdleTimeout

	// IdempotencyKey makes the create safe to repeat after a lost answer: 1 to
	// 128 visible ASCII characters, unique among the creates of one credential.
	// See ValidIdempotencyKey. Default: none
	IdempotencyKey string
}

// Create starts a session and returns it with its token, which can't be had
// again. With an IdempotencyKey, a repeated create by the same actor with the
// same parameters returns the same session with a fresh token, and the former
// token dies, as long as the session is live and still at version 1.
//
// It returns [ErrInvalid], [ErrExists] or [ErrLimit].
func (m *Manager) Create(ctx context.Context, p CreateParams) (_ *Session, _ Token, err error) {
	ctx, done := m.span(ctx, "create")
	defer func() { done(err) }()
	c, data, err := m.creation(ctx, &p)
	if err != nil {
		return nil, "", err
	}
	token := newToken(c.Record.Key)
	c.Record.TokenHash = token.Hash()
	if err := m.seal(c.Record, data); err != nil {
		return nil, "", err
	}
	createHash := c.Record.CreateHash
	res, err := m.store.Create(ctx, c)
	if errors.Is(err, ErrExists) && p.IdempotencyKey != "" {
		res, err = m.recreate(ctx, res.Record.Key, createHash, token)
	}
	if err != nil {
		return nil, "", err
	}
	s, err := m.session(res.Record, false)
	if err != nil {
		return nil, "", err
	}
	s.ETag = etag(res.Record.Incarnation, res.Record.Version)
	if !m.withoutData {
		s.Data = data
	}
	return s, token, nil
}

// creation validates p and makes the record of it, still without token and data.
func (m *Manager) creation(ctx context.Context, p *CreateParams) (Creation, jsontext.Value, error) {
	var v validator
	v.check(ValidTenant(m.tenant), "", "tenant "+tenantRule)
	v.check(p.ID == "" || validID(string(p.ID)), "/id", idRule)
	v.check(ValidText(p.Subject), "/subject", textRule)
	v.labels(p.Labels)
	lifetime := *cmp.Or(p.ExpiresIn, &m.policy.DefaultLifetime)
	v.expiresIn(lifetime, &m.policy)
	idle := *cmp.Or(p.IdleTimeout, &m.policy.DefaultIdleTimeout)
	v.idleTimeout(idle, &m.policy)
	v.check(p.IdempotencyKey == "" || ValidIdempotencyKey(p.IdempotencyKey), "",
		"Idempotency-Key must have 1 to 128 visible ASCII characters")
	data := jsontext.Value(emptyData)
	if p.Data != nil {
		data = v.data(p.Data, &m.policy)
	}
	if err := v.err(); err != nil {
		return Creation{}, nil, err
	}

	r := &Record{
		Key:         m.key(p.ID),
		Incarnation: newIncarnation(),
		Subject:     p.Subject,
		Labels:      maps.Clone(p.Labels),
		IdleTimeout: idle,
		Version:     1,
		CreatedBy:   m.by(),
	}
	if p.IdempotencyKey != "" {
		r.CreateHash = m.createHash(p, data, lifetime, idle)
	}
	switch {
	case p.ID != "":
	case p.IdempotencyKey != "":
		r.ID = derivedID(m.tenant, m.actor.Issuer, m.actor.Sub, p.IdempotencyKey)
	default:
		r.ID = newID(time.Now())
	}
	return Creation{Record: r, Lifetime: lifetime, Limit: m.limit(ctx), RequestID: RequestID(ctx)}, data, nil
}

// createHash identifies a create: who asked, under which key, for what.
func (m *Manager) createHash(p *CreateParams, data []byte, lifetime, idle time.Duration) [32]byte {
	parts := []string{m.actor.Issuer, m.actor.Sub, p.IdempotencyKey, string(p.ID), p.Subject, string(data),
		strconv.FormatInt(int64(lifetime), 10), strconv.FormatInt(int64(idle), 10)}
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		parts = append(parts, k, p.Labels[k])
	}
	return sha256.Sum256(appendParts(nil, parts...))
}

var errOtherCreate = errors.New("not the same create")

// recreate answers a repeated create: the session gets the fresh token if it
// was made by this very create and nothing has changed it since.
func (m *Manager) recreate(ctx context.Context, k Key, createHash [32]byte, token Token) (Result, error) {
	res, err := m.store.Update(ctx, k, func(_ time.Time, r *Record) (Change, error) {
		if r.CreateHash != createHash || r.Version != 1 {
			return Change{}, errOtherCreate
		}
		r.TokenHash = token.Hash()
		return Change{}, nil
	})
	if errors.Is(err, errOtherCreate) || errors.Is(err, ErrEnded) || errors.Is(err, ErrNotFound) {
		return Result{}, ErrExists
	}
	return res, err
}
