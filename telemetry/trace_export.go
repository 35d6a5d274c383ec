package telemetry

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
)

// An exporter sends spans and keeps the account of those that could not be sent.
type exporter struct {
	trace.SpanExporter
	logger  *slog.Logger
	stopped context.Context
	stop    context.CancelFunc // aborts an export under way

	mu   sync.Mutex
	lost int       // spans that nobody has been told of
	told time.Time // when the log was last told
}

// lossInterval is the least time between two lines about lost spans.
const lossInterval = time.Minute

func newExporter(e trace.SpanExporter, logger *slog.Logger) *exporter {
	x := &exporter{SpanExporter: e, logger: logger}
	x.stopped, x.stop = context.WithCancel(context.Background())
	return x
}

// ExportSpans implements [trace.SpanExporter]. It reports failures itself.
func (e *exporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.stopped, cancel)()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += len(spans)
	if now := time.Now(); e.told.IsZero() || now.Sub(e.told) >= lossInterval {
		e.logger.Warn("spans were not exported", "lost", e.lost, "err", shortened(err.Error()))
		e.lost, e.told = 0, now
	}
	return nil
}

// shortened bounds a text that may hold the collector's answer.
func shortened(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + cutMark
	}
	return s
}

// complaints passes OpenTelemetry's warnings and errors on without their
// attributes, which may hold credentials from environment variables.
type complaints struct{ slog.Handler }

// warned is the level that OpenTelemetry's warnings have.
const warned = slog.Level(-1)

// Enabled implements [slog.Handler].
func (h complaints) Enabled(_ context.Context, l slog.Level) bool { return l >= warned }

// Handle implements [slog.Handler].
func (h complaints) Handle(ctx context.Context, r slog.Record) error {
	level := max(r.Level, slog.LevelWarn)
	if !h.Handler.Enabled(ctx, level) {
		return nil
	}
	return h.Handler.Handle(ctx, slog.NewRecord(r.Time, level, "tracing: "+r.Message, r.PC))
}

// WithAttrs implements [slog.Handler].
func (h complaints) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements [slog.Handler].
func (h complaints) WithGroup(string) slog.Handler { return h }
