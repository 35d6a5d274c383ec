package redisstore_test

import (
	"context"
	"testing"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultmatrix"
	"sessiond.example/sessiond/internal/testserver"
	"sessiond.example/sessiond/redisstore"
)

// faultTimeout is the timeout of stores under faults.
const faultTimeout = 600 * time.Millisecond

// TestFaults runs every operation under every fault of a server and of the way
// to it.
func TestFaults(t *testing.T) {
	faultmatrix.Run(t, func(t testing.TB) faultmatrix.Target { return faultTarget(t) })
}

// TestFaultsOverHTTP looks at some of them from outside of the service.
func TestFaultsOverHTTP(t *testing.T) {
	faultmatrix.RunHTTP(t, func(t testing.TB) faultmatrix.Target {
		return faultTarget(t).Only("refused", "black-hole")
	})
}

func faultTarget(t testing.TB) faultmatrix.Target {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	proxy := testserver.NewProxy(t, server.Addr())
	target := faultTargetOf(server.URL(), testserver.URLThrough(t, server.URL(), proxy.Addr()))
	target.Connections = proxy.Connections
	target.Lasting = append(faultmatrix.LastingOfProxies(faultTimeout, proxy), faultmatrix.LastingOfServer(server)...)
	target.Cuts = faultmatrix.CutsOfProxies(proxy)
	return target
}

// faultTargetOf is a target without its faults.
func faultTargetOf(url, disturbed string) faultmatrix.Target {
	return faultmatrix.Target{
		Open: func(ctx context.Context) (sessiond.Store, error) {
			return redisstore.Open(ctx, disturbed, &redisstore.Options{Timeout: faultTimeout})
		},
		Observe: func(ctx context.Context) (sessiond.Store, error) { return redisstore.Open(ctx, url, nil) },
		Timeout: faultTimeout,
		// The longest operations, those that end sessions to keep a limit, take so many requests.
		Patience: 8 * faultTimeout,
	}
}

// TestFaultsOfCluster does the same with a cluster, all nodes of which are
// disturbed at once.
func TestFaultsOfCluster(t *testing.T) {
	faultmatrix.Run(t, func(t testing.TB) faultmatrix.Target {
		cluster := testserver.StartRedisCluster(t, testserver.RedisClusterOptions{Proxied: true})
		proxies := cluster.Proxies()
		target := faultTargetOf(cluster.URL(), cluster.URL())
		target.Connections = func() int {
			n := 0
			for _, p := range proxies {
				n += p.Connections()
			}
			return n
		}
		target.Lasting = append(faultmatrix.LastingOfProxies(faultTimeout, proxies...),
			faultmatrix.LastingOfServer(&wholeCluster{cluster})...)
		target.Cuts = faultmatrix.CutsOfProxies(proxies...)
		return target
	})
}

// A wholeCluster is disturbed in all nodes at once.
type wholeCluster struct{ *testserver.RedisCluster }

func (c *wholeCluster) each(f func(*testserver.Redis)) {
	for _, n := range c.Nodes() {
		f(n)
	}
}

func (c *wholeCluster) Stop()  { c.each((*testserver.Redis).Stop) }
func (c *wholeCluster) Kill()  { c.each((*testserver.Redis).Kill) }
func (c *wholeCluster) Pause() { c.each((*testserver.Redis).Pause) }

func (c *wholeCluster) Start() {
	c.each((*testserver.Redis).Start)
	c.AwaitHealthy()
}

func (c *wholeCluster) Resume() {
	c.each((*testserver.Redis).Resume)
	c.AwaitHealthy()
}
