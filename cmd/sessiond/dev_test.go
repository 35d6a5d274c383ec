package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// curlLine is the line of sessiond dev's greeting that is to be pasted.
func curlLine(t *testing.T, stdout string) string {
	t.Helper()
	for line := range strings.Lines(stdout) {
		if strings.HasPrefix(line, "curl ") {
			return strings.TrimSuffix(line, "\n")
		}
	}
	t.Fatalf("no curl line in %q", stdout)
	return ""
}

func TestDevGreeting(t *testing.T) {
	t.Parallel()
	s := startDev(t, t.TempDir())
	s.eventually("the greeting", func() bool { return strings.Contains(s.stdout.String(), "\n\n") })
	line := curlLine(t, s.stdout.String())
	cmd := exec.Command("sh", "-c", line+` -w '%{http_code}'`) // the body ends with a newline
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v, %s", line, err, &stderr)
	}
	body, status, _ := strings.Cut(string(out), "\n")
	if status != "201" || !strings.Contains(body, `"token":"sst_`) || stderr.Len() > 0 {
		t.Errorf("%s\nis answered %s %s, stderr %q", line, status, body, &stderr)
	}
	for _, want := range []string{s.api, s.ops + "/metrics"} {
		if !strings.Contains(s.stdout.String(), want) {
			t.Errorf("the greeting does not name %s:\n%s", want, &s.stdout)
		}
	}
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestDevGateway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	admin := devToken(t, dir, "--permissions", "sessions:create,sessions:delete")
	made := s.do("POST", "/sessions/", admin, `{"id":"gated","subject":"alice"}`).want(t, http.StatusCreated)
	token := made.member(t, "token")

	ok := s.do("GET", "/auth/web", "", "", "Cookie: session="+token).want(t, http.StatusOK)
	if ok.header.Get("Session-Id") != "gated" || ok.header.Get("Session-Subject") != "alice" ||
		ok.header.Get("Session-Tenant") != "default" || ok.header.Get("Session-Expires-At") == "" {
		t.Errorf("the gateway is told %v", ok.header)
	}
	s.do("POST", "/auth/web/any/path?q", token, "x").want(t, http.StatusOK)
	s.do("GET", "/auth/web", "", "").want(t, http.StatusUnauthorized)
	s.do("GET", "/auth/other", "", "", "Cookie: session="+token).want(t, http.StatusUnauthorized)
	s.do("DELETE", "/sessions/gated", admin, "").want(t, http.StatusNoContent)
	s.do("GET", "/auth/web", "", "", "Cookie: session="+token).want(t, http.StatusUnauthorized)
}

func TestDevRefusesOtherAddresses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dev")
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "example.com:80", "[::]:0", "nonsense"} {
		for _, flag := range []string{"--listen", "--ops-listen"} {
			r := run(t, nil, "dev", flag, address, "--data", dir)
			r.want(t, 2, flag+" "+address)
			r.want(t, 2, "loopback")
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a refused start has made the directory (%v)", err)
	}
}

func TestDevAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	for flag, other := range map[string]string{"--listen": "--ops-listen", "--ops-listen": "--listen"} {
		r := run(t, nil, "dev", flag, address, other, "127.0.0.1:0", "--data", t.TempDir())
		r.want(t, 1, "address already in use")
		r.want(t, 1, address)
		r.want(t, 1, "choose another address with "+flag)
	}
}

func TestDevDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startProcess(t, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir)
	first.waitReady()

	r := run(t, nil, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir)
	r.want(t, 1, "in use")
	r.want(t, 1, dir)
	if r.stdout != "" {
		t.Errorf("stdout %q", r.stdout)
	}
	// The refused start must not have told "sessiond token" of an issuer that is not there.
	first.do("GET", "/sessions/", devToken(t, dir, "--permissions", "sessions:read"), "").want(t, http.StatusOK)
}

// TestDevTerminate covers a stop by SIGTERM with a request and an event stream
// under way, and the start after it.
func TestDevTerminate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startProcess(t, "dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", dir)
	p.waitReady()
	all := devToken(t, dir, "--permissions", "sessions:create,sessions:read,sessions:delete")
	for i := range 20 {
		p.do("POST", "/sessions/", all, fmt.Sprintf(`{"id":"kept-%d","data":{"n":%d}}`, i, i)).want(t, 201)
	}
	p.do("DELETE", "/sessions/kept-0", all, "").want(t, http.StatusNoContent)
	stream, streamEnded := p.openStream(all)
	defer stream.Close()
	slow := p.beginRequest("POST", "/sessions/", all, `{"id":"slow"`)
	defer slow.Close()

	p.signal(syscall.SIGTERM)
	p.eventually("/readyz to fail", func() bool { return p.status(p.ops+"/readyz") == http.StatusServiceUnavailable })
	if p.status(p.ops+"/healthz") != http.StatusOK {
		t.Error("/healthz fails while the server drains")
	}
	if err := <-streamEnded; err != nil {
		t.Errorf("the event stream was cut off: %v", err)
	}
	if answer := slow.finish(t, `}`); answer != http.StatusCreated {
		t.Errorf("the request in flight is answered %d", answer)
	}
	<-p.exited
	if p.code != 0 {
		t.Errorf("exit code %d; stderr:\n%s", p.code, &p.stderr)
	}
	p.checkOutput()

	again := start(t, nil, "dev", "--listen", strings.TrimPrefix(p.api, "http://"),
		"--ops-listen", strings.TrimPrefix(p.ops, "http://"), "--data", dir)
	again.waitReady()
	again.do("GET", "/sessions/kept-0", all, "").want(t, http.StatusGone)
	for i := 1; i < 20; i++ {
		got := again.do("GET", fmt.Sprintf("/sessions/kept-%d", i), all, "").want(t, http.StatusOK)
		if !strings.Contains(got.body, fmt.Sprintf(`"data":{"n":%d}`, i)) {
			t.Errorf("after the restart: %s", got.body)
		}
	}
	again.do("GET", "/sessions/slow", all, "").want(t, http.StatusOK)
}

