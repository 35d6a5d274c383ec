package testserver

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// masters is how many masters a cluster has; every one has a replica.
const masters = 3

// slots is the number of hash slots of a Redis cluster.
const slots = 16384

// clusterTime bounds how long a cluster may take to agree on something.
const clusterTime = 30 * time.Second

// A RedisCluster is a cluster of three masters and three replicas. It takes a
// master for dead after two seconds of silence.
type RedisCluster struct {
	nodes   []*Redis // the masters first, then their replicas in the same order
	ids     []string // of the nodes, in the same order
	proxies []*Proxy // of the nodes when clients go through proxies
	t       testing.TB
}

// RedisClusterOptions are the options of [StartRedisCluster].
type RedisClusterOptions struct {
	// Settings are directives as in redis.conf for every node. They win over
	// those that the package sets.
	Settings map[string]string
	// Proxied puts a proxy before each node. The cluster tells its clients the
	// addresses of the proxies. Replication goes through them too, but their
	// faults do not touch it.
	Proxied bool
}

// SharedRedisCluster returns the cluster of the test process. It keeps nothing
// on disk, and can't be disturbed.
func SharedRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	return sharedRedisCluster.get(t, func() (*RedisCluster, error) { return newCluster(nil, volatile) })
}

// StartRedisCluster starts a cluster for this test alone.
func StartRedisCluster(t testing.TB, opts RedisClusterOptions) *RedisCluster {
	t.Helper()
	var proxies []*Proxy
	if opts.Proxied {
		for range 2 * masters {
			proxies = append(proxies, newProxy(t, exemptReplicas))
		}
	}
	c, err := newCluster(proxies, opts.Settings)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	for _, n := range c.nodes {
		n.belongTo(t)
	}
	return c
}

