package faultmatrix

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
)

// A handleTest opens a handle under a fault and closes another with calls under
// way.
type handleTest struct {
	s     *suite
	store sessiond.Store // opened before the fault

	opened, closed  time.Duration
	openErr         error
	closeErr        error
	outlived        int // calls that did not return after the close
	closedErr       error
	openedWasClosed error
}

// nobody has no session.
var nobody = sessiond.Key{Tenant: probeTenant, ID: "nobody"}

func (s *suite) handleTest(t *testing.T) *handleTest {
	t.Helper()
	store, err := s.target.Open(t.Context())
	if err != nil {
		t.Fatalf("open a second handle before the fault: %v", err)
	}
	if err := probe(t.Context(), store); err != nil {
		t.Fatalf("second handle before the fault: %v", err)
	}
	return &handleTest{s: s, store: store}
}

// open opens a handle, and closes it if it could be opened.
func (h *handleTest) open(ctx context.Context) {
	h.opened, h.openErr = within(h.s.target.Patience+slack, func() error {
		store, err := h.s.target.Open(ctx)
		if err == nil {
			h.openedWasClosed = store.Close()
		}
		return err
	})
}

// close makes calls and closes the handle under them.
func (h *handleTest) close(ctx context.Context) {
	patience := h.s.target.Patience + slack
	calls := []func() error{
		func() error {
			_, err := h.store.Get(ctx, nobody)
			return err
		},
		func() error {
			q := sessiond.EventQuery{Tenant: probeTenant, Limit: 1, Wait: h.s.target.Timeout / 2}
			_, err := h.store.Events(ctx, q)
			return err
		},
	}
	returned := make(chan error, len(calls))
	for _, call := range calls {
		go func() { returned <- call() }()
	}
	time.Sleep(20 * time.Millisecond) // whichever comes first, the calls or the close
	h.closed, h.closeErr = within(patience, h.store.Close)
	timer := time.NewTimer(slack)
	defer timer.Stop()
	for h.outlived = len(calls); h.outlived > 0; h.outlived-- {
		select {
		case <-returned: // whatever they say
			continue
		case <-timer.C:
		}
		break
	}
	_, h.closedErr = h.store.Get(ctx, nobody)
}

func (h *handleTest) judgeOpen(t *testing.T) {
	t.Logf("answered with %v after %v", h.openErr, h.opened.Round(time.Millisecond))
	if errors.Is(h.openErr, errLate) {
		t.Errorf("%v after %v", h.openErr, h.opened)
	}
	if h.openErr != nil && !errors.Is(h.openErr, errLate) && !errors.Is(h.openErr, sessiond.ErrUnavailable) {
		t.Errorf("the error does not say that the store is unavailable: %v", h.openErr)
	}
	if h.openedWasClosed != nil {
		t.Errorf("close: %v", h.openedWasClosed)
	}
}

func (h *handleTest) judgeClose(t *testing.T) {
	t.Logf("closed after %v", h.closed.Round(time.Millisecond))
	if h.closeErr != nil {
		t.Errorf("close: %v after %v", h.closeErr, h.closed)
	}
	if h.outlived > 0 {
		t.Errorf("%d calls outlive the store", h.outlived)
	}
	if !errors.Is(h.closedErr, sessiond.ErrUnavailable) {
		t.Errorf("get after close: %v", h.closedErr)
	}
}

// leftovers closes the last handle: nothing may be left of any.
func (s *suite) leftovers(t *testing.T) {
	if err := s.close(); err != nil {
		t.Error(err)
	}
	left := 0
	for range 200 {
		if left = s.target.Connections(); left == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if left > 0 {
		t.Errorf("%d connections are left when all handles are closed", left)
	}
	if err := goleak.Find(s.known...); err != nil {
		t.Errorf("goroutines are left when all handles are closed: %v", err)
	}
}

func knownGoroutines() []goleak.Option {
	return append(testserver.Goroutines(), goleak.IgnoreCurrent())
}

// within calls f and waits no longer than d for it.
func within(d time.Duration, f func() error) (time.Duration, error) {
	began := time.Now()
	returned := make(chan error, 1)
	go func() { returned <- f() }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-returned:
		return time.Since(began), err
	case <-timer.C:
		return time.Since(began), errLate
	}
}
