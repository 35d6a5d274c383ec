package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// TracerOptions are what [NewTracer] needs to know.
type TracerOptions struct {
	// Endpoint is the base URL of an OTLP collector that speaks HTTP, such as
	// http://localhost:4318; spans go to /v1/traces below it. Required
	Endpoint string
	Version  string       // of the program. Default: empty
	Logger   *slog.Logger // is told that spans are lost, once a minute. Default: none
}

// A Tracer makes the spans of requests and sends them to an OTLP collector
// (protobuf over HTTP) in the background: a collector that is slow or away
// costs spans, never requests.
//
// Incoming requests may bring a trace (W3C Trace Context); its id and tracestate
// are kept, and its decision whether to sample is followed. Other requests begin
// a trace. Sampling, batching and the way to the collector can be set by
// OpenTelemetry's own environment variables: OTEL_TRACES_SAMPLER,
// OTEL_TRACES_SAMPLER_ARG, OTEL_BSP_*, OTEL_EXPORTER_OTLP_HEADERS and so on.
//
// Spans hold names of routes, operations and kinds of failure: no ids of
// sessions, no subjects, no tokens, no data, no texts of errors.
//
// A Tracer is safe for concurrent use.
type Tracer struct {
	provider *trace.TracerProvider
	tracer   oteltrace.Tracer
	exporter *exporter
}

// flushTime is how long Shutdown waits for the collector.
const flushTime = 5 * time.Second

// NewTracer makes a tracer and starts its export; [Tracer.Shutdown] ends that.
// It connects to nothing yet. OpenTelemetry's own complaints go to opts.Logger
// from now on, for the whole process.
func NewTracer(ctx context.Context, opts TracerOptions) (*Tracer, error) {
	endpoint, err := tracesURL(opts.Endpoint)
	if err != nil {
		return nil, err
	}
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	// The defaults of both write to stderr what is no line of JSON.
	otel.SetLogger(logr.FromSlogHandler(complaints{logger.Handler()}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("tracing", "err", err) }))

	client, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("telemetry: exporter of traces: %w", err)
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "sessiond"), attribute.String("service.version", opts.Version),
	), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry: resource of traces: %w", err), client.Shutdown(ctx))
	}
	t := &Tracer{exporter: newExporter(client, logger)}
	t.provider = trace.NewTracerProvider(trace.WithBatcher(t.exporter), trace.WithResource(res))
	t.tracer = t.provider.Tracer("sessiond.example/sessiond", oteltrace.WithInstrumentationVersion(opts.Version))
	return t, nil
}

// tracesURL is where traces go at a collector.
func tracesURL(base string) (string, error) {
	const path = "/v1/traces" // OTLP specification, "OTLP/HTTP Request"
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", errors.New("telemetry: the endpoint of traces must be an http or https URL without credentials")
	}
	if !strings.HasSuffix(u.Path, path) {
		u.Path = strings.TrimSuffix(u.Path, "/") + path
	}
	return u.String(), nil
}

// Shutdown sends what is left, for at most 5 s, and ends the export. Spans that
// end later are dropped.
func (t *Tracer) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	t.exporter.stop()
	return err
}

// Request begins the span of a request as it came in. The context carries it,
// traceID is the id of the trace that the request brought or now begins, and end
// takes what came of it.
func (t *Tracer) Request(r *http.Request) (_ context.Context, traceID string, end func(Operation)) {
	ctx := r.Context()
	if len(r.Header["Traceparent"]) == 1 { // more are an invalid one (W3C Trace Context, section 3.2)
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	method := r.Method
	if !slices.Contains(methods, method) {
		method = otherMethod
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	ctx, span := t.tracer.Start(ctx, spanName(method, ""), oteltrace.WithSpanKind(oteltrace.SpanKindServer),
		oteltrace.WithAttributes(attribute.String("http.request.method", method), attribute.String("url.scheme", scheme)))
	return ctx, span.SpanContext().TraceID().String(), func(op Operation) {
		if span.IsRecording() {
			finish(span, method, op)
		}
		span.End()
	}
}

// spanName follows OpenTelemetry's conventions for HTTP spans.
func spanName(method, route string) string {
	if method == otherMethod {
		method = "HTTP"
	}
	if route == "" {
		return method
	}
	return method + " " + route
}

func finish(span oteltrace.Span, method string, op Operation) {
	if op.Route != "" {
		span.SetName(spanName(method, op.Route))
		span.SetAttributes(attribute.String("http.route", op.Route))
	}
	if op.Op != "" {
		span.SetAttributes(attribute.String("sessiond.operation", op.Op))
	}
	if op.AuthFailure != "" {
		span.SetAttributes(attribute.String("sessiond.auth_failure", op.AuthFailure))
	}
	if op.Status != 0 { // the client hung up before there was an answer
		span.SetAttributes(attribute.Int("http.response.status_code", op.Status))
	}
	if op.Status >= 500 {
		span.SetAttributes(attribute.String("error.type", strconv.Itoa(op.Status)))
		span.SetStatus(codes.Error, "")
	}
}

// Steps makes spans for the parts of a request, named layer and op, such as
// "manager get". Work outside of a trace that is sampled makes none. done takes
// the error of the part.
func (t *Tracer) Steps(layer string) func(ctx context.Context, op string) (_ context.Context, done func(error)) {
	return func(ctx context.Context, op string) (context.Context, func(error)) {
		return t.step(ctx, layer, op)
	}
}

func (t *Tracer) step(ctx context.Context, layer, op string) (context.Context, func(error)) {
	if !oteltrace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, layer+" "+op)
	return ctx, func(err error) {
		if err != nil {
			kind, fault := failure(err)
			span.SetAttributes(attribute.String("error.type", kind))
			if fault {
				span.SetStatus(codes.Error, kind)
			}
		}
		span.End()
	}
}