func newCluster(proxies []*Proxy, settings map[string]string) (*RedisCluster, error) {
	c := &RedisCluster{nodes: make([]*Redis, 2*masters), proxies: proxies}
	errs := make([]error, 2*masters)
	var wg sync.WaitGroup
	for i := range c.nodes {
		wg.Go(func() { errs[i] = c.startNode(i, settings) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		err = c.join()
	}
	if err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

func (c *RedisCluster) startNode(i int, settings map[string]string) error {
	own := map[string]string{
		"cluster-enabled":                 "yes",
		"cluster-config-file":             "nodes.conf",
		"cluster-node-timeout":            "2000",
		"cluster-allow-replica-migration": "no",
		"cluster-replica-validity-factor": "0",
		"repl-diskless-sync-delay":        "0",
		"repl-ping-replica-period":        "1",
	}
	var failed error
	for range attempts {
		bus, err := freePort() // may be taken until the node has it
		if err != nil {
			return err
		}
		own["cluster-port"] = strconv.Itoa(bus)
		if c.proxies != nil {
			own["cluster-announce-ip"] = "127.0.0.1"
			own["cluster-announce-port"] = strconv.Itoa(c.proxies[i].port)
			own["cluster-announce-bus-port"] = strconv.Itoa(bus)
		}
		c.nodes[i], failed = newRedis(own, settings)
		if failed == nil {
			if c.proxies != nil {
				c.proxies[i].setUpstream(c.nodes[i].Addr())
			}
			return nil
		}
		if !errors.Is(failed, errEnded) {
			break
		}
	}
	return failed
}

// join makes a cluster of the nodes and waits until all of them agree on it.
func (c *RedisCluster) join() error {
	for i, n := range c.nodes {
		id, err := askText(n.Addr(), "CLUSTER", "MYID")
		if err != nil {
			return err
		}
		c.ids = append(c.ids, id)
		commands := [][]string{{"CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i + 1)}}
		if i < masters {
			first, last := i*slots/masters, (i+1)*slots/masters-1
			commands = append(commands, []string{"CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)})
		}
		if i > 0 {
			meet := c.nodes[0]
			commands = append(commands,
				[]string{"CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(meet.port), meet.settings["cluster-port"]})
		}
		for _, command := range commands {
			if _, err := n.Do(command...); err != nil {
				return err
			}
		}
	}
	if err := eventually(clusterTime, c.acquainted); err != nil {
		return err
	}
	for i, n := range c.nodes[masters:] {
		if _, err := n.Do("CLUSTER", "REPLICATE", c.ids[i]); err != nil {
			return err
		}
	}
	return eventually(clusterTime, c.healthy)
}

// acquainted is nil when every node knows every other.
func (c *RedisCluster) acquainted() error {
	for _, n := range c.nodes {
		info, err := askText(n.Addr(), "CLUSTER", "INFO")
		if err != nil {
			return err
		}
		if known := infoField(info, "cluster_known_nodes"); known != strconv.Itoa(len(c.nodes)) {
			return fmt.Errorf("%s knows %s nodes of the cluster", n.Addr(), known)
		}
		list, err := askText(n.Addr(), "CLUSTER", "NODES")
		if err != nil {
			return err
		}
		if strings.Contains(list, "handshake") {
			return fmt.Errorf("%s has not met all nodes", n.Addr())
		}
	}
	return nil
}

// healthy is nil when every node sees all slots served, there are three
// masters, and every replica is linked to its master.
func (c *RedisCluster) healthy() error {
	leading := 0
	for _, n := range c.nodes {
		info, err := askText(n.Addr(), "CLUSTER", "INFO")
		if err != nil {
			return err
		}
		if infoField(info, "cluster_state") != "ok" || infoField(info, "cluster_slots_ok") != strconv.Itoa(slots) {
			return fmt.Errorf("%s does not see all slots served", n.Addr())
		}
		list, err := askText(n.Addr(), "CLUSTER", "NODES")
		if err != nil {
			return err
		}
		if got := strings.Count(list, "slave "); got != len(c.nodes)-masters {
			return fmt.Errorf("%s sees %d replicas", n.Addr(), got)
		}
		if strings.Contains(list, "fail") {
			return fmt.Errorf("%s takes a node for failed", n.Addr())
		}
		info, err = askText(n.Addr(), "INFO", "replication")
		if err != nil {
			return err
		}
		switch {
		case infoField(info, "role") == "master":
			leading++
			if infoField(info, "connected_slaves") != "1" {
				return fmt.Errorf("master %s has no replica", n.Addr())
			}
		case infoField(info, "master_link_status") != "up":
			return fmt.Errorf("replica %s is not linked to its master", n.Addr())
		}
	}
	if leading != masters {
		return fmt.Errorf("the cluster has %d masters", leading)
	}
	return nil
}

// URL names the first three nodes, redis+cluster://a:1,b:2,c:3: their proxies
// if there are any.
func (c *RedisCluster) URL() string {
	var addrs []string
	for i, n := range c.nodes[:masters] {
		if c.proxies != nil {
			addrs = append(addrs, c.proxies[i].Addr())
		} else {
			addrs = append(addrs, n.Addr())
		}
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// Nodes are the six nodes: at first the masters, then their replicas in the
// same order. Each can be stopped, killed, paused and started alone.
func (c *RedisCluster) Nodes() []*Redis { return c.nodes }

// Proxies are the proxies of the nodes, in their order.
func (c *RedisCluster) Proxies() []*Proxy { return c.proxies }

// MasterOf is the running node that serves a slot (0 to 16383), as seen by
// another that runs. It waits for the failover from a master that is down.
func (c *RedisCluster) MasterOf(slot int) *Redis {
	c.t.Helper()
	var master *Redis
	c.check(eventually(clusterTime, func() (err error) {
		master, err = c.masterOf(slot)
		return err
	}))
	return master
}

func (c *RedisCluster) masterOf(slot int) (*Redis, error) {
	var failed error
	for _, n := range c.nodes {
		if n.down() || n.isPaused() {
			continue
		}
		list, err := askText(n.Addr(), "CLUSTER", "NODES")
		if err != nil {
			failed = err
			continue
		}
		for line := range strings.Lines(list) {
			fields := strings.Fields(line)
			if len(fields) < 9 || strings.Contains(fields[2], "fail") || !servesSlot(fields[8:], slot) {
				continue
			}
			for i, id := range c.ids {
				if id != fields[0] {
					continue
				}
				if c.nodes[i].down() || c.nodes[i].isPaused() {
					failed = fmt.Errorf("%s is still taken for the master", c.nodes[i].Addr())
					continue
				}
				return c.nodes[i], nil
			}
		}
	}
	return nil, errors.Join(fmt.Errorf("no node serves slot %d", slot), failed)
}

// servesSlot reports whether a slot is in ranges such as "0-5460" and "7".
func servesSlot(ranges []string, slot int) bool {
	for _, r := range ranges {
		from, to, isRange := strings.Cut(r, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		if err != nil {
			continue // a slot under migration, in brackets
		}
		last, err := strconv.Atoi(to)
		if err == nil && first <= slot && slot <= last {
			return true
		}
	}
	return false
}

// Slot is the slot of a key.
func (c *RedisCluster) Slot(key string) int {
	c.t.Helper()
	reply, err := c.nodes[0].Do("CLUSTER", "KEYSLOT", key)
	c.check(err)
	return int(reply.(int64))
}

// Failover makes the replica of the slot's master a master, in agreement with
// the old one, and returns when all nodes know and the old one replicates.
func (c *RedisCluster) Failover(slot int) {
	c.own()
	c.t.Helper()
	old := c.MasterOf(slot)
	replica := c.replicaOf(old)
	replica.must("CLUSTER", "FAILOVER")
	c.check(eventually(clusterTime, func() error {
		now, err := c.masterOf(slot)
		if err == nil && now != replica {
			err = fmt.Errorf("%s has not taken over slot %d", replica.Addr(), slot)
		}
		return errors.Join(err, c.healthy())
	}))
}

// replicaOf is the other node of the pair: a failover swaps them.
func (c *RedisCluster) replicaOf(master *Redis) *Redis {
	for i, n := range c.nodes {
		if n == master {
			return c.nodes[(i+masters)%len(c.nodes)]
		}
	}
	panic("testserver: not a node of the cluster")
}

// AwaitHealthy returns when all nodes run and agree, all slots are served and
// all replicas are linked.
func (c *RedisCluster) AwaitHealthy() {
	c.own()
	c.t.Helper()
	c.check(eventually(clusterTime, c.healthy))
}

func (c *RedisCluster) own() {
	if c.t == nil {
		panic("testserver: a shared server must not be disturbed")
	}
}

func (c *RedisCluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *RedisCluster) remove() error {
	var failed error
	for _, n := range c.nodes {
		if n != nil {
			failed = errors.Join(failed, n.remove())
		}
	}
	return failed
}
