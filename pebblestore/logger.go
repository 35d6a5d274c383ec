package pebblestore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// An engineLogger carries what Pebble has to say to the store's log.
type engineLogger struct {
	log    *slog.Logger
	fatal  func(error)   // does not return
	failed chan struct{} // gets a signal when a flush or compaction has failed
}

// Infof implements [pebble.Logger]. Nothing that Pebble does normally is of interest to an operator.
func (l *engineLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

// Errorf implements [pebble.Logger].
func (l *engineLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf implements [pebble.Logger]. It does not return, since what Pebble does
// after it is undefined.
func (l *engineLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf(format, args...))
}

// background reports a failed flush or compaction. Pebble tries again; the log
// keeps what the failed one would have written.
func (l *engineLogger) background(err error) {
	l.log.Error("flush or compaction failed", "err", err)
	select {
	case l.failed <- struct{}{}:
	default:
	}
}

// corruption reports a damaged file. Reads of it fail; the others go on.
func (l *engineLogger) corruption(info pebble.DataCorruptionInfo) {
	l.log.Error("stored file is damaged", "err", info.String())
}
