package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"sessiond.example/sessiond/auth"
	"sessiond.example/sessiond/keyset"
)

func checkKeyset(_ context.Context, d *doctor) []finding {
	name := d.cfg.Encryption.KeysetFile
	if name == "" {
		return []finding{ok("none: keys are made anew at every start, as fits a store in memory")}
	}
	keys, err := keyset.Load(name)
	if err != nil {
		return []finding{fail("%v", err)}
	}
	enabled := 0
	for _, k := range keys.Keys() {
		if k.Status == keyset.Enabled {
			enabled++
		}
	}
	return []finding{ok("%s: %d of %d keys enabled, primary %d, readable by its owner only",
		name, enabled, len(keys.Keys()), keys.Primary())}
}

func issuerCheck(settings auth.Issuer) func(context.Context, *doctor) []finding {
	return func(ctx context.Context, d *doctor) []finding {
		probe, err := auth.ProbeIssuer(ctx, settings)
		if probe.Dated {
			d.mu.Lock()
			d.offsets = append(d.offsets, offset{settings.Issuer, probe.Ahead})
			d.mu.Unlock()
		}
		if err != nil {
			return []finding{fail("%v: its tokens are answered 503 until its keys can be loaded; "+
				"check the address, the network, and the certificate (auth.issuers[].ca_file)", err)}
		}
		found := []finding{ok("%d keys (%s) in %v", probe.Keys, strings.Join(probe.Algorithms, ", "),
			probe.Took.Round(time.Millisecond))}
		if probe.Skipped > 0 {
			found = append(found, warn("%d entries of its key set can't be used; the server's log tells why", probe.Skipped))
		}
		return found
	}
}

// maxOffset is how far clocks may be apart. Tokens are judged with 30s of leeway
// where they begin and none where they end.
const maxOffset = 5 * time.Second

func checkClock(_ context.Context, d *doctor) []finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []finding
	for _, o := range d.offsets {
		if o.ahead.Abs() > maxOffset {
			word := "ahead of"
			if o.ahead < 0 {
				word = "behind"
			}
			found = append(found, warn("this machine is %v %s %s: synchronize both clocks (NTP), or tokens are refused "+
				"as expired or not yet valid", o.ahead.Abs().Round(time.Second), word, o.issuer))
		}
	}
	if err := bootClock(); err != nil {
		found = append(found, warn("the time since boot can't be read (%v): after a suspend, sessions live longer by "+
			"the time of the suspend; allow clock_gettime(CLOCK_BOOTTIME) in the sandbox", err))
	}
	switch {
	case len(found) > 0:
	case len(d.offsets) == 0:
		found = append(found, ok("the time since boot can be read; no issuer told its time to compare with"))
	default:
		found = append(found, ok("within %v of the issuers' clocks; the time since boot can be read", maxOffset))
	}
	return found
}

func checkListen(ctx context.Context, d *doctor) []finding {
	scheme := "http"
	if d.cfg.TLS.CertFile != "" {
		scheme = "https"
	}
	return checkAddress(ctx, d.cfg.Listen, scheme, "/", func(status int, body string) bool {
		return status == http.StatusUnauthorized && strings.Contains(body, "urn:sessiond:problem:")
	})
}

func checkOpsListen(ctx context.Context, d *doctor) []finding {
	return checkAddress(ctx, d.cfg.OpsListen, "http", "/healthz", func(status int, body string) bool {
		return status == http.StatusOK && body == "ok\n"
	})
}

// checkAddress wants an address that is free, or served by a sessiond, as ours
// tells from the answer to a GET of path.
func checkAddress(ctx context.Context, address, scheme, path string, ours func(int, string) bool) []finding {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		if err := l.Close(); err != nil {
			return []finding{fail("%v", err)}
		}
		return []finding{ok("%s is free", address)}
	case errors.Is(err, syscall.EADDRINUSE):
		status, body, err := ask(ctx, scheme+"://"+dialable(address)+path)
		if err == nil && ours(status, body) {
			return []finding{ok("%s is served by a sessiond", address)}
		}
		return []finding{fail("%s is in use by another program: stop that or choose another address", address)}
	case errors.Is(err, syscall.EACCES):
		return []finding{fail("%v: choose a port above 1023, or give the program CAP_NET_BIND_SERVICE", err)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return []finding{fail("%v: this machine does not have the address; choose one of its own, "+
			"or none before the colon", err)}
	default:
		return []finding{fail("%v: choose another address", err)}
	}
}

