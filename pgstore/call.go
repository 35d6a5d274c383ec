package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sessiond.example/sessiond"
)

// acquireTimeout is how long a call waits for a connection.
const acquireTimeout = 3 * time.Second

// acquire takes a connection from the pool. Until a statement is sent the caller's
// context may end the call.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	c, err := s.pool.Acquire(wait)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("pgstore: no connection: %w: %w", sessiond.ErrUnavailable, err)
	}
}

// read runs a statement that changes nothing and hands its rows to fn. When the
// caller's context ends it returns at once, and fn is not called any more; the statement is
// left to end in the background, so that the connection stays of use.
func (s *Store) read(ctx context.Context, st *statement, a args, fn func(pgx.Rows) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	values := st.list(a)
	var mu sync.Mutex // held while fn runs
	left := false     // the caller has returned
	done := make(chan error, 1)
	go func() {
		defer c.Release()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
		defer cancel()
		done <- s.query(bounded, c.Conn(), st, values, func(rows pgx.Rows) error {
			mu.Lock()
			defer mu.Unlock()
			if left {
				return ctx.Err()
			}
			return fn(rows)
		})
	}()
	select {
	case err := <-done:
		return readError(st.op, err)
	case <-ctx.Done():
		mu.Lock()
		defer mu.Unlock()
		left = true
		return ctx.Err()
	}
}

// write runs a statement that commits by itself. Once it is sent, the caller's
// context has no more to say: the outcome is waited for, up to the store's timeout.
func (s *Store) write(ctx context.Context, st *statement, a args, fn func(pgx.Rows) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	if err := s.prepare(bounded, c.Conn(), st); err != nil {
		return readError(st.op, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := wireOf(c.Conn())
	w.begin()
	err = w.end(s.query(bounded, c.Conn(), st, st.list(a), fn))
	return writeError(st.op, w.sent.Load(), err)
}

// begin is called before a change is sent.
func (w *wire) begin() {
	w.warned.Store(false)
	w.sent.Store(false)
	w.writing.Store(true)
}

// end is called with the outcome of the change. After a failure of the connection writing stays
// set, because the driver closes the connection in the background.
func (w *wire) end(err error) error {
	if err == nil || answered(err) {
		w.writing.Store(false)
	}
	if err == nil && w.warned.Load() {
		return errNotReplicated
	}
	return err
}

// prepare prepares a statement, once for each connection.
func (s *Store) prepare(ctx context.Context, c *pgx.Conn, st *statement) error {
	if !s.prepares {
		return nil
	}
	_, err := c.Prepare(ctx, st.name, st.text)
	return err
}

// query runs a statement and hands its rows to fn.
func (s *Store) query(
	ctx context.Context, c *pgx.Conn, st *statement, values []any, fn func(pgx.Rows) error,
) error {
	sql := st.text
	if s.prepares {
		if err := s.prepare(ctx, c, st); err != nil {
			return err
		}
		sql = st.name
	}
	rows, err := c.Query(ctx, sql, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			rows.Close()
			return errors.Join(rows.Err(), err) // what the server says decides about the outcome
		}
	}
	return rows.Err()
}

// inTx runs fn in a transaction and commits, unless fn returns an error. Until the
// commit is sent nothing is applied.
func (s *Store) inTx(ctx context.Context, op string, fn func(ctx context.Context, tx *tx) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	w := wireOf(c.Conn())
	t, err := c.BeginTx(bounded, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return readError(op, err)
	}
	err = fn(bounded, &tx{s, c.Conn()})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		// If this fails the connection is closed, and the transaction ends with it.
		_ = t.Rollback(bounded)
		return err
	}
	w.begin()
	err = w.end(t.Commit(bounded))
	return writeError(op, w.sent.Load(), err)
}

// A tx runs statements in a transaction.
type tx struct {
	s    *Store
	conn *pgx.Conn
}

// query runs a statement. Its errors tell of a change that was not applied.
func (t *tx) query(ctx context.Context, st *statement, a args, fn func(pgx.Rows) error) error {
	return readError(st.op, t.s.query(ctx, t.conn, st, st.list(a), fn))
}
