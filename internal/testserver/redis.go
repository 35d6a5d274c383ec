package testserver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// RedisOptions are the options of [StartRedis], [StartRedisCluster] and
// [StartSentinel].
type RedisOptions struct {
	// Settings are directives as in redis.conf. They win over those that the
	// package sets.
	Settings map[string]string
}

// A Redis is a Redis server: one of its own, a node of a cluster or of a
// replicated pair, or a sentinel. It keeps what it acknowledged over a restart
// (appendfsync always) unless it is shared. A stop, start, kill or pause of it
// is one at a time.
type Redis struct {
	dir      folder
	port     int
	settings map[string]string
	sentinel bool
	t        testing.TB // its owner; nil when it is shared

	mu     sync.Mutex
	proc   *process
	paused bool
}

// volatile are settings for servers that never restart.
var volatile = map[string]string{"appendonly": "no"}

// SharedRedis returns the server of the test process. It keeps nothing on
// disk, and can't be stopped. Its tests share it: they use keys of their own.
func SharedRedis(t testing.TB) *Redis {
	t.Helper()
	return sharedRedis.get(t, func() (*Redis, error) { return newRedis(volatile) })
}

// StartRedis starts a server for this test alone.
func StartRedis(t testing.TB, opts RedisOptions) *Redis {
	t.Helper()
	r, err := newRedis(opts.Settings)
	if err != nil {
		t.Fatal(err)
	}
	r.belongTo(t)
	return r
}

// belongTo makes the server one of the test's, gone at its end.
func (r *Redis) belongTo(t testing.TB) {
	r.t = t
	t.Cleanup(func() {
		if err := r.remove(); err != nil {
			t.Error(err)
		}
	})
}

// newRedis starts a server with the usual settings and those given, the later
// ones winning.
func newRedis(settings ...map[string]string) (*Redis, error) {
	dir, err := newFolder(nil)
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir, settings: map[string]string{
		"bind":                 "127.0.0.1",
		"protected-mode":       "no",
		"save":                 "",
		"appendonly":           "yes",
		"appendfsync":          "always",
		"maxmemory-policy":     "noeviction",
		"enable-debug-command": "yes",
		"databases":            "16",
		"dir":                  dir.path,
		"loglevel":             "notice",
		"tcp-backlog":          "128", // what every kernel grants without a warning
	}}
	for _, s := range settings {
		maps.Copy(r.settings, s)
	}
	err = onFreePort(func(port int) error {
		r.port = port
		return r.launch()
	})
	if err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return r, nil
}

func (r *Redis) launch() error {
	path, err := find("redis-server", "redis-server", "/usr/local/opt/redis/bin")
	if err != nil {
		return err
	}
	p := program{path: path, dir: r.dir, deathSignal: syscall.SIGKILL}
	if r.sentinel {
		p.args = []string{r.dir.file("sentinel.conf"), "--sentinel"}
	} else {
		p.args = []string{"--port", strconv.Itoa(r.port)}
		for _, name := range slices.Sorted(maps.Keys(r.settings)) {
			p.args = append(p.args, "--"+name, r.settings[name])
		}
	}
	proc, err := launch(p)
	if err != nil {
		return err
	}
	err = proc.await(r.dir, func() error {
		info, err := askText(r.Addr(), "INFO", "server")
		if err == nil && infoField(info, "process_id") != strconv.Itoa(proc.pid()) {
			return fmt.Errorf("another server answers on port %d", r.port)
		}
		if err == nil {
			_, err = r.Do("PING") // fails while it loads its data
		}
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proc = proc
	return nil
}

// Addr is host and port of the server.
func (r *Redis) Addr() string { return local(r.port) }

// URL names the server and its database 0.
func (r *Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Do sends a command to the server over a connection of its own. The reply is
// a string, an int64, nil, or a []any of these; an error of the server comes as
// an error.
func (r *Redis) Do(command ...string) (any, error) { return ask(r.Addr(), command...) }

func (r *Redis) must(command ...string) any {
	r.t.Helper()
	reply, err := r.Do(command...)
	r.check(err)
	return reply
}

// own fails unless the server belongs to a test.
func (r *Redis) own() {
	if r.t == nil {
		panic("testserver: a shared server must not be disturbed")
	}
	r.t.Helper()
}

func (r *Redis) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// Stop shuts the server down in its orderly way.
func (r *Redis) Stop() {
	r.own()
	r.t.Helper()
	r.check(r.end(syscall.SIGTERM))
}

// Kill ends the server at once, as a crash does.
func (r *Redis) Kill() {
	r.own()
	r.t.Helper()
	r.check(r.end(syscall.SIGKILL))
}

// Start starts the server again on the same port with what it has on disk, and
// waits until it answers. It does nothing to a running server.
func (r *Redis) Start() {
	r.own()
	r.t.Helper()
	r.Resume()
	if r.down() {
		r.check(r.launch())
	}
}

// Pause stops the process where it is. Connections stay, and the system still
// accepts new ones, but nothing answers.
func (r *Redis) Pause() {
	r.own()
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proc == nil || r.proc.exited() || r.paused {
		r.t.Fatal("pause: the server does not run")
	}
	r.check(signal(r.proc.pid(), sigStop))
	r.paused = true
}

// Resume lets a paused server go on.
func (r *Redis) Resume() {
	r.own()
	r.t.Helper()
	r.check(r.resume())
}

func (r *Redis) resume() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.paused {
		return nil
	}
	r.paused = false
	return signal(r.proc.pid(), sigCont)
}

// down reports whether the process does not run.
func (r *Redis) down() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proc == nil || r.proc.exited()
}

func (r *Redis) end(sig syscall.Signal) error {
	if sig != syscall.SIGKILL {
		if err := r.resume(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proc == nil {
		return nil
	}
	proc := r.proc
	r.proc, r.paused = nil, false
	return proc.end(sig)
}

// remove ends the server and removes its folder.
func (r *Redis) remove() error { return errors.Join(r.end(syscall.SIGKILL), r.dir.remove()) }

func (r *Redis) isPaused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paused
}
