package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/pebblestore"
)

// socketName is the admin socket within the store's directory.
const socketName = "sessiond.sock"

// An adminServer serves the administration on the socket, as HTTP and JSON. It is
// not an interface for others: both ends are the same version, or adjacent ones.
type adminServer struct {
	http *http.Server
	path string // of the socket
	stop context.CancelFunc
	done chan struct{} // closed when Serve has returned
}

// listenAdmin opens the admin socket when the store is one in a directory. The
// store is open, so a socket that is there belongs to a process that is gone.
func (s *service) listenAdmin() (*adminServer, error) {
	store, ok := s.store.(*pebblestore.Store)
	if !ok || s.keys == nil {
		return nil, nil
	}
	dir, _ := s.cfg.Store.PebbleDir()
	l, err := listenSocket(dir)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	a := &administration{store: store, pebble: store, manager: s.manager, keys: s.keys, logger: s.logger}
	ctx, cancel := context.WithCancel(context.Background())
	server := &adminServer{
		http: &http.Server{
			Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
		},
		path: filepath.Join(dir, socketName), stop: cancel, done: make(chan struct{}),
	}
	go func() {
		defer close(server.done)
		if err := server.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("the admin socket has failed", "err", err)
		}
	}()
	return server, nil
}

// close cuts off what is under way, which can be repeated, and waits for its end.
func (a *adminServer) close(ctx context.Context) error {
	if a == nil {
		return nil
	}
	a.stop()
	err := a.http.Shutdown(ctx)
	<-a.done
	if e := os.Remove(a.path); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// listenSocket listens on the socket in dir, for this user and root only.
func listenSocket(dir string) (net.Listener, error) {
	address, release, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by its own name, in close
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return ownListener{l}, nil
}

// An ownListener drops connections of other users.
type ownListener struct{ *net.UnixListener }

func (l ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peerAllowed(c) {
			return c, nil
		}
		_ = c.Close() // nothing was sent
	}
}

// handler is the administration as HTTP.
func (a *administration) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys", answering(a.keyUse))
	mux.HandleFunc("POST /keyset/reload", answering(a.reload))
	mux.HandleFunc("GET /layout", answering(a.layout))
	mux.HandleFunc("POST /finalize", answering(a.finalize))
	mux.HandleFunc("POST /reencrypt", streamed(a.reencrypt))
	mux.HandleFunc("POST /fence", streamed(a.fence))
	mux.HandleFunc("POST /export", a.exportHTTP)
	mux.HandleFunc("POST /import", a.importHTTP)
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		counted := &countedWriter{w: w}
		if err := a.backup(r.Context(), counted); err != nil {
			if counted.n > 0 {
				panic(http.ErrAbortHandler) // the client sees an archive that is cut off
			}
			writeFailure(w, err)
		}
	})
	return mux
}

func answering[T any](do func(context.Context) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r.Context())
		if err != nil {
			writeFailure(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // a client that hangs up needs no more
	}
}

// A message is one line of a stream: progress, or the last one.
type message struct {
	progress
	Done  bool   `json:"done,omitzero"`
	Error string `json:"error,omitzero"`
}

// reportEvery is the shortest time between two lines of progress.
const reportEvery = 500 * time.Millisecond

func streamed[T any](do func(context.Context, T, func(progress)) (progress, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req T
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err == nil {
			err = jsonv2.Unmarshal(body, &req, jsonv2.RejectUnknownMembers(true))
		}
		if err != nil {
			http.Error(w, "malformed request", http.StatusBadRequest)
			return
		}
		control, encoder := http.NewResponseController(w), json.NewEncoder(w)
		begun, last := false, time.Now()
		send := func(m message) {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			_ = errors.Join(encoder.Encode(m), control.Flush()) // the context tells when the client is gone
		}
		done, err := do(r.Context(), req, func(p progress) {
			if time.Since(last) >= reportEvery {
				last = time.Now()
				send(message{progress: p})
			}
		})
		switch {
		case err != nil && !begun:
			writeFailure(w, err)
		case err != nil:
			send(message{progress: done, Error: err.Error()})
		default:
			send(message{progress: done, Done: true})
		}
	}
}

// writeFailure answers with an error's text: who may connect may know it.
func writeFailure(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errBusy):
		status = http.StatusConflict
	case errors.Is(err, sessiond.ErrInvalid):
		status = http.StatusBadRequest
	}
	http.Error(w, err.Error(), status)
}

// A countedWriter knows how much was written.
type countedWriter struct {
	w io.Writer
	n int64
}

func (c *countedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
