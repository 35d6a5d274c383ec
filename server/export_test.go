package server

import (
	"net/http"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/auth"
)

// A RouteInfo is what tests see of a route.
type RouteInfo struct {
	Method, Pattern, Op string
	AnyOf               []auth.Permissions
	HasBody             bool
	Class               string // of admission; empty for none
}

// Routes is the route table.
func Routes() []RouteInfo {
	var infos []RouteInfo
	for _, r := range routes() {
		hasBody := r.body == jsonBody || r.body == patchBody || r.body == formBody
		class := ""
		if r.class != classNone {
			class = newGate(64).Stats()[r.class-1].Name
		}
		infos = append(infos, RouteInfo{r.method, r.pattern, r.op, r.anyOf, hasBody, class})
	}
	return infos
}

// ParseIfMatch is parseIfMatch.
func ParseIfMatch(values []string) ([]sessiond.ETag, error) { return parseIfMatch(values) }

// ParseFilter reads a query that has only filters.
func ParseFilter(raw string) (f sessiond.Filter, err error) {
	err = parseQuery(raw, func(name, value string) (bool, error) {
		if !isFilter(name) {
			return false, nil
		}
		return true, setFilter(&f, name, value)
	})
	return f, err
}

// GatewayToken is what a gateway takes from headers.
func GatewayToken(cookie string, foreign []string, h http.Header) (t sessiond.Token, found, good bool) {
	g := gateway{Gateway: Gateway{CookieName: cookie, ForeignCookies: foreign}}
	return g.token(h)
}

// EncodeSubject is encodeSubject.
func EncodeSubject(s string) string { return encodeSubject(s) }

// CloseBeyond is closeBeyond.
var CloseBeyond = closeBeyond

// EventStreams is how many event streams are open.
func (s *Server) EventStreams() int { return int(s.streams.Load()) }
