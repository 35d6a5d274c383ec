package telemetry

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sessiond.example/sessiond"
)

// What a byte may be a sign of. A string of bytes that are signs of nothing
// goes into a line as it is.
const (
	escapes  = 1 << iota // of a character that JSON or a reader's terminal must not get raw
	redacted             // of a secret: it is in every session token, or in every JWT
)

var signs = func() (signs [256]uint8) {
	for c := range signs {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			signs[c] = escapes
		}
	}
	signs['_'] = redacted // of sst_
	signs['J'] = redacted // of eyJ, the base64url of the beginning of a JSON object
	return signs
}()

const redaction = `"[redacted]"`

// appendString appends s as a JSON string, or a redaction if s holds a secret.
func appendString(b []byte, s string) []byte {
	var seen uint8
	for i := range len(s) {
		seen |= signs[s[i]]
	}
	if seen&redacted != 0 && holdsSecret(s) {
		return append(b, redaction...)
	}
	b = append(b, '"')
	if seen&escapes == 0 {
		b = append(b, s...)
	} else {
		b = appendEscaped(b, s)
	}
	return append(b, '"')
}

// appendEscaped appends s as it has to stand between the quotes.
func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if signs[c]&escapes == 0 {
			b = append(b, c)
			i++
			continue
		}
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		b = appendRune(b, r, s[i:i+size])
		i += size
	}
	return b
}

// appendRune appends the character r, given also as text, escaped if it is not
// fit to be shown. Text that is not UTF-8 becomes U+FFFD.
func appendRune(b []byte, r rune, text string) []byte {
	const hex = "0123456789abcdef"
	if !unfit(r) && (r != utf8.RuneError || len(text) > 1) {
		return append(b, text...)
	}
	return append(b, '\\', 'u', hex[r>>12&0xf], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
}

// unfit reports whether r can change how a reader sees a line or where it ends:
// controls (C0, DEL, C1), bidirectional controls, line and paragraph
// separators, the byte order mark. All have four hexadecimal digits.
func unfit(r rune) bool {
	switch {
	case r < 0xa0:
		return r < ' ' || r >= 0x7f
	case r == '\u2028', r == '\u2029', r == '\ufeff':
		return true
	default:
		return unicode.Is(unicode.Bidi_Control, r)
	}
}

// holdsSecret reports whether there is something in s that looks like a token of a
// session (its prefix and 16 token characters) or like a JWT (three parts of
// token characters between dots, the first beginning with eyJ).
func holdsSecret(s string) bool {
	const (
		leastToken = 16
		jwtPrefix  = "eyJ"
	)
	for rest := s; ; {
		i := strings.Index(rest, sessiond.TokenPrefix)
		if i < 0 {
			break
		}
		rest = rest[i+len(sessiond.TokenPrefix):]
		n := tokenRun(rest)
		if n >= leastToken {
			return true
		}
		rest = rest[n:]
	}
	for rest := s; ; {
		i := strings.Index(rest, jwtPrefix)
		if i < 0 {
			return false
		}
		rest = rest[i:]
		rest = rest[tokenRun(rest):]
		if claims, ok := strings.CutPrefix(rest, "."); ok {
			if n := tokenRun(claims); n > 0 && strings.HasPrefix(claims[n:], ".") {
				return true
			}
		}
	}
}

// tokenRun is the number of token characters, [A-Za-z0-9_-], that s begins with.
func tokenRun(s string) int {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return i
		}
	}
	return len(s)
}
