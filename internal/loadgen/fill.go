package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/keyset"
	"sessiond.example/sessiond/pebblestore"
)

// perSubject is how many sessions each subject of a filling has.
const perSubject = 10

// A filling is sessions to store.
type filling struct {
	n int
	// brief is how many of them, the last ones, end soon: all within a second after
	// the instant that ends tells when their turn comes.
	brief int
	ends  func() time.Time
}

// stored are sessions in the directory of a server.
type stored struct {
	ids      []string // of those that stay
	subjects int      // user-0 and so on, of those that stay
	ends     time.Time
}

// openStore opens the store of a directory as sessiond dev does, and makes what
// is missing.
func openStore(ctx context.Context, data string) (*sessiond.Manager, *pebblestore.Store, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, nil, err
	}
	keyFile := filepath.Join(data, "keyset.json")
	keys, err := keyset.Load(keyFile)
	if errors.Is(err, os.ErrNotExist) {
		if keys, err = keyset.Create(); err == nil {
			err = keys.WriteFile(keyFile)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	store, err := pebblestore.Open(ctx, filepath.Join(data, "store"), nil)
	if err != nil {
		return nil, nil, err
	}
	m, err := sessiond.New(sessiond.Config{Store: store, Sealer: keys})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return m.As(sessiond.DefaultTenant, sessiond.Actor{Sub: "dev", Client: "sessiond-dev"}), store, nil
}

// fill stores sessions below data, as many at a time as the store likes best.
func (b *bench) fill(ctx context.Context, data string, f filling) (_ *stored, err error) {
	m, store, err := openStore(ctx, data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	long := f.n - f.brief
	s := &stored{ids: make([]string, long), subjects: max(1, long/perSubject)}
	began := time.Now()
	if err := createAll(ctx, m, 0, long, time.Time{}, s.ids); err != nil {
		return nil, err
	}
	if f.brief > 0 {
		s.ends = f.ends()
		if err := createAll(ctx, m, long, f.n, s.ends, nil); err != nil {
			return nil, err
		}
	}
	b.report.say("%d sessions stored in %v", f.n, time.Since(began).Round(time.Millisecond))
	return s, nil
}

// createAll creates the sessions with the numbers from first up to end, and
// notes their ids if ids is not nil.
func createAll(ctx context.Context, m *sessiond.Manager, first, end int, ends time.Time, ids []string) error {
	const writers = 256
	var next atomic.Int64
	next.Store(int64(first))
	work, ctx := errgroup.WithContext(ctx)
	for range writers {
		work.Go(func() error {
			for {
				i := int(next.Add(1) - 1)
				if i >= end {
					return nil
				}
				p := params(fmt.Sprintf("user-%d", i/perSubject))
				if !ends.IsZero() {
					left := time.Until(ends).Truncate(time.Second) + time.Second
					if left < 2*time.Second {
						return errors.New("storing the sessions took longer than foreseen")
					}
					p.ExpiresIn = &left
				}
				created, _, err := m.Create(ctx, p)
				if err != nil {
					return err
				}
				if ids != nil {
					ids[i] = string(created.ID)
				}
			}
		})
	}
	return work.Wait()
}

// params are those of the session that all rows use.
func params(subject string) sessiond.CreateParams {
	return sessiond.CreateParams{
		Subject: subject, Data: []byte(sessionData), Labels: map[string]string{"device": "phone", "client": "web"},
	}
}

// jsonSize is how long the answer to a GET of a session is.
func (s *server) jsonSize(ctx context.Context, id string) (int, error) {
	body, err := s.do(ctx, http.StatusOK, "GET", "/sessions/"+id, "")
	return len(body), err
}
