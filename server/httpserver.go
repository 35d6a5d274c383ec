package server

import (
	"log/slog"
	"net/http"
	"time"
)

// NewHTTPServer makes an [http.Server] for h, with bounds on what a client may send and how long it may take: 5s for
// the header of a request, of at most 16 KiB; 10s for the whole request; 15s for the answer, which event streams
// extend; 60s of idleness. It speaks HTTP/1.1 and HTTP/2, without TLS also by prior knowledge (RFC 9113 section 3.3).
// Its complaints go to log as warnings. The address, TLS and the rest are the caller's to set.
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
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// "OPTIONS *" is answered by h like everything else.
		DisableGeneralOptionsHandler: true,
	}
}
