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

// schemes are the addresses of stores that several servers share.
var (
	postgresSchemes = []string{"postgres", "postgresql"}
	redisSchemes    = []string{
		"redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel",
	}
)

// Postgres tells whether sessions are kept in PostgreSQL.
func (s Store) Postgres() bool { return slices.Contains(postgresSchemes, s.scheme()) }

// Redis tells whether sessions are kept in Redis or Valkey.
func (s Store) Redis() bool { return slices.Contains(redisSchemes, s.scheme()) }

// Shared tells whether several servers may run on the store.
func (s Store) Shared() bool { return s.Postgres() || s.Redis() }

func (s Store) scheme() string {
	scheme, _, _ := strings.Cut(s.URL, ":")
	return scheme
}

// String is the address without secrets.
func (s Store) String() string { return s.shown() }

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

const storeForms = "write memory:, pebble:///dir, postgres://host/name, redis://host, redis+cluster://host:port or " +
	"redis+sentinel://host/name"

// check never quotes the address: it may hold a password. What comes after the host of a shared store is for the store
// itself to judge, when it is opened.
func (s Store) check() error {
	scheme, rest, ok := strings.Cut(s.URL, ":")
	switch {
	case s.URL == "":
		return errors.New("is empty: " + storeForms)
	case !ok:
		return errors.New("is not an address: " + storeForms)
	case scheme == "memory" && rest != "":
		return errors.New("has more than memory: takes: write memory: alone")
	case scheme == "memory":
		return nil
	case scheme == "pebble":
		_, err := pebbleDir(s.URL)
		return err
	case !s.Shared():
		return errors.New("has an unknown scheme: " + storeForms)
	case strings.ContainsFunc(rest, isControl) || strings.Contains(rest, " "):
		return errors.New("contains spaces or control characters: remove them, or write them as %20 and the like")
	case !strings.HasPrefix(rest, "//") || strings.Trim(rest, "/") == "":
		return fmt.Errorf("names no server: write %s://host/name", scheme)
	}
	return nil
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
