// Package api is the wire between server and client: paths, media types, the
// JSON of sessions and events, problem documents, and the one table that ties
// errors of package sessiond to statuses and codes. openapi.yaml in this folder
// describes the whole in OpenAPI 3.1.
package api

// Paths of the API listener, as patterns of [net/http.ServeMux] without method.
const (
	PathSessions   = "/sessions"
	PathSession    = "/sessions/{id}"
	PathTouch      = "/sessions/{id}/touch"
	PathRotate     = "/sessions/{id}/rotate"
	PathVerify     = "/verify"
	PathIntrospect = "/introspect"
	PathRevoke     = "/revoke"
	PathAuth       = "/auth/{gateway}"
	PathEvents     = "/events"
	PathLogout     = "/backchannel-logout"
)

// Headers of requests, beside those that HTTP itself defines.
const (
	HeaderTenant         = "Sessiond-Tenant" // names another tenant than the credential's own
	HeaderRequestID      = "X-Request-Id"    // of answers as well
	HeaderIdempotencyKey = "Idempotency-Key"
)

// Media types of bodies.
const (
	MediaJSON        = "application/json"
	MediaMergePatch  = "application/merge-patch+json"
	MediaProblem     = "application/problem+json"
	MediaForm        = "application/x-www-form-urlencoded"
	MediaEventStream = "text/event-stream"
)

// Names of server-sent events that are not types of session events.
const (
	EventHeartbeat = "heartbeat"
	EventReset     = "reset"
)

// Headers of a successful forward authentication.
const (
	HeaderSessionID        = "Session-Id"
	HeaderSessionSubject   = "Session-Subject"
	HeaderSessionTenant    = "Session-Tenant"
	HeaderSessionExpiresAt = "Session-Expires-At"
)
