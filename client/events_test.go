package client_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

func event(id sessiond.ID, version int) string {
	return fmt.Sprintf("event: session.updated\ndata: {\"id\":\"%s.%d\",\"type\":\"session.updated\",\"time\":\"2026-01-02T03:04:05.678Z\","+
		"\"session_id\":\"%s\",\"subject\":\"alice\",\"version\":%d}\n", id, version, id, version)
}

func heartbeat(position string) string { return "event: heartbeat\nid: " + position + "\n\n" }

// A script is what a server streams to one connection after the other.
func script(
	t *testing.T, streams ...string,
) (follow func(sessiond.EventParams) ([]string, sessiond.Position, error), asked *[]string) {
	t.Helper()
	asked = new([]string)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Header.Get("Last-Event-ID")+"|"+r.URL.RawQuery)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte(streams[len(*asked)-1]))
	})
	return func(p sessiond.EventParams) (batches []string, last sessiond.Position, err error) {
		for b, err := range c.Events(t.Context(), p) {
			if err != nil {
				return batches, last, err
			}
			text := ""
			if b.Reset {
				text = "reset "
			}
			for _, e := range b.Events {
				text += e.ID + " "
			}
			batches, last = append(batches, text+"@"+string(b.Position)), b.Position
		}
		return batches, last, nil
	}, asked
}

// TestStreamCutAndResumed: a batch that was cut off is not shown, and comes
// again when the caller goes on from the last position.
func TestStreamCutAndResumed(t *testing.T) {
	t.Parallel()
	follow, asked := script(t,
		heartbeat("p0")+event("a", 1)+"\n"+event("a", 2)+"id: p2\n\n"+event("a", 3)+"\n"+event("a", 4)[:40],
		event("a", 3)+"\n"+event("a", 4)+"id: p4\n\n"+heartbeat("p4"),
		"event: reset\ndata: {}\n\n"+event("b", 1)+"id: p9\n\n",
	)
	var got []string
	p := sessiond.EventParams{Subject: "ä &", Types: []sessiond.EventType{sessiond.EventUpdated, sessiond.EventErased}}
	for range 3 {
		batches, last, err := follow(p)
		only(t, "end of the stream", err, sessiond.ErrUnavailable)
		got, p.After = append(got, batches...), last
	}
	if diff := cmp.Diff([]string{"@p0", "a.1 a.2 @p2", "a.3 a.4 @p4", "@p4", "reset b.1 @p9"}, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
	const query = "subject=%C3%A4+%26&type=session.updated%2Csession.erased"
	if diff := cmp.Diff([]string{"|" + query, "p2|" + query, "p4|" + query}, *asked); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestStreamForms reads what the format allows and refuses the rest.
func TestStreamForms(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		stream string
		want   []string
	}{
		"CRLF":          {strings.ReplaceAll(event("a", 1)+"id: p1\n\n", "\n", "\r\n"), []string{"a.1 @p1"}},
		"comments":      {": hello\n\n" + ":\n" + event("a", 1) + ": x\nretry: 5\nid: p1\n\n", []string{"a.1 @p1"}},
		"no spaces":     {strings.ReplaceAll(event("a", 1)+"id: p1\n\n", ": ", ":"), []string{"a.1 @p1"}},
		"no final line": {event("a", 1) + "id: p1\n", nil},
		"no JSON":       {heartbeat("p0") + "event: session.created\ndata: hello\nid: p1\n\n", []string{"@p0"}},
		"no data":       {"event: session.created\nid: p1\n\n", nil},
		"endless line":  {"data: " + strings.Repeat("x", 1<<20) + "\n\n", nil},
		"long message":  {"event: heartbeat\n" + strings.Repeat("data: x\n", 1<<14) + "id: p1\n\n", nil},
		"long batch":    {strings.Repeat(event("a", 1)+"\n", 10_001) + heartbeat("p1"), nil},
		"empty":         {"", nil},
	} {
		follow, _ := script(t, tt.stream)
		got, _, err := follow(sessiond.EventParams{})
		only(t, name, err, sessiond.ErrUnavailable)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestStreamEndsWithItsReader: breaking off the loop, or ending the context,
// closes the connection.
func TestStreamEndsWithItsReader(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte(heartbeat("p0")))
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	for _, err := range c.Events(t.Context(), sessiond.EventParams{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	<-gone
	ctx, cancel := context.WithCancel(t.Context())
	for _, err := range c.Events(ctx, sessiond.EventParams{}) {
		if err != nil {
			only(t, "ended context", err, context.Canceled)
			break
		}
		cancel()
	}
	cancel()
	<-gone
}
