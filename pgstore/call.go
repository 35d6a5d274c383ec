package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// until is when a call that is sent now is no longer waited for.
func (s *Store) until() time.Time { return time.Now().Add(s.timeout) }

// read runs a statement that changes nothing and hands its rows to fn. When the
// caller's context ends it returns at once, and fn is not called any more; the statement is
// left to end in the background, so that the connection stays of use.
func (s *Store) read(ctx context.Context, a *args, fn func(*row) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex // held while fn runs
	left := false     // the caller has returned
	done := make(chan error, 1)
	go func() {
		defer c.Release()
		done <- s.query(c.Conn(), s.until(), a, func(r *row) error {
			mu.Lock()
			defer mu.Unlock()
			if left {
				return ctx.Err()
			}
			return fn(r)
		})
	}()
	select {
	case err := <-done:
		return readError(a.st.op, err)
	case <-ctx.Done():
		mu.Lock()
		defer mu.Unlock()
		left = true
		return ctx.Err()
	}
}

// write runs a statement that commits by itself. Once it is sent, the caller's
// context has no more to say: the outcome is waited for, up to the store's timeout.
func (s *Store) write(ctx context.Context, a *args, fn func(*row) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	w, until := wireOf(c.Conn()), s.until()
	_, err = s.ready(c.Conn(), until, a.st)
	if err == nil {
		err = ctx.Err() // the last moment
	} else {
		err = readError(a.st.op, err)
	}
	if err != nil {
		w.free(c.Conn())
		return err
	}
	w.begin()
	err = w.end(s.query(c.Conn(), until, a, fn))
	return writeError(a.st.op, w.sent.Load(), err)
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

// ready bounds what is waited for on a connection, until free, and prepares a statement, once
// for each connection. Without description the statement is sent with its text.
func (s *Store) ready(c *pgx.Conn, until time.Time, st *statement) (*pgconn.StatementDescription, error) {
	if err := wireOf(c).conn.SetDeadline(until); err != nil || !s.prepares {
		return nil, err
	}
	return c.Prepare(context.Background(), st.name, st.text)
}

// free takes the bound away, unless the driver is about to close the connection.
func (w *wire) free(c *pgx.Conn) {
	if !c.IsClosed() {
		_ = w.conn.SetDeadline(time.Time{}) // fails when the connection has ended: whoever uses it next will see
	}
}

// allBinary is the format of all parameters and columns.
var allBinary = []int16{pgx.BinaryFormatCode}

// query runs a statement, waits for the server up to the time until, and hands the rows to fn.
// It is below the driver's own queries, which know statements only by the types of their
// values, and has the bound on the socket, where a context would take a goroutine.
func (s *Store) query(c *pgx.Conn, until time.Time, a *args, fn func(*row) error) error {
	defer wireOf(c).free(c)
	sd, err := s.ready(c, until, a.st)
	if err != nil {
		return err
	}
	var result *pgconn.ResultReader
	if sd != nil {
		result = c.PgConn().ExecStatement(context.Background(), sd, a.list(), allBinary, allBinary)
	} else {
		result = c.PgConn().ExecParams(context.Background(), a.st.text, a.list(), nil, allBinary, allBinary)
	}
	for err == nil && result.NextRow() {
		r := row{values: result.Values()}
		if err = fn(&r); err == nil {
			err = r.end()
		}
	}
	if _, failed := result.Close(); failed != nil {
		return errors.Join(failed, err) // what the server says decides about the outcome
	}
	return err
}

// inTx runs fn in a transaction and commits, unless fn returns an error. Until the
// commit is sent nothing is applied.
func (s *Store) inTx(ctx context.Context, op string, fn func(tx *tx) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	until := s.until()
	bounded, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	w := wireOf(c.Conn())
	t, err := c.BeginTx(bounded, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return readError(op, err)
	}
	err = fn(&tx{s, c.Conn(), until})
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
	s     *Store
	conn  *pgx.Conn
	until time.Time
}

// query runs a statement. Its errors tell of a change that was not applied.
func (t *tx) query(a *args, fn func(*row) error) error {
	return readError(a.st.op, t.s.query(t.conn, t.until, a, fn))
}
