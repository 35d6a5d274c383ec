package testserver

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// inMain tells that Main runs, so that somebody stops the shared servers.
var inMain atomic.Bool

// Main runs the tests, stops the shared servers, and fails when goroutines are
// left. It returns the exit code. It is for TestMain.
func Main(m *testing.M) int {
	inMain.Store(true)
	code := m.Run()
	stopped := stopShared()
	launcher.stop()
	if code != 0 {
		return code
	}
	if stopped != nil {
		fmt.Fprintln(os.Stderr, "testserver:", stopped)
		return 1
	}
	if err := leaked(); err != nil {
		fmt.Fprintln(os.Stderr, "testserver: goroutines are left after the tests:", err)
		return 1
	}
	return 0
}

// leaked is an error when goroutines are left that don't end by themselves. The
// Redis client has some that sleep for up to 5 s after a change in a cluster and
// can't be woken.
func leaked() (err error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err = goleak.Find(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// A shared is a server of the test process, started when it is first wanted.
type shared[T any] struct {
	mu     sync.Mutex
	server *T
	failed error
}

// The servers of this process.
var (
	sharedPostgres     shared[Postgres]
	sharedRedis        shared[Redis]
	sharedRedisCluster shared[RedisCluster]
)

// get returns the server and starts it if need be. A start that failed is not
// tried again.
func (s *shared[T]) get(t testing.TB, start func() (*T, error)) *T {
	t.Helper()
	if !inMain.Load() {
		t.Fatal("shared servers need a TestMain that calls testserver.Main")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil && s.failed == nil {
		s.server, s.failed = start()
	}
	if s.failed != nil {
		t.Fatal(s.failed)
	}
	return s.server
}

func (s *shared[T]) take() *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	server := s.server
	s.server = nil
	return server
}

// stopShared stops the shared servers and returns the first failure.
func stopShared() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	if p := sharedPostgres.take(); p != nil {
		keep(p.remove())
	}
	if r := sharedRedis.take(); r != nil {
		keep(r.remove())
	}
	if c := sharedRedisCluster.take(); c != nil {
		keep(c.remove())
	}
	return first
}

// Goroutines are the goroutines of servers and proxies that run now or will, as
// goleak wants to know them. Those of a proxy end with its connections, which
// [Proxy.Connections] counts.
func Goroutines() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("sessiond.example/sessiond/internal/testserver.(*threadLauncher).do.func1"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
		goleak.IgnoreAnyFunction("sessiond.example/sessiond/internal/testserver.(*Proxy).accept"),
		goleak.IgnoreAnyFunction("sessiond.example/sessiond/internal/testserver.(*Proxy).relay"),
		goleak.IgnoreAnyFunction("sessiond.example/sessiond/internal/testserver.(*link).pumpRequests"),
		goleak.IgnoreAnyFunction("sessiond.example/sessiond/internal/testserver.(*link).pumpReplies"),
		goleak.IgnoreAnyFunction("sessiond.example/sessiond/internal/testserver.(*link).deliver"),
	}
}
