package sessiond

import (
	"context"
	"errors"
	"time"
)

// VerifyParams change what [Manager.Verify] does.
type VerifyParams struct {
	NoTouch bool // the presentation of the token is not activity. Default false
}

// A Verification is the answer to a token.
type Verification struct {
	// Active tells that the token is right and the session may go on.
	Active  bool
	Session *Session // set only when Active
	// Reason is why the session ended, when the secret was right; else empty.
	Reason EndReason
}

// Verify checks a token, as its holder presents it to a service. A token that
// is malformed, unknown, superseded, of another tenant, or of a session that
// has ended is answered with Active false; an error means that the question
// could not be answered and must never be taken for either.
//
// Verify records activity of the holder at most once per [Policy].TouchInterval
// or a twentieth of the session's idle timeout, whichever is shorter, in the
// background: it neither delays nor fails the answer.
func (m *Manager) Verify(ctx context.Context, t Token, p VerifyParams) (_ Verification, err error) {
	ctx, done := m.span(ctx, "verify")
	defer func() { done(err) }()
	k, ok := m.tokenKey(t)
	if !ok {
		return Verification{}, nil
	}
	res, err := m.store.Get(ctx, k)
	switch {
	case errors.Is(err, ErrNotFound):
		return Verification{}, nil
	case err != nil:
		return Verification{}, err
	}
	r := res.Record
	switch hash := t.Hash(); r.check(hash, res.Now) {
	case tokenWrong:
		return Verification{}, nil
	case tokenSuperseded:
		return Verification{}, m.reused(ctx, k, hash)
	}
	if !r.EndedAt.IsZero() {
		return Verification{Reason: r.EndReason}, nil
	}
	s, err := m.session(r, !m.withoutData)
	if err != nil {
		return Verification{}, err
	}
	if !p.NoTouch && res.Now.Sub(r.LastActiveAt) >= m.policy.touchInterval(r.IdleTimeout) {
		m.touches.add(touch{k, r.Incarnation, res.Now})
	}
	return Verification{Active: true, Session: s}, nil
}

// RevokeToken ends the session that t belongs to with EndLogout, as its holder
// asks at sign-out (RFC 7009). A token that Verify calls inactive is no error.
func (m *Manager) RevokeToken(ctx context.Context, t Token) (err error) {
	ctx, done := m.span(ctx, "revoke_token")
	defer func() { done(err) }()
	k, ok := m.tokenKey(t)
	if !ok {
		return nil
	}
	hash := t.Hash()
	switch err := m.Revoke(ctx, k.ID, RevokeParams{Reason: EndLogout, token: &hash}); {
	case errors.Is(err, ErrNotFound):
		return nil
	case errors.Is(err, errSuperseded):
		return m.reused(ctx, k, hash)
	case errors.Is(err, ErrToken):
		return nil
	default:
		return err
	}
}

type tokenCheck int

const (
	tokenWrong tokenCheck = iota
	tokenRight
	tokenSuperseded // the previous one, after its overlap
)

// check compares a presented token with those that r knows, in constant time.
func (r *Record) check(hash TokenHash, now time.Time) tokenCheck {
	current, previous := r.TokenHash.matches(hash), r.PreviousTokenHash.matches(hash)
	switch {
	case current, previous && now.Before(r.PreviousTokenUntil):
		return tokenRight
	case previous:
		return tokenSuperseded
	default:
		return tokenWrong
	}
}

// reused reacts to the presentation of a superseded token: under
// Policy.RevokeOnReuse someone else may hold the current one, so the session ends.
func (m *Manager) reused(ctx context.Context, k Key, hash TokenHash) error {
	if !m.policy.RevokeOnReuse {
		return nil
	}
	_, err := m.store.Update(ctx, k, func(now time.Time, r *Record) (Change, error) {
		if r.check(hash, now) != tokenSuperseded {
			return Change{}, errUnchanged
		}
		return m.end(ctx, r, now, EndTokenReuse, ""), nil
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, ErrEnded) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// RotateParams say how to rotate.
type RotateParams struct {
	// Token, if not empty, must be the current token of the session.
	Token Token
	// Subject, if not empty, binds a guest session to the subject that has
	// signed in. See ValidText.
	Subject string

	IfMatch []ETag // fails with ErrVersion unless one matches. Default: unconditional
}

// Rotate gives the session a new token, as is due whenever its privileges
// change, and returns it with the session. The former token dies after
// [Policy].RotationOverlap. Deadlines stay.
//
// It returns [ErrInvalid], also for a Subject when the session already has one,
// [ErrNotFound], [ErrToken], an [*EndedError], [ErrVersion], [ErrLimit], or
// [ErrSealed], before anything is written.
func (m *Manager) Rotate(ctx context.Context, id ID, p RotateParams) (_ *Session, _ Token, err error) {
	ctx, done := m.span(ctx, "rotate")
	defer func() { done(err) }()
	if !ValidText(p.Subject) {
		return nil, "", invalid("/subject", textRule)
	}
	if !validID(string(id)) {
		return nil, "", ErrNotFound
	}
	k := m.key(id)
	if p.Token != "" {
		if tk, ok := m.tokenKey(p.Token); !ok || tk != k {
			return nil, "", ErrToken
		}
	}
	hash := p.Token.Hash()
	token := newToken(k)
	res, err := m.store.Update(ctx, k, func(now time.Time, r *Record) (Change, error) {
		if p.Token != "" && !r.TokenHash.matches(hash) {
			if r.check(hash, now) == tokenSuperseded {
				return Change{}, errSuperseded
			}
			return Change{}, ErrToken
		}
		if !r.matches(p.IfMatch) {
			return Change{}, ErrVersion
		}
		var c Change
		if p.Subject != "" {
			if r.Subject != "" {
				return Change{}, invalid("/subject", "the session already has a subject")
			}
			r.Subject = p.Subject
			c.Limit = m.limit(ctx)
		}
		if err := m.readable(r); err != nil {
			return Change{}, err
		}
		r.PreviousTokenHash, r.PreviousTokenUntil = r.TokenHash, now.Add(m.policy.RotationOverlap)
		r.TokenHash = token.Hash()
		r.Version++
		r.UpdatedAt = now
		e := r.Event(EventRotated, m.by(), RequestID(ctx))
		c.Event = &e
		return c, nil
	})
	switch {
	case errors.Is(err, errSuperseded):
		if err := m.reused(ctx, k, hash); err != nil {
			return nil, "", err
		}
		return nil, "", ErrToken
	case errors.Is(err, ErrEnded) && p.Token != "" && res.Record != nil && !res.Record.TokenHash.matches(hash):
		return nil, "", ErrToken // how a session ended is for who may know it, not for who guesses
	case err != nil:
		return nil, "", m.writeError(res, err)
	}
	s, err := m.tagged(res.Record)
	if err != nil {
		return nil, "", err
	}
	return s, token, nil
}

var errSuperseded = errors.New("superseded token")
