package telemetry

import (
	"log/slog"
	"strings"
	"unicode/utf8"
)

// Logger is a logger whose lines go to l: those of [slog.JSONHandler], with
// times in UTC with milliseconds, levels in lower case, and every string safe
// to show and free of secrets, whatever it came from: the message, an
// attribute, an error, a member of a nested value.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(lineWriter{l}, &slog.HandlerOptions{Level: l.level, ReplaceAttr: replace}))
}

func replace(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindTime:
		a.Value = slog.StringValue(string(appendTime(nil, a.Value.Time())))
	case slog.KindAny:
		if level, ok := a.Value.Any().(slog.Level); ok {
			a.Value = slog.StringValue(levelName(level))
		}
	}
	return a
}

func levelName(l slog.Level) string {
	switch l {
	case slog.LevelDebug:
		return "debug"
	case slog.LevelInfo:
		return "info"
	case slog.LevelWarn:
		return "warn"
	case slog.LevelError:
		return "error"
	default:
		return strings.ToLower(l.String())
	}
}

// A lineWriter takes the lines of a JSONHandler, which calls Write once for each.
type lineWriter struct{ log *Log }

func (w lineWriter) Write(line []byte) (int, error) {
	n := len(line)
	if suspicious(line) {
		line = cleaned(line)
	}
	w.log.append(line)
	return n, nil
}

const (
	longLine   = 64 << 10 // lines up to this are not searched for long strings
	longString = 16 << 10 // longer strings of a long line are cut
	cutMark    = "...[cut]"
)

// suspicious reports whether something in the line may have to change.
func suspicious(line []byte) bool {
	var seen uint8
	for _, c := range line {
		if c != '"' && c != '\\' && c != '\n' {
			seen |= signs[c]
		}
	}
	return seen&escapes != 0 || len(line) > longLine || seen&redacted != 0 && holdsSecret(string(line))
}

// cleaned is the line with its strings, keys included, made safe. It relies on
// the line being valid JSON, in which quotes and everything beyond ASCII occur
// in strings only.
func cleaned(line []byte) []byte {
	out := make([]byte, 0, len(line)+64)
	long := len(line) > longLine
	for s := string(line); s != ""; {
		before, rest, ok := strings.Cut(s, `"`)
		out = append(out, before...)
		if !ok {
			break
		}
		end := stringEnd(rest)
		out = appendCleaned(out, rest[:end], long)
		s = rest[min(end+1, len(rest)):]
	}
	return out
}

// stringEnd is the index of the quote that ends the JSON string which s begins
// within.
func stringEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(s)
}

// appendCleaned appends, with quotes, what stands between the quotes of a JSON
// string.
func appendCleaned(b []byte, s string, long bool) []byte {
	if holdsSecret(s) {
		return append(b, redaction...)
	}
	b = append(b, '"')
	start := len(b)
	for i := 0; i < len(s); {
		if long && len(b)-start > longString {
			b = append(b, cutMark...)
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '\\' { // an escape stays whole
			size = 2
			if strings.HasPrefix(s[i:], `\u`) {
				size = 6
			}
			size = min(size, len(s)-i)
			b = append(b, s[i:i+size]...)
		} else {
			b = appendRune(b, r, s[i:i+size])
		}
		i += size
	}
	return append(b, '"')
}
