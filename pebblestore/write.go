package pebblestore

import (
	"context"
	"time"

	"sessiond.example/sessiond"
)

// Create implements [sessiond.Store].
func (s *Store) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	res, t, pend, err := s.create(ctx, &c)
	if waited := s.finish(t, pend); waited != nil {
		return sessiond.Result{}, waited
	}
	return res, err
}

func (s *Store) create(ctx context.Context, c *sessiond.Creation) (
	res sessiond.Result, applied *tx, pend *commit, err error,
) {
	k := c.Record.Key
	hash := s.hash(k)
	limited := c.Limit.Max > 0 && c.Record.Subject != ""
	var rivals []sessiond.Key
	if limited {
		unlock, keys, err := s.lockSubject(k, c.Record.Subject)
		if err != nil {
			return res, nil, nil, err
		}
		defer unlock()
		rivals = keys
	} else {
		st := s.stripe(hash)
		st.mu.Lock()
		defer st.mu.Unlock()
	}
	cur, err := s.load(hash, k, readAbsent)
	if err != nil {
		return res, nil, nil, unavailable(err)
	}
	now := s.now()
	if cur.rec != nil {
		return sessiond.Result{Record: cur.rec.At(now), Now: now}, nil, cur.pend, sessiond.ErrExists
	}
	if err := s.disk.room(now, ordinary); err != nil {
		return res, nil, nil, err
	}
	t := s.newTx(now)
	if limited {
		if res.Evicted, err = t.makeRoom(rivals, c.Limit); err != nil {
			t.drop()
			return sessiond.Result{}, nil, s.last.Load(), err
		}
	}
	now = t.now
	e := c.Start(now)
	t.put(hash, &state{}, c.Record)
	t.event(&e)
	if err := t.apply(ctx); err != nil {
		return sessiond.Result{}, nil, nil, err
	}
	res.Record, res.Now = c.Record, now
	return res, t, nil, nil
}

// Update implements [sessiond.Store]. fn must not call the store.
func (s *Store) Update(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) (sessiond.Change, error),
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	for u := (update{ctx: ctx, s: s, key: k, fn: fn}); ; {
		res, pend, err := u.run()
		if u.again {
			continue
		}
		if waited := s.finish(u.applied, pend); waited != nil {
			return sessiond.Result{}, waited
		}
		return res, err
	}
}

// An update is one call of Update.
type update struct {
	ctx     context.Context
	s       *Store
	key     sessiond.Key
	fn      func(time.Time, *sessiond.Record) (sessiond.Change, error)
	subject string // the limited subject that fn gave the session when it last ran
	again   bool   // run once more, now that the subject is known
	applied *tx
}

// run does the step under locks. A limit can only be kept under the lock of its
// subject, which comes before that of the session and is known when fn has run.
func (u *update) run() (res sessiond.Result, pend *commit, err error) {
	s := u.s
	u.again = false
	hash := s.hash(u.key)
	var rivals []sessiond.Key
	if u.subject != "" {
		unlock, keys, err := s.lockSubject(u.key, u.subject)
		if err != nil {
			return res, nil, err
		}
		defer unlock()
		rivals = keys
	} else {
		st := s.stripe(hash)
		st.mu.Lock()
		defer st.mu.Unlock()
	}
	old, err := s.load(hash, u.key, readState)
	if err != nil {
		return res, nil, unavailable(err)
	}
	if old.rec == nil {
		return res, old.pend, sessiond.ErrNotFound
	}
	// Whoever reads the cache from now on waits for what becomes of this.
	s.cache.remove(hash)
	defer func() {
		if u.applied == nil {
			s.keep(hash, &old)
		}
	}()
	now := s.now()
	res = sessiond.Result{Record: old.rec.At(now), Now: now}
	if !old.rec.Live(now) {
		return res, old.pend, sessiond.ErrEnded
	}
	r := *old.rec
	c, err := u.fn(now, &r)
	if err != nil {
		return res, old.pend, err
	}
	r.Touch(old.rec.LastActiveAt)
	if limited := r.Subject != old.rec.Subject && c.Limit.Max > 0; limited && r.Subject != u.subject {
		u.subject, u.again = r.Subject, true
		return res, nil, nil
	}
	return u.commit(hash, now, &old, &r, &c, rivals)
}

