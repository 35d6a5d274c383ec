package pgstore

import (
	"context"
	"encoding/json"
	"fmt"

	"sessiond.example/sessiond"
)

// Guarantee tells what the server keeps, by its settings for this store's sessions and by
// the standbys that are connected now. What a failover does is not in its settings:
// the class Replicated holds when only a standby that confirmed every commit is
// promoted.
func (s *Store) Guarantee(ctx context.Context) (sessiond.Guarantee, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Guarantee{}, err
	}
	defer s.gate.RUnlock()
	var f facts
	err := s.read(ctx, guaranteeSQL.args(), func(r *row) error {
		f.standby = r.bool()
		settings := r.bytes()
		f.standbys, f.hidden, f.confirming = int(r.int()), int(r.int()), int(r.int())
		return json.Unmarshal(settings, &f.settings)
	})
	if err != nil {
		return sessiond.Guarantee{}, err
	}
	return f.guarantee(), nil
}

// facts are what a guarantee follows from.
type facts struct {
	standby    bool // the server is one itself
	settings   map[string]string
	standbys   int // that are connected
	hidden     int // of which we may not see the state
	confirming int // that have to confirm commits
}

func (f *facts) guarantee() sessiond.Guarantee {
	if f.standby {
		return sessiond.Guarantee{Class: sessiond.Unverified, Findings: []string{"the server is a standby"}}
	}
	for _, name := range []string{
		"fsync", "full_page_writes", "synchronous_commit", "data_sync_retry", "synchronous_standby_names",
	} {
		if _, ok := f.settings[name]; !ok {
			return sessiond.Guarantee{Class: sessiond.Unverified,
				Findings: []string{fmt.Sprintf("the server does not show its setting %s", name)}}
		}
	}
	g := sessiond.Guarantee{Class: sessiond.Durable}
	for _, bad := range []struct{ name, value, why string }{
		{"fsync", "off", "a crash of the machine may lose everything"},
		{"full_page_writes", "off", "a crash of the machine may damage what is stored"},
		{"synchronous_commit", "off", "a crash may undo the latest writes"},
		{"data_sync_retry", "on", "a failed write to the disk may go unnoticed"},
	} {
		if f.settings[bad.name] == bad.value {
			g.Class = sessiond.BestEffort
			g.Findings = append(g.Findings, fmt.Sprintf("%s is %s: %s", bad.name, bad.value, bad.why))
		}
	}
	if lacks := f.lacksReplication(); lacks != "" {
		g.Findings = append(g.Findings, lacks)
	} else if g.Class == sessiond.Durable {
		g.Class = sessiond.Replicated
	}
	return g
}

// lacksReplication is why the loss of the machine may undo writes, empty if it does not.
func (f *facts) lacksReplication() string {
	commit := f.settings["synchronous_commit"]
	switch {
	case f.settings["synchronous_standby_names"] == "":
		return "synchronous_standby_names is empty: the loss of the machine loses the latest writes, or all"
	case commit != "on" && commit != "remote_apply":
		return fmt.Sprintf("synchronous_commit is %s: commits do not wait until a standby has them on disk", commit)
	case f.confirming > 0:
		return ""
	case f.hidden > 0:
		return "the role may not see the state of standbys: grant it pg_read_all_stats"
	default:
		return "no synchronous standby is connected"
	}
}
