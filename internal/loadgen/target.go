package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A target is a running sessiond and a running bare handler, with a filled store.
type target struct {
	dir       string
	processes []*exec.Cmd
	api, bare string // addresses
	token     string // of the API credential
	ids       []string
	session   string // token of ids[0]
}

const createBody = `{"subject":"user-4711","data":{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB",` +
	`"csrf":"6f1c9f2e5b7d4a3c8e0f1a2b3c4d5e6f"},"labels":{"device":"phone","client":"web"}}`

func startTarget(ctx context.Context, s settings) (t *target, err error) {
	t = &target{}
	defer func() {
		if err != nil {
			t.stop()
		}
	}()
	if t.dir, err = os.MkdirTemp("", "sessiond-bench-"); err != nil {
		return t, err
	}
	binary := filepath.Join(t.dir, "sessiond")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/sessiond").CombinedOutput(); err != nil {
		return t, fmt.Errorf("build: %w\n%s", err, out)
	}
	addresses, err := freeAddresses(3)
	if err != nil {
		return t, err
	}
	t.api, t.bare = addresses[0], addresses[2]
	data := filepath.Join(t.dir, "data")
	logFile, err := os.Create(filepath.Join(t.dir, "log"))
	if err != nil {
		return t, err
	}
	defer logFile.Close()
	err = t.start(exec.Command(binary, "dev", "--listen", t.api, "--ops-listen", addresses[1], "--data", data), logFile)
	if err != nil {
		return t, err
	}
	if err := waitFor(ctx, "http://"+addresses[1]+"/readyz"); err != nil {
		return t, err
	}
	out, err := exec.CommandContext(ctx, binary, "token", "--data", data, "--ttl", "24h", "--permissions",
		"sessions:create,sessions:read,sessions:verify").Output()
	if err != nil {
		return t, fmt.Errorf("token: %w", err)
	}
	t.token = strings.TrimSpace(string(out))
	if err := t.fill(ctx, s); err != nil {
		return t, err
	}
	return t, t.startBare(ctx)
}

func (t *target) start(cmd *exec.Cmd, log io.Writer) error {
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return err
	}
	t.processes = append(t.processes, cmd)
	return nil
}

// stop ends the processes by their ids and removes their files.
func (t *target) stop() {
	for _, cmd := range t.processes {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}
	os.RemoveAll(t.dir)
}

// freeAddresses are loopback addresses that nobody listens on now.
func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

func waitFor(ctx context.Context, url string) error {
	for range 1000 {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 300 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s did not answer in time", url)
}

// fill creates the sessions to read.
func (t *target) fill(ctx context.Context, s settings) error {
	transport := &http.Transport{MaxIdleConnsPerHost: s.connections}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	t.ids = make([]string, s.sessions)
	errs := make([]error, s.connections)
	var wg sync.WaitGroup
	for w := range s.connections {
		wg.Go(func() {
			for i := w; i < s.sessions; i += s.connections {
				if errs[w] = t.createOne(ctx, c, i); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (t *target) createOne(ctx context.Context, c *http.Client, i int) error {
	body, status, err := t.do(ctx, c, "POST", "/sessions/", strings.Replace(createBody, "4711", fmt.Sprint(i), 1))
	if err != nil || status != http.StatusCreated {
		return fmt.Errorf("create answered %d: %s: %w", status, body, errors.Join(err))
	}
	var session struct{ ID, Token string }
	if err := json.Unmarshal(body, &session); err != nil {
		return err
	}
	t.ids[i] = session.ID
	if i == 0 {
		t.session = session.Token
	}
	return nil
}

func (t *target) do(ctx context.Context, c *http.Client, method, path, body string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+t.api+path, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// startBare starts the bare handler with the bodies that sessiond answers.
func (t *target) startBare(ctx context.Context) error {
	var bodies bareBodies
	c := &http.Client{}
	for _, b := range []struct {
		method, path, body string
		to                 *string
	}{
		{"GET", "/sessions/" + t.ids[0], "", &bodies.Get},
		{"POST", "/verify", `{"token":"` + t.session + `"}`, &bodies.Verify},
		{"POST", "/sessions/", createBody, &bodies.Create},
	} {
		answer, status, err := t.do(ctx, c, b.method, b.path, b.body)
		if err != nil || status >= 300 {
			return fmt.Errorf("%s %s answered %d: %w", b.method, b.path, status, errors.Join(err))
		}
		*b.to = base64.StdEncoding.EncodeToString(answer)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	input, err := json.Marshal(bodies)
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-bare", t.bare)
	cmd.Stdin = bytes.NewReader(input)
	if err := t.start(cmd, os.Stderr); err != nil {
		return err
	}
	return waitFor(ctx, "http://"+t.bare+"/get")
}

// residentMiB is the resident memory of the server.
func (t *target) residentMiB() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.processes[0].Process.Pid))
	if err != nil {
		return 0, err
	}
	var kib int
	_, after, _ := bytes.Cut(status, []byte("VmRSS:"))
	_, err = fmt.Sscan(string(after), &kib)
	return kib >> 10, err
}

// The visits. Their requests are built once, except for what changes.

func (t *target) request(method, path, body string) []byte {
	head := method + " " + path + " HTTP/1.1\r\nHost: " + t.api + "\r\nAuthorization: Bearer " + t.token + "\r\n"
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(head + "\r\n" + body)
}

func fixed(address, status string, request []byte) visit {
	return visit{address, status, func(_ int, buf []byte) []byte { return append(buf, request...) }}
}

func (t *target) getHot() visit {
	return fixed(t.api, "200", t.request("GET", "/sessions/"+t.ids[0], ""))
}

func (t *target) getRandom() visit {
	before, after, _ := bytes.Cut(t.request("GET", "/sessions/\x00", ""), []byte{0})
	return visit{t.api, "200", func(_ int, buf []byte) []byte {
		buf = append(buf, before...)
		buf = append(buf, t.ids[rand.IntN(len(t.ids))]...)
		return append(buf, after...)
	}}
}

func (t *target) verify() visit {
	return fixed(t.api, "200", t.request("POST", "/verify", `{"token":"`+t.session+`"}`))
}

func (t *target) create() visit {
	return fixed(t.api, "201", t.request("POST", "/sessions/", createBody))
}

func (t *target) bareGet() visit { return fixed(t.bare, "200", t.request("GET", "/get", "")) }

func (t *target) bareVerify() visit {
	return fixed(t.bare, "200", t.request("POST", "/verify", `{"token":"`+t.session+`"}`))
}

func (t *target) bareCreate() visit {
	return fixed(t.bare, "201", t.request("POST", "/create", createBody))
}
