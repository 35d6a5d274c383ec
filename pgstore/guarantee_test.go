package pgstore_test

import (
	"maps"
	"testing"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/pgstore"
)

func TestGuarantee(t *testing.T) {
	t.Parallel()
	safe := map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_sync_retry": "off",
		"synchronous_standby_names": "",
	}
	with := func(kv ...string) map[string]string {
		m := maps.Clone(safe)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	hidden := maps.Clone(safe)
	delete(hidden, "fsync")
	const standbys = "synchronous_standby_names"
	for _, tt := range []struct {
		name                          string
		standby                       bool
		settings                      map[string]string
		connected, hidden, confirming int
		class                         sessiond.Durability
		findings                      int
	}{
		{"alone", false, safe, 0, 0, 0, sessiond.Durable, 1},
		{"replicated", false, with(standbys, "a"), 1, 0, 1, sessiond.Replicated, 0},
		{"applied", false, with(standbys, "a", "synchronous_commit", "remote_apply"), 1, 0, 1, sessiond.Replicated, 0},
		{"not on disk there", false, with(standbys, "a", "synchronous_commit", "remote_write"), 1, 0, 1, sessiond.Durable, 1},
		{"local", false, with(standbys, "a", "synchronous_commit", "local"), 1, 0, 1, sessiond.Durable, 1},
		{"asynchronous standby", false, safe, 1, 0, 0, sessiond.Durable, 1},
		{"standby away", false, with(standbys, "a"), 0, 0, 0, sessiond.Durable, 1},
		{"standby hidden", false, with(standbys, "a"), 1, 1, 0, sessiond.Durable, 1},
		{"fsync", false, with("fsync", "off", standbys, "a"), 1, 0, 1, sessiond.BestEffort, 1},
		{"full pages", false, with("full_page_writes", "off"), 0, 0, 0, sessiond.BestEffort, 2},
		{"commit", false, with("synchronous_commit", "off"), 0, 0, 0, sessiond.BestEffort, 2},
		{"retry", false, with("data_sync_retry", "on"), 0, 0, 0, sessiond.BestEffort, 2},
		{"setting hidden", false, hidden, 0, 0, 0, sessiond.Unverified, 1},
		{"is a standby", true, safe, 0, 0, 0, sessiond.Unverified, 1},
	} {
		g := pgstore.GuaranteeOf(tt.standby, tt.settings, tt.connected, tt.hidden, tt.confirming)
		if g.Class != tt.class || len(g.Findings) != tt.findings {
			t.Errorf("%s: %+v, want %s with %d findings", tt.name, g, tt.class, tt.findings)
		}
	}
}

// TestGuaranteeAsks asks real servers: the fast one of the tests, and one with safe settings.
func TestGuaranteeAsks(t *testing.T) {
	t.Parallel()
	g, err := open(t, newDatabase(t), nil).Guarantee(t.Context())
	if err != nil || g.Class != sessiond.BestEffort {
		t.Errorf("a server without fsync: %+v, %v", g, err)
	}
	url := testserver.StartPostgres(t, testserver.PostgresOptions{}).NewDatabase(t)
	migrate(t, url)
	if g, err = open(t, url, nil).Guarantee(t.Context()); err != nil || g.Class != sessiond.Durable {
		t.Errorf("a server with safe settings: %+v, %v", g, err)
	}
}
