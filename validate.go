package sessiond

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond/internal/strictjson"
)

// Bounds of what callers may put into a session.
const (
	MaxText           = 256 // bytes of a subject, a label value or a note
	MaxLabels         = 16  // labels of a session
	MaxLabelKey       = 63  // bytes of a label key
	MaxTenant         = 63  // bytes of a tenant's name
	MaxIdempotencyKey = 128 // characters of CreateParams.IdempotencyKey
)

const (
	tenantRule   = "must have 1 to 63 characters of [a-z0-9-] and not begin with -"
	textRule     = "must be at most 256 bytes of UTF-8 without control or bidirectional characters"
	labelKeyRule = "keys must have 1 to 63 characters of [a-z0-9._-] and begin with a letter or digit"
)

// ValidTenant reports whether name can be that of a tenant: 1 to 63 characters
// of [a-z0-9-], beginning with a letter or digit.
func ValidTenant(name string) bool {
	if len(name) == 0 || len(name) > MaxTenant || name[0] == '-' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// ValidText reports whether s can be a subject, a label's value or a note: at
// most [MaxText] bytes of UTF-8 without control and bidirectional characters.
func ValidText(s string) bool {
	if len(s) > MaxText || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return false
		}
	}
	return true
}

// ValidLabelKey reports whether s can be the key of a label: 1 to 63 characters
// of [a-z0-9._-], beginning with a letter or digit.
func ValidLabelKey(s string) bool {
	if len(s) == 0 || len(s) > MaxLabelKey {
		return false
	}
	for i := range len(s) {
		lower := s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9'
		if !lower && (i == 0 || !strings.ContainsRune("._-", rune(s[i]))) {
			return false
		}
	}
	return true
}

// ValidIdempotencyKey reports whether s can be CreateParams.IdempotencyKey: 1 to
// 128 visible ASCII characters.
func ValidIdempotencyKey(s string) bool {
	if len(s) == 0 || len(s) > MaxIdempotencyKey {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// A validator collects what is wrong with an input.
type validator struct{ fields []FieldError }

func (v *validator) check(ok bool, pointer, detail string) {
	if !ok {
		v.fields = append(v.fields, FieldError{pointer, detail})
	}
}

func (v *validator) err() error {
	if len(v.fields) == 0 {
		return nil
	}
	return &InvalidError{Fields: v.fields}
}

func (v *validator) labels(labels map[string]string) {
	v.check(len(labels) <= MaxLabels, "/labels", "must be at most 16 labels")
	keys, values := true, true
	for k, val := range labels {
		keys = keys && ValidLabelKey(k)
		values = values && ValidText(val)
	}
	v.check(keys, "/labels", labelKeyRule)
	v.check(values, "/labels", "each value "+textRule)
}

func (v *validator) expiresIn(d time.Duration, p *Policy) {
	v.wholeSeconds(d, time.Second, p.MaxLifetime, "/expires_in")
}

func (v *validator) idleTimeout(d time.Duration, p *Policy) {
	least, most := time.Duration(0), longest*time.Second
	if p.MaxIdleTimeout > 0 {
		least, most = time.Second, p.MaxIdleTimeout
	}
	v.wholeSeconds(d, least, most, "/idle_timeout")
}

func (v *validator) wholeSeconds(d, least, most time.Duration, pointer string) {
	if d < least || d > most || d%time.Second != 0 {
		v.check(false, pointer,
			fmt.Sprintf("must be a whole number of seconds from %d to %d", least/time.Second, most/time.Second))
	}
}

// data checks a JSON object from the caller and returns it without white space.
func (v *validator) data(data jsontext.Value, p *Policy) jsontext.Value {
	valid, compact := strictjson.Valid(data, maxDataNesting)
	if !valid && ValidateJSON(data, maxDataNesting) != nil || data.Kind() != '{' {
		v.check(false, "/data", "must be a JSON object, without duplicate members and not nested too deep")
		return nil
	}
	data = data.Clone()
	if !valid || !compact {
		// Compact fails only on input that ValidateJSON has refused.
		v.check(data.Compact() == nil, "/data", "must be valid JSON")
	}
	if len(data) > p.MaxData {
		v.check(false, "/data", fmt.Sprintf("must be at most %d bytes of compact JSON", p.MaxData))
	}
	return data
}
