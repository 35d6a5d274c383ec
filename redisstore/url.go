package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is how the servers are put together.
type kind int

const (
	single kind = iota
	cluster
	sentinel
)

// A target is what a URL says.
type target struct {
	kind                kind
	addrs               []string // host:port
	master              string   // name that sentinels know it by
	user, password      string
	db                  int
	tls                 bool
	caFile              string
	certFile, keyFile   string
	sentinelUser        string
	sentinelPassword    string
	prefix              string
	timeout             time.Duration
	replicas            int  // that must have a write before it counts
	aof                 bool // they and the server must have it on disk
	wait                time.Duration
	replicasSet, aofSet bool
}

const (
	defaultPrefix  = "sessiond:"
	defaultTimeout = 3 * time.Second
	longestWait    = time.Second
)

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// parseURL reads a URL. Its errors don't quote it, since it may have passwords in it.
func parseURL(text string) (*target, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, errors.New("the URL has no scheme, such as redis://")
	}
	t := &target{prefix: defaultPrefix, timeout: defaultTimeout}
	base, kindName, _ := strings.Cut(scheme, "+")
	switch base {
	case "redis":
	case "rediss":
		t.tls = true
	default:
		return nil, errors.New("the scheme of the URL is not redis, rediss, or one of them with +cluster or +sentinel")
	}
	switch {
	case !strings.Contains(scheme, "+"):
	case kindName == "cluster":
		t.kind = cluster
	case kindName == "sentinel":
		t.kind = sentinel
	default:
		return nil, errors.New("the scheme of the URL is not redis, rediss, or one of them with +cluster or +sentinel")
	}
	if strings.Contains(rest, "#") {
		return nil, errors.New("the URL has a fragment; # in a password is written %23")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if err := t.parseAuthority(authority); err != nil {
		return nil, err
	}
	if err := t.parsePath(path); err != nil {
		return nil, err
	}
	if err := t.parseQuery(query); err != nil {
		return nil, err
	}
	return t, t.check()
}

// patience is how long a write waits for replicas or disks: as the URL says, or a second, but
// not more than half of the timeout.
func (t *target) patience() time.Duration {
	if t.wait > 0 {
		return t.wait
	}
	return min(longestWait, t.timeout/2)
}

func (t *target) parseAuthority(s string) error {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		user, password, _ := strings.Cut(s[:at], ":")
		var err, err2 error
		t.user, err = url.PathUnescape(user)
		t.password, err2 = url.PathUnescape(password)
		if err != nil || err2 != nil {
			return errors.New("user and password of the URL are not percent-encoded correctly")
		}
		s = s[at+1:]
	}
	port := "6379"
	if t.kind == sentinel {
		port = "26379"
	}
	for addr := range strings.SplitSeq(s, ",") {
		host, p, err := net.SplitHostPort(addr)
		if err != nil {
			host, p = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]"), port
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if host == "" || err != nil || n == 0 || strings.ContainsAny(host, "@/[] \t\r\n%") ||
			strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return errors.New("an address of the URL is not host:port")
		}
		t.addrs = append(t.addrs, net.JoinHostPort(host, p))
	}
	if t.kind == single && len(t.addrs) > 1 {
		return errors.New("a redis:// URL has one address; several are for redis+cluster:// and redis+sentinel://")
	}
	return nil
}

// parsePath reads the database, or the master's name and the database.
func (t *target) parsePath(path string) error {
	if t.kind == sentinel {
		var err error
		name, db, more := strings.Cut(path, "/")
		if t.master, err = url.PathUnescape(name); err != nil || t.master == "" {
			return errors.New("a sentinel URL names the master after the addresses: redis+sentinel://a,b,c/name")
		}
		if path = db; more && db == "" {
			return nil
		}
	}
	if path == "" {
		return nil
	}
	return t.setDB(path)
}

func (t *target) setDB(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return errors.New("the database of the URL is not a number")
	}
	t.db = int(n)
	return nil
}

func (t *target) parseQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the options of the URL are malformed")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) != 1 {
			return fmt.Errorf("option %q of the URL is repeated", name)
		}
		set, ok := options[name]
		if !ok {
			return fmt.Errorf("unknown option %.40q in the URL", name)
		}
		if err := set(t, values[name][0]); err != nil {
			return fmt.Errorf("option %s of the URL: %w", name, err)
		}
	}
	return nil
}

// options are those of the URL's query.
var options = map[string]func(t *target, v string) error{
	"prefix":            setText(func(t *target) *string { return &t.prefix }),
	"ca_file":           setText(func(t *target) *string { return &t.caFile }),
	"cert_file":         setText(func(t *target) *string { return &t.certFile }),
	"key_file":          setText(func(t *target) *string { return &t.keyFile }),
	"sentinel_username": setText(func(t *target) *string { return &t.sentinelUser }),
	"sentinel_password": setText(func(t *target) *string { return &t.sentinelPassword }),
	"timeout":           setDuration(func(t *target) *time.Duration { return &t.timeout }),
	"wait_timeout":      setDuration(func(t *target) *time.Duration { return &t.wait }),
	"db":                func(t *target, v string) error { return t.setDB(v) },
	"wait_replicas": func(t *target, v string) error {
		t.replicasSet = true
		return t.setReplicas(v)
	},
	"wait_aof": func(t *target, v string) error {
		t.aof, t.aofSet = true, true
		return t.setReplicas(v)
	},
}

func (t *target) setReplicas(v string) error {
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil {
		return errors.New("not a number of replicas")
	}
	t.replicas = int(n)
	return nil
}

func setText(field func(*target) *string) func(*target, string) error {
	return func(t *target, v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*field(t) = v
		return nil
	}
}

func setDuration(field func(*target) *time.Duration) func(*target, string) error {
	return func(t *target, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 10*time.Millisecond || d > time.Minute {
			return errors.New("not a duration between 10ms and 1m")
		}
		*field(t) = d
		return nil
	}
}

// check refuses what does not go together.
func (t *target) check() error {
	switch {
	case !validPrefix.MatchString(t.prefix):
		return errors.New("option prefix of the URL: not 1 to 64 of letters, digits, and ._:-")
	case t.kind == cluster && t.db != 0:
		return errors.New("a cluster has database 0 only")
	case t.replicasSet && t.aofSet:
		return errors.New("wait_replicas and wait_aof exclude each other: wait_aof waits for its replicas too")
	case !t.tls && (t.caFile != "" || t.certFile != "" || t.keyFile != ""):
		return errors.New("ca_file, cert_file and key_file are for rediss:// URLs")
	case (t.certFile == "") != (t.keyFile == ""):
		return errors.New("cert_file and key_file go together")
	case t.kind != sentinel && (t.sentinelUser != "" || t.sentinelPassword != ""):
		return errors.New("sentinel_username and sentinel_password are for redis+sentinel:// URLs")
	case t.wait >= t.timeout && t.waits():
		return errors.New("wait_timeout must be less than timeout")
	}
	return nil
}

// waits reports whether writes wait for replicas or disks.
func (t *target) waits() bool { return t.replicas > 0 || t.aof }

// tlsConfig is how connections are encrypted, nil for not at all.
func (t *target) tlsConfig() (*tls.Config, error) {
	if !t.tls {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.caFile != "" {
		pem, err := os.ReadFile(t.caFile)
		if err != nil {
			return nil, fmt.Errorf("reading ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca_file has no certificate in it")
		}
	}
	if t.certFile != "" {
		cert, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("reading cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
