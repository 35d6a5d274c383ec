package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// behindProxy opens a store on the shared server through a proxy of the test's own.
func behindProxy(t *testing.T, timeout time.Duration) (*redisstore.Store, *testserver.Proxy) {
	t.Helper()
	p := testserver.NewProxy(t, testserver.SharedRedis(t).Addr())
	url := withPrefix("redis://" + p.Addr())
	s := open(t, url, &redisstore.Options{Timeout: timeout})
	t.Cleanup(func() { p.Heal(t) }) // before the store closes
	return s, p
}

// writes are one of each kind, on sessions made by prepare.
func writes(n int) map[string]func(context.Context, *redisstore.Store) error {
	id := func(name string) sessiond.Key { return key(fmt.Sprint(name, n)) }
	return map[string]func(context.Context, *redisstore.Store) error{
		"create": func(ctx context.Context, s *redisstore.Store) error {
			_, err := s.Create(ctx, session(string(id("create").ID), ""))
			return err
		},
		"touch": func(ctx context.Context, s *redisstore.Store) error {
			_, err := s.Touch(ctx, id("touch"), sessiond.Incarnation{}, time.Time{})
			return err
		},
		"update": func(ctx context.Context, s *redisstore.Store) error {
			_, err := s.Update(ctx, id("update"), bump)
			return err
		},
		"erase": func(ctx context.Context, s *redisstore.Store) error {
			return s.Erase(ctx, id("erase"), func(time.Time, *sessiond.Record) ([]sessiond.Event, error) { return nil, nil })
		},
	}
}

func prepare(t *testing.T, s *redisstore.Store, n int) {
	for _, name := range []string{"touch", "update", "erase"} {
		create(t, s, fmt.Sprint(name, n), "")
	}
}

// requests is how many requests a write makes before the one that writes.
func requests(name string) int {
	if name == "update" || name == "erase" {
		return 1
	}
	return 0
}

// connected makes the client use all of its connections, of which scripts take any, so
// that the next request is not a greeting.
func connected(t *testing.T, s *redisstore.Store, id string) {
	t.Helper()
	for range 60 {
		if _, err := s.Touch(t.Context(), key(id), sessiond.Incarnation{}, time.Time{}); err != nil {
			t.Fatalf("Touch of %s: %v", id, err)
		}
	}
}

