package testserver

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Proxy relays TCP connections to one upstream and can disturb them. It knows
// requests from replies by their direction: what a client sends after it was
// answered is a new request, whatever it consists of.
//
// A fault holds until [Proxy.Heal] unless it says otherwise, for connections
// that are open and new ones. A new fault takes the place of the one before.
// The methods may be called from several goroutines.
type Proxy struct {
	port   int
	exempt func(first []byte) bool // connections that begin so are left alone; nil: none

	wg sync.WaitGroup

	mu       sync.Mutex
	upstream string
	listener net.Listener // nil while disabled
	links    map[*link]struct{}
	fault    fault
	healed   chan struct{} // closed when the fault is over
	requests int64
	closed   bool
}

// A fault is what a proxy does now. The zero fault does nothing.
type fault struct {
	latency   time.Duration
	blackHole bool
	cut       cut
	skip      int // requests to let pass before the cut
}

// A cut is where the next request is cut.
type cut int

const (
	cutNone cut = iota
	cutBefore
	cutAfter
)

// NewProxy starts a proxy before the upstream. It ends with the test.
func NewProxy(t testing.TB, upstreamAddr string) *Proxy {
	t.Helper()
	p := newProxy(t, nil)
	p.setUpstream(upstreamAddr)
	return p
}

func newProxy(t testing.TB, exempt func([]byte) bool) *Proxy {
	t.Helper()
	p := &Proxy{exempt: exempt, links: make(map[*link]struct{}), healed: make(chan struct{})}
	for p.listener == nil {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		p.port = port
		if err := p.listen(); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Cleanup(p.close)
	return p
}

// exemptReplicas knows the connections that Redis replicas make: they begin
// with PING, clients with HELLO or AUTH.
func exemptReplicas(first []byte) bool {
	return bytes.HasPrefix(first, []byte("*1\r\n$4\r\nPING\r\n"))
}

func (p *Proxy) setUpstream(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = addr
}

// Addr is host and port of the proxy.
func (p *Proxy) Addr() string { return local(p.port) }

// Heal ends the fault. Connections that lost something to it are cut; a proxy
// that was disabled listens again.
func (p *Proxy) Heal(t testing.TB) {
	t.Helper()
	p.set(fault{})
	p.SetEnabled(t, true)
}

// Latency delays every reply by d.
func (p *Proxy) Latency(d time.Duration) { p.set(fault{latency: d}) }

// BlackHole accepts connections and swallows what both sides send, as a
// network does that drops packets.
func (p *Proxy) BlackHole() { p.set(fault{blackHole: true}) }

// CutAfterRequest lets skip requests pass, counted over all connections. The
// next one reaches the upstream too; when its reply comes, the connection is
// cut instead. Then the fault is over.
func (p *Proxy) CutAfterRequest(skip int) { p.set(fault{cut: cutAfter, skip: skip}) }

// CutBeforeRequest lets skip requests pass, counted over all connections. The
// connection of the next one is cut, and nothing of it reaches the upstream.
// Then the fault is over.
func (p *Proxy) CutBeforeRequest(skip int) { p.set(fault{cut: cutBefore, skip: skip}) }

// Cut reports whether the fault of CutAfterRequest or CutBeforeRequest has met
// its request.
func (p *Proxy) Cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault.cut == cutNone
}

// Reset cuts all connections that are open. New ones work.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLinks(func(l *link) bool { return !l.exempt })
}

// SetEnabled with false cuts all connections and makes the system refuse new
// ones; with true the proxy listens again.
func (p *Proxy) SetEnabled(t testing.TB, enabled bool) {
	t.Helper()
	p.mu.Lock()
	listener := p.listener
	if !enabled {
		p.listener = nil
		p.cutLinks(func(l *link) bool { return !l.exempt })
	}
	p.mu.Unlock()
	switch {
	case !enabled && listener != nil:
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	case enabled && listener == nil:
		if err := eventually(5*time.Second, p.listen); err != nil {
			t.Fatal(err)
		}
	}
}

// Connections is the number of connections that are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for l := range p.links {
		if !l.exempt {
			n++
		}
	}
	return n
}

// Requests is the number of requests so far, the disturbed ones included.
func (p *Proxy) Requests() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// set puts f in the place of the fault that held. Connections that the old
// fault has robbed of something can't go on without it.
func (p *Proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.healed)
	p.healed = make(chan struct{})
	if !f.blackHole {
		p.cutLinks(func(l *link) bool { return l.robbed })
	}
	for l := range p.links {
		l.cutOnReply = false
	}
}

// cutLinks cuts the connections that which selects. The caller holds mu.
func (p *Proxy) cutLinks(which func(*link) bool) {
	for l := range p.links {
		if which(l) {
			l.cut()
		}
	}
}

func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	listener, err := net.Listen("tcp", p.Addr())
	if err != nil {
		return err
	}
	p.listener = listener
	p.wg.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.relay(client) })
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	listener := p.listener
	p.listener, p.closed = nil, true
	p.cutLinks(func(*link) bool { return true })
	p.mu.Unlock()
	if listener != nil {
		_ = listener.Close() // nobody is served any more
	}
	p.wg.Wait()
}

// relay connects client to the upstream and returns when both are closed.
func (p *Proxy) relay(client net.Conn) {
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	server, err := net.DialTimeout("tcp", upstream, 5*time.Second)
	if err != nil {
		abort(client)
		return
	}
	l := &link{p: p, client: client, server: server, done: make(chan struct{})}
	if !p.add(l) {
		l.cut()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(l.pumpRequests)
	pumps.Go(l.pumpReplies)
	pumps.Wait()
	l.cut()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// add takes in a connection unless the proxy has been disabled since it came.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// abort closes a connection with a reset: the peer must not take it for an
// orderly end.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails when it is closed already
	}
	_ = c.Close()
}
