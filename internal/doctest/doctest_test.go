package doctest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/testserver"
)

// statusMark begins the lines on stderr that tell the statuses of answers.
const statusMark = "doctest-status "

// documents are the files whose blocks are run.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("there are only %d documents", len(files))
	}
	return append(files, root+"/README.md")
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestDocuments(t *testing.T) {
	for _, file := range documents(t) {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := blocks(name, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			d := &document{t: t, dir: t.TempDir()}
			for i := range all {
				d.block(&all[i])
			}
			d.finish()
		})
	}
}

// TestSharedStores runs the pages that show the most on the stores that servers share.
func TestSharedStores(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"postgres": func(t *testing.T) string { return testserver.SharedPostgres(t).NewDatabase(t) },
		"redis":    func(t *testing.T) string { return testserver.SharedRedis(t).URL() },
		"cluster":  func(t *testing.T) string { return testserver.SharedRedisCluster(t).URL() },
	} {
		for _, page := range []string{"README.md", "docs/getting-started.md", "docs/api.md"} {
			t.Run(name+"/"+page, func(t *testing.T) {
				t.Parallel()
				all, err := blocks(page, read(t, root+"/"+page))
				if err != nil {
					t.Fatal(err)
				}
				address := url(t)
				if name != "postgres" {
					address += "?prefix=" + filepath.Base(page)
				}
				d := &document{t: t, dir: t.TempDir(), flags: []string{"--store-url", address}}
				for i := range all {
					d.block(&all[i])
				}
				d.finish()
			})
		}
	}
}

// A document is one that is being run.
type document struct {
	t        *testing.T
	dir      string
	flags    []string // of its server
	api, ops string   // addresses of its server, once that runs
	script   *block   // the script that ran last
	output   string   // what it has printed
	values   []any    // the JSON in that which was not compared yet
	compared bool     // some of it was
}

func (d *document) block(b *block) {
	d.t.Helper()
	shows := b.marker == "" && slices.Contains([]string{"json", "http", "text"}, b.lang)
	if !shows {
		d.finish()
	}
	switch {
	case shows && d.script != nil:
		d.compare(b)
	case b.marker == "not run" && b.argument != "":
		if b.lang == "sh" && strings.Contains(b.text, "curl ") && strings.Contains(b.text, "127.0.0.1:8080") {
			d.t.Errorf("%s: this can be run", b)
		}
	case b.lang == "sh" && b.marker == "dev":
		if cmd := strings.TrimSpace(b.text); cmd != "sessiond dev" && cmd != "go run ./cmd/sessiond dev" || d.api != "" {
			d.t.Errorf("%s: not what starts the only server: %q", b, cmd)
			return
		}
		d.api, d.ops = startDev(d.t, d.dir, d.flags...)
	case b.lang == "sh" && slices.Contains([]string{"run", "tour", "expect", "stream"}, b.marker):
		d.run(b)
	case b.lang == "yaml" && b.marker == "config":
		d.config(b)
	case b.lang == "go" && b.marker == "compiled": // TestCompiled
	default:
		d.t.Errorf("%s: a block in %q with the marker %q: say what becomes of it", b, b.lang, b.marker)
	}
}

// run runs a script and keeps what it has printed.
func (d *document) run(b *block) {
	d.t.Helper()
	if d.api == "" {
		d.api, d.ops = startDev(d.t, d.dir, d.flags...)
	}
	timeout, curl := time.Minute, "--fail-with-body"
	switch b.marker {
	case "stream":
		var err error
		if timeout, err = time.ParseDuration(b.argument); err != nil {
			d.t.Fatalf("%s: %v", b, err)
		}
	case "expect":
		curl = ""
	}
	script := strings.NewReplacer(
		"127.0.0.1:8080", d.api, "127.0.0.1:9090", d.ops, "go run ./cmd/sessiond", "sessiond",
	).Replace(b.text)
	state := filepath.Join(d.dir, "variables.sh")
	script = "set -a\nif [ -e " + state + " ]; then . " + state + "; fi\nDOCTEST_CURL=" + curl +
		"\nset -euo pipefail\n" + script + "export -p >" + state + "\n"
	ctx, cancel := context.WithTimeout(d.t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = d.dir, environment(d.t, d.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	d.script, d.output = b, stdout.String()
	cutOff := b.marker == "stream" && errors.Is(ctx.Err(), context.DeadlineExceeded)
	if err == nil {
		err = checkStatuses(b, stderr.String())
	}
	if err != nil && !cutOff {
		d.t.Fatalf("%s: %v\n%s\nstdout: %s\nstderr: %s", b, err, script, d.output, &stderr)
	}
	if d.values, err = jsonValues(d.output); err != nil {
		d.t.Errorf("%s: %v", b, err)
	}
}

var statusLine = regexp.MustCompile("(?m)^" + statusMark + "([0-9]+)$")

// checkStatuses compares the statuses that the curls of a block were answered with with what it expects.
func checkStatuses(b *block, stderr string) error {
	all := statusLine.FindAllStringSubmatch(stderr, -1)
	if len(all) < strings.Count(b.text, "curl ") {
		return fmt.Errorf("only %d answers", len(all))
	}
	for i, m := range all {
		status, err := strconv.Atoi(m[1])
		if err != nil {
			return err
		}
		last := b.marker == "expect" && i == len(all)-1
		if last && m[1] != b.argument || !last && status >= 400 {
			return fmt.Errorf("curl number %d was answered with %d", i+1, status)
		}
	}
	return nil
}

// compare compares what a document shows with what the last script has printed.
func (d *document) compare(b *block) {
	d.t.Helper()
	diff := ""
	switch b.lang {
	case "http":
		diff = differentHTTP(b.text, d.output)
	case "text":
		diff = differentText(b.text, d.output)
	case "json":
		d.compared = true
		shown, err := jsonValues(b.text)
		switch {
		case err != nil:
			diff = err.Error()
		case len(shown) == 0 || len(shown) > len(d.values):
			diff = fmt.Sprintf("%d values are shown, and %d are left", len(shown), len(d.values))
		default:
			for i := 0; i < len(shown) && diff == ""; i++ {
				diff = different("it", shown[i], d.values[i])
			}
			d.values = d.values[len(shown):]
		}
	}
	if diff != "" {
		d.t.Errorf("%s: not what %s printed: %s\n%s", b, d.script, diff, d.output)
	}
}

// finish ends the comparing of a script's output: if any of its JSON is shown, all has to be.
func (d *document) finish() {
	d.t.Helper()
	if d.compared && len(d.values) > 0 {
		d.t.Errorf("%s: not shown: %v", d.script, d.values)
	}
	d.script, d.compared, d.values = nil, false, nil
}

// config checks a configuration. What has no default and isn't in it comes from the environment.
func (d *document) config(b *block) {
	d.t.Helper()
	file := filepath.Join(d.dir, "doctest.yaml")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	env := environment(d.t, d.dir)
	cmd := exec.Command(filepath.Join(programDir, "sessiond"), "config", "--config", file)
	cmd.Env = env
	for _, missing := range []struct{ key, variable string }{
		{"issuers:", `SESSIOND_AUTH_ISSUERS=[{"issuer":"https://id.example.com","audience":"sessiond"}]`},
		{"keyset_file:", "SESSIOND_ENCRYPTION_KEYSET_FILE=/etc/sessiond/keyset.json"},
	} {
		if !strings.Contains(b.text, missing.key) {
			cmd.Env = append(cmd.Env, missing.variable)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Errorf("%s: %v\n%s", b, err, out)
	}
}
