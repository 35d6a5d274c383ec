package testserver

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// MasterName is the name under which sentinels know the master.
const MasterName = "sessions"

// A Sentinel is a master with one replica, watched by three sentinels of which
// two must agree. They take the master for dead after a second of silence.
type Sentinel struct {
	Servers   []*Redis // at first the master, then the replica
	Sentinels []*Redis
	t         testing.TB
}

// StartSentinel starts the five servers for this test alone. The options are
// those of the master and the replica.
func StartSentinel(t testing.TB, opts RedisOptions) *Sentinel {
	t.Helper()
	s := &Sentinel{t: t}
	quick := map[string]string{"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
	for range 2 {
		r, err := newRedis(quick, opts.Settings)
		if err != nil {
			t.Fatal(err)
		}
		r.belongTo(t)
		s.Servers = append(s.Servers, r)
	}
	master, replica := s.Servers[0], s.Servers[1]
	replica.must("REPLICAOF", "127.0.0.1", strconv.Itoa(master.port))
	for range 3 {
		r, err := newSentinel(master.port)
		if err != nil {
			t.Fatal(err)
		}
		r.belongTo(t)
		s.Sentinels = append(s.Sentinels, r)
	}
	if err := eventually(clusterTime, s.agreed); err != nil {
		t.Fatal(err)
	}
	return s
}

func newSentinel(masterPort int) (*Redis, error) {
	dir, err := newFolder(nil)
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir, sentinel: true}
	err = onFreePort(func(port int) error {
		r.port = port
		conf := strings.Join([]string{
			"bind 127.0.0.1",
			"protected-mode no",
			"port " + strconv.Itoa(port),
			"dir " + dir.path,
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", MasterName, masterPort),
			"sentinel down-after-milliseconds " + MasterName + " 1000",
			"sentinel failover-timeout " + MasterName + " 5000",
			"",
		}, "\n")
		if err := dir.write("sentinel.conf", conf); err != nil {
			return err
		}
		return r.launch()
	})
	if err != nil {
		_ = r.remove() // the failed start is what to tell
		return nil, err
	}
	return r, nil
}

// agreed is nil when the replica is linked, and every sentinel knows it and the
// other sentinels.
func (s *Sentinel) agreed() error {
	for _, r := range s.Sentinels {
		info, err := askText(r.Addr(), "INFO", "sentinel")
		if err != nil {
			return err
		}
		state := infoField(info, "master0")
		if !strings.Contains(state, "status=ok") || !strings.Contains(state, "slaves=1") ||
			!strings.Contains(state, "sentinels=3") {
			return fmt.Errorf("sentinel %s sees %s", r.Addr(), state)
		}
	}
	master, err := s.master()
	if err != nil {
		return err
	}
	info, err := askText(master.Addr(), "INFO", "replication")
	if err != nil {
		return err
	}
	if !strings.Contains(infoField(info, "slave0"), "state=online") {
		return fmt.Errorf("the replica of %s is not linked", master.Addr())
	}
	return nil
}

// URL names the sentinels and the master: redis+sentinel://a:1,b:2,c:3/name.
func (s *Sentinel) URL() string {
	var addrs []string
	for _, r := range s.Sentinels {
		addrs = append(addrs, r.Addr())
	}
	return "redis+sentinel://" + strings.Join(addrs, ",") + "/" + MasterName
}

// Master is the server that the sentinels take for the master now.
func (s *Sentinel) Master() *Redis {
	s.t.Helper()
	var master *Redis
	err := eventually(clusterTime, func() (err error) {
		master, err = s.master()
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return master
}

func (s *Sentinel) master() (*Redis, error) {
	reply, err := ask(s.Sentinels[0].Addr(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
	if err != nil {
		return nil, err
	}
	if addr, ok := reply.([]any); ok && len(addr) == 2 {
		for _, r := range s.Servers {
			if addr[1] == strconv.Itoa(r.port) {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("the sentinels know no master: %v", reply)
}

// Failover kills the master and returns when the sentinels have made the
// replica the master. The old one stays down until it is started.
func (s *Sentinel) Failover() {
	s.t.Helper()
	old := s.Master()
	if err := old.end(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	err := eventually(clusterTime+10*time.Second, func() error {
		now, err := s.master()
		if err != nil {
			return err
		}
		if now == old {
			return fmt.Errorf("the sentinels have not replaced %s", old.Addr())
		}
		info, err := askText(now.Addr(), "INFO", "replication")
		if err == nil && infoField(info, "role") != "master" {
			err = fmt.Errorf("%s is not a master yet", now.Addr())
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}
