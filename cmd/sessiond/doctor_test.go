package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

// A patient is a configuration that doctor finds nothing wrong with, to be
// spoiled by tests.
type patient struct {
	t      *testing.T
	issuer *issuer
	dir    string // of the store
	keys   string
	config string
}

func newPatient(t *testing.T, more string) *patient {
	t.Helper()
	d := &patient{t: t, issuer: newIssuer(t), dir: filepath.Join(t.TempDir(), "store")}
	d.issuer.serve(t)
	d.keys = filepath.Join(t.TempDir(), "keyset.json")
	run(t, nil, "keyset", "create", d.keys).want(t, 0, "")
	d.config = d.issuer.configFile(t,
		fmt.Sprintf("store: {url: 'pebble://%s'}\nencryption: {keyset_file: %q}\n%s", d.dir, d.keys, more))
	return d
}

// doctor runs the command and checks the exit code and that stdout has texts.
// Nothing may be printed that doctor should not know.
func (d *patient) doctor(code int, texts ...string) result {
	d.t.Helper()
	r := run(d.t, nil, "doctor", "--config", d.config)
	if r.code != code {
		d.t.Errorf("exit code %d, want %d; stdout:\n%s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains("\n"+r.stdout, text) {
			d.t.Errorf("stdout lacks %q:\n%s", text, r.stdout)
		}
	}
	for line := range strings.Lines(r.stdout) {
		if word, _, _ := strings.Cut(line, " "); word != "ok" && word != "warn" && word != "FAIL" {
			d.t.Errorf("line %q", line)
		}
	}
	return r
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	d := newPatient(t, "")
	d.doctor(0, "\nok   configuration: valid", "\nok   keyset: "+d.keys+": 1 of 1 keys enabled, primary ",
		"\nok   issuer "+d.issuer.url+": 1 keys (ES256) in ", "\nok   clock: within 5s",
		"\nok   store: "+d.dir+" does not exist", "durable: ", "\nok   listen: 127.0.0.1:0 is free", "\nok   ops_listen: ", "\nok   tls: none", "\nok   tracing: off")
	if _, err := os.Stat(d.dir); err == nil {
		t.Error("doctor made the store's directory")
	}

	s := startProcess(t, "serve", "--config", d.config)
	s.waitReady()
	s.do("POST", "/sessions/", d.issuer.token(t, "sessions:create"), `{}`).want(t, 201)
	d.doctor(0, fmt.Sprintf("\nok   store: %s is in use by a running server (process %d)", d.dir, s.cmd.Process.Pid),
		"\nok   disk: a synced write to ")
	if code := s.end(); code != 0 {
		t.Fatalf("the server beside doctor ended with %d", code)
	}
	d.doctor(0, "\nok   store: "+d.dir+" opens: 1 active sessions of 1 tenants. durable: ")
	if names, err := filepath.Glob(filepath.Join(d.dir, ".sessiond*")); err != nil || len(names) > 0 {
		t.Errorf("doctor left %v behind, %v", names, err)
	}
}

