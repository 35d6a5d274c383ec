package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/client"
)

// newDir is a directory for sessiond dev with the keyset of another, or its own
// one when that is empty.
func newDir(t *testing.T, keysOf string) string {
	t.Helper()
	dir := t.TempDir()
	if keysOf == "" {
		succeed(t, "keyset", "create", filepath.Join(dir, devKeysetFile))
		return dir
	}
	keys, err := os.ReadFile(filepath.Join(keysOf, devKeysetFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, devKeysetFile), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// feedTo runs a command with text as its standard input.
func feedTo(t *testing.T, text string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader(text), stdout: &stdout, stderr: &stderr}
	code := p.run(t.Context(), args)
	return result{code, stdout.String(), stderr.String()}
}

// says fails the test unless the command ended with code and printed text.
func (r result) says(t *testing.T, code int, text string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, text) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want code %d and %q", r.code, r.stdout, r.stderr, code, text)
	}
}

// TestMove takes sessions from one place to another while both serve.
func TestMove(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	there := startDev(t, from)
	old := newClient(t, there, from)
	tokens := make(map[sessiond.ID]sessiond.Token)
	for _, id := range []sessiond.ID{"a", "b", "c", "d"} {
		_, token, err := old.Create(t.Context(), sessiond.CreateParams{ID: id, Data: jsontext.Value(`{"secret":"` + id + `"}`)})
		if err != nil {
			t.Fatal(err)
		}
		tokens[id] = token
	}
	file := filepath.Join(from, "sessions.jsonl")
	r := succeed(t, "export", "--data", from, "--output", file)
	if r.stdout != "" || !strings.Contains(r.stderr, "4 sessions, live or revoked, written") {
		t.Errorf("export: %+v", r)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "secret") || strings.Contains(string(text), string(tokens["a"])) {
		t.Errorf("the export shows a secret, %v", err)
	}
	run(t, nil, "export", "--data", from, "--output", file).want(t, 1, "exists and was left as it is")

	// Into a directory that has no store yet, and no server.
	to := newDir(t, from)
	run(t, nil, "import", "--data", to, "--dry-run", file).says(t, 0, "dry run, nothing was changed: 4 created")
	succeed(t, "import", "--data", to, file).says(t, 0, "import: 4 created, 0 updated, 0 ended, 0 the same")
	here := startDev(t, to)
	c := newClient(t, here, to)
	alive(t, c, tokens)
	a, b := get(t, old, "a"), get(t, c, "a")
	if a.ETag != b.ETag || string(a.Data) != string(b.Data) || !a.CreatedAt.Equal(b.CreatedAt) || !a.ExpiresAt.Equal(b.ExpiresAt) {
		t.Errorf("%+v became %+v", a, b)
	}

	// What has changed since, through both servers.
	_, tokens["a"], err = old.Rotate(t.Context(), "a", sessiond.RotateParams{Subject: "alice"})
	must(t, err)
	must(t, old.Revoke(t.Context(), "b", sessiond.RevokeParams{Reason: sessiond.EndSecurity}))
	must(t, c.Revoke(t.Context(), "c", sessiond.RevokeParams{}))
	delta := succeed(t, "export", "--data", from).stdout
	want := "import: 0 created, 1 updated, 1 ended, 1 the same, 0 expired, 1 newer or ended here, 0 failed"
	feedTo(t, delta, "import", "--data", to, "-").says(t, 0, want)
	feedTo(t, delta, "import", "--data", to, "-").says(t, 0, "import: 0 created, 0 updated, 0 ended, 3 the same")
	delete(tokens, "b")
	delete(tokens, "c")
	alive(t, c, tokens)
	for id, reason := range map[sessiond.ID]sessiond.EndReason{"b": sessiond.EndSecurity, "c": sessiond.EndRevoked} {
		var ended *sessiond.EndedError
		if _, err := c.Get(t.Context(), id); !errors.As(err, &ended) || ended.Session.EndReason != reason {
			t.Errorf("%s: %v", id, err)
		}
	}

	// Through a pipe, one tenant, from a store that no server has.
	there.end()
	part := succeed(t, "export", "--data", from, "--tenant", "default", "--after", "default/a").stdout
	if strings.Count(part, "\n") != 5 || strings.Contains(part, `"id":"a"`) {
		t.Errorf("after default/a: %s", part)
	}
	feedTo(t, part, "import", "--data", newDir(t, from), "-").says(t, 0, "import: 2 created, 0 updated, 0 ended, 1 the same")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, c *client.Client, id sessiond.ID) *sessiond.Session {
	t.Helper()
	s, err := c.Get(t.Context(), id)
	must(t, err)
	return s
}

