package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
)

// Dialer dials the server of a URL, with TLS for https. roots, if not nil, is
// what TLS trusts instead of the system's certificates, and ServerName of it is
// taken from the URL.
func Dialer(server *url.URL, roots *tls.Config) (func(context.Context) (net.Conn, error), error) {
	port := server.Port()
	switch {
	case server.Hostname() == "" || server.Scheme != "http" && server.Scheme != "https":
		return nil, fmt.Errorf("load: %q is no URL of a server", server)
	case port == "" && server.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	address := net.JoinHostPort(server.Hostname(), port)
	plain := &net.Dialer{Timeout: patience}
	if server.Scheme == "http" {
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", address) }, nil
	}
	config := &tls.Config{}
	if roots != nil {
		config = roots.Clone()
	}
	config.ServerName, config.NextProtos = server.Hostname(), []string{"http/1.1"}
	secure := &tls.Dialer{NetDialer: plain, Config: config}
	return func(ctx context.Context) (net.Conn, error) { return secure.DialContext(ctx, "tcp", address) }, nil
}

// Request is an HTTP/1.1 request with a bearer token, if it is not empty, and a
// JSON body, if that is not. headers are lines such as "A: b".
func Request(method, host, path, token, body string, headers ...string) []byte {
	b := []byte(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n")
	if token != "" {
		b = append(b, "Authorization: Bearer "+token+"\r\n"...)
	}
	for _, h := range headers {
		b = append(b, h+"\r\n"...)
	}
	if body != "" {
		if method == "PATCH" {
			b = append(b, "Content-Type: application/merge-patch+json\r\n"...)
		} else {
			b = append(b, "Content-Type: application/json\r\n"...)
		}
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(body))
	}
	return append(append(b, "\r\n"...), body...)
}

// A reader reads answers, with as little work as it takes: the client shares
// the machine with the server in most measurements.
type reader struct{ *bufio.Reader }

func (r *reader) reset(conn net.Conn) {
	if r.Reader == nil {
		r.Reader = bufio.NewReaderSize(conn, 16<<10)
	} else {
		r.Reset(conn)
	}
}

// answer reads one answer to its end. keep tells that the connection can be
// used again.
func (r *reader) answer() (status int, keep bool, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < 13 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, false, fmt.Errorf("not HTTP/1: %q", bytes.TrimSpace(line))
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, fmt.Errorf("no status: %q", bytes.TrimSpace(line))
	}
	h, err := r.header()
	if err != nil {
		return 0, false, err
	}
	switch {
	case status == 204 || status == 304:
	case h.chunked:
		err = r.chunks()
	case h.length >= 0:
		err = r.discard(h.length)
	default: // up to the end of the connection
		h.closes = true
		_, err = io.Copy(io.Discard, r)
	}
	return status, !h.closes, err
}

// A header is what matters of an answer's header.
type header struct {
	length          int // -1: none
	chunked, closes bool
}

func (r *reader) header() (h header, err error) {
	h.length = -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return h, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch len(name) { // most lines are none of these
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if h.length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || h.length < 0 {
					return h, fmt.Errorf("no length: %q", line)
				}
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
				h.chunked = bytes.EqualFold(bytes.TrimSpace(value), []byte("chunked"))
			}
		case len("Connection"):
			if bytes.EqualFold(name, []byte("Connection")) {
				h.closes = bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
			}
		}
	}
}

// chunks reads a body in chunks, and what follows it.
func (r *reader) chunks() error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(";"))
		n, err := strconv.ParseInt(string(size), 16, 32)
		if err != nil || n < 0 {
			return errors.New("a chunk without size")
		}
		if n == 0 {
			_, err = r.header()
			return err
		}
		if err := r.discard(int(n) + len("\r\n")); err != nil {
			return err
		}
	}
}

func (r *reader) discard(n int) error {
	_, err := r.Discard(n)
	return err
}
