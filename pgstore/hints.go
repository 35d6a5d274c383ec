package pgstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// hints tell other processes that there are events, and hear them tell it. A hint
// may be lost, and comes late when the server is busy; that costs latency only.
//
// NOTIFY makes its transaction's commit exclusive in the whole cluster. So it is
// never part of a change: one connection sends it, now and then, in transactions of its own
// that wait for nothing.
type hints struct {
	config *pgx.ConnConfig
	log    *slog.Logger
	heard  func()

	ctx    context.Context // of the sender; ended by stop
	cancel context.CancelFunc
	start  sync.Once
	news   chan struct{}
	sender atomic.Uint32 // the sending connection's process, 0: none
	done   sync.WaitGroup
}

const (
	// hintGap is the smallest time between two hints of a process.
	hintGap = 20 * time.Millisecond
	// hintPatience bounds what is waited for with hints.
	hintPatience = 2 * time.Second
	// hintRetry is the pause after a failure.
	hintRetry = time.Second
	// hintDead is the pause after hints turned out not to arrive.
	hintDead = 5 * time.Minute
)

const notifySQL = "BEGIN; SET LOCAL synchronous_commit = off; NOTIFY sessiond; COMMIT"

func newHints(config *pgx.ConnConfig, log *slog.Logger, heard func()) *hints {
	h := &hints{config: config, log: log, heard: heard, news: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// tell has a hint sent soon. It does not wait.
func (h *hints) tell() {
	h.start.Do(func() { h.done.Go(h.send) })
	select {
	case h.news <- struct{}{}:
	default:
	}
}

func (h *hints) stop() {
	h.start.Do(func() {}) // nothing starts any more
	h.cancel()
	h.done.Wait()
}

// send sends hints until stop.
func (h *hints) send() {
	var c *pgx.Conn
	defer func() {
		if c != nil {
			closeConn(c)
		}
	}()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.news:
		}
		gap := hintGap
		if err := h.sendOne(&c); err != nil && h.ctx.Err() == nil {
			h.log.Debug("can't tell other processes of events", "err", err)
			gap = hintRetry
		}
		if !sleep(h.ctx, gap) {
			return
		}
	}
}

func (h *hints) sendOne(c **pgx.Conn) error {
	ctx, cancel := context.WithTimeout(h.ctx, hintPatience)
	defer cancel()
	if *c == nil || (*c).IsClosed() {
		var err error
		if *c, err = dial(ctx, h.config); err != nil {
			*c = nil
			return err
		}
		h.sender.Store((*c).PgConn().PID())
	}
	return (*c).PgConn().Exec(ctx, notifySQL).Close()
}

// listen hears hints until ctx ends.
func (h *hints) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := h.hear(ctx)
		pause := hintRetry
		if errors.Is(err, errDeaf) {
			pause = hintDead
		}
		if ctx.Err() == nil {
			h.log.Debug("can't hear of events from other processes", "err", err)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// errDeaf is what comes of a connection that does not get notifications, such as one
// through a pooler.
var errDeaf = errors.New("notifications do not arrive on this connection")

// hear makes a connection, tests that notifications arrive on it, and hands them on.
func (h *hints) hear(ctx context.Context) error {
	c, err := dial(ctx, h.config)
	if err != nil {
		return err
	}
	defer closeConn(c)
	if err := h.test(ctx, c); err != nil {
		return err
	}
	h.heard() // something may have come before
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.PID != h.sender.Load() {
			h.heard()
		}
	}
}

func (h *hints) test(ctx context.Context, c *pgx.Conn) error {
	bounded, cancel := context.WithTimeout(ctx, hintPatience)
	defer cancel()
	mark := rand.Text()
	sql := fmt.Sprintf("LISTEN sessiond; NOTIFY sessiond, '%s'", mark)
	if err := c.PgConn().Exec(bounded, sql).Close(); err != nil {
		return err
	}
	for {
		n, err := c.WaitForNotification(bounded)
		switch {
		case err != nil && ctx.Err() == nil && bounded.Err() != nil:
			return errDeaf
		case err != nil:
			return err
		case n.Payload == mark:
			return nil
		}
	}
}

// sleep waits, and reports false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
