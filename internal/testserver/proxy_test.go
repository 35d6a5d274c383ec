package testserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/testserver"
)

// An upstream answers every line with its echo and remembers it.
type upstream struct {
	addr string
	mu   sync.Mutex
	got  []string
}

func newUpstream(t *testing.T) *upstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { u.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return u
}

func (u *upstream) serve(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		u.mu.Lock()
		u.got = append(u.got, lines.Text())
		u.mu.Unlock()
		if _, err := fmt.Fprintln(c, lines.Text()); err != nil {
			return
		}
	}
}

func (u *upstream) heard() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.got, " ")
}

// A peer is a client's connection.
type peer struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, p *testserver.Proxy) *peer {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &peer{c, bufio.NewReader(c)}
}

// say sends a line and waits for its echo.
func (p *peer) say(line string, patience time.Duration) error {
	if err := p.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p, line); err != nil {
		return err
	}
	got, err := p.in.ReadString('\n')
	if err == nil && got != line+"\n" {
		return fmt.Errorf("the echo of %q is %q", line, got)
	}
	return err
}

const patience = 5 * time.Second

func cutOff(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) }

func TestProxyRelays(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := testserver.NewProxy(t, u.addr)
	c := dial(t, p)
	for i := range 3 {
		if err := c.say(fmt.Sprint(i), patience); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if n := p.Requests(); n != 3 {
		t.Errorf("%d requests", n)
	}
	_ = c.Close()
	for range 100 {
		if p.Connections() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the connection stays after its client has gone")
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cut   func(p *testserver.Proxy, skip int)
		heard string
	}{
		{"after", (*testserver.Proxy).CutAfterRequest, "first passes cut later"},
		{"before", (*testserver.Proxy).CutBeforeRequest, "first passes later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			p := testserver.NewProxy(t, u.addr)
			c, other := dial(t, p), dial(t, p)
			if err := c.say("first", patience); err != nil {
				t.Fatal(err)
			}
			tt.cut(p, 1)
			if err := other.say("passes", patience); err != nil {
				t.Fatal(err)
			}
			if p.Cut() {
				t.Error("the proxy says that it has cut a request")
			}
			if err := c.say("cut", patience); !cutOff(err) {
				t.Fatalf("error of the request that is cut: %v", err)
			}
			if !p.Cut() {
				t.Error("the proxy does not say that it has cut a request")
			}
			if err := dial(t, p).say("later", patience); err != nil {
				t.Fatalf("the cut is not over: %v", err)
			}
			if got := u.heard(); got != tt.heard {
				t.Errorf("the upstream heard %q", got)
			}
		})
	}
}

func TestProxyLatency(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := testserver.NewProxy(t, u.addr)
	c := dial(t, p)
	p.Latency(100 * time.Millisecond)
	began := time.Now()
	if err := c.say("slow", patience); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < 100*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
	p.Latency(time.Hour)
	said := make(chan error)
	go func() { said <- c.say("very slow", patience) }()
	for !strings.Contains(u.heard(), "very slow") {
		time.Sleep(time.Millisecond)
	}
	p.Heal(t)
	if err := <-said; err != nil {
		t.Errorf("the delayed reply is not delivered after Heal: %v", err)
	}
}

func TestProxyBlackHole(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := testserver.NewProxy(t, u.addr)
	c, idle := dial(t, p), dial(t, p)
	if err := idle.say("before", patience); err != nil {
		t.Fatal(err)
	}
	p.BlackHole()
	for _, c := range []*peer{c, dial(t, p)} {
		if err := c.say("lost", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error of a request into the black hole: %v", err)
		}
	}
	p.Heal(t)
	if err := c.say("later", patience); !cutOff(err) {
		t.Errorf("error of a connection that was robbed: %v", err)
	}
	if err := idle.say("after", patience); err != nil {
		t.Errorf("a connection that lost nothing is cut: %v", err)
	}
	if got := u.heard(); got != "before after" {
		t.Errorf("the upstream heard %q", got)
	}
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := testserver.NewProxy(t, u.addr)
	c := dial(t, p)
	if err := c.say("before", patience); err != nil {
		t.Fatal(err)
	}
	p.SetEnabled(t, false)
	if err := c.say("during", patience); err == nil {
		t.Error("a connection through a disabled proxy works")
	}
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error of a connection to a disabled proxy: %v", err)
	}
	p.Heal(t)
	c = dial(t, p)
	if err := c.say("after", patience); err != nil {
		t.Error(err)
	}
	p.Reset()
	if err := c.say("reset", patience); !cutOff(err) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error of a connection that was reset: %v", err)
	}
	if err := dial(t, p).say("new", patience); err != nil {
		t.Error(err)
	}
}
