package telemetry

import (
	"log/slog"
	"time"

	"sessiond.example/sessiond"
)

// An Operation is one finished request, as the log and the metrics show it. It
// has room for neither data nor secrets.
type Operation struct {
	Op          string // what was asked for, such as "create" or "verify"
	Route       string // pattern that matched, without method; empty if none did
	Method      string // of the request
	Status      int    // of the answer
	Duration    time.Duration
	SessionID   string // empty when no single session was meant
	Tenant      string // empty before the credential was accepted
	Principal   string // who asked; empty before the credential was accepted
	RequestID   string
	TraceID     string             // empty when the request belongs to no trace
	Reason      sessiond.EndReason // of ends, else empty
	AuthFailure string             // why the credential was refused, else empty
}

// level is how much the operation deserves attention: a 503 has its cause
// behind us, any other 5xx is our bug.
func (op *Operation) level() slog.Level {
	switch {
	case op.Status < 500:
		return slog.LevelInfo
	case op.Status == 503:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}
