package redisstore_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
	"sessiond.example/sessiond/storetest"
)

var _ sessiond.Store = (*redisstore.Store)(nil)

var prefixes atomic.Int64

// withPrefix gives a test keys of its own on a server that it shares.
func withPrefix(url string) string {
	return withOption(url, fmt.Sprintf("prefix=t%d:", prefixes.Add(1)))
}

func withOption(url, option string) string {
	if strings.Contains(url, "?") {
		return url + "&" + option
	}
	return url + "?" + option
}

// open opens a store that the test does not expect to fail.
func open(t testing.TB, url string, o *redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return s
}

// running is a fixture with the server's clock.
func running(url func(testing.TB) string) storetest.Open {
	return func(t testing.TB) storetest.Fixture {
		var ahead atomic.Int64
		s := open(t, withPrefix(url(t)), &redisstore.Options{
			Skew: func() time.Duration { return time.Duration(ahead.Load()) },
		})
		return storetest.Fixture{Store: s, Advance: func(d time.Duration) { ahead.Add(int64(d)) }}
	}
}

// still is a fixture with a clock that stands still between calls of Advance.
func still(url func(testing.TB) string) storetest.Open {
	return func(t testing.TB) storetest.Fixture {
		var now atomic.Int64
		now.Store(time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC).UnixMilli())
		o := (&redisstore.Options{}).WithClock(now.Load)
		s := open(t, withPrefix(url(t)), o)
		return storetest.Fixture{Store: s, Advance: func(d time.Duration) { now.Add(d.Milliseconds()) }}
	}
}

func singleURL(t testing.TB) string  { return testserver.SharedRedis(t).URL() }
func clusterURL(t testing.TB) string { return testserver.SharedRedisCluster(t).URL() }

func TestStore(t *testing.T)      { storetest.Run(t, running(singleURL)) }
func TestConcurrent(t *testing.T) { storetest.RunConcurrent(t, running(singleURL)) }
func TestModel(t *testing.T)      { storetest.RunModel(t, still(singleURL)) }

func TestClusterStore(t *testing.T)      { storetest.Run(t, running(clusterURL)) }
func TestClusterConcurrent(t *testing.T) { storetest.RunConcurrent(t, running(clusterURL)) }
func TestClusterModel(t *testing.T)      { storetest.RunModel(t, still(clusterURL)) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, running(singleURL)) }