func alive(t *testing.T, c *client.Client, tokens map[sessiond.ID]sessiond.Token) {
	t.Helper()
	for id, token := range tokens {
		v, err := c.Verify(t.Context(), token, sessiond.VerifyParams{NoTouch: true})
		if err != nil || !v.Active || v.Session.ID != id || string(v.Session.Data) != `{"secret":"`+string(id)+`"}` {
			t.Errorf("the token of %s: %+v, %v", id, v, err)
		}
	}
}

// TestMoveThroughSharedStores takes sessions to each store that servers share, and
// back to a directory: nothing of them has changed.
func TestMoveThroughSharedStores(t *testing.T) {
	t.Parallel()
	from := newDir(t, "")
	s := startDev(t, from)
	c := newClient(t, s, from)
	createMany(t, c, 50)
	tokens := make(map[sessiond.ID]sessiond.Token)
	for i, id := range []sessiond.ID{"A", "a", "a-b", "a.b", "a_b", "ab", "Z"} {
		_, token, err := c.Create(t.Context(), sessiond.CreateParams{
			ID: id, Subject: "alicé", Labels: map[string]string{"empty": "", "n": "1"},
			Data: jsontext.Value(`{"secret":"` + string(id) + `"}`), IdempotencyKey: fmt.Sprint("key-", i),
		})
		must(t, err)
		if tokens[id] = token; i%2 == 0 {
			_, tokens[id], err = c.Rotate(t.Context(), id, sessiond.RotateParams{})
			must(t, err)
		}
	}
	s.end()
	sessions := func(args ...string) string { // all but the header
		_, lines, _ := strings.Cut(succeed(t, append([]string{"export", "--open"}, args...)...).stdout, "\n")
		return lines
	}
	want, text := sessions("--data", from), succeed(t, "export", "--data", from).stdout
	for name, open := range sharedStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			config := i.configFile(t, fmt.Sprintf("store: {url: %q}\nencryption: {keyset_file: %q}\n",
				strings.Replace(open(t), "prefix=cmd", "prefix=moved", 1), filepath.Join(from, devKeysetFile)))
			succeed(t, "migrate", "--config", config)
			feedTo(t, text, "import", "--config", config, "-").says(t, 0, "import: 57 created")
			feedTo(t, text, "import", "--config", config, "-").says(t, 0, "0 ended, 57 the same")
			if got := sessions("--config", config); got != want {
				t.Errorf("%s has\n%swant\n%s", name, got, want)
			}
			to := newDir(t, from)
			feedTo(t, succeed(t, "export", "--config", config).stdout, "import", "--data", to, "-").says(t, 0, "import: 57 created")
			if got := sessions("--data", to); got != want {
				t.Errorf("back from %s:\n%swant\n%s", name, got, want)
			}
			alive(t, newClient(t, startDev(t, to), to), tokens)
		})
	}
}

// TestMoveToOtherKeys: an export needs its keys, or to be open.
func TestMoveToOtherKeys(t *testing.T) {
	t.Parallel()
	from := newDir(t, "")
	s := startDev(t, from)
	createMany(t, newClient(t, s, from), 5)
	sealed := succeed(t, "export", "--data", from).stdout
	open := succeed(t, "export", "--data", from, "--open").stdout
	if strings.Contains(sealed, `{"n":`) || !strings.Contains(open, `{"n":3}`) {
		t.Error("data is in clear, or is not")
	}
	to := newDir(t, "")
	for _, serving := range []bool{false, true} {
		if serving {
			startDev(t, to)
		}
		r := feedTo(t, sealed, "import", "--data", to, "-")
		r.want(t, 1, "sealed with key "+primaryKey(t, filepath.Join(from, devKeysetFile))+", which the keyset file lacks")
		if r.stdout != "" {
			t.Errorf("stdout %q", r.stdout)
		}
	}
	feedTo(t, open, "import", "--data", to, "-").says(t, 0, "5 created")

	// Data that can't be opened is left out of an open export, and told.
	must(t, os.Rename(filepath.Join(from, devKeysetFile), filepath.Join(from, "away")))
	s.end()
	succeed(t, "keyset", "create", filepath.Join(from, devKeysetFile))
	r := run(t, nil, "export", "--data", from, "--open")
	r.want(t, 1, "the data of 5 sessions can't be opened")
	feedTo(t, r.stdout, "import", "--data", to, "-").says(t, 0, "0 created")
}

