package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// lastWord is a writer that calls do once it is told what.
type lastWord struct {
	output
	what string
	do   func()
}

func (w *lastWord) Write(p []byte) (int, error) {
	n, err := w.output.Write(p)
	if strings.Contains(string(p), w.what) {
		w.do()
	}
	return n, err
}

// checkBenchLeavesNothing fails the test when sessions of runs are still active, or there were fewer than at least.
func checkBenchLeavesNothing(t *testing.T, s *running, token string, atLeast int) {
	t.Helper()
	environ := []string{"SESSIOND_SERVER=" + s.api, "SESSIOND_TOKEN=" + token}
	if r := run(t, environ, "session", "list", "--active", "--json"); r.code != 0 || r.stdout != "" {
		t.Errorf("sessions are left: %+v", r)
	}
	r := run(t, environ, "session", "list", "--status", "revoked", "--limit", "100000", "--json")
	if n := strings.Count(r.stdout, `"bench":"bench-`); n < atLeast {
		t.Errorf("%d sessions were revoked, want %d or more", n, atLeast)
	}
}

func TestBench(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	token := devToken(t, dir, "--permissions", strings.Join(permissionNames(), ","))
	file := writeFile(t, "token.txt", token+"\n")
	for _, operation := range benchOperationNames() {
		for _, rate := range []string{"0", "500"} {
			r := run(t, nil, "bench", "--server", s.api, "--token-file", file, "--operation", operation, "--rate", rate,
				"--connections", "4", "--sessions", "20", "--duration", "200ms", "--warmup", "20ms", "--json")
			var got benchReport
			if err := json.Unmarshal([]byte(r.stdout), &got); r.code != 0 || err != nil {
				t.Errorf("%s: %v, %+v", operation, err, r)
				continue
			}
			want := "200"
			if operation == "create" {
				want = "201"
			}
			all := got.Statuses[want]
			if len(got.Statuses) != 1 || all.Answers == 0 || got.Failed != 0 || got.Rate == 0 || got.Operation != operation {
				t.Errorf("%s: %s", operation, r.stdout)
			}
			if rate != "0" && all.Answers+got.Unsent != 100 {
				t.Errorf("%s: %d answers of 100 at 500 a second", operation, all.Answers)
			}
			if all.P50 <= 0 || all.P99 < all.P50 || all.P999 < all.P99 || all.Max < all.P999 {
				t.Errorf("%s: %+v", operation, all)
			}
		}
	}
	checkBenchLeavesNothing(t, s, token, 2*20*len(benchOperations))

	// Updates are real ones.
	if n := metricValue(t, s, `sessiond_session_operations_total{op="patch",result="ok"}`); n == "" || n == "0" {
		t.Errorf("%q updates are counted", n)
	}

	r := run(t, []string{"SESSIOND_SERVER=" + s.api + "/", "SESSIOND_TOKEN=" + token}, "bench", "--tenant", "default",
		"--connections", "2", "--sessions", "3", "--duration", "50ms", "--warmup", "0s")
	for _, want := range []string{
		"server     " + s.api + "\n", "operation  get and verify in turn, of 3 sessions\n",
		"load       2 connections, each with one request at a time\n", "measured   50ms, after 0s of warm-up\n",
		" a second\n", "  status  answers  p50 ms  p99 ms  p99.9 ms  max ms", "     200  ",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in:\n%s", want, r.stdout)
		}
	}
	r.want(t, 0, "creating sessions: 3\nmeasuring for 50ms\nrevoking sessions: 3\n")
}

// metricValue is the value of a metric with its labels, empty for none.
func metricValue(t *testing.T, s *running, name string) string {
	t.Helper()
	for line := range strings.Lines(s.doWith(http.DefaultClient, "GET", s.ops+"/metrics", "", "").want(t, 200).body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	token := devToken(t, dir, "--permissions", strings.Join(permissionNames(), ","))
	for _, when := range []string{"creating", "measuring"} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stdout bytes.Buffer
		stderr := &lastWord{what: when, do: cancel}
		p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: stderr,
			environ: []string{"SESSIOND_SERVER=" + s.api, "SESSIOND_TOKEN=" + token}}
		code := p.run(ctx, []string{"bench", "--duration", "1h", "--operation", "create", "--sessions", "50"})
		if code != 1 || !strings.HasSuffix(stderr.String(), "sessiond: interrupted\n") {
			t.Errorf("code %d, stderr %q", code, stderr)
		}
	}
	checkBenchLeavesNothing(t, s, token, 0)
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	creator := devToken(t, dir, "--permissions", "sessions:create,sessions:delete")
	environ := []string{"SESSIOND_SERVER=" + s.api, "SESSIOND_TOKEN=" + creator}
	for _, operation := range []string{"get", "verify", "touch", "list", "update", "mix"} {
		r := run(t, environ, "bench", "--operation", operation, "--sessions", "1", "--duration", "1h")
		r.want(t, 1, "Ask for an access token with that permission")
	}
	checkBenchLeavesNothing(t, s, devToken(t, dir, "--permissions", "sessions:read"), 6)

	for _, tt := range []struct {
		args string
		code int
		text string
	}{
		{"--operation nonsense", 2, "--operation must be one of create, get,"},
		{"--connections 0", 2, "--connections must be"},
		{"--sessions 0", 2, "--sessions must be"},
		{"--duration 0s", 2, "--duration must be"},
		{"--warmup -1s", 2, "--warmup must be"},
		{"--rate -1", 2, "--rate must be"},
		{"--rate NaN", 2, "--rate must be"},
		{"--server nonsense", 1, "server must be a URL"},
		{"--server http://127.0.0.1:1", 1, "Is the server running"},
		{"--token-file nowhere.txt", 1, "nowhere.txt"},
	} {
		r := run(t, environ, append([]string{"bench"}, strings.Fields(tt.args)...)...)
		r.want(t, tt.code, tt.text)
		if r.stdout != "" {
			t.Errorf("%s: stdout %q", tt.args, r.stdout)
		}
	}
	run(t, nil, "bench").want(t, 2, "no access token")
}

func TestBenchTemplate(t *testing.T) {
	t.Parallel()
	b := &benchmark{token: "secret", tenant: "shop"}
	b.server = &url.URL{Scheme: "https", Host: "example.com:8443", Path: "/base"}
	got := b.template("PATCH", "/x/"+place(3)+"/y", `{"a":"`+place(2)+`"}`).append([]byte("before "), "one", "22")
	want := "before PATCH /base/x/one/y HTTP/1.1\r\nHost: example.com:8443\r\nAuthorization: Bearer secret\r\n" +
		"Sessiond-Tenant: shop\r\nContent-Type: application/merge-patch+json\r\nContent-Length: 10\r\n\r\n" + `{"a":"22"}`
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
