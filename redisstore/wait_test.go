package redisstore_test

import (
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
)

// TestWaitForReplicas has a replica that stops confirming.
func TestWaitForReplicas(t *testing.T) {
	t.Parallel()
	set := testserver.StartSentinel(t, testserver.RedisOptions{})
	master, replica := set.Servers[0], set.Servers[1]
	for _, s := range set.Sentinels {
		s.Stop() // nobody is promoted in this test
	}
	s := open(t, withOption(master.URL(), "wait_replicas=1&wait_timeout=100ms"), nil)
	create(t, s, "s1", "alice")
	create(t, s, "s2", "")
	update(t, s, "s1", bump)
	replica.Pause()
	_, err := s.Update(t.Context(), key("s1"), bump)
	wantErr(t, "Update that no replica has", err, sessiond.ErrUnknown)
	_, err = s.Create(t.Context(), session("s3", ""))
	wantErr(t, "Create that no replica has", err, sessiond.ErrUnknown)
	_, err = s.Create(t.Context(), session("s2", ""))
	wantErr(t, "refused Create", err, sessiond.ErrExists) // it has changed nothing
	_, err = s.Create(t.Context(), session("s4", "alice"))
	wantErr(t, "Create with an entry that no replica has", err, sessiond.ErrUnavailable)
	if got := get(t, s, "s1").Version; got != 3 {
		t.Errorf("version %d, want 3: the master has the update", got)
	}
	replica.Resume()
	eventually(t, "confirmation", func() bool {
		_, err := s.Touch(t.Context(), key("s1"), sessiond.Incarnation{}, time.Time{})
		return err == nil
	})
	g, err := s.Guarantee(t.Context())
	if err != nil || g.Class != sessiond.BestEffort {
		t.Errorf("with a replica: %+v, %v", g, err)
	}
}

// TestWaitForDisks asks a server that has no WAITAOF: the outcome is unknown, never a success.
func TestWaitForDisks(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	if v, ok := do(t, r, "COMMAND", "INFO", "WAITAOF").([]any); ok && len(v) == 1 && v[0] != nil {
		create(t, open(t, withOption(r.URL(), "wait_aof=0"), nil), "s1", "")
		return
	}
	plain := open(t, r.URL(), nil)
	s := open(t, withOption(r.URL(), "wait_replicas=0"), nil)
	create(t, s, "s1", "")
	s.SetWaitAOF()
	_, err := s.Update(t.Context(), key("s1"), bump)
	wantErr(t, "Update without WAITAOF", err, sessiond.ErrUnknown)
	if got := get(t, plain, "s1").Version; got != 2 {
		t.Errorf("version %d", got)
	}
}

func TestSentinelFeed(t *testing.T) {
	t.Parallel()
	set := testserver.StartSentinel(t, testserver.RedisOptions{})
	s := open(t, set.URL(), nil)
	create(t, s, "s1", "alice")
	f := end(t, s)
	g, err := s.Guarantee(t.Context())
	if err != nil || g.Class != sessiond.BestEffort || len(g.Findings) == 0 {
		t.Errorf("with sentinels: %+v, %v", g, err)
	}
	time.Sleep(100 * time.Millisecond) // the replica has it
	set.Failover()
	began := time.Now()
	eventually(t, "recovery", func() bool {
		_, err := s.Update(t.Context(), key("s1"), bump)
		return err == nil
	})
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the store was back %v after the failover", took)
	}
	if b := batch(t, s, f); b.Reset || len(b.Events) == 0 {
		t.Errorf("a failover that lost nothing: %+v", b)
	}
}

func TestGuarantee(t *testing.T) {
	t.Parallel()
	r := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, r.URL(), nil)
	for _, tt := range []struct {
		what     string
		set      [][2]string
		want     sessiond.Durability
		findings int
	}{
		{"as it should be", nil, sessiond.Durable, 0},
		{"everysec", [][2]string{{"appendfsync", "everysec"}}, sessiond.BestEffort, 1},
		{"no fsync", [][2]string{{"appendfsync", "no"}}, sessiond.BestEffort, 1},
		{"no fsync on rewrite", [][2]string{{"no-appendfsync-on-rewrite", "yes"}}, sessiond.BestEffort, 1},
		{"snapshots", [][2]string{{"appendonly", "no"}, {"save", "60 1"}}, sessiond.BestEffort, 1},
		{"nothing", [][2]string{{"appendonly", "no"}, {"save", ""}}, sessiond.Ephemeral, 1},
		{"eviction", [][2]string{{"maxmemory-policy", "allkeys-lru"}}, sessiond.Ephemeral, 1},
	} {
		for _, kv := range append([][2]string{
			{"appendonly", "yes"}, {"appendfsync", "always"}, {"no-appendfsync-on-rewrite", "no"}, {"save", ""},
			{"maxmemory-policy", "noeviction"},
		}, tt.set...) {
			do(t, r, "CONFIG", "SET", kv[0], kv[1])
		}
		g, err := s.Guarantee(t.Context())
		if err != nil || g.Class != tt.want || len(g.Findings) != tt.findings {
			t.Errorf("%s: %+v, %v, want %s", tt.what, g, err, tt.want)
		}
	}
	do(t, r, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	do(t, r, "ACL", "SETUSER", "default", "-config")
	if g, err := s.Guarantee(t.Context()); err != nil || g.Class != sessiond.Unverified {
		t.Errorf("without CONFIG: %+v, %v", g, err)
	}
	r.Kill()
	_, err := s.Guarantee(t.Context())
	wantErr(t, "Guarantee without a server", err, sessiond.ErrUnavailable)
}