func TestLostReplies(t *testing.T) {
	t.Parallel()
	s, p := behindProxy(t, time.Second)
	prepare(t, s, 9)
	for name, write := range writes(9) { // the server knows the scripts
		if err := write(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for n, cut := range []func(skip int){p.CutAfterRequest, p.CutBeforeRequest} {
		prepare(t, s, n)
		for name, write := range writes(n) {
			connected(t, s, fmt.Sprint("update", n))
			cut(requests(name))
			err := write(t.Context(), s)
			wantErr(t, name+" whose reply was lost", err, sessiond.ErrUnknown)
			if !p.Cut() {
				t.Errorf("%s: the cut came nowhere", name)
			}
			p.Heal(t)
		}
		if applied, want := get(t, s, fmt.Sprint("update", n)).Version == 2, n == 0; applied != want {
			t.Errorf("the update was applied: %t, want %t", applied, want)
		}
	}
	connected(t, s, "update0")
	p.CutAfterRequest(0)
	_, err := s.Get(t.Context(), key("update0"))
	wantErr(t, "Get whose reply was lost", err, sessiond.ErrUnavailable)
	p.Heal(t)
	get(t, s, "update0")
}

func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	s, p := behindProxy(t, time.Second)
	prepare(t, s, 0)
	p.SetEnabled(t, false)
	eventually(t, "the loss of the connections", func() bool {
		_, err := s.Get(t.Context(), key("update0"))
		return err != nil && strings.Contains(err.Error(), "refused")
	})
	for name, write := range writes(0) {
		wantErr(t, name+" without a server", write(t.Context(), s), sessiond.ErrUnavailable)
	}
	p.SetEnabled(t, true)
	began := time.Now()
	for name, write := range writes(0) {
		if err := write(t.Context(), s); err != nil {
			t.Errorf("%s when the server is back: %v", name, err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the store was back %v after the server", took)
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	const timeout = 150 * time.Millisecond
	s, p := behindProxy(t, timeout)
	prepare(t, s, 0)
	p.BlackHole()
	_, err := s.Get(t.Context(), key("update0"))
	wantErr(t, "Get from a silent server", err, sessiond.ErrUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), timeout/5)
	defer cancel()
	_, err = s.Get(ctx, key("update0"))
	wantErr(t, "Get with less patience", err, context.DeadlineExceeded)
	began := time.Now()
	ctx, cancel = context.WithTimeout(t.Context(), timeout/5)
	defer cancel()
	_, err = s.Create(ctx, session("create0", ""))
	if !errors.Is(err, sessiond.ErrUnknown) && !errors.Is(err, sessiond.ErrUnavailable) {
		t.Errorf("Create on a silent server: %v", err)
	}
	if took := time.Since(began); errors.Is(err, sessiond.ErrUnknown) && took < timeout {
		t.Errorf("a write that was sent was waited for %v only", took)
	}
	p.Heal(t)
	began = time.Now()
	eventually(t, "recovery", func() bool {
		_, err := s.Get(t.Context(), key("update0"))
		return err == nil
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the store was back %v after the network", took)
	}
}

func TestUnknownScripts(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	f := end(t, s)
	for i := range 3 {
		do(t, r, "SCRIPT", "FLUSH")
		id := fmt.Sprint("s", i)
		create(t, s, id, "alice")
		do(t, r, "SCRIPT", "FLUSH")
		update(t, s, id, bump)
		do(t, r, "SCRIPT", "FLUSH")
		get(t, s, id)
	}
	do(t, r, "SCRIPT", "FLUSH")
	if got := list(t, s, sessiond.Filter{}); len(got) != 3 {
		t.Errorf("listed %v", got)
	}
	if got := len(batch(t, s, f).Events); got != 6 {
		t.Errorf("%d events of 6 changes", got)
	}
}

// TestFullMemory has the server refuse what needs more memory. Ends go on.
func TestFullMemory(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	for _, id := range ids(5) {
		create(t, s, id, "alice")
	}
	do(t, r, "CONFIG", "SET", "maxmemory", "1mb")
	f := end(t, s)
	before := get(t, s, "s00")
	for _, subject := range []string{"", "alice"} {
		_, err := s.Create(t.Context(), session("new", subject))
		wantErr(t, "Create without memory", err, sessiond.ErrUnavailable)
	}
	_, err := s.Update(t.Context(), key("s00"), bump)
	wantErr(t, "Update without memory", err, sessiond.ErrUnavailable)
	if after := get(t, s, "s00"); after.Version != before.Version {
		t.Errorf("version %d became %d", before.Version, after.Version)
	}
	if got := len(batch(t, s, f).Events); got != 0 {
		t.Errorf("%d events of refused writes", got)
	}
	update(t, s, "s01", revoke)
	if _, err := s.Touch(t.Context(), key("s02"), sessiond.Incarnation{}, time.Time{}); err != nil {
		t.Errorf("Touch without memory: %v", err)
	}
	sweep(t, s)
	do(t, r, "CONFIG", "SET", "maxmemory", "0")
	create(t, s, "new", "alice")
	if got := list(t, s, sessiond.Filter{Subject: "alice", ActiveOnly: true}); len(got) != 5 {
		t.Errorf("live sessions: %v", got)
	}
}

// TestDemotedServer has the server become a replica, as behind an address that moves.
func TestDemotedServer(t *testing.T) {
	t.Parallel()
	old := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, old.URL(), nil)
	prepare(t, s, 0)
	do(t, old, "REPLICAOF", "127.0.0.1", "1")
	for name, write := range writes(0) {
		wantErr(t, name+" on a replica", write(t.Context(), s), sessiond.ErrUnavailable)
	}
	do(t, old, "REPLICAOF", "NO", "ONE")
	eventually(t, "the next write", func() bool {
		_, err := s.Update(t.Context(), key("update0"), bump)
		return err == nil
	})
}

// TestRestart has a server lose nothing in a crash: readers of the feed go on.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	create(t, s, "s1", "alice")
	f := end(t, s)
	update(t, s, "s1", bump)
	r.Kill()
	_, err := s.Create(t.Context(), session("s2", ""))
	if !errors.Is(err, sessiond.ErrUnavailable) && !errors.Is(err, sessiond.ErrUnknown) {
		t.Errorf("Create without a server: %v", err)
	}
	r.Start()
	began := time.Now()
	eventually(t, "recovery", func() bool {
		_, err := s.Get(t.Context(), key("s1"))
		return err == nil
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the store was back %v after the server", took)
	}
	update(t, s, "s1", revoke)
	b := batch(t, s, f)
	if b.Reset || len(b.Events) != 2 {
		t.Errorf("after a restart that lost nothing: %+v", b)
	}
}

// TestWrongPassword requires that errors of a refused login have no password.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	do(t, r, "CONFIG", "SET", "requirepass", "right")
	for _, url := range []string{"redis://:hunter2@" + r.Addr(), "redis+cluster://:hunter2@" + r.Addr()} {
		_, err := redisstore.Open(t.Context(), url, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open with a wrong password: %v", err)
		}
	}
	create(t, open(t, "redis://:right@"+r.Addr(), nil), "s1", "")
}
