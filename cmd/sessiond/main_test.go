package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sessiond.example/sessiond/internal/testserver"
)

// asProgram is the environment variable that makes the test binary the program
// itself: with real signals, and with the race detector when the tests have it.
const asProgram = "SESSIOND_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram) // serve would warn of it
		main()
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the library of the test issuer tells it of its routes
	code := testserver.Main(m)
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// A result is what came of a command.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command in process, with environ as its whole environment.
func run(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, environ: environ}
	code := p.run(t.Context(), args)
	return result{code, stdout.String(), stderr.String()}
}

// want fails the test unless the command ended with code and stderr has text.
func (r result) want(t *testing.T, code int, text string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stderr, text) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want code %d and stderr with %q",
			r.code, r.stdout, r.stderr, code, text)
	}
}

// An output collects what a program writes while it is running.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// A running is a server under test, in process or as a process of its own.
type running struct {
	t              *testing.T
	stdout, stderr output
	api, ops       string        // base URLs
	exited         chan struct{} // closed when it has ended
	code           int           // exit code, once it has ended
	stop           func()        // asks it to end, as SIGTERM does
}

// start runs a server command in process until the test ends.
func start(t *testing.T, environ []string, args ...string) *running {
	t.Helper()
	s := &running{t: t, exited: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	p := program{stdin: strings.NewReader(""), stdout: &s.stdout, stderr: &s.stderr, environ: environ}
	go func() {
		s.code = p.run(ctx, args)
		close(s.exited)
	}()
	t.Cleanup(func() { s.end() })
	s.findAddresses("http")
	return s
}

// startDev runs sessiond dev in process on free ports and waits until it is ready.
func startDev(t *testing.T, dir string) *running {
	t.Helper()
	s := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir)
	s.waitReady()
	return s
}

// end asks the server to end and returns its exit code.
func (s *running) end() int {
	s.t.Helper()
	s.stop()
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		s.t.Fatalf("the server did not end; stderr:\n%s", &s.stderr)
	}
	return s.code
}

// findAddresses waits for the line that tells the addresses.
func (s *running) findAddresses(scheme string) {
	s.t.Helper()
	s.eventually("a line with the addresses", func() bool {
		for line := range strings.Lines(s.stderr.String()) {
			var l struct {
				Msg string `json:"msg"`
				API string `json:"listen"`
				Ops string `json:"ops_listen"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "serving" {
				s.api, s.ops = scheme+"://"+l.API, "http://"+l.Ops
				return true
			}
		}
		return false
	})
}

func (s *running) waitReady() {
	s.t.Helper()
	s.eventually("readiness", func() bool { return s.status(s.ops+"/readyz") == http.StatusOK })
}

// eventually waits until ok, for as long as the server runs.
func (s *running) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		select {
		case <-s.exited:
			s.t.Fatalf("waiting for %s: the server ended with code %d; stderr:\n%s", what, s.code, &s.stderr)
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s did not come; stderr:\n%s", what, &s.stderr)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// status is the status of a GET, 0 when there was no answer.
func (s *running) status(url string) int {
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// An answer is an HTTP response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request to the API. Headers are given as "Name: value".
func (s *running) do(method, path, token, body string, headers ...string) answer {
	s.t.Helper()
	return s.doWith(http.DefaultClient, method, s.api+path, token, body, headers...)
}

func (s *running) doWith(c *http.Client, method, url, token, body string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// want fails the test unless the answer has the status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answered %d %s, want %d", a.status, a.body, status)
	}
	return a
}

// member is a text member of the answer's body.
func (a answer) member(t *testing.T, name string) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(a.body), &members); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	text, ok := members[name].(string)
	if !ok {
		t.Fatalf("no text member %s: %s", name, a.body)
	}
	return text
}

// devToken is what sessiond token prints.
func devToken(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := run(t, nil, append([]string{"token", "--data", dir}, args...)...)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("exit code %d, stderr %q", r.code, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}
