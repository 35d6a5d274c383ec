package telemetry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// An otlpCollector takes spans over HTTP.
type otlpCollector struct {
	*httptest.Server
	mu       sync.Mutex
	raw      strings.Builder
	spans    []*otlp.Span
	resource map[string]string
}

func newCollector(t *testing.T) *otlpCollector {
	t.Helper()
	c := new(otlpCollector)
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *otlpCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(err, r.URL), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, rs := range req.ResourceSpans {
		c.resource = attributes(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

func attributes(list []*common.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.Key] = fmt.Sprint(v.IntValue)
		default:
			m[kv.Key] = fmt.Sprintf("%T", v)
		}
	}
	return m
}

// trees are the traces as text, one line for each request, in the order of their
// begins: name{attributes}[child child].
func (c *otlpCollector) trees() (trees []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(c.spans, func(a, b *otlp.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	for _, s := range c.spans {
		if s.Kind == otlp.Span_SPAN_KIND_SERVER {
			trees = append(trees, c.tree(s))
		}
	}
	return trees
}

func (c *otlpCollector) tree(s *otlp.Span) string {
	text := s.Name
	var attrs []string
	for k, v := range attributes(s.Attributes) {
		if k != "http.request.method" && k != "url.scheme" && k != "http.route" { // in the name, or the same for all
			attrs = append(attrs, k+"="+v)
		}
	}
	if s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
		attrs = append(attrs, strings.TrimSpace("ERROR "+s.Status.GetMessage()))
	}
	if slices.Sort(attrs); len(attrs) > 0 {
		text += "{" + strings.Join(attrs, " ") + "}"
	}
	var children []string
	for _, child := range c.spans {
		if string(child.ParentSpanId) == string(s.SpanId) && string(child.TraceId) == string(s.TraceId) {
			children = append(children, c.tree(child))
		}
	}
	if len(children) > 0 {
		text += "[" + strings.Join(children, " ") + "]"
	}
	return text
}
