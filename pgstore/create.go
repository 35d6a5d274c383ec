package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

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
	a, err := creationArgs(c)
	if err != nil {
		return sessiond.Result{}, err
	}
	res := sessiond.Result{Record: c.Record}
	insert := func(run func(*statement, args, func(pgx.Rows) error) error) error {
		s.putNow(a)
		err := run(createSQL, a, func(rows pgx.Rows) error { return s.scanNow(rows, &res) })
		if err == nil && res.Now.IsZero() {
			return sessiond.ErrExists
		}
		return err
	}
	if c.Limit.Max == 0 || c.Record.Subject == "" {
		err = insert(func(st *statement, a args, fn func(pgx.Rows) error) error { return s.write(ctx, st, a, fn) })
	} else {
		err = s.inTx(ctx, createSQL.op, func(ctx context.Context, tx *tx) error {
			var err error
			if res.Evicted, err = s.makeRoom(ctx, tx, c.Record.Key, c.Record.Subject, &c.Limit); err != nil {
				return err
			}
			return insert(func(st *statement, a args, fn func(pgx.Rows) error) error {
				return tx.query(ctx, st, a, fn)
			})
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
func creationArgs(c *sessiond.Creation) (args, error) {
	c.Lifetime = c.Lifetime.Truncate(time.Millisecond)
	e := c.Start(time.UnixMilli(0).UTC())
	a := args{"lifetime": c.Lifetime.Milliseconds()}
	if err := putRecord(a, c.Record); err != nil {
		return nil, err
	}
	putEvent(a, &e)
	a["created_sub"], a["created_client"] = c.Record.CreatedBy.Sub, c.Record.CreatedBy.Client
	a["created_at"] = c.Record.CreatedAt.UnixMilli()
	if !c.Imported {
		a["created_at"], a["updated_at"], a["last_active_at"], a["expires_at"] = nil, nil, nil, nil
	}
	return a, nil
}

// putNow adds what a statement needs to read the clock.
func (s *Store) putNow(a args) {
	for k, v := range s.now() {
		a[k] = v
	}
}

// scanNow takes the store's time from a row that has nothing else.
func (s *Store) scanNow(rows pgx.Rows, res *sessiond.Result) error {
	var now int64
	err := rows.Scan(&now)
	if err == nil {
		res.Now = s.at(now)
	}
	return err
}
