package telemetry

// The closed sets of label values. Whatever is in none of them is counted under
// other.

import (
	"net/http"
	"slices"
	"strconv"

	"sessiond.example/sessiond"
)

const other = "_other"

// Default sets of [MetricsOptions].
var (
	defaultOps = []string{
		"create", "get", "update", "patch", "delete", "list", "revoke_matching", "touch", "rotate", "verify",
		"introspect", "revoke", "auth", opEvents, "backchannel_logout",
	}
	defaultRoutes = []string{
		"/sessions", "/sessions/{id}", "/sessions/{id}/touch", "/sessions/{id}/rotate", "/verify", "/introspect",
		"/revoke", "/auth/{gateway}", "/events", "/backchannel-logout",
	}
	defaultAuthFailures = []string{
		"missing", "multiple", "scope", "too_long", "malformed", "algorithm", "typ", "header", "issuer", "unknown_key",
		"signature", "audience", "expired", "not_yet_valid", "claims", "tenant", "keys_not_loaded", "keys_stale",
		"keys_refresh",
	}
)

// opEvents is the operation that lasts as long as its client listens.
const opEvents = "events"

// methods are the ones that OpenTelemetry's conventions for HTTP know (RFC 9110
// and PATCH, RFC 5789).
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}

// otherMethod is what the same conventions call the rest.
const otherMethod = "_OTHER"

var endReasons = []string{
	string(sessiond.EndIdle), string(sessiond.EndAbsolute), string(sessiond.EndRevoked), string(sessiond.EndLogout),
	string(sessiond.EndSecurity), string(sessiond.EndLimit), string(sessiond.EndTokenReuse),
	string(sessiond.EndRestored),
}

// Indexes of results.
const (
	resultOK = iota
	resultInvalid
	resultUnauthenticated
	resultDenied
	resultNotFound
	resultConflict
	resultGone
	resultMismatch
	resultUnavailable
	resultError
	resultCount
)

// results are the values of the label result: what a status means to the caller.
var results = [resultCount]string{
	"ok", "invalid", "unauthenticated", "denied", "not_found", "conflict", "gone", "mismatch", "unavailable", "error",
}

func resultOf(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return resultUnauthenticated
	case http.StatusForbidden:
		return resultDenied
	case http.StatusNotFound:
		return resultNotFound
	case http.StatusConflict:
		return resultConflict
	case http.StatusGone:
		return resultGone
	case http.StatusPreconditionFailed:
		return resultMismatch
	case http.StatusServiceUnavailable:
		return resultUnavailable
	}
	switch status / 100 {
	case 1, 2, 3:
		return resultOK
	case 4:
		return resultInvalid
	default:
		return resultError
	}
}

// A set is a closed set of label values. The last one stands for all others.
type set struct {
	names []string
	index map[string]int
}

func newSet(names []string, rest string) set {
	s := set{names: append(slices.Clone(names), rest), index: make(map[string]int, len(names))}
	for i, name := range names {
		s.index[name] = i
	}
	return s
}

// of is the index of v's label value.
func (s *set) of(v string) int {
	if i, ok := s.index[v]; ok {
		return i
	}
	return len(s.names) - 1
}

// Statuses have their own set, indexed by number: those that net/http knows.
var statuses = func() (names []string) {
	for code := 100; code < 600; code++ {
		if http.StatusText(code) != "" {
			names = append(names, strconv.Itoa(code))
		}
	}
	return append(names, other)
}()

var statusIndex = func() (index [600]uint8) {
	for code := range index {
		i := slices.Index(statuses, strconv.Itoa(code))
		if i < 0 {
			i = len(statuses) - 1
		}
		index[code] = uint8(i)
	}
	return index
}()

// statusOf is the index of a status in statuses.
func statusOf(status int) int {
	if status < 0 || status >= len(statusIndex) {
		status = 0
	}
	return int(statusIndex[status])
}
