package server

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sessiond.example/sessiond"
)

// parsePairs calls take for the name and value of every pair in a text of the form a=1&b=2, a query or the body of a
// form, until take returns an error. Semicolons and broken escapes are refused.
func parsePairs(text string, take func(name, value string) error) error {
	for more := text != ""; more; {
		var pair string
		pair, text, more = strings.Cut(text, "&")
		if strings.Contains(pair, ";") {
			return malformed("a semicolon in parameters must be escaped")
		}
		name, value, _ := strings.Cut(pair, "=")
		name, errName := url.QueryUnescape(name)
		value, errValue := url.QueryUnescape(value)
		if errName != nil || errValue != nil {
			return malformed("a parameter has a broken escape")
		}
		if err := take(name, value); err != nil {
			return err
		}
	}
	return nil
}

// parseQuery calls take for every parameter of a query; take reports whether it knows the name. Unknown and repeated
// parameters are refused.
func parseQuery(raw string, take func(name, value string) (known bool, err error)) error {
	seen := make(map[string]bool)
	return parsePairs(raw, func(name, value string) error {
		if seen[name] {
			return malformed("a parameter is repeated")
		}
		seen[name] = true
		known, err := take(name, value)
		if err == nil && !known {
			return malformed("there is a parameter that is not known here")
		}
		return err
	})
}

// asks reports whether a query that was refused has the pair: a permission that the pair needs is missed before the
// rest of the input is judged.
func (c *call) asks(name, value string) bool { return slices.Contains(c.r.URL.Query()[name], value) }

// badParameter refuses the value of a parameter, whose name is one of ours.
func badParameter(name, rule string) error {
	return malformed("the parameter " + name + " must be " + rule)
}

const (
	labelPrefix = "label."
	ruleText    = "1 to 256 bytes of UTF-8 without control and bidirectional characters"
	ruleTime    = "an RFC 3339 time from 1970 to 9999"
	ruleBool    = "true or false"
)

// isFilter reports whether name is that of a filter, which list and bulk revoke share.
func isFilter(name string) bool {
	switch name {
	case "subject", "status", "active_only", "created_after", "created_before", "expires_before":
		return true
	}
	return strings.HasPrefix(name, labelPrefix)
}

// setFilter sets what the parameter name, for which isFilter holds, says in f. No value may be empty.
func setFilter(f *sessiond.Filter, name, value string) (err error) {
	switch name {
	case "subject":
		f.Subject, err = text(name, value)
	case "status":
		switch f.Status = sessiond.Status(value); f.Status {
		case sessiond.StatusActive, sessiond.StatusExpired, sessiond.StatusRevoked:
		default:
			err = badParameter(name, "active, expired or revoked")
		}
	case "active_only":
		f.ActiveOnly, err = boolean(name, value)
	case "created_after":
		f.CreatedAfter, err = timestamp(name, value)
	case "created_before":
		f.CreatedBefore, err = timestamp(name, value)
	case "expires_before":
		f.ExpiresBefore, err = timestamp(name, value)
	default:
		key := strings.TrimPrefix(name, labelPrefix)
		if !sessiond.ValidLabelKey(key) || len(f.Labels) == sessiond.MaxLabels {
			return malformed("a label filter must be label.<key>, with a key that a label can have, for at most 16 keys")
		}
		if f.Labels == nil {
			f.Labels = make(map[string]string)
		}
		f.Labels[key], err = text(name, value)
	}
	return err
}

func text(name, value string) (string, error) {
	if value == "" || !sessiond.ValidText(value) {
		return "", badParameter(name, ruleText)
	}
	return value, nil
}

func boolean(name, value string) (bool, error) {
	if value != "true" && value != "false" {
		return false, badParameter(name, ruleBool)
	}
	return value == "true", nil
}

// timestamp reads a time. The zero time, which means "any" in filters, can't come of it.
func timestamp(name, value string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, value)
	// Parse also takes hours of one digit and a decimal comma, which RFC 3339 does not have.
	if err != nil || value[len("2006-01-02T15")] != ':' || strings.Contains(value, ",") {
		return time.Time{}, badParameter(name, ruleTime)
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, badParameter(name, ruleTime)
	}
	return t, nil
}

// integer reads a number from 1 to most, without sign and leading zeros.
func integer(name, value string, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most || strconv.Itoa(n) != value {
		return 0, badParameter(name, "a number from 1 to "+strconv.Itoa(most))
	}
	return n, nil
}

// reason reads why a session ends, out of the reasons that callers may give.
func reason(value string) (sessiond.EndReason, error) {
	switch r := sessiond.EndReason(value); r {
	case sessiond.EndRevoked, sessiond.EndLogout, sessiond.EndSecurity:
		return r, nil
	}
	return "", badParameter("reason", "revoked, logout or security")
}

// note reads the text that stays with an ended session. It may be empty.
func note(value string) (string, error) {
	if !sessiond.ValidText(value) {
		return "", badParameter("note", "at most 256 bytes of UTF-8 without control and bidirectional characters")
	}
	return value, nil
}

// parseIfMatch reads the values of If-Match (RFC 9110 section 13.1.1): entity tags, or *. It is nil without the header
// and never empty with it. Weak tags come back as they are and match nothing.
func parseIfMatch(values []string) ([]sessiond.ETag, error) {
	if len(values) == 0 {
		return nil, nil
	}
	errBroken := malformed("the header If-Match must be * or a list of entity tags")
	rest := strings.Join(values, ",")
	if strings.Trim(rest, " \t") == string(sessiond.AnyETag) {
		return []sessiond.ETag{sessiond.AnyETag}, nil
	}
	var tags []sessiond.ETag
	for {
		// Empty elements of a list are to be ignored (RFC 9110 section 5.6.1.2).
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			break
		}
		tag, after, ok := cutETag(rest)
		after = strings.TrimLeft(after, " \t")
		if !ok || after != "" && after[0] != ',' {
			return nil, errBroken
		}
		tags, rest = append(tags, tag), after
	}
	if len(tags) == 0 {
		return nil, errBroken
	}
	return tags, nil
}

// cutETag cuts the entity tag that s begins with (RFC 9110 section 8.8.3).
func cutETag(s string) (tag sessiond.ETag, rest string, ok bool) {
	i := 0
	if strings.HasPrefix(s, "W/") {
		i = 2
	}
	if i >= len(s) || s[i] != '"' {
		return "", "", false
	}
	for i++; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return sessiond.ETag(s[:i+1]), s[i+1:], true
		case c <= ' ', c == 0x7f:
			return "", "", false
		}
	}
	return "", "", false
}