func (u *update) commit(
	hash uint64, now time.Time, old *current, r *sessiond.Record, c *sessiond.Change, rivals []sessiond.Key,
) (res sessiond.Result, pend *commit, err error) {
	s := u.s
	res = sessiond.Result{Record: old.rec.At(now), Now: now}
	urgent := ordinary
	if !r.EndedAt.IsZero() {
		urgent = relief
	}
	if err := s.disk.room(now, urgent); err != nil {
		return sessiond.Result{}, nil, err
	}
	t := s.newTx(now)
	if r.Subject != old.rec.Subject && c.Limit.Max > 0 && r.Subject != "" {
		if res.Evicted, err = t.makeRoom(rivals, c.Limit); err != nil {
			t.drop()
			return res, s.last.Load(), err
		}
	}
	t.put(hash, &old.state, r)
	if c.Event != nil {
		t.event(c.Event)
	}
	if err := t.apply(u.ctx); err != nil {
		return sessiond.Result{}, nil, err
	}
	u.applied = t
	res.Record, res.Now = r, t.now
	return res, nil, nil
}

// Touch implements [sessiond.Store].
func (s *Store) Touch(
	ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time,
) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	res, t, pend, err := s.touch(ctx, k, inc, at)
	if waited := s.finish(t, pend); waited != nil {
		return sessiond.Result{}, waited
	}
	return res, err
}

func (s *Store) touch(ctx context.Context, k sessiond.Key, inc sessiond.Incarnation, at time.Time) (
	res sessiond.Result, applied *tx, pend *commit, err error,
) {
	hash := s.hash(k)
	st := s.stripe(hash)
	st.mu.Lock()
	defer st.mu.Unlock()
	old, err := s.load(hash, k, readState)
	if err != nil {
		return res, nil, nil, unavailable(err)
	}
	if old.rec == nil || inc != (sessiond.Incarnation{}) && inc != old.rec.Incarnation {
		return res, nil, old.pend, sessiond.ErrNotFound
	}
	now := s.now()
	if !old.rec.Live(now) {
		return sessiond.Result{Record: old.rec.At(now), Now: now}, nil, old.pend, sessiond.ErrEnded
	}
	if at.IsZero() || at.After(now) {
		at = now
	}
	at = at.UTC().Truncate(time.Millisecond)
	if !at.After(old.rec.LastActiveAt) {
		return sessiond.Result{Record: old.rec, Now: now}, nil, old.pend, nil
	}
	if err := s.disk.room(now, ordinary); err != nil {
		return res, nil, nil, err
	}
	r := *old.rec
	r.Touch(at)
	t := s.newTx(now)
	t.tail(hash, &old.state, &r, old.filed)
	if err := t.apply(ctx); err != nil {
		return res, nil, nil, err
	}
	return sessiond.Result{Record: &r, Now: now}, t, nil, nil
}

// Erase implements [sessiond.Store]. fn must not call the store.
func (s *Store) Erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.gate.RUnlock()
	t, pend, err := s.erase(ctx, k, fn)
	if waited := s.finish(t, pend); waited != nil {
		return waited
	}
	return err
}

func (s *Store) erase(
	ctx context.Context, k sessiond.Key, fn func(time.Time, *sessiond.Record) ([]sessiond.Event, error),
) (applied *tx, pend *commit, err error) {
	hash := s.hash(k)
	st := s.stripe(hash)
	st.mu.Lock()
	defer st.mu.Unlock()
	old, err := s.load(hash, k, readState)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	if old.rec == nil {
		return nil, old.pend, sessiond.ErrNotFound
	}
	s.cache.remove(hash)
	defer func() {
		if applied == nil {
			s.keep(hash, &old)
		}
	}()
	now := s.now()
	events, err := fn(now, old.rec)
	if err != nil {
		return nil, old.pend, err
	}
	if err := s.disk.room(now, relief); err != nil {
		return nil, nil, err
	}
	t := s.newTx(now)
	t.remove(hash, &old.state)
	for i := range events {
		t.event(&events[i])
	}
	if err := t.apply(ctx); err != nil {
		return nil, nil, err
	}
	return t, nil, nil
}