// dialable is where a listener on address can be reached from this machine.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// ask gets what is at an address of the configuration.
func ask(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // nothing secret is sent, nothing relied upon
	}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() // only read
	content, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, string(content), err
}

// renewTime is how long before its end a certificate should have been renewed.
const renewTime = 14 * 24 * time.Hour

func checkTLS(_ context.Context, d *doctor) []finding {
	certFile, keyFile := d.cfg.TLS.CertFile, d.cfg.TLS.KeyFile
	if certFile == "" {
		if loopback(d.cfg.Listen) {
			return []finding{ok("none: the API is cleartext on loopback")}
		}
		return []finding{warn("none: the API is cleartext on %s; keep it behind a proxy that ends TLS, or set "+
			"tls.cert_file and tls.key_file", d.cfg.Listen)}
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return []finding{fail("%s, %s: %v: name a PEM certificate with its chain and its own private key",
			certFile, keyFile, err)}
	}
	var found []finding
	now, from, until := time.Now(), pair.Leaf.NotBefore, pair.Leaf.NotAfter
	switch left := until.Sub(now); {
	case now.Before(from):
		found = append(found, fail("%s is not valid before %s: check the clock, or wait", certFile,
			from.Format(time.RFC3339)))
	case left <= 0:
		found = append(found, fail("%s expired at %s: renew it", certFile, until.Format(time.RFC3339)))
	case left < renewTime:
		found = append(found, warn("%s expires at %s: renew it; a running server picks it up", certFile,
			until.Format(time.RFC3339)))
	default:
		found = append(found, ok("%s is valid until %s", certFile, until.Format(time.RFC3339)))
	}
	info, err := os.Stat(keyFile)
	switch {
	case err != nil:
		found = append(found, fail("%v", err))
	case info.Mode().Perm()&0o007 != 0:
		found = append(found, warn("%s is open to everybody (mode %#o): run chmod o-rwx on it and replace the key",
			keyFile, info.Mode().Perm()))
	}
	return found
}

func checkTracing(ctx context.Context, d *doctor) []finding {
	endpoint := d.cfg.Tracing.OTLPEndpoint
	if endpoint == "" {
		return []finding{ok("off")}
	}
	if _, _, err := ask(ctx, endpoint); err != nil {
		return []finding{warn("the collector does not answer (%v): spans get lost, requests do not; start it or correct "+
			"tracing.otlp_endpoint", err)}
	}
	return []finding{ok("the collector at %s answers", endpoint)}
}

// minFiles is enough for the store's files and some thousand connections.
const minFiles = 4096

func checkFiles(context.Context, *doctor) []finding {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return []finding{warn("the limit on open files can't be read: %v", err)}
	}
	return []finding{judgeFiles(uint64(limit.Cur))}
}

func judgeFiles(limit uint64) finding {
	if limit < minFiles {
		return warn("%d may be open at once, connections included: allow at least %d "+
			"(LimitNOFILE= in a systemd unit, ulimit -n)", limit, minFiles)
	}
	return ok("%d may be open at once", limit)
}

func checkMemory(_ context.Context, d *doctor) []finding {
	limit, limited := memoryLimit(os.DirFS("/"))
	return []finding{judgeMemory(limit, limited, d.p.getenv("GOMEMLIMIT"))}
}

// judgeMemory wants the garbage collector to know a limit that the system sets:
// otherwise the process is killed before it collects.
func judgeMemory(limit int64, limited bool, goMemLimit string) finding {
	const headroom = 10 // a tenth for what is not Go's heap
	switch {
	case !limited && goMemLimit == "":
		return ok("not limited by a control group")
	case !limited:
		return ok("GOMEMLIMIT is %s; not limited by a control group", goMemLimit)
	case goMemLimit == "" || goMemLimit == "off":
		return warn("the control group allows %s and GOMEMLIMIT is not set, here at least: set GOMEMLIMIT=%dMiB for the "+
			"server, or it may be killed", mib(limit), (limit-limit/headroom)>>20)
	default:
		return ok("the control group allows %s, GOMEMLIMIT is %s", mib(limit), goMemLimit)
	}
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
