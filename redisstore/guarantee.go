package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"

	"sessiond.example/sessiond"
)

// A server is what a master says about itself.
type server struct {
	addr   string
	info   map[string]string
	config map[string]string // nil: it hides its settings
}

// settings are those that say what becomes of acknowledged writes.
var settings = []string{
	"maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save",
	"min-replicas-to-write", "min-replicas-max-lag", "cluster-allow-reads-when-down",
}

// masters asks all masters. Servers that don't answer are named, if there is another that does.
func (s *Store) masters(ctx context.Context) (found []server, silent []string, err error) {
	nodes := s.client.Nodes()
	for _, addr := range slices.Sorted(maps.Keys(nodes)) {
		srv, failed := s.ask(ctx, nodes[addr], addr)
		switch {
		case failed != nil:
			silent = append(silent, addr)
			err = failed
		case srv.info["role"] == "master":
			found = append(found, srv)
		}
	}
	if len(found) > 0 {
		err = nil
	} else if err == nil {
		err = unavailable(errors.New("no master among the servers"))
	}
	return found, silent, err
}

func (s *Store) ask(ctx context.Context, node valkey.Client, addr string) (server, error) {
	own, cancel := context.WithTimeout(ctx, s.target.timeout)
	defer cancel()
	srv := server{addr: addr, info: make(map[string]string)}
	text, err := node.Do(own, node.B().Info().Build()).ToString()
	if err != nil {
		return srv, s.readError(ctx, err)
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			srv.info[name] = value
		}
	}
	config, err := node.Do(own, node.B().ConfigGet().Parameter(settings...).Build()).AsStrMap()
	if err == nil && len(config) > 0 {
		srv.config = config
		return srv, nil
	}
	if _, refused := valkey.IsValkeyErr(err); err != nil && !refused {
		return srv, s.readError(ctx, err)
	}
	return srv, nil
}

// checkServers refuses servers on which the store would not work or not keep sessions.
func (s *Store) checkServers(ctx context.Context) error {
	masters, _, err := s.masters(ctx)
	if err != nil {
		return err
	}
	for _, m := range masters {
		version := m.info["redis_version"]
		if major, _ := strconv.Atoi(strings.Split(version, ".")[0]); major < 7 {
			return fmt.Errorf("%s runs version %.20s; Redis 7.0 or Valkey 7.2 is the oldest that will do", m.addr, version)
		}
		if s.target.kind != cluster && m.info["cluster_enabled"] == "1" {
			return fmt.Errorf("%s is part of a cluster; use a redis+cluster:// URL", m.addr)
		}
		if policy := m.policy(); policy != "noeviction" {
			return fmt.Errorf("%s has maxmemory-policy %.40s, by which sessions and revocations vanish when memory "+
				"is full; set it to noeviction", m.addr, policy)
		}
	}
	return nil
}

func (m *server) policy() string {
	if p := m.config["maxmemory-policy"]; p != "" {
		return p
	}
	return m.info["maxmemory_policy"]
}

// Guarantee tells what the servers keep of acknowledged writes, by their settings of
// now. It is for masters only: that replicas have the same settings is up to the operator. It
// returns an error that wraps [sessiond.ErrUnavailable] when no master answers.
func (s *Store) Guarantee(ctx context.Context) (sessiond.Guarantee, error) {
	if err := s.begin(ctx); err != nil {
		return sessiond.Guarantee{}, err
	}
	defer s.end()
	masters, silent, err := s.masters(ctx)
	if err != nil {
		return sessiond.Guarantee{}, err
	}
	g := sessiond.Guarantee{Class: sessiond.Durable}
	for _, addr := range silent {
		g.Findings = append(g.Findings, addr+" did not answer.")
	}
	for _, m := range masters {
		class, findings := m.judge(s.target)
		if !class.AtLeast(g.Class) {
			g.Class = class
		}
		for _, f := range findings {
			g.Findings = append(g.Findings, m.addr+" "+f)
		}
	}
	if s.target.kind != single {
		g.Findings = append(g.Findings, s.failoverFindings(masters)...)
		if g.Class.AtLeast(sessiond.BestEffort) {
			g.Class = sessiond.BestEffort
		}
	}
	return g, nil
}

// judge is the class of one server by itself.
func (m *server) judge(t *target) (sessiond.Durability, []string) {
	if policy := m.policy(); policy != "noeviction" {
		return sessiond.Ephemeral, []string{"has maxmemory-policy " + policy +
			": sessions and revocations vanish when memory is full; set it to noeviction."}
	}
	if m.config == nil {
		return sessiond.Unverified, []string{"refuses CONFIG GET, so its settings can't be verified."}
	}
	class, findings := sessiond.Durable, []string(nil)
	worse := func(to sessiond.Durability, finding string) {
		if !to.AtLeast(class) {
			class = to
		}
		findings = append(findings, finding)
	}
	switch {
	case m.config["appendonly"] != "yes" && m.config["save"] == "":
		worse(sessiond.Ephemeral, "keeps nothing on disk; set appendonly yes and appendfsync always.")
	case m.config["appendonly"] != "yes":
		worse(sessiond.BestEffort, "has snapshots only, so a crash undoes what came after the last one; "+
			"set appendonly yes and appendfsync always.")
	case m.config["appendfsync"] != "always" && !t.aof:
		worse(sessiond.BestEffort, "has appendfsync "+m.config["appendfsync"]+
			", so a crash may undo the latest writes; set it to always.")
	case m.config["no-appendfsync-on-rewrite"] == "yes" && !t.aof:
		worse(sessiond.BestEffort, "has no-appendfsync-on-rewrite yes, so a crash during a rewrite may undo "+
			"the latest writes; set it to no.")
	}
	if n := m.info["connected_slaves"]; n != "" && n != "0" && t.kind == single {
		worse(sessiond.BestEffort, "has "+n+" replicas: if one is promoted, the latest writes may be lost.")
	}
	return class, findings
}

// failoverFindings are about what a failover may undo.
func (s *Store) failoverFindings(masters []server) []string {
	findings := []string{"A failover may undo the latest writes, revocations too, since a replica is promoted " +
		"whether it has them or not."}
	if !s.target.waits() {
		findings = append(findings, "Writes don't wait for replicas; wait_replicas or wait_aof makes a loss less likely.")
	}
	for _, m := range masters {
		if n := m.config["min-replicas-to-write"]; m.config != nil && (n == "" || n == "0") {
			findings = append(findings, m.addr+" takes writes without a replica, also when it is cut off; "+
				"set min-replicas-to-write to 1 or more.")
		}
		if m.config["cluster-allow-reads-when-down"] == "yes" {
			findings = append(findings, m.addr+" answers reads when the cluster is down; "+
				"set cluster-allow-reads-when-down to no.")
		}
	}
	return findings
}
