package pgstore

import (
	"context"
	"errors"
	"time"

	"sessiond.example/sessiond"
)

// Create implements [sessiond.Store].
func (s *Store) Create(ctx context.Context, c sessiond.Creation) (sessiond.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Result{}, err
	}
	defer s.gate.RUnlock()
	for {
		res, err := s.create(ctx, &c)
		if !errors.Is(err, sessiond.ErrExists) {
			return res, err
		}
		holder, now, err := s.load(ctx, c.Record.Key)
		switch {
		case errors.Is(err, sessiond.ErrNotFound): // it has just gone
			continue
		case err != nil:
			return sessiond.Result{}, err
		}
		return sessiond.Result{Record: holder.rec.At(now), Now: now}, sessiond.ErrExists
	}
}

// create inserts the record. ErrExists comes without the holder.
func (s *Store) create(ctx context.Context, c *sessiond.Creation) (sessiond.Result, error) {
	res := sessiond.Result{Record: c.Record}
	insert := func(run func(*args, func(*row) error) error) error {
		a, err := s.creationArgs(c)
		if err != nil {
			return err
		}
		err = run(a, func(r *row) error {
			res.Now = s.at(r.int())
			return nil
		})
		if err == nil && res.Now.IsZero() {
			return sessiond.ErrExists
		}
		return err
	}
	var err error
	if c.Limit.Max == 0 || c.Record.Subject == "" {
		err = insert(func(a *args, fn func(*row) error) error { return s.write(ctx, a, fn) })
	} else {
		err = s.inTx(ctx, createSQL.op, func(tx *tx) (err error) {
			if res.Evicted, err = s.makeRoom(tx, c.Record.Key, c.Record.Subject, &c.Limit); err != nil {
				return err
			}
			return insert(tx.query)
		})
	}
	if err != nil {
		return sessiond.Result{}, err
	}
	c.Start(res.Now)
	s.feed.kick()
	return res, nil
}

// creationArgs are the arguments of the statement. It sets the times that Start
// would, unless the record has them.
func (s *Store) creationArgs(c *sessiond.Creation) (*args, error) {
	c.Lifetime = c.Lifetime.Truncate(time.Millisecond)
	r := c.Record
	e := c.Start(time.UnixMilli(0).UTC())
	a := s.timed(createSQL)
	if err := a.record(r, r.Data); err != nil {
		return nil, err
	}
	a.event(&e).int("lifetime", c.Lifetime.Milliseconds())
	if c.Imported {
		a.time("created_at", r.CreatedAt).time("updated_at", r.UpdatedAt)
		a.time("last_active_at", r.LastActiveAt).time("expires_at", r.ExpiresAt)
	} else {
		a.null("created_at").null("updated_at").null("last_active_at").null("expires_at")
	}
	return a.text("created_sub", r.CreatedBy.Sub).text("created_client", r.CreatedBy.Client), nil
}
