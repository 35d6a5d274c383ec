package pgstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

// TestRoundTrips counts requests to the server.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	pg := testserver.SharedPostgres(t)
	url := newDatabase(t)
	proxy := testserver.NewProxy(t, pg.Addr())
	s := open(t, testserver.URLThrough(t, url, proxy.Addr())+"&pool_max_conns=1", &pgstore.Options{NoHints: true})
	n := 0
	for _, tt := range []struct {
		name string
		want int64
		do   func() error
	}{
		{"Create", 1, func() error {
			n++
			_, err := s.Create(t.Context(), creation(fmt.Sprint("s", n)))
			return err
		}},
		{"Get", 1, func() error {
			_, err := s.Get(t.Context(), key("s1"))
			return err
		}},
		{"Touch", 1, func() error {
			_, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{})
			return err
		}},
		{"Update", 2, func() error {
			_, err := s.Update(t.Context(), key("s1"), bump)
			return err
		}},
		{"List", 1, func() error {
			_, err := s.List(t.Context(), sessiond.Query{Tenant: tenant, Limit: 10})
			return err
		}},
		{"Stats", 1, func() error {
			_, err := s.Stats(t.Context())
			return err
		}},
		{"Events", 1, func() error {
			_, err := s.Events(t.Context(), sessiond.EventQuery{Tenant: tenant, Limit: 10})
			return err
		}},
	} {
		if err := tt.do(); err != nil { // prepares the statement
			t.Fatal(err)
		}
		before := proxy.Requests()
		for range 3 {
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
		}
		if got := proxy.Requests() - before; got != 3*tt.want {
			t.Errorf("3 times %s takes %d requests, want %d", tt.name, got, 3*tt.want)
		}
	}
}

// TestTouchIsHot touches sessions until each has left its first place: no index gets an
// entry. An update that changes nothing of an index is as cheap.
func TestTouchIsHot(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := open(t, url, nil)
	const sessions, touches = 20, 10
	for i := range sessions {
		create(t, s, fmt.Sprint("s", i))
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < sessions; i += 4 {
				k := key(fmt.Sprint("s", i))
				for n := range touches {
					time.Sleep(time.Millisecond) // or there is nothing to record
					if _, err := s.Touch(t.Context(), k, sessiond.Incarnation{}, time.Time{}); err != nil {
						t.Error(err)
					}
					if n%2 == 0 {
						continue
					}
					if _, err := s.Update(t.Context(), k, bump); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil { // the connections' processes report when they end
		t.Fatal(err)
	}
	c := connect(t, url)
	var all, hot int
	for range 200 {
		const ask = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'session'"
		if err := c.QueryRow(t.Context(), ask).Scan(&all, &hot); err != nil {
			t.Fatal(err)
		}
		if all >= sessions*touches*3/2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if all != sessions*touches*3/2 || hot < all*9/10 {
		t.Errorf("of %d updates %d were heap-only, want nearly all of %d", all, hot, sessions*touches*3/2)
	}
}
