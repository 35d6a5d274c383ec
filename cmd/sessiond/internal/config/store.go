package config

// Store addresses: what they may be, and how they are shown.

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// laterSchemes are addresses of stores that are known but not part of this version.
var laterSchemes = []string{
	"postgres", "postgresql",
	"redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel",
}

// Memory tells whether sessions are kept in the process only.
func (s Store) Memory() bool { return s.URL == "memory:" }

// PebbleDir returns the directory of the embedded store. ok is false when the address is another one or malformed.
func (s Store) PebbleDir() (dir string, ok bool) {
	dir, err := pebbleDir(s.URL)
	return dir, err == nil
}

func pebbleDir(address string) (string, error) {
	const form = "write pebble:// and an absolute directory, as in pebble:///var/lib/sessiond"
	u, err := url.Parse(address)
	switch {
	case err != nil || !strings.HasPrefix(address, "pebble://"):
		return "", errors.New("is not the address of a directory: " + form)
	case u.User != nil || u.Host != "":
		return "", errors.New("names a host before the directory: " + form + ", with three slashes")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return "", errors.New("has a query or a fragment: remove it, or write ? as %3F and # as %23")
	case !path.IsAbs(u.Path) || path.Clean(u.Path) == "/":
		return "", errors.New("names no directory: " + form)
	case strings.ContainsFunc(u.Path, isControl):
		return "", errors.New("contains control characters: remove them")
	}
	return path.Clean(u.Path), nil
}

// check never quotes the address: it may hold a password.
func (s Store) check() error {
	scheme, rest, ok := strings.Cut(s.URL, ":")
	switch {
	case s.URL == "":
		return errors.New("is empty: write memory: or pebble:///dir")
	case !ok:
		return errors.New("is not an address: write memory: or pebble:///dir")
	case scheme == "memory" && rest != "":
		return errors.New("has more than memory: takes: write memory: alone")
	case scheme == "memory":
		return nil
	case scheme == "pebble":
		_, err := pebbleDir(s.URL)
		return err
	case slices.Contains(laterSchemes, scheme):
		return fmt.Errorf("%s stores are not built into this version: write memory: or pebble:///dir", scheme)
	default:
		return errors.New("has an unknown scheme: write memory: or pebble:///dir")
	}
}

// shown is the address without secrets. What does not look like an address may be anything, and is hidden as a whole.
func (s Store) shown() string {
	if s.URL != "" && !s.Memory() && !strings.Contains(s.URL, "://") {
		return hidden
	}
	return hideSecrets(s.URL)
}

const hidden = "xxxxx"

// hideSecrets returns an address without its user name, password and secret parameters. It works on the text, because
// what is not quite a URL has to be hidden too; in doubt it hides too much. Other text is returned as it is.
func hideSecrets(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	if strings.ContainsAny(scheme, ":@ ") {
		return hidden
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = hidden + rest[at:]
	}
	address, query, ok := strings.Cut(rest, "?")
	if !ok {
		return scheme + "://" + rest
	}
	params := strings.Split(query, "&")
	for i, param := range params {
		name, _, _ := strings.Cut(param, "=")
		if strings.ContainsAny(name, "%+") || containsAny(strings.ToLower(name), "pass", "secret", "token", "key") {
			params[i] = hidden
		}
	}
	return scheme + "://" + address + "?" + strings.Join(params, "&")
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}

// isControl reports control characters, which have no place in any setting.
func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
