package server

import (
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// maxConnections is how many connections a server keeps open at a time. Each takes some 20 KiB.
const maxConnections = 8192

// NewHTTPServer makes an [http.Server] for h, with bounds on what a client may send and how long it may take: 5s for
// the header of a request, of at most 16 KiB; 10s for the whole request; 15s for the answer, which event streams
// extend; 60s of idleness; 8,192 connections, beyond which new ones are closed at once. It speaks HTTP/1.1 and HTTP/2,
// without TLS also by prior knowledge (RFC 9113 section 3.3). Its complaints go to log as warnings. The address, TLS and
// the rest are the caller's to set.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		Protocols:         &protocols,
		// What clients send ahead is kept, read or not, so that it is bounded: 64 KiB of a request and 256 KiB of all that
		// a connection has under way.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 250, MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 256 << 10,
			WriteByteTimeout: 15 * time.Second,
		},
		ConnState: closeBeyond(maxConnections),
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// "OPTIONS *" is answered by h like everything else.
		DisableGeneralOptionsHandler: true,
	}
}

// closeBeyond is an [http.Server.ConnState] that closes new connections while most are open.
func closeBeyond(most int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > most {
				_ = conn.Close() // nobody waits for the outcome
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}
