package pgstore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

var kills = flag.Int("pgstore.kills", 3, "how often TestKill kills the server")

// A ledger is what one worker was told about its sessions.
type ledger struct {
	versions map[sessiond.ID]int64 // the least that must be there
	revoked  map[sessiond.ID]bool
	events   map[string]bool // that must come
	writes   int
	unknown  int
}

// TestKill kills the whole server again and again while sessions are created, changed and
// revoked, and a reader follows the feed. Nothing that was acknowledged is lost, no end is
// undone, and every event comes.
func TestKill(t *testing.T) {
	t.Parallel()
	pg := testserver.StartPostgres(t, testserver.PostgresOptions{})
	url := pg.NewDatabase(t)
	migrate(t, url)
	s := open(t, url, &pgstore.Options{Timeout: 2 * time.Second})
	at := end(t, s)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var done atomic.Int64
	ledgers := make([]ledger, 4)
	var workers sync.WaitGroup
	for w := range ledgers {
		workers.Go(func() { ledgers[w].work(ctx, t, s, w, &done) })
	}
	var seen sync.Map
	following := make(chan struct{})
	readCtx, stopReading := context.WithCancel(t.Context())
	defer stopReading()
	go func() {
		defer close(following)
		follow(readCtx, t, s, at, &seen)
	}()
	for range *kills {
		for before := done.Load(); done.Load() < before+200; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		pg.Kill()
		pg.Start()
	}
	stop()
	workers.Wait()
	var writes, unknown, sessions int
	for i := range ledgers {
		l := &ledgers[i]
		writes, unknown, sessions = writes+l.writes, unknown+l.unknown, sessions+len(l.versions)
		l.check(t, s)
		for deadline := time.Now().Add(10 * time.Second); ; {
			missing := l.missing(&seen)
			if missing == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("event %s did not come", missing)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	stopReading()
	<-following
	t.Logf("%d kills, %d sessions, %d writes acknowledged, %d unknown", *kills, sessions, writes, unknown)
	if unknown == 0 {
		t.Error("no kill met a write")
	}
}

func (l *ledger) work(ctx context.Context, t *testing.T, s *pgstore.Store, w int, done *atomic.Int64) {
	l.versions, l.revoked, l.events = map[sessiond.ID]int64{}, map[sessiond.ID]bool{}, map[string]bool{}
	for i := 0; ctx.Err() == nil; i++ {
		c := creation(fmt.Sprintf("s-%d-%d", w, i))
		k := c.Record.Key
		res, err := s.Create(t.Context(), c)
		if !l.note(t, res.Record, err) {
			continue
		}
		done.Add(1)
		if res, err = s.Update(t.Context(), k, bump); !l.note(t, res.Record, err) {
			continue
		}
		_, err = s.Touch(t.Context(), k, sessiond.Incarnation{}, time.Time{})
		l.note(t, nil, err)
		if i%2 == 0 {
			res, err = s.Update(t.Context(), k, func(now time.Time, r *sessiond.Record) (sessiond.Change, error) {
				r.End(now, sessiond.EndRevoked, "", sessiond.Actor{})
				e := r.EndEvent("")
				return sessiond.Change{Event: &e}, nil
			})
			if l.note(t, res.Record, err) {
				l.revoked[k.ID] = true
			}
		}
	}
}

// note takes down an acknowledged write, and judges the error of any other.
func (l *ledger) note(t *testing.T, r *sessiond.Record, err error) bool {
	switch {
	case err == nil:
		l.writes++
		if r != nil {
			l.versions[r.ID] = r.Version
			l.events[r.Event("", sessiond.Actor{}, "").ID] = true
		}
		return true
	case errors.Is(err, sessiond.ErrUnknown):
		l.unknown++
	case errors.Is(err, sessiond.ErrUnavailable):
		time.Sleep(time.Millisecond)
	default:
		t.Errorf("unexpected error: %v", err)
	}
	return false
}

func (l *ledger) check(t *testing.T, s *pgstore.Store) {
	for id, version := range l.versions {
		res, err := s.Get(t.Context(), key(string(id)))
		if err != nil {
			t.Errorf("%s of version %d is lost: %v", id, version, err)
			continue
		}
		if res.Record.Version < version {
			t.Errorf("%s has version %d, acknowledged was %d", id, res.Record.Version, version)
		}
		if l.revoked[id] && res.Record.EndReason != sessiond.EndRevoked {
			t.Errorf("the end of %s was undone", id)
		}
	}
}

func (l *ledger) missing(seen *sync.Map) string {
	for id := range l.events {
		if _, ok := seen.Load(id); !ok {
			return id
		}
	}
	return ""
}

// follow reads the feed until ctx ends. A killed server keeps its feed: there is no Reset.
func follow(ctx context.Context, t *testing.T, s *pgstore.Store, at sessiond.Position, seen *sync.Map) {
	last := make(map[sessiond.ID]int64)
	for ctx.Err() == nil {
		q := sessiond.EventQuery{Tenant: tenant, After: at, Limit: 50, Wait: time.Second}
		batch, err := s.Events(ctx, q)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if batch.Reset {
			t.Error("the feed was reset")
		}
		for _, e := range batch.Events {
			seen.Store(e.ID, true)
			if e.Version <= last[e.SessionID] {
				t.Errorf("version %d of %s came after %d", e.Version, e.SessionID, last[e.SessionID])
			}
			last[e.SessionID] = e.Version
		}
		at = batch.Position
	}
}
