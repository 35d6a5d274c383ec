package auth

import "errors"

// Sentinels for errors.Is. Every error of [Verifier.Verify] is an [*Error] that matches exactly one of them.
var (
	// ErrInvalid: the credential is not acceptable and will not become so by trying again (RFC 6750 section 3.1,
	// invalid_token; HTTP 401).
	ErrInvalid = errors.New("auth: credential is invalid")
	// ErrTenant: the credential is genuine but names no tenant, or one that its issuer may not name (HTTP 403).
	ErrTenant = errors.New("auth: credential names no permitted tenant")
	// ErrUnavailable: the credential cannot be judged, because the issuer's keys are missing or too old (HTTP 503).
	ErrUnavailable = errors.New("auth: credential cannot be judged now")
)

// Kind says what a refused credential means to the caller.
type Kind uint8

// The kinds, each with its sentinel.
const (
	Invalid     Kind = iota // ErrInvalid
	Tenant                  // ErrTenant
	Unavailable             // ErrUnavailable
)

// Reasons of an [Error]: a closed set of machine-readable words, fit for a metric label. They are for the operator;
// a client learns the kind only.
const (
	ReasonTooLong       = "too_long"        // longer than MaxTokenBytes
	ReasonMalformed     = "malformed"       // not a signed compact JWT with strict base64url and strict JSON
	ReasonAlgorithm     = "algorithm"       // alg missing or not on the list
	ReasonType          = "typ"             // typ of another kind of token
	ReasonHeader        = "header"          // crit or another header member that changes the token's meaning
	ReasonIssuer        = "issuer"          // iss is no configured issuer
	ReasonUnknownKey    = "unknown_key"     // the issuer has no such key, or none that fits the algorithm
	ReasonSignature     = "signature"       // the signature is not of that key
	ReasonAudience      = "audience"        // aud is not this service
	ReasonExpired       = "expired"         // exp has passed
	ReasonNotYetValid   = "not_yet_valid"   // nbf or iat lie in the future
	ReasonClaims        = "claims"          // a claim is missing, of the wrong type or out of range
	ReasonTenant        = "tenant"          // see ErrTenant
	ReasonKeysNotLoaded = "keys_not_loaded" // the issuer's keys were never loaded
	ReasonKeysStale     = "keys_stale"      // the issuer's keys are older than Config.MaxKeyAge
	ReasonKeysRefresh   = "keys_refresh"    // the key is unknown and the issuer could not be asked for it
)

// Error says why a credential was refused. Its text never holds any part of the credential. Errors are values: do not
// change one.
type Error struct {
	Kind   Kind
	Reason string // one of the Reason constants
}

// Error returns the kind and the reason.
func (e *Error) Error() string { return e.Unwrap().Error() + ": " + e.Reason }

// Unwrap returns the sentinel of the error's kind.
func (e *Error) Unwrap() error {
	switch e.Kind {
	case Tenant:
		return ErrTenant
	case Unavailable:
		return ErrUnavailable
	default:
		return ErrInvalid
	}
}

func invalid(reason string) error     { return &Error{Kind: Invalid, Reason: reason} }
func unavailable(reason string) error { return &Error{Kind: Unavailable, Reason: reason} }