func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	d := newPatient(t, "")
	if err := os.Remove(d.keys); err != nil {
		t.Fatal(err)
	}
	r := run(t, nil, "doctor", "--config", d.config, "--json")
	var got struct {
		OK       *bool
		Findings []struct{ Check, Result, Detail string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if r.code != 1 || got.OK == nil || *got.OK || len(got.Findings) < 10 || !strings.Contains(r.stderr, "1 check failed") {
		t.Errorf("exit code %d, stderr %q, stdout:\n%s", r.code, r.stderr, r.stdout)
	}
	for _, f := range got.Findings {
		if failed := f.Result == "fail"; failed != (f.Check == "keyset") || f.Detail == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestDoctorConfiguration(t *testing.T) {
	t.Parallel()
	const secret = "c4n4ry"
	name := writeFile(t, "config.yaml", "listen: nowhere\nstore: {url: 'pebble://"+secret+"@x'}\n")
	r := run(t, []string{"SESSIOND_STORE_ULR=" + secret}, "doctor", "--config", name)
	r.want(t, 1, "checks failed")
	for _, text := range []string{
		"warn configuration: SESSIOND_STORE_ULR", `FAIL configuration: listen: "nowhere" is not an address`,
		"\nFAIL configuration: store.url: ", "\nFAIL configuration: auth.issuers: ",
	} {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("stdout lacks %q:\n%s", text, r.stdout)
		}
	}
	if strings.Contains(r.stdout+r.stderr, secret) {
		t.Errorf("shows a secret:\n%s", r.stdout)
	}
	run(t, nil, "doctor", "--config", "/nowhere/config.yaml").want(t, 1, "1 check failed")
	run(t, nil, "doctor", "more").want(t, 2, "unknown command or argument")
}

func TestDoctorKeyset(t *testing.T) {
	t.Parallel()
	d := newPatient(t, "")
	if err := os.Chmod(d.keys, 0o644); err != nil {
		t.Fatal(err)
	}
	d.doctor(1, "\nFAIL keyset: keyset file "+d.keys+" is open to its group or others", "chmod 600")
	if err := firstError(os.Chmod(d.keys, 0o600), os.WriteFile(d.keys, []byte(`{"key":[]`), 0o600)); err != nil {
		t.Fatal(err)
	}
	d.doctor(1, "\nFAIL keyset: keyset file "+d.keys+" is not a cleartext Tink keyset")
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestDoctorIssuer(t *testing.T) {
	t.Parallel()
	// Another issuer's document, by a server whose clock is wrong.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, `{"issuer":"https://other.example","jwks_uri":"https://other.example/keys"}`)
	}))
	defer other.Close()
	i := &issuer{url: other.URL}
	d := &patient{t: t, config: i.configFile(t, "store: {url: 'memory:'}")}
	d.doctor(1, "\nFAIL issuer "+other.URL+": discovery: document is of another issuer",
		"\nwarn clock: this machine is 1m0s behind "+other.URL+": synchronize", "\nok   keyset: none",
		"\nwarn store: in memory")
	other.Close()
	d.doctor(1, "\nFAIL issuer "+other.URL+": discovery: ", "refused",
		"\nok   clock: the time since boot can be read; no issuer")
}

// A server that accepts and says nothing must not make doctor hang.
func TestDoctorIssuerHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	i := &issuer{url: "http://" + l.Addr().String()}
	d := &patient{t: t, config: i.configFile(t, "store: {url: 'memory:'}")}
	start := time.Now()
	d.doctor(1, "\nFAIL issuer "+i.url+": ", "deadline exceeded")
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDoctorStore(t *testing.T) {
	t.Parallel()
	d := newPatient(t, "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(d.dir, nil, 0o600))
	d.doctor(1, "\nFAIL store: "+d.dir+" is not a directory")
	must(os.Remove(d.dir))

	must(os.Mkdir(d.dir, 0o755))
	must(os.WriteFile(filepath.Join(d.dir, "letter.txt"), nil, 0o600))
	d.doctor(1, "\nwarn store: "+d.dir+" is open to its group or others (mode 0755): run chmod 700",
		"\nFAIL store: pebblestore: open "+d.dir+": the directory is not empty and holds no store")
	must(os.Remove(filepath.Join(d.dir, "letter.txt")))
	d.doctor(0, "\nok   store: "+d.dir+" opens: 0 active sessions of 0 tenants")

	// A manifest that is cut off.
	manifests, err := filepath.Glob(filepath.Join(d.dir, "MANIFEST-*"))
	must(err)
	for _, name := range manifests {
		must(os.WriteFile(name, []byte("damaged"), 0o600))
	}
	d.doctor(1, "\nFAIL store: pebblestore: open "+d.dir+": ")
}

func TestDoctorStoreOfAnotherUser(t *testing.T) {
	t.Parallel()
	d := newPatient(t, "")
	if os.Geteuid() == 0 {
		if err := firstError(os.Mkdir(d.dir, 0o700), os.Chown(d.dir, 12345, -1)); err != nil {
			t.Fatal(err)
		}
		r := d.doctor(1, "\nFAIL store: "+d.dir+" belongs to user 12345 and this is user 0")
		if names, err := os.ReadDir(d.dir); err != nil || len(names) > 0 {
			t.Errorf("doctor left %v, %v:\n%s", names, err, r.stdout)
		}
		return
	}
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o500); err != nil {
		t.Fatal(err)
	}
	got := checkParent(filepath.Join(parent, "a", "b"))
	if got.Result != resultFail || !strings.Contains(got.Detail, "can't be made in "+parent) {
		t.Errorf("%+v", got)
	}
}

