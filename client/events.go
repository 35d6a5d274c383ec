package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

// Events is [sessiond.Manager.Events], except that the server decides how
// often an empty batch comes: EventParams.Heartbeat is not used. When the
// connection breaks, or the credential expires, the sequence ends with an error
// that matches [sessiond.ErrUnavailable]; call again with the last position.
func (c *Client) Events(ctx context.Context, p sessiond.EventParams) iter.Seq2[sessiond.EventBatch, error] {
	return func(yield func(sessiond.EventBatch, error) bool) {
		q := url.Values{}
		if p.Subject != "" {
			q.Set("subject", p.Subject)
		}
		if len(p.Types) > 0 {
			types := make([]string, len(p.Types))
			for i, t := range p.Types {
				types[i] = string(t)
			}
			q.Set("type", strings.Join(types, ","))
		}
		r := call{method: http.MethodGet, path: api.PathEvents, query: q, header: http.Header{}}
		if p.After != "" {
			r.header.Set("Last-Event-ID", string(p.After))
		}
		resp, err := c.send(ctx, r)
		if err != nil {
			yield(sessiond.EventBatch{}, err)
			return
		}
		defer resp.Body.Close()
		if media(resp) != api.MediaEventStream {
			yield(sessiond.EventBatch{}, fmt.Errorf("%w: the answer is not an event stream", sessiond.ErrUnavailable))
			return
		}
		if err := c.readBatches(resp.Body, yield); err != nil {
			yield(sessiond.EventBatch{}, r.transportError(ctx, err))
		}
	}
}

const (
	maxMessage = 64 << 10 // bytes of one message; the server's are far shorter
	maxBatch   = 10_000   // events of a batch; the server's are far fewer
)

// readBatches puts the events of a stream back into batches: the position
// comes with the last event of one. It returns nil when yield had enough.
func (c *Client) readBatches(body io.Reader, yield func(sessiond.EventBatch, error) bool) error {
	in := bufio.NewReaderSize(body, maxMessage)
	var batch sessiond.EventBatch
	for {
		m, err := readMessage(in)
		if err != nil {
			return err
		}
		switch m.event {
		case "", api.EventHeartbeat:
		case api.EventReset:
			batch.Reset = true
		default:
			var wire api.Event
			if err := api.Unmarshal([]byte(m.data), &wire); err != nil {
				return err
			}
			if len(batch.Events) == maxBatch {
				return errors.New("a batch of the event stream is too long")
			}
			batch.Events = append(batch.Events, wire.Event(c.tenant()))
		}
		if m.id == "" {
			continue
		}
		batch.Position = sessiond.Position(m.id)
		if !yield(batch, nil) {
			return nil
		}
		batch = sessiond.EventBatch{}
	}
}

// A message is one server-sent event.
type message struct{ event, data, id string }

// readMessage reads up to the blank line that ends a message.
func readMessage(in *bufio.Reader) (m message, err error) {
	for size := 0; ; {
		raw, err := in.ReadSlice('\n')
		size += len(raw)
		switch {
		case errors.Is(err, bufio.ErrBufferFull), size > maxMessage:
			return m, errors.New("a message of the event stream is too long")
		case err == io.EOF:
			return m, errors.New("the event stream ended")
		case err != nil:
			return m, err
		}
		line := strings.TrimRight(string(raw), "\r\n")
		if line == "" {
			return m, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			m.event = value
		case "data":
			m.data += value
		case "id":
			m.id = value
		}
	}
}
