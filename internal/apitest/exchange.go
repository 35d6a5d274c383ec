package apitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-json-experiment/json/jsontext"
)

// An exchange is one request with its answer.
type exchange struct {
	spec *spec
	req  *http.Request
	sent []byte // body of the request, as far as it was read
	resp *http.Response
	body []byte // body of the answer
}

// streams reports whether the body of the answer may go on for ever.
func (x *exchange) streams() bool { return mediaType(x.resp.Header) == "text/event-stream" }

func mediaType(h http.Header) string {
	typ, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return typ
}

// check lists how the exchange contradicts the document.
func (x *exchange) check() []error {
	route, params, known := x.spec.find(x.req)
	var errs []error
	success := x.resp.StatusCode/100 == 2
	switch {
	case success && !known:
		return []error{errors.New("the operation is not documented")}
	case success:
		if err := x.checkRequest(route, params); err != nil {
			errs = append(errs, fmt.Errorf("accepted a request that the document does not allow: %w", err))
		}
	}
	ref := route.Operation.Responses.Status(x.resp.StatusCode)
	if ref == nil {
		return append(errs, errors.New("the status is not documented here"))
	}
	errs = append(errs, x.checkHeaders(ref.Value)...)
	if err := x.checkBody(route, ref.Value); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// plain are headers of HTTP itself, and those that tell browsers how to treat
// an answer that one of them shows. The document leaves both out.
var plain = []string{
	"Content-Type", "Content-Length", "Date", "Connection", "Transfer-Encoding",
	"Content-Security-Policy", "Referrer-Policy",
}

func (x *exchange) checkHeaders(documented *openapi3.Response) []error {
	var errs []error
	names := make(map[string]bool, len(documented.Headers))
	for name := range documented.Headers {
		names[http.CanonicalHeaderKey(name)] = true
	}
	for name, values := range x.resp.Header {
		switch {
		case slices.Contains(plain, name):
		case !names[name]:
			errs = append(errs, fmt.Errorf("header %s is not documented here", name))
		case len(values) != 1:
			errs = append(errs, fmt.Errorf("header %s comes %d times", name, len(values)))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// tokenLike finds tokens of sessions, not the bare prefix that texts explain.
var tokenLike = regexp.MustCompile(`sst_[A-Za-z0-9_-]{16,}`)

// checkBody checks the body, and the documented headers, which the library does
// in one go.
func (x *exchange) checkBody(route *routers.Route, documented *openapi3.Response) error {
	typ := mediaType(x.resp.Header)
	hasBody := len(documented.Content) > 0
	switch {
	case !hasBody && (len(x.body) > 0 || typ != ""):
		return errors.New("the answer must not have a body or a Content-Type")
	case hasBody && documented.Content[typ] == nil:
		return fmt.Errorf("Content-Type %q is not documented here", x.resp.Header.Get("Content-Type"))
	case x.req.Method == http.MethodHead && len(x.body) > 0:
		return errors.New("an answer to HEAD has a body")
	}
	whole := hasBody && x.req.Method != http.MethodHead && !x.streams()
	if whole && !jsontext.Value(x.body).IsValid() {
		return errors.New("the body is not one JSON value without duplicate members")
	}
	if typ == "application/problem+json" && tokenLike.Match(x.body) {
		return errors.New("a problem document repeats a token")
	}
	request := *x.req
	request.Method = http.MethodGet // the library has no eyes for answers to HEAD
	options := filterOptions()
	options.ExcludeResponseBody = !whole
	err := openapi3filter.ValidateResponse(x.req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: &request, Route: route},
		Status:                 x.resp.StatusCode,
		Header:                 x.resp.Header,
		Body:                   io.NopCloser(bytes.NewReader(x.body)),
		Options:                options,
	})
	if err != nil {
		return short(err)
	}
	if whole {
		return checkMembers(documented.Content[typ].Schema.Value, x.body)
	}
	return nil
}

// checkRequest checks a request that was accepted.
func (x *exchange) checkRequest(route *routers.Route, params map[string]string) error {
	req := x.req.Clone(context.WithoutCancel(x.req.Context()))
	req.Body = io.NopCloser(bytes.NewReader(x.sent))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.sent)), nil }
	for _, name := range []string{"X-Request-Id", "Last-Event-Id"} {
		if req.Header.Get(name) == "" { // may be anything, also empty
			req.Header.Del(name)
		}
	}
	if anyMethod, _ := route.Operation.Extensions["x-any-method"].(bool); anyMethod {
		req.URL.RawQuery = ""
	}
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if err := checkQuery(route, query); err != nil {
		return err
	}
	err = openapi3filter.ValidateRequest(req.Context(), &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, QueryParams: query, Route: route, Options: filterOptions(),
	})
	if err != nil {
		return short(err)
	}
	body := route.Operation.RequestBody
	if body == nil || len(x.sent) == 0 || len(x.sent) == maxRecorded {
		return nil
	}
	typ := mediaType(req.Header)
	if documented := body.Value.Content[typ]; documented != nil && strings.HasSuffix(typ, "json") {
		return checkMembers(documented.Schema.Value, x.sent)
	}
	return nil
}

const labelParameter = "label."

// checkQuery refuses parameters that are repeated or not documented, which the
// library lets pass.
func checkQuery(route *routers.Route, query url.Values) error {
	documented := map[string]bool{}
	for _, p := range slices.Concat(route.PathItem.Parameters, route.Operation.Parameters) {
		if p.Value.In == openapi3.ParameterInQuery {
			name, _, _ := strings.Cut(p.Value.Name, "<")
			documented[name] = true
		}
	}
	for name, values := range query {
		if key, ok := strings.CutPrefix(name, labelParameter); ok && key != "" {
			name = labelParameter
		}
		switch {
		case !documented[name]:
			return fmt.Errorf("query parameter %q is not documented", name)
		case len(values) != 1:
			return fmt.Errorf("query parameter %q is repeated", name)
		case values[0] == "" && name != "note": // a text that may be empty
			return fmt.Errorf("query parameter %q is empty", name)
		}
	}
	return nil
}

func filterOptions() *openapi3filter.Options {
	o := &openapi3filter.Options{
		AuthenticationFunc:    hasCredential,
		IncludeResponseStatus: true,
		SkipSettingDefaults:   true,
	}
	o.WithCustomSchemaErrorFunc(func(e *openapi3.SchemaError) string {
		text := fmt.Sprintf("at /%s: %s", strings.Join(e.JSONPointer(), "/"), e.Reason)
		if e.Origin != nil {
			text += ": " + e.Origin.Error()
		}
		return text
	})
	return o
}

// hasCredential checks that a request with a bearer scheme has a bearer
// credential. The name of the cookie is a matter of configuration.
func hasCredential(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	if in.SecurityScheme.Type != "http" {
		return nil
	}
	scheme, _, _ := strings.Cut(in.RequestValidationInput.Request.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return errors.New("no bearer credential")
	}
	return nil
}

// short is err without the dump of schema and value that the library may add.
func short(err error) error {
	const most = 600
	text := err.Error()
	if len(text) > most {
		text = text[:most] + "..."
	}
	return errors.New(text)
}
