package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"sessiond.example/sessiond/internal/load"
)

// A server is a sessiond that runs.
type server struct {
	*process
	binary, ops, data, storeURL string
	token                       string // an access token that may do everything
}

// serve starts sessiond on what is in the directory data, or on another store.
func (b *bench) serve(ctx context.Context, data, storeURL string) (*server, error) {
	binary, err := b.build.server(ctx)
	if err != nil {
		return nil, err
	}
	addresses, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	s := &server{process: &process{address: addresses[0]}, binary: binary, ops: addresses[1], data: data, storeURL: storeURL}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, binary, "token", "--data", data, "--ttl", "24h", "--permissions",
		"sessions:create,sessions:read,sessions:update,sessions:delete,sessions:verify,sessions:admin").Output()
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("sessiond token: %w", err)
	}
	s.token = strings.TrimSpace(string(out))
	return s, nil
}

// start starts the server on the addresses that it has, and returns when it is
// ready.
func (s *server) start(ctx context.Context) (err error) {
	cmd := exec.Command(s.binary, "dev", "--listen", s.address, "--ops-listen", s.ops, "--data", s.data,
		"--store-url", s.storeURL)
	s.process, err = start(ctx, cmd, s.data+".log", s.address, "http://"+s.ops+"/readyz")
	return err
}

// kill ends the server as a crash does.
func (s *server) kill() { s.end(syscall.SIGKILL) }

// do sends one request and returns the answer's body, which must have the status.
func (s *server) do(ctx context.Context, want int, method, path, body string) ([]byte, error) {
	_, b, err := s.whole(ctx, want, method, path, body)
	return b, err
}

// whole is do with the answer's header.
func (s *server) whole(ctx context.Context, want int, method, path, body string) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return answered(req, want)
}

func answered(req *http.Request, want int) (http.Header, []byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s answered %d: %s", req.Method, req.URL.Path, resp.StatusCode, b)
	}
	return resp.Header, b, err
}

// metric is a number that the server exports, by its whole name with labels.
func (s *server) metric(ctx context.Context, name string) (value float64, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.ops+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	_, body, err := answered(req, http.StatusOK)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscan(rest, &value)
			return value, err
		}
	}
	return 0, nil // not counted yet
}

// createBody is the session that all rows use.
const (
	sessionData   = `{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB","csrf":"6f1c9f2e5b7d4a3c8e0f1a2b3c4d5e6f"}`
	createBody    = `{"subject":"user-4711","data":` + sessionData + `,"labels":{"device":"phone","client":"web"}}`
	createdStatus = http.StatusCreated
)

// A session is one that is stored.
type session struct{ ID, Token string }

func (s *server) createSession(ctx context.Context) (created session, err error) {
	body, err := s.do(ctx, createdStatus, "POST", "/sessions/", createBody)
	if err != nil {
		return created, err
	}
	return created, json.Unmarshal(body, &created)
}

// request are the bytes of a request to the server.
func (s *server) request(method, path, body string) []byte {
	return load.Request(method, s.address, path, s.token, body)
}

// startBare starts the bare handler with what sessiond answers, header and body.
func (b *bench) startBare(ctx context.Context, s *server, hot session) (*process, error) {
	answers := []bareAnswer{
		{Pattern: "GET /sessions/" + hot.ID, Status: http.StatusOK},
		{Pattern: "POST /verify", Status: http.StatusOK},
		{Pattern: "POST /sessions/", Status: createdStatus},
	}
	for i, body := range []string{"", verifyBody(hot), createBody} {
		method, path, _ := strings.Cut(answers[i].Pattern, " ")
		header, got, err := s.whole(ctx, answers[i].Status, method, path, body)
		if err != nil {
			return nil, err
		}
		header.Del("Date") // which net/http sets
		answers[i].Header, answers[i].Body = header, got
	}
	input, err := json.Marshal(answers)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), bareVariable+"="+addresses[0])
	cmd.Stdin = bytes.NewReader(input)
	return start(ctx, cmd, filepath.Join(b.dir, "bare.log"), addresses[0], "http://"+addresses[0]+"/sessions/"+hot.ID)
}

func verifyBody(s session) string { return `{"token":"` + s.Token + `"}` }

// startScs starts the application on scs and returns the cookie of a session that
// keeps page, a JSON object.
func (b *bench) startScs(ctx context.Context, storeURL string, page []byte) (p *process, cookie string, err error) {
	binary, err := b.build.application(ctx)
	if err != nil {
		return nil, "", err
	}
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, "", err
	}
	base := "http://" + addresses[0]
	cmd := exec.Command(binary, "-listen", addresses[0], "-store", storeURL, "-pool", fmt.Sprint(b.connections))
	p, err = start(ctx, cmd, filepath.Join(b.dir, "scs.log"), addresses[0], base+"/ready")
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", base+"/login", bytes.NewReader(page))
	if err == nil {
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			for _, c := range resp.Cookies() {
				cookie = c.Name + "=" + c.Value
			}
			if cookie == "" {
				err = errors.New("scs gave no cookie")
			}
		}
	}
	if err != nil {
		p.stop()
		return nil, "", err
	}
	return p, cookie, nil
}

// dialer dials a process.
func (p *process) dialer() load.Load {
	dial, err := load.Dialer(&url.URL{Scheme: "http", Host: p.address}, nil)
	if err != nil {
		panic(err) // an address of ours
	}
	return load.Load{Dial: dial}
}
