package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// writeTime is how long a reader of an event stream may take to accept a batch.
const writeTime = 10 * time.Second

// events streams the tenant's events (WHATWG HTML, section 9.2). The stream ends when the client goes or reads too
// slowly, when its credential expires, when the store fails, and with [Server.Shutdown]; clients come back with
// Last-Event-ID.
func (c *call) events() error {
	p, err := c.eventParams()
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		c.startStream()
		return nil
	}
	open := c.streams.Add(1)
	defer c.streams.Add(-1)
	if open > int64(c.cfg.MaxStreams) || c.closing.Err() != nil {
		return refuse(api.CodeOverloaded, "no more event streams can be served here now")
	}
	if c.cfg.StreamOpened != nil {
		c.cfg.StreamOpened()
	}
	if c.cfg.StreamClosed != nil {
		defer c.cfg.StreamClosed()
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()
	if expires := c.principal.Expires; !expires.IsZero() {
		defer time.AfterFunc(time.Until(expires), cancel).Stop()
	}
	return c.stream(ctx, p)
}

func (c *call) eventParams() (p sessiond.EventParams, err error) {
	err = parseQuery(c.r.URL.RawQuery, func(name, value string) (known bool, err error) {
		switch name {
		case "subject":
			p.Subject, err = text(name, value)
		case "type":
			for t := range strings.SplitSeq(value, ",") {
				if !sessiond.EventType(t).Valid() {
					return true, badParameter(name, "types of events, separated by commas")
				}
				p.Types = append(p.Types, sessiond.EventType(t))
			}
		default:
			return false, nil
		}
		return true, err
	})
	last := c.r.Header["Last-Event-Id"]
	if err == nil && len(last) > 1 {
		err = malformed("the header Last-Event-ID must not be repeated")
	}
	if len(last) == 1 {
		p.After = sessiond.Position(last[0])
	}
	return p, err
}

func (c *call) startStream() {
	h := c.w.Header()
	h["Content-Type"] = []string{api.MediaEventStream}
	c.set("X-Accel-Buffering", "no") // nginx would hold events back
	c.writeHeader(http.StatusOK)
}

// stream writes batches of events until something ends it. Before the first batch is there nothing is written, so that
// a store that fails is still answered with 503.
func (c *call) stream(ctx context.Context, p sessiond.EventParams) error {
	m := c.manager()
	out := http.NewResponseController(c.w)
	p.Heartbeat = time.Millisecond // something is to come at once: what there is, or a heartbeat
	for {
		for batch, err := range m.Events(ctx, p) {
			if err != nil {
				if !c.sent {
					return err
				}
				if ctx.Err() == nil {
					c.cfg.Logger.Warn("event stream ended", "request_id", c.op.RequestID, "err", err)
				}
				return nil
			}
			text, err := appendBatch(nil, &batch)
			if err != nil {
				c.cfg.Logger.Error("event not encoded", "request_id", c.op.RequestID, "err", err)
				return nil
			}
			if !c.sent {
				c.startStream()
			}
			if err := c.send(out, text); err != nil {
				return nil // the client has gone, or reads too slowly
			}
			p.After = batch.Position
			if p.Heartbeat != c.cfg.Heartbeat {
				p.Heartbeat = c.cfg.Heartbeat
				break // and go on from there with this one
			}
		}
	}
}

// send writes text within writeTime. Between writes there is no deadline, or the one of the server would end
// the stream.
func (c *call) send(out *http.ResponseController, text []byte) error {
	if err := out.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := c.w.Write(text); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return out.SetWriteDeadline(time.Time{})
}

// appendBatch writes a batch as server-sent events. Only the last one carries the position: a client that was cut off
// in the middle gets the whole batch again.
func appendBatch(b []byte, batch *sessiond.EventBatch) ([]byte, error) {
	if batch.Reset {
		b = append(b, "event: "+api.EventReset+"\ndata: {}\n\n"...)
	}
	if len(batch.Events) == 0 {
		b = append(b, "event: "+api.EventHeartbeat+"\nid: "...)
		b = append(b, batch.Position...)
		return append(b, "\ndata: {}\n\n"...), nil
	}
	for i := range batch.Events {
		e := &batch.Events[i]
		data, err := api.Marshal(api.NewEvent(e))
		if err != nil {
			return nil, err
		}
		b = append(b, "event: "...)
		b = append(b, e.Type...)
		if i == len(batch.Events)-1 {
			b = append(b, "\nid: "...)
			b = append(b, batch.Position...)
		}
		b = append(b, "\ndata: "...)
		b = append(b, data...)
		b = append(b, "\n\n"...)
	}
	return b, nil
}
