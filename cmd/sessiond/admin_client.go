package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxSocketPath is a length that fits the address of a socket on every system.
const maxSocketPath = 100

// socketAddress is an address of the socket in dir that is short enough. release
// is to be called when it was used.
func socketAddress(dir string) (address string, release func(), err error) {
	path := filepath.Join(dir, socketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	short := fmt.Sprintf("/proc/self/fd/%d", d.Fd())
	if _, err := os.Stat(short); err != nil {
		return "", nil, errors.Join(fmt.Errorf("%s is longer than %d bytes, too long for a socket: choose a directory "+
			"with a shorter name", path, maxSocketPath), d.Close())
	}
	return filepath.Join(short, socketName), func() { d.Close() }, nil
}

// A remote is an administrator that asks a running server.
type remote struct {
	http *http.Client
	dir  string
}

// dialAdmin finds the server that runs on dir. The error is [fs.ErrNotExist] or
// [syscall.ECONNREFUSED] when none does.
func dialAdmin(ctx context.Context, dir string) (*remote, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		address, release, err := socketAddress(dir)
		if err != nil {
			return nil, err
		}
		defer release()
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", address)
	}
	c, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	return &remote{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, dir: dir}, nil
}

func (r *remote) running() bool { return true }

func (r *remote) close() error {
	r.http.CloseIdleConnections()
	return nil
}

func (r *remote) keyUse(ctx context.Context) (u keyUse, err error) {
	return u, r.ask(ctx, "GET", "/keys", &u)
}

func (r *remote) reload(ctx context.Context) (u keyUse, err error) {
	return u, r.ask(ctx, "POST", "/keyset/reload", &u)
}

func (r *remote) layout(ctx context.Context) (l layout, err error) {
	return l, r.ask(ctx, "GET", "/layout", &l)
}

func (r *remote) finalize(ctx context.Context) (l layout, err error) {
	return l, r.ask(ctx, "POST", "/finalize", &l)
}

func (r *remote) reencrypt(ctx context.Context, p walkRequest, report func(progress)) (progress, error) {
	return r.walk(ctx, "/reencrypt", p, report)
}

func (r *remote) fence(ctx context.Context, p fenceRequest, report func(progress)) (progress, error) {
	return r.walk(ctx, "/fence", p, report)
}

func (r *remote) backup(ctx context.Context, w io.Writer) error {
	resp, err := r.send(ctx, "POST", "/backup", nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// send sends a request; other answers than 200 are errors.
func (r *remote) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	return r.sendFrom(ctx, method, path, bytes.NewReader(body))
}

func (r *remote) sendFrom(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://sessiond"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the server that runs on %s went away; run the command again: %w", r.dir, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the server that runs on %s refuses: %s", r.dir, strings.TrimSpace(string(text)))
}

func (r *remote) ask(ctx context.Context, method, path string, to any) error {
	resp, err := r.send(ctx, method, path, nil)
	if err != nil {
		return err
	}
	err = json.NewDecoder(resp.Body).Decode(to)
	return errors.Join(err, resp.Body.Close())
}

// walk reads a stream of progress to its last line.
func (r *remote) walk(ctx context.Context, path string, req any, report func(progress)) (last progress, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return last, err
	}
	resp, err := r.send(ctx, "POST", path, body)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return last, err
		}
		last = m.progress
		report(last)
		switch {
		case m.Error != "":
			return last, fmt.Errorf("the server was cut off: %s; run the command again", m.Error)
		case m.Done:
			return last, nil
		}
	}
	return last, errors.Join(errors.New("the server went away before the end; run the command again"), lines.Err())
}