func TestDoctorAddresses(t *testing.T) {
	t.Parallel()
	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	taken := strings.TrimPrefix(stranger.URL, "http://")
	s := startDev(t, t.TempDir())
	i := newIssuer(t)
	i.serve(t)
	config := i.configFile(t, "store: {url: 'memory:'}")
	doctor := func(api, ops string) result {
		return run(t, nil, "doctor", "--config", config, "--listen", api, "--ops-listen", ops)
	}
	r := doctor(taken, "192.0.2.1:9090") // TEST-NET-1: no machine of ours
	r.want(t, 1, "2 checks failed")
	for _, text := range []string{
		"\nFAIL listen: " + taken + " is in use by another program: stop that or choose",
		"\nFAIL ops_listen: listen tcp 192.0.2.1:9090: bind: ",
	} {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("stdout lacks %q:\n%s", text, r.stdout)
		}
	}
	r = doctor(strings.TrimPrefix(s.api, "http://"), strings.TrimPrefix(s.ops, "http://"))
	r.want(t, 0, "")
	if n := strings.Count(r.stdout, "is served by a sessiond"); n != 2 {
		t.Errorf("%d addresses served by a sessiond, want 2:\n%s", n, r.stdout)
	}
	// Its two addresses mixed up.
	r = doctor(strings.TrimPrefix(s.ops, "http://"), strings.TrimPrefix(s.api, "http://"))
	r.want(t, 1, "2 checks failed")
}

// writeDatedCertificate writes a certificate with its key and returns the files.
func writeDatedCertificate(t *testing.T, from, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return writeFile(t, "cert.pem", encode("CERTIFICATE", der)), writeFile(t, "key.pem", encode("PRIVATE KEY", keyDER))
}

func TestDoctorTLS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		left  time.Duration // until the certificate's end
		from  time.Duration // until its begin
		mode  os.FileMode
		other bool // the key is another one's
		code  int
		want  []string
	}{
		{name: "good", left: 90 * 24 * time.Hour, from: -time.Hour, mode: 0o600, want: []string{"\nok   tls: "}},
		{name: "soon", left: 13 * 24 * time.Hour, from: -time.Hour, mode: 0o600, want: []string{"\nwarn tls: ", "renew it"}},
		{name: "over", left: -time.Hour, from: -2 * time.Hour, mode: 0o600, code: 1,
			want: []string{"\nFAIL tls: ", "expired at"}},
		{name: "early", left: 90 * 24 * time.Hour, from: time.Hour, mode: 0o600, code: 1,
			want: []string{"\nFAIL tls: ", "is not valid before"}},
		{name: "open", left: 90 * 24 * time.Hour, from: -time.Hour, mode: 0o644,
			want: []string{"\nok   tls: ", "\nwarn tls: ", "is open to everybody (mode 0644)"}},
		{name: "mixed", left: 90 * 24 * time.Hour, from: -time.Hour, mode: 0o600, other: true, code: 1,
			want: []string{"\nFAIL tls: ", "private key does not match"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			cert, key := writeDatedCertificate(t, now.Add(tt.from), now.Add(tt.left))
			if tt.other {
				_, key = writeDatedCertificate(t, now.Add(tt.from), now.Add(tt.left))
			}
			if err := os.Chmod(key, tt.mode); err != nil {
				t.Fatal(err)
			}
			d := newPatient(t, fmt.Sprintf("tls: {cert_file: %q, key_file: %q}", cert, key))
			d.doctor(tt.code, tt.want...)
		})
	}
}

