package faultmatrix_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sessiond.example/sessiond"
)

type changer = func(time.Time, *sessiond.Record) (sessiond.Change, error)

// A bug is a way for a store to be wrong when the network is disturbed.
type bug struct {
	// before may take a request in its own hands.
	before func(r *request, do func() error) (handled bool, err error)
	// after may spoil the error of a request that was disturbed.
	after func(r *request, err error, do func() error) error
	// change may spoil updates.
	change func(changer) changer
	// close may leave the connection behind.
	close  func(*wire) (left bool)
	http   bool     // it is for TestHTTP, not TestStore
	fails  []string // subtests that must notice it
	passes []string // subtests that must not
	says   string   // what the suite must complain of
}

var bugs = map[string]*bug{
	"down-is-not-found": {
		after: func(_ *request, err error, _ func() error) error {
			if errors.Is(err, sessiond.ErrUnavailable) {
				return sessiond.ErrNotFound
			}
			return err
		},
		fails:  []string{"refused/get", "refused/update", "refused/create-deadline", "black-hole/get"},
		passes: []string{"cut-after-request/update", "leftovers"},
		says:   "answers session not found",
	},
	"down-is-ended": {
		after: func(r *request, err error, _ func() error) error {
			if r.mode == refused && r.op == "touch" {
				return sessiond.ErrEnded
			}
			return err
		},
		fails:  []string{"refused/touch"},
		passes: []string{"refused/get", "cut-after-request/touch"},
		says:   "answers session has ended",
	},
	"down-is-empty": {
		after: func(r *request, err error, _ func() error) error {
			if r.op == "list" || r.op == "events" {
				return nil
			}
			return err
		},
		fails:  []string{"refused/list", "refused/list-subject", "black-hole/events", "cut-before-request/list"},
		passes: []string{"refused/get", "cut-before-request/scan"},
		says:   "answers wrongly",
	},
	"lost-write-succeeds": {
		after: func(r *request, err error, _ func() error) error {
			if r.write && r.mode == cutBefore {
				return nil
			}
			return err
		},
		fails:  []string{"cut-before-request/create", "cut-before-request/revoke", "cut-before-request/erase"},
		passes: []string{"cut-after-request/create", "cut-before-request/get", "refused/create"},
		says:   "is answered with success and was not applied",
	},
	"applied-write-is-unavailable": {
		after: func(_ *request, err error, _ func() error) error {
			if errors.Is(err, sessiond.ErrUnknown) {
				return sessiond.ErrUnavailable
			}
			return err
		},
		fails: []string{"cut-after-request/create", "cut-after-request/bind", "cut-after-request/touch",
			"cut-after-request/sweep"},
		passes: []string{"cut-before-request/create", "refused/create", "black-hole/create"},
		says:   "and was applied",
	},
	"unavailable-write-comes-late": {
		after: func(r *request, err error, do func() error) error {
			if r.op != "update" || r.mode != hole {
				return err
			}
			go func() {
				<-r.ended
				_ = do() // nobody is told
			}()
			return sessiond.ErrUnavailable
		},
		fails:  []string{"black-hole/update", "black-hole/revoke"},
		passes: []string{"black-hole/create", "cut-after-request/update"},
		says:   "and was applied",
	},
	"unknown-write-is-retried": {
		after: func(_ *request, err error, do func() error) error {
			if errors.Is(err, sessiond.ErrUnknown) {
				return do()
			}
			return err
		},
		fails:  []string{"cut-after-request/create", "cut-after-request/update", "cut-after-request/erase"},
		passes: []string{"refused/update", "refused/create"},
		says:   "answers session exists",
	},
	"event-is-lost": {
		change: func(fn changer) changer {
			return func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
				change, err := fn(now, r)
				change.Event = nil
				return change, err
			}
		},
		fails:  []string{"cut-after-request/update", "cut-after-request/revoke"},
		passes: []string{"refused/update", "cut-after-request/create"},
		says:   "does not agree: first has version 2, the last event is of version 1",
	},
	"never-returns": {
		before: func(r *request, _ func() error) (bool, error) {
			if r.mode != hole || r.op != "get" && r.op != "update" {
				return false, nil
			}
			<-r.w.closed
			return true, sessiond.ErrUnavailable
		},
		fails:  []string{"black-hole/get", "black-hole/get-deadline", "black-hole/bind"},
		passes: []string{"black-hole/list", "refused/get"},
		says:   "no answer after",
	},
	"reads-outlast-their-deadline": {
		before: func(r *request, _ func() error) (bool, error) {
			if _, hurried := r.ctx.Deadline(); !hurried || r.mode != hole || r.write {
				return false, nil
			}
			<-r.ended
			return true, sessiond.ErrUnavailable
		},
		fails:  []string{"black-hole/get-deadline", "black-hole/events-deadline"},
		passes: []string{"black-hole/get", "black-hole/create-deadline"},
		says:   "no answer after",
	},
	"own-timeout-shows": {
		after: func(r *request, err error, _ func() error) error {
			if r.mode == hole {
				return fmt.Errorf("read: %w", context.DeadlineExceeded)
			}
			return err
		},
		fails:  []string{"black-hole/get", "black-hole/create", "black-hole/open"},
		passes: []string{"black-hole/get-deadline", "refused/get"},
		says:   "answers read: context deadline exceeded",
	},
	"reads-are-unknown": {
		after: func(r *request, err error, _ func() error) error {
			if r.mode == cutAfter && !r.write {
				return sessiond.ErrUnknown
			}
			return err
		},
		fails:  []string{"cut-after-request/get", "cut-after-request/stats"},
		passes: []string{"cut-after-request/update", "cut-before-request/get"},
		says:   "answers outcome of the write is unknown",
	},
	"backs-off-for-long": {
		before: func(r *request, _ func() error) (bool, error) {
			w := r.w
			w.mu.Lock()
			defer w.mu.Unlock()
			if r.mode == refused {
				w.until = time.Now().Add(3 * time.Second)
			}
			if time.Now().Before(w.until) {
				return true, sessiond.ErrUnavailable
			}
			return false, nil
		},
		fails:  []string{"refused"},
		passes: []string{"refused/get", "black-hole", "cut-after-request"},
		says:   "the store answers again",
	},
	"connection-is-left": {
		close:  func(*wire) bool { return true },
		fails:  []string{"leftovers"},
		passes: []string{"refused", "black-hole", "cut-after-request", "cut-before-request"},
		says:   "connections are left",
	},
	"goroutine-is-left": {
		close: func(w *wire) bool {
			go func() { <-make(chan struct{}) }()
			return false
		},
		fails:  []string{"leftovers"},
		passes: []string{"refused", "black-hole", "cut-after-request", "cut-before-request"},
		says:   "goroutines are left",
	},
	"close-hangs": {
		close: func(w *wire) bool {
			if _, err := w.Stats(context.Background()); err != nil {
				time.Sleep(3 * time.Second)
			}
			return false
		},
		fails:  []string{"refused/close", "black-hole/close"},
		passes: []string{"refused/get", "black-hole/open"},
		says:   "close: no answer after",
	},
	"down-is-not-found-on-the-wire": {
		http: true,
		after: func(_ *request, err error, _ func() error) error {
			if errors.Is(err, sessiond.ErrUnavailable) {
				return sessiond.ErrNotFound
			}
			return err
		},
		fails:  []string{"refused/get", "refused/delete", "refused/auth", "black-hole/verify"},
		passes: []string{"cut-after-request/patch", "cut-before-request/delete"},
		says:   "answers 404",
	},
	"lost-write-succeeds-on-the-wire": {
		http: true,
		after: func(r *request, err error, _ func() error) error {
			if r.op == "erase" {
				return nil
			}
			return err
		},
		fails:  []string{"refused/erase", "cut-before-request/erase"},
		passes: []string{"refused/delete", "cut-after-request/erase"},
		says:   "answers success, and nothing was done",
	},
	"applied-write-is-no-on-the-wire": {
		http: true,
		after: func(_ *request, err error, _ func() error) error {
			if errors.Is(err, sessiond.ErrUnknown) {
				return sessiond.ErrUnavailable
			}
			return err
		},
		fails:  []string{"cut-after-request/create", "cut-after-request/delete", "cut-after-request/rotate"},
		passes: []string{"cut-before-request/create", "refused/delete", "cut-after-request/get"},
		says:   `answers with "applied":"no", and it was`,
	},
	"bug-is-internal-on-the-wire": {
		http: true,
		after: func(r *request, err error, _ func() error) error {
			if r.mode == hole {
				return errors.New("driver: timeout")
			}
			return err
		},
		fails:  []string{"black-hole/get", "black-hole/create", "black-hole/auth"},
		passes: []string{"refused/get", "refused/auth"},
		says:   "answers 500",
	},
}