// TestImportTellsWhatIsWrong, with and without a server.
func TestImportTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	from := newDir(t, "")
	s := startDev(t, from)
	createMany(t, newClient(t, s, from), 50)
	text := succeed(t, "export", "--data", from).stdout
	to := newDir(t, from)
	for _, serving := range []bool{false, true} {
		if serving {
			startDev(t, to)
		}
		r := feedTo(t, text[:len(text)-300], "import", "--data", to, "-")
		r.want(t, 1, "the input is cut off: unexpected EOF within line 51")
		r.want(t, 1, "Go on with --skip 50, or from the beginning")
		r.says(t, 1, "import: ")
		r = feedTo(t, strings.ReplaceAll(text, `"subject"`, `"x"`)+"more\n", "import", "--data", to, "-")
		r.want(t, 1, "line 53 comes after the last line")
		r = feedTo(t, strings.ReplaceAll(text, `"idle_timeout":1800,"version":1`, `"idle_timeout":1800,"version":0`), "import", "--data", to, "-")
		r.want(t, 1, "line 2: invalid session: /version must be at least 1\n")
		r.want(t, 1, "and 30 more lines\n")
		r.want(t, 1, "50 lines failed and were passed over\n")
		// More than fits into buffers on the way, which nobody reads.
		r = feedTo(t, strings.Repeat("garbage\n", 512<<10), "import", "--data", to, "-")
		r.want(t, 1, "line 1 is not the first line of an export")
		if r.stdout != "" {
			t.Errorf("stdout %q", r.stdout)
		}
		feedTo(t, text, "import", "--data", to, "--skip", "50", "-").says(t, 0, "0 created, 0 updated, 0 ended, 1 the same")
	}
	r := feedTo(t, strings.ReplaceAll(text, `"exported_at"`, `"x"`), "import", "--data", to, "-")
	r.want(t, 1, "line 1: invalid session: /x unknown member")
	for args, says := range map[string]string{
		"import":                                  "usage: sessiond import INPUT",
		"import --format csv -":                   "--format must be",
		"import --tenant shop -":                  "--tenant is for --format foreign",
		"import --format foreign --tenant Shop -": `"Shop" is not a tenant`,
		"import --skip -1 -":                      "--skip",
		"import -":                                "which store?",
		"export --after default":                  "--after must be",
		"export --after default/sst_x":            "--after must be",
		"export --pace -1":                        "--pace",
		"export extra":                            "extra",
		"export":                                  "which store?",
	} {
		run(t, nil, strings.Fields(args)...).want(t, 2, says)
	}
	run(t, nil, "import", "--data", to, filepath.Join(to, "missing")).want(t, 1, "missing")
	run(t, nil, "export", "--data", newDir(t, "")).want(t, 1, "no store")
	run(t, nil, "export", "--data", "", "--store-url", "memory:").want(t, 1, "auth.issuers")
	run(t, nil, "export", "--data", from, "--tenant", "Shop").want(t, 1, "/tenant")
}

// TestExportIsCutOff: what was written is whole, and the rest comes with --after.
func TestExportIsCutOff(t *testing.T) {
	t.Parallel()
	from := newDir(t, "")
	s := startDev(t, from)
	createMany(t, newClient(t, s, from), 1200)
	to := newDir(t, from)
	for _, serving := range []bool{true, false} {
		if !serving {
			s.end()
		}
		file := filepath.Join(from, fmt.Sprint("part-", serving))
		ctx, cancel := context.WithCancel(t.Context())
		var stderr bytes.Buffer
		p := program{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &stderr}
		done := make(chan int)
		go func() {
			done <- p.run(ctx, []string{"export", "--data", from, "--output", file, "--pace", "100"})
		}()
		s2 := &running{t: t, exited: make(chan struct{})}
		s2.eventually("a part of the export", func() bool {
			info, err := os.Stat(file)
			return err == nil && info.Size() > 10_000
		})
		cancel()
		if code := <-done; code != 1 {
			t.Fatalf("exit code %d", code)
		}
		_, rest, found := strings.Cut(stderr.String(), "Go on with --after ")
		if !found {
			t.Fatalf("stderr %q", &stderr)
		}
		after, _, _ := strings.Cut(rest, " ")
		part, err := os.ReadFile(file)
		if err != nil || part[len(part)-1] != '\n' || !strings.Contains(string(part), after[len("default/"):]) {
			t.Errorf("after %q, %v", after, err)
		}
		run(t, nil, "import", "--data", to, file).want(t, 1, "cut off")
		feedTo(t, succeed(t, "export", "--data", from, "--after", after).stdout, "import", "--data", to, "-").says(t, 0, "import: ")
		feedTo(t, succeed(t, "export", "--data", from).stdout, "import", "--data", to, "-").
			says(t, 0, "import: 0 created, 0 updated, 0 ended, 1200 the same")
	}
}

