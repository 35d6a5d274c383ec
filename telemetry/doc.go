// Package telemetry shows what a running service does: one log line for each
// operation, Prometheus metrics, and traces. It works by wrapping; the code it
// watches does not know it.
//
// # In order of use
//
// Open the log first, so that nothing of the start is lost, and run it:
//
//	log := telemetry.NewLog(os.Stderr, slog.LevelInfo)
//	go log.Run(ctx)
//
// [Log.Logger] is the logger to give to everything else. Then the metrics, and
// the store through them:
//
//	metrics := telemetry.NewMetrics(registry, telemetry.MetricsOptions{Tenants: 100, LogErrors: log.Errors})
//	store = metrics.Store(store)
//
// The server reports each finished request as an [Operation]:
//
//	log.Operation(op)
//	metrics.Observe(op)
//
// A [Tracer], where traces are wanted, attaches in the same way: to the store, to
// the manager and to the server.
//
// # What holds
//
// A line is never dropped to save time: a request waits for the log only while
// its buffer is full. A line holds one JSON object and nothing can break out of
// it. Neither log nor metrics nor traces ever hold session data or tokens; should a token
// of a session or a JWT get into a message or an attribute all the same, that
// string is replaced as a whole by "[redacted]".
//
// No label of a metric has unbounded values: each value is one of a closed set,
// or "_other".
package telemetry
