package testserver

import (
	"net"
	"sync"
	"time"
)

// A link is one connection through a proxy.
type link struct {
	p              *Proxy
	client, server net.Conn
	once           sync.Once
	done           chan struct{} // closed by cut

	// Guarded by the proxy's mu.
	begun      bool // the client has sent something
	exempt     bool
	pending    bool // a request waits for its reply
	cutOnReply bool
	robbed     bool // bytes were swallowed
}

// A verdict is what happens to bytes on their way.
type verdict int

const (
	pass verdict = iota
	swallow
	sever
)

// cut ends both sides at once.
func (l *link) cut() {
	l.once.Do(func() {
		close(l.done)
		abort(l.client)
		_ = l.server.Close() // nothing is left to be said to it
	})
}

// pumpRequests carries what the client sends until it has gone.
func (l *link) pumpRequests() {
	defer l.cut()
	buf := make([]byte, 32<<10)
	for {
		n, err := l.client.Read(buf)
		if n > 0 {
			switch l.request(buf[:n]) {
			case sever:
				return
			case pass:
				if _, err := l.server.Write(buf[:n]); err != nil {
					return
				}
			case swallow:
			}
		}
		if err != nil {
			return
		}
	}
}

// request judges bytes of the client.
func (l *link) request(b []byte) verdict {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.begun {
		l.begun = true
		l.exempt = p.exempt != nil && p.exempt(b)
	}
	if l.exempt {
		return pass
	}
	first := !l.pending
	l.pending = true
	if first {
		p.requests++
	}
	f := &p.fault
	switch {
	case f.blackHole:
		l.robbed = true
		return swallow
	case f.cut == cutNone || !first:
		return pass
	case f.skip > 0:
		f.skip--
		return pass
	case f.cut == cutBefore:
		f.cut = cutNone
		return sever
	default:
		f.cut = cutNone
		l.cutOnReply = true
		return pass
	}
}

// A chunk is a part of a reply that waits for its time.
type chunk struct {
	bytes  []byte
	due    time.Time
	healed <-chan struct{} // delivers it at once
}

// pumpReplies carries what the upstream sends until it has gone, and then ends
// the connection after everything has been delivered.
func (l *link) pumpReplies() {
	queue := make(chan chunk, 256)
	var writer sync.WaitGroup
	writer.Go(func() { l.deliver(queue) })
	defer l.cut()
	defer writer.Wait()
	defer close(queue)
	for {
		buf := make([]byte, 16<<10)
		n, err := l.server.Read(buf)
		if n > 0 {
			c, v := l.reply(buf[:n])
			switch v {
			case sever:
				l.cut()
				return
			case pass:
				select {
				case queue <- c:
				case <-l.done:
					return
				}
			case swallow:
			}
		}
		if err != nil {
			return
		}
	}
}

// reply judges bytes of the upstream.
func (l *link) reply(b []byte) (chunk, verdict) {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	l.pending = false
	c := chunk{bytes: b}
	switch {
	case l.exempt:
		return c, pass
	case p.fault.blackHole:
		l.robbed = true
		return c, swallow
	case l.cutOnReply:
		return c, sever
	}
	if p.fault.latency > 0 {
		c.due, c.healed = time.Now().Add(p.fault.latency), p.healed
	}
	return c, pass
}

// deliver writes chunks to the client, each when it is due.
func (l *link) deliver(queue <-chan chunk) {
	for c := range queue {
		if wait := time.Until(c.due); !c.due.IsZero() && wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-c.healed:
			case <-l.done:
			}
			timer.Stop()
		}
		if _, err := l.client.Write(c.bytes); err != nil {
			l.cut()
		}
	}
}