// TestForeign brings in sessions of another system and lets their cookies in.
func TestForeign(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	dir := newDir(t, "")
	config := i.configFile(t, fmt.Sprintf(`
store: {url: 'pebble://%s/store'}
encryption: {keyset_file: %q}
log: {level: debug}
gateways: {front: {cookie_name: sid, foreign_cookies: [connect.sid, sid]}, closed: {cookie_name: sid}}
`, dir, filepath.Join(dir, devKeysetFile)))
	const cookie = "s%3AsecretSecret.x"
	line := func(members string) string {
		sum := sha256.Sum256([]byte(cookie))
		return `{"token_sha256":"` + hex.EncodeToString(sum[:]) + `"` + members + "}\n"
	}
	succeed(t, "import", "--config", config, "--format", "foreign", writeFile(t, "first.jsonl", line(`,"subject":"anna"`))).
		says(t, 0, "1 created")
	s := start(t, nil, "serve", "--config", config)
	s.waitReady()
	r := feedTo(t, line(`,"data":{"cart":[1]}`), "import", "--config", config, "--format", "foreign", "-")
	r.says(t, 0, "import: 0 created, 1 updated")
	a := s.do("GET", "/auth/front", "", "", "Cookie: connect.sid="+cookie).want(t, http.StatusOK)
	id := a.header.Get("Session-Id")
	if a.header.Get("Session-Subject") != "anna" {
		t.Errorf("%v", a.header)
	}
	s.do("GET", "/auth/front", "", "", "Cookie: sid="+cookie).want(t, http.StatusOK)
	s.do("GET", "/auth/closed", "", "", "Cookie: sid="+cookie).want(t, http.StatusUnauthorized)
	s.do("GET", "/auth/front", "", "", "Cookie: sid="+id).want(t, http.StatusUnauthorized)
	token := i.token(t, "sessions:verify", "sessions:create")
	body := `{"token":"` + cookie + `"}`
	if a := s.do("POST", "/verify", token, body).want(t, http.StatusOK); !strings.Contains(a.body, `"data":{"cart":[1]}`) {
		t.Errorf("%s", a.body)
	}
	ours := s.do("POST", "/sessions/"+id+"/rotate", token, body).want(t, http.StatusOK).member(t, "token")
	s.do("GET", "/auth/front", "", "", "Cookie: connect.sid="+cookie).want(t, http.StatusUnauthorized)
	s.do("GET", "/auth/front", "", "", "Cookie: sid="+ours+"; connect.sid="+cookie).want(t, http.StatusOK)
	feedTo(t, line(`,"data":{}`), "import", "--config", config, "--format", "foreign", "-").says(t, 0, "1 newer or ended here")
	feedTo(t, line(`,"revoked":true`), "import", "--config", config, "--format", "foreign", "-").says(t, 0, "1 ended")
	s.do("GET", "/auth/front", "", "", "Cookie: sid="+ours).want(t, http.StatusUnauthorized)
	feedTo(t, line("")+`{"token":"x"}`+"\n", "import", "--config", config, "--format", "foreign", "-").
		want(t, 1, "line 2: invalid session: /token unknown member")
	s.end()
	for _, secret := range []string{"secretSecret", ours} {
		if strings.Contains(s.stderr.String(), secret) || strings.Contains(s.stdout.String(), secret) {
			t.Errorf("the log shows a token")
		}
	}
	checkAbsent(t, filepath.Join(dir, "store"), "secretSecret")
}
