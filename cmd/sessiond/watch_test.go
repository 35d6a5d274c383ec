package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestSessionWatch follows events across a kill of the server.
func TestSessionWatch(t *testing.T) {
	t.Parallel()
	dir, listen, ops := t.TempDir(), freeAddress(t), freeAddress(t)
	begin := func() *process {
		p := startProcess(t, "dev", "--listen", listen, "--ops-listen", ops, "--data", dir)
		p.waitReady()
		return p
	}
	server := begin()
	token := devToken(t, dir, "--permissions", "sessions:create,sessions:read,sessions:delete")
	w := startWatch(t, []string{"SESSIOND_SERVER=" + server.api, "SESSIOND_TOKEN=" + token},
		"--subject", "watched", "--type", "session.created,session.revoked")

	// Nothing tells when the watch has begun, so create until it shows something.
	created := 0
	create := func() (id string) {
		created++
		id = fmt.Sprintf("watched-%d", created)
		server.do("POST", "/sessions/", token, `{"id":"`+id+`","subject":"watched"}`).want(t, 201)
		server.do("POST", "/sessions/", token, `{"subject":"other"}`).want(t, 201)
		return id
	}
	first := ""
	server.eventually("an event", func() bool {
		create()
		if events := w.events(t); len(events) > 0 {
			first = events[0]
		}
		return first != ""
	})

	last := create()
	server.eventually("the event of "+last, func() bool { return w.has(t, "session.created "+last) })
	server.kill()
	server = begin()
	missed := create() // perhaps before the watch is back
	server.do("POST", "/sessions/"+missed+"/rotate", token, "").want(t, 200)
	server.do("DELETE", "/sessions/"+missed, token, "").want(t, 204)
	server.eventually("the end of "+missed, func() bool { return w.has(t, "session.revoked "+missed) })

	w.stop()
	if code := <-w.code; code != 0 {
		t.Errorf("exit code %d, stderr %s", code, &w.stderr)
	}
	if log := w.stderr.String(); !strings.Contains(log, "trying again") || strings.Contains(log, "may be missing") {
		t.Errorf("stderr %q", log)
	}
	var want []string
	for i := range created {
		id := fmt.Sprintf("session.created watched-%d", i+1)
		if len(want) > 0 || id == first {
			want = append(want, id)
		}
	}
	want = append(want, "session.revoked "+missed)
	if got := w.events(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("watched %q, want %q", got, want)
	}
}

func TestSessionWatchRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	environ := []string{"SESSIOND_SERVER=" + s.api, "SESSIOND_TOKEN=" + devToken(t, dir, "--permissions", "sessions:create")}
	run(t, environ, "session", "watch").want(t, 1, "Permission denied")
	environ[1] = "SESSIOND_TOKEN=" + devToken(t, dir, "--permissions", "sessions:read")
	run(t, environ, "session", "watch", "--type", "session.nonsense").want(t, 1, "type")
}

// A watching is sessiond session watch under way.
type watching struct {
	stdout, stderr output
	stop           context.CancelFunc
	code           chan int
}

func startWatch(t *testing.T, environ []string, args ...string) *watching {
	t.Helper()
	w := &watching{code: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w.stop = cancel
	p := program{stdin: strings.NewReader(""), stdout: &w.stdout, stderr: &w.stderr, environ: environ}
	go func() { w.code <- p.run(ctx, append([]string{"session", "watch"}, args...)) }()
	return w
}

// events are the events printed so far, as type and session id.
func (w *watching) events(t *testing.T) (events []string) {
	t.Helper()
	for line := range strings.Lines(w.stdout.String()) {
		var e struct {
			Type    string `json:"type"`
			ID      string `json:"session_id"`
			Subject string `json:"subject"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Subject != "watched" {
			t.Fatalf("line %q, %v", line, err)
		}
		events = append(events, e.Type+" "+e.ID)
	}
	return events
}

func (w *watching) has(t *testing.T, event string) bool {
	t.Helper()
	for _, e := range w.events(t) {
		if e == event {
			return true
		}
	}
	return false
}
