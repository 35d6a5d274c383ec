package sessiond

import (
	"context"
	"errors"
	"slices"
	"time"
)

// RevokeParams say why and how a session is ended.
type RevokeParams struct {
	Reason EndReason // EndRevoked, EndLogout or EndSecurity. Default EndRevoked
	Note   string    // the caller's text, kept with the record; see ValidText
	Erase  bool      // remove the record at once instead of after the retention. Default false

	IfMatch []ETag // fails with ErrVersion unless one matches a live session. Default: unconditional

	token *TokenHash // must be accepted by the session
}

func (p *RevokeParams) validate() error {
	var v validator
	if p.Reason == "" {
		p.Reason = EndRevoked
	}
	v.check(p.Reason == EndRevoked || p.Reason == EndLogout || p.Reason == EndSecurity, "/reason",
		"must be revoked, logout or security")
	v.check(ValidText(p.Note), "/note", textRule)
	return v.err()
}

// Revoke ends a session. It is idempotent: for a session that has ended it
// does nothing, except that Erase removes the record, and IfMatch is ignored.
//
// It returns [ErrInvalid], [ErrNotFound] or [ErrVersion].
func (m *Manager) Revoke(ctx context.Context, id ID, p RevokeParams) (err error) {
	ctx, done := m.span(ctx, "revoke")
	defer func() { done(err) }()
	if err := p.validate(); err != nil {
		return err
	}
	if !validID(string(id)) {
		return ErrNotFound
	}
	if p.Erase {
		return m.erase(ctx, id, p)
	}
	_, err = m.store.Update(ctx, m.key(id), func(now time.Time, r *Record) (Change, error) {
		if p.token != nil {
			switch r.check(*p.token, now) {
			case tokenWrong:
				return Change{}, ErrToken
			case tokenSuperseded:
				return Change{}, errSuperseded
			}
		}
		if !r.matches(p.IfMatch) {
			return Change{}, ErrVersion
		}
		return m.end(ctx, r, now, p.Reason, p.Note), nil
	})
	if errors.Is(err, ErrEnded) {
		return nil
	}
	return err
}

// end ends r on behalf of the manager's actor.
func (m *Manager) end(ctx context.Context, r *Record, now time.Time, reason EndReason, note string) Change {
	r.End(now, reason, note, m.by())
	e := r.EndEvent(RequestID(ctx))
	return Change{Event: &e}
}

func (m *Manager) erase(ctx context.Context, id ID, p RevokeParams) error {
	return m.store.Erase(ctx, m.key(id), func(now time.Time, r *Record) ([]Event, error) {
		c := *r
		var events []Event
		switch {
		case c.Live(now):
			if !c.matches(p.IfMatch) {
				return nil, ErrVersion
			}
			events = append(events, *m.end(ctx, &c, now, p.Reason, p.Note).Event)
		case c.EndedAt.IsZero(): // its expiry has not been told yet
			c.Expire()
			events = append(events, c.EndEvent(""))
		}
		c.Version++
		c.UpdatedAt = now
		e := c.Event(EventErased, m.by(), RequestID(ctx))
		e.Note = p.Note
		return append(events, e), nil
	})
}

// RevokeMatchingParams select sessions and say why they end.
type RevokeMatchingParams struct {
	Filter Filter    // must not be the zero Filter
	Except ID        // this session is spared. Default: none
	Reason EndReason // EndRevoked, EndLogout or EndSecurity. Default EndRevoked
	Note   string    // the caller's text; see ValidText
	DryRun bool      // count only. Default false
}

// MaxRevoke is the largest number of sessions that one RevokeMatching ends.
const MaxRevoke = 10_000

// RevokeMatching ends the live sessions that a filter selects, at most
// [MaxRevoke] of them, and returns how many. With complete true, every selected
// session that was created before the call began has ended when it returns;
// otherwise there are more, and the call may be repeated.
//
// It returns [ErrInvalid]. After another error some of the sessions may have
// ended; n tells how many have for certain.
func (m *Manager) RevokeMatching(ctx context.Context, p RevokeMatchingParams) (n int, complete bool, err error) {
	ctx, done := m.span(ctx, "revoke_matching")
	defer func() { done(err) }()
	rp := RevokeParams{Reason: p.Reason, Note: p.Note}
	if err := rp.validate(); err != nil {
		return 0, false, err
	}
	if p.Filter.IsZero() {
		return 0, false, invalid("", "a bulk revoke needs a filter")
	}
	if err := p.Filter.validate(); err != nil {
		return 0, false, err
	}
	q := Query{Tenant: m.tenant, Filter: p.Filter}
	q.Filter.ActiveOnly = true
	revoke := func(r *Record) error {
		_, err := m.store.Update(ctx, r.Key, func(now time.Time, r *Record) (Change, error) {
			if !q.Filter.Match(r) {
				return Change{}, errUnchanged
			}
			return m.end(ctx, r, now, rp.Reason, rp.Note), nil
		})
		return err
	}
	for {
		q.Limit = min(MaxLimit, MaxRevoke-n) // none of a page is left over
		page, err := m.store.List(ctx, q)
		if err != nil {
			return n, false, err
		}
		found := slices.DeleteFunc(page.Records, func(r *Record) bool { return r.ID == p.Except })
		if p.DryRun {
			n += len(found)
		} else {
			revoked, _, err := each(found, revoke)
			n += revoked
			if err != nil {
				return n, false, err
			}
		}
		if page.Next == nil || n == MaxRevoke {
			return n, page.Next == nil, nil
		}
		q.After = page.Next
	}
}