// openStream opens the event stream and returns a channel that tells how it
// ended: nil when the server has ended it.
func (s *running) openStream(token string) (body io.Closer, ended <-chan error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), "GET", s.api+"/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	if first, err := lines.ReadString('\n'); first != "event: heartbeat\n" {
		s.t.Fatalf("the stream begins with %q (%v)", first, err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, lines)
		done <- err
	}()
	return resp.Body, done
}

// A slowRequest is a request of which the end is still to be sent.
type slowRequest struct {
	net.Conn
}

// beginRequest sends a request without the last byte of its body.
func (s *running) beginRequest(method, path, token, body string) slowRequest {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.api, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: sessiond\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		method, path, token, len(body)+1)
	if err != nil {
		s.t.Fatal(err)
	}
	// The server asks for the body from within the handler, so the request is in flight.
	line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, line); err != nil || !bytes.Contains(line, []byte("100 Continue")) {
		s.t.Fatalf("%q, %v", line, err)
	}
	if _, err := io.WriteString(conn, body); err != nil {
		s.t.Fatal(err)
	}
	return slowRequest{conn}
}

// finish sends the rest and returns the status of the answer.
func (r slowRequest) finish(t *testing.T, rest string) int {
	t.Helper()
	if _, err := io.WriteString(r, rest); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	r := run(t, nil, "token", "--permissions", "sessions:create", "--data", dir)
	if r.code != 0 || r.stderr != "" || strings.Count(r.stdout, "\n") != 1 || strings.Count(r.stdout, ".") != 2 ||
		strings.ContainsAny(r.stdout, " \t") {
		t.Fatalf("sessiond token prints %+v", r)
	}
	creator := strings.TrimSpace(r.stdout)
	s.do("POST", "/sessions/", creator, `{"id":"one"}`).want(t, http.StatusCreated)
	denied := s.do("GET", "/sessions/one", creator, "").want(t, http.StatusForbidden)
	if challenge := denied.header.Get("WWW-Authenticate"); !strings.Contains(challenge, "insufficient_scope") {
		t.Errorf("challenge %q", challenge)
	}
	reader := devToken(t, dir, "--permissions", "sessions:inspect", "--permissions", "sessions:read", "--subject", "bob")
	s.do("GET", "/sessions/one", reader, "").want(t, http.StatusOK)
	s.do("POST", "/sessions/", reader, `{}`).want(t, http.StatusForbidden)
	elsewhere := devToken(t, dir, "--permissions", "sessions:read", "--tenant", "elsewhere")
	s.do("GET", "/sessions/one", elsewhere, "").want(t, http.StatusNotFound)
	s.eventually("the log line of bob", func() bool { return strings.Contains(s.stderr.String(), `"principal":"bob"`) })

	for _, tt := range []struct {
		code int
		text string
		args []string
	}{
		{2, "--permissions is required; there are sessions:create,", nil},
		{2, `"sessions:everything" is none; there are sessions:create,`, []string{"--permissions", "sessions:everything"}},
		{2, "--tenant must have", []string{"--permissions", "sessions:read", "--tenant", "Not OK"}},
		{2, "--ttl must be at least 1s", []string{"--permissions", "sessions:read", "--ttl", "0s"}},
		{2, `unknown command or argument "extra"`, []string{"extra"}},
		{1, `start "sessiond dev" first`, []string{"--permissions", "sessions:read", "--data", "nowhere"}},
	} {
		r := run(t, nil, append([]string{"token", "--data", dir}, tt.args...)...)
		r.want(t, tt.code, tt.text)
		if r.stdout != "" {
			t.Errorf("%v: stdout %q", tt.args, r.stdout)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	token := devToken(t, dir, "--permissions", "sessions:read", "--ttl", "1s")
	s.eventually("the end of the token", func() bool {
		return s.do("GET", "/sessions/", token, "").status == http.StatusUnauthorized
	})
}

func TestTokenDamagedState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, devIssuerFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "token", "--permissions", "sessions:read", "--data", dir).want(t, 1, "is damaged")
}