func TestDoctorTracing(t *testing.T) {
	t.Parallel()
	collector := httptest.NewServer(http.NotFoundHandler())
	d := newPatient(t, "tracing: {otlp_endpoint: '"+collector.URL+"'}")
	d.doctor(0, "\nok   tracing: the collector at "+collector.URL+" answers")
	collector.Close()
	d.doctor(0, "\nwarn tracing: the collector does not answer")
}

func TestDoctorJudgements(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		got          finding
		result, text string
	}{
		{judgeSync("/d", 300*time.Microsecond), resultOK, "takes 300µs"},
		{judgeSync("/d", 21*time.Millisecond), resultWarn, "takes 21ms (median of 50): every change waits"},
		{judgeSpace("/d", 5<<30), resultOK, "5120 MiB are free"},
		{judgeSpace("/d", 100<<20), resultWarn, "100 MiB are free"},
		{judgeSpace("/d", 63<<20), resultFail, "make room"},
		{judgeFiles(1024), resultWarn, "1024 may be open at once, connections included: allow at least 4096"},
		{judgeFiles(4096), resultOK, "4096"},
		{judgeMemory(0, false, ""), resultOK, "not limited"},
		{judgeMemory(0, false, "1GiB"), resultOK, "GOMEMLIMIT is 1GiB"},
		{judgeMemory(512<<20, true, ""), resultWarn,
			"allows 512 MiB and GOMEMLIMIT is not set, here at least: set GOMEMLIMIT=460MiB"},
		{judgeMemory(512<<20, true, "off"), resultWarn, "set GOMEMLIMIT=460MiB"},
		{judgeMemory(512<<20, true, "460MiB"), resultOK, "GOMEMLIMIT is 460MiB"},
		{fail("%s", "a\nb\x1b[31m\u202ec"), resultFail, "a; b [31m c"},
		{ok("%s", strings.Repeat("x", 1000)), resultOK, strings.Repeat("x", 500) + "..."},
	} {
		if tt.got.Result != tt.result || !strings.Contains(tt.got.Detail, tt.text) {
			t.Errorf("%+v, want %s with %q", tt.got, tt.result, tt.text)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, tt := range map[string]struct {
		fs   fstest.MapFS
		want int64 // 0: not limited
	}{
		"none": {fstest.MapFS{}, 0},
		"version 2": {fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("536870912\n"),
		}, 512 << 20},
		"version 2, free": {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n")}, 0},
		"narrower above": {fstest.MapFS{
			"proc/self/cgroup":                                       file("0::/system.slice/sessiond.service\n"),
			"sys/fs/cgroup/system.slice/memory.max":                  file("1000\n"),
			"sys/fs/cgroup/memory.max":                               file("max\n"),
			"sys/fs/cgroup/system.slice/sessiond.service/memory.max": file("2000\n"),
		}, 1000},
		"version 1": {fstest.MapFS{
			"proc/self/cgroup":                           file("5:memory:/docker/x\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("268435456\n"),
		}, 256 << 20},
		"version 1, free": {fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
		"nonsense":        {fstest.MapFS{"proc/self/cgroup": file("0::\n"), "sys/fs/cgroup/memory.max": file("lots")}, 0},
	} {
		limit, limited := memoryLimit(tt.fs)
		if limit != tt.want || limited != (tt.want > 0) {
			t.Errorf("%s: %d, %v; want %d", name, limit, limited, tt.want)
		}
	}
}

// Whatever the configuration, every check answers in time.
func TestDoctorGivesUp(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "cert.pem")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Store.URL = "memory:"
	cfg.TLS.CertFile, cfg.TLS.KeyFile = pipe, "/nowhere/key.pem"
	cfg.Listen, cfg.OpsListen = "127.0.0.1:0", "127.0.0.1:0"
	d := &doctor{p: &program{}, cfg: &cfg}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.examine(t.Context())
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("doctor hangs at a file that does not answer")
	}
	f, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // lets the check go on that waits
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, f := range d.findings {
		if f.Check == "tls" && (f.Result != resultFail || !strings.Contains(f.Detail, "no answer within 5s")) {
			t.Errorf("%+v", f)
		}
	}
}
