package apitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// A spec is the document made ready for look-ups, read-only once made.
type spec struct {
	doc         *openapi3.T
	router      routers.Router
	elsewhere   *routers.Route // what paths answer that the document does not have
	wrongMethod *routers.Route // what known paths answer to other methods
}

// Names of the documented answers of what the document has no operation for.
// Credential and permission are judged first, so theirs are among them.
var (
	elsewhere   = []string{"NotFound", "Malformed", "Unauthenticated", "Denied", "Internal", "Unavailable"}
	wrongMethod = []string{"MethodNotAllowed", "Malformed", "Unauthenticated", "Denied", "Internal", "Unavailable"}
)

func newSpec(doc *openapi3.T) (*spec, error) {
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("validate: %w", err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if err := useFastValidator(doc); err != nil {
		return nil, err
	}
	s := &spec{doc: doc, router: router}
	if s.elsewhere, err = s.routeOf(elsewhere); err != nil {
		return nil, err
	}
	if s.wrongMethod, err = s.routeOf(wrongMethod); err != nil {
		return nil, err
	}
	return s, nil
}

// useFastValidator makes a checked document look like OpenAPI 3.0 to the
// library, which for 3.1 compiles every schema anew at each use, milliseconds a
// time. The older validator knows all keywords of the document except null as a
// type, which gets its older name here, and propertyNames, which [walk] checks.
func useFastValidator(doc *openapi3.T) error {
	doc.OpenAPI = "3.0.3"
	return doc.WalkSchemas(func(at string, ref *openapi3.SchemaRef) error {
		s := ref.Value
		if s == nil {
			return nil
		}
		if s.Const != nil || s.If != nil || s.Contains != nil || len(s.PrefixItems) > 0 ||
			len(s.PatternProperties) > 0 || len(s.DependentSchemas) > 0 || len(s.DependentRequired) > 0 ||
			s.UnevaluatedProperties.Has != nil || s.UnevaluatedItems.Has != nil {
			return fmt.Errorf("%s uses a keyword that tests would not check", at)
		}
		if s.Type.Includes(openapi3.TypeNull) {
			s.Nullable = true
		}
		return nil
	})
}

// routeOf makes a route without operation that has the named answers.
func (s *spec) routeOf(names []string) (*routers.Route, error) {
	responses := openapi3.NewResponsesWithCapacity(len(names))
	for _, name := range names {
		ref := s.doc.Components.Responses[name]
		if ref == nil || ref.Value == nil {
			return nil, fmt.Errorf("components have no response %q", name)
		}
		typ := ref.Value.Content["application/problem+json"]
		if typ == nil || len(typ.Schema.Value.AllOf) != 2 {
			return nil, fmt.Errorf("response %q is not a problem", name)
		}
		status := typ.Schema.Value.AllOf[1].Value.Properties["status"]
		if status == nil || len(status.Value.Enum) != 1 {
			return nil, fmt.Errorf("response %q does not name its status", name)
		}
		responses.Set(fmt.Sprint(status.Value.Enum[0]), ref)
	}
	return &routers.Route{
		Spec: s.doc, PathItem: &openapi3.PathItem{}, Operation: &openapi3.Operation{Responses: responses},
	}, nil
}

// find is the route of a request, as the document describes it in prose where
// OpenAPI has no words: /sessions is /sessions/, HEAD is GET, and /auth/{gateway}
// takes any method on any path below. known is false for a route that only
// stands for refusals.
func (s *spec) find(req *http.Request) (route *routers.Route, params map[string]string, known bool) {
	method, path := req.Method, req.URL.EscapedPath()
	switch {
	case path == "/sessions":
		path = "/sessions/"
	case strings.HasPrefix(path, "/auth/"):
		gateway, _, _ := strings.Cut(path[len("/auth/"):], "/")
		method, path = http.MethodGet, "/auth/"+gateway
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	u, err := url.Parse(path)
	if err != nil {
		return s.elsewhere, nil, false
	}
	route, params, err = s.router.FindRoute(&http.Request{Method: method, URL: u, Host: req.Host})
	switch {
	case err == nil:
		return route, params, true
	case errors.Is(err, routers.ErrMethodNotAllowed):
		return s.wrongMethod, nil, false
	default:
		return s.elsewhere, nil, false
	}
}
