package pgstore_test

import (
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pgstore"
)

// TestTouchUnderWay has a touch that read its clock before the deadline and commits after it.
// Readers in between must not call the session ended, because it will be live again.
func TestTouchUnderWay(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(s *pgstore.Store) (*sessiond.Record, error){
		"Get": func(s *pgstore.Store) (*sessiond.Record, error) {
			res, err := s.Get(t.Context(), key("s1"))
			return res.Record, err
		},
		"List": func(s *pgstore.Store) (*sessiond.Record, error) {
			q := sessiond.Query{Tenant: tenant, Limit: 10, Filter: sessiond.Filter{ActiveOnly: true}}
			page, err := s.List(t.Context(), q)
			if err != nil || len(page.Records) != 1 {
				return nil, err
			}
			return page.Records[0], nil
		},
		"Scan": func(s *pgstore.Store) (*sessiond.Record, error) {
			records, err := s.Scan(t.Context(), sessiond.Key{}, 10)
			if err != nil || len(records) != 1 {
				return nil, err
			}
			return records[0], nil
		},
		"Touch": func(s *pgstore.Store) (*sessiond.Record, error) {
			res, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{})
			return res.Record, err
		},
		"Update": func(s *pgstore.Store) (*sessiond.Record, error) {
			res, err := s.Update(t.Context(), key("s1"), bump)
			return res.Record, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			c := new(clock)
			s := open(t, url, &pgstore.Options{Skew: c.sinceEpoch})
			create(t, s, "s1")
			touch := begin(t, url)
			const sql = "UPDATE sessiond.session SET last_active_at = last_active_at + idle_timeout - 1"
			if _, err := touch.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
			c.advance(31 * time.Minute)
			type answer struct {
				rec *sessiond.Record
				err error
			}
			answered := make(chan answer, 1)
			go func() {
				rec, err := read(s)
				answered <- answer{rec, err}
			}()
			select {
			case a := <-answered:
				t.Fatalf("answered before the touch is decided: %+v, %v", a.rec, a.err)
			case <-time.After(100 * time.Millisecond):
			}
			p := sessiond.SweepParams{Limit: 10, Retention: time.Hour, EventRetention: time.Hour, MaxEvents: 100}
			if res, err := s.Sweep(t.Context(), p); err != nil || res.Idle != 0 {
				t.Errorf("sweep: %+v, %v", res, err)
			}
			commit(t, touch)
			if a := <-answered; a.err != nil || a.rec == nil || !a.rec.EndedAt.IsZero() {
				t.Errorf("after a touch that was in time: %+v, %v", a.rec, a.err)
			}
		})
	}
}

// TestLimitUnderWay counts a session that a touch under way keeps alive.
func TestLimitUnderWay(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	c := new(clock)
	s := open(t, url, &pgstore.Options{Skew: c.sinceEpoch})
	create(t, s, "s1")
	touch := begin(t, url)
	if _, err := touch.Exec(t.Context(),
		"UPDATE sessiond.session SET last_active_at = last_active_at + idle_timeout - 1"); err != nil {
		t.Fatal(err)
	}
	c.advance(31 * time.Minute)
	done := make(chan error, 1)
	go func() {
		second := creation("s2")
		second.Limit.Max = 1
		_, err := s.Create(t.Context(), second)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("answered before the touch is decided: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	commit(t, touch)
	if err := <-done; err == nil {
		t.Error("the subject has two live sessions, its limit is one")
	}
}
