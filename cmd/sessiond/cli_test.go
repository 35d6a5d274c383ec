package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestScripts runs the scripts in testdata/script. They share a server of
// sessiond dev, $DEV is its directory and $SESSIOND_TOKEN, also in token.txt, may do everything.
// Their command "sessiond" runs in process, so names of files must be absolute;
// "! sessiond" wants exit code 1.
func TestScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	token := devToken(t, dir, "--permissions", strings.Join(permissionNames(), ","))
	t.Run("script", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: filepath.Join("testdata", "script"),
			Setup: func(env *testscript.Env) error {
				env.Setenv("SESSIOND_SERVER", s.api)
				env.Setenv("SESSIOND_TOKEN", token)
				env.Setenv("DEV", dir)
				return os.WriteFile(filepath.Join(env.WorkDir, "token.txt"), []byte(token+"\n"), 0o600)
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"sessiond": scriptCommand},
		})
	})
}

func scriptCommand(ts *testscript.TestScript, fails bool, args []string) {
	p := program{stdin: strings.NewReader(""), stdout: ts.Stdout(), stderr: ts.Stderr()}
	for _, name := range []string{"SESSIOND_SERVER", "SESSIOND_TOKEN"} {
		p.environ = append(p.environ, name+"="+ts.Getenv(name))
	}
	want := 0
	if fails {
		want = 1
	}
	if code := p.run(context.Background(), args); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// TestSessionCommandLine covers command lines that need no server to be refused.
func TestSessionCommandLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		code int
		text string
	}{
		{"get", 2, "usage: sessiond session get ID"},
		{"revoke", 2, "give the id of a session, or a filter such as --subject"},
		{"revoke one two", 2, "usage: sessiond session revoke [ID]"},
		{"revoke one --subject carol", 2, "an id or a filter, not both"},
		{"revoke --subject carol --erase", 2, "without --erase"},
		{"create --data {", 2, "--data is not a JSON object"},
		{"create --data @nowhere.json", 1, "nowhere.json"},
		{"create --expires-in soon", 2, "--expires-in"},
		{"create extra", 2, `"extra"`},
		{"update one --merge --label a=b", 2, "--merge takes --data and no other change"},
		{"list --created-after yesterday", 2, "--created-after must be a time such as"},
		{"list --limit 0", 2, "--limit must be at least 1"},
		{"list --nonsense", 2, `unknown flag: --nonsense; see "sessiond session list --help"`},
		{"watch --nonsense", 2, "--nonsense"},
		{"list --server nonsense", 1, "server must be a URL"},
	} {
		environ := []string{"SESSIOND_SERVER=http://127.0.0.1:1", "SESSIOND_TOKEN=t"}
		r := run(t, environ, append([]string{"session"}, strings.Fields(tt.args)...)...)
		r.want(t, tt.code, tt.text)
		if r.stdout != "" {
			t.Errorf("%s: stdout %q", tt.args, r.stdout)
		}
	}
}

func TestSessionWithoutToken(t *testing.T) {
	t.Parallel()
	r := run(t, []string{"SESSIOND_TOKEN="}, "session", "list")
	r.want(t, 2, "give --token-file or set SESSIOND_TOKEN")
	r.want(t, 2, `"sessiond token" makes one`)
}

// eachCommand calls f for every command of ours; "completion" and "help" are cobra's.
func eachCommand(f func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		f(c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&program{}).rootCommand())
}

func TestCommandTexts(t *testing.T) {
	t.Parallel()
	eachCommand(func(c *cobra.Command) {
		name := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short is %q", name, c.Short)
		}
		if !c.HasSubCommands() && c.Example == "" {
			t.Errorf("%s has no example", name)
		}
		if c.HasExample() && !strings.Contains(c.Example, name) {
			t.Errorf("%s is not in its example:\n%s", name, c.Example)
		}
		r := run(t, nil, append(strings.Fields(name)[1:], "--help")...)
		if r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "Usage:\n  "+name) {
			t.Errorf("%s --help: %+v", name, r)
		}
	})
}

// TestExamples holds the examples of all commands to the commands and flags there are.
func TestExamples(t *testing.T) {
	t.Parallel()
	eachCommand(func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			for _, part := range regexp.MustCompile(`\bsessiond [a-z][^$()|>]*`).FindAllString(line, -1) {
				args := strings.Fields(strings.ReplaceAll(part, "'", ""))[1:]
				found, rest, err := (&program{}).rootCommand().Find(args)
				if err != nil {
					t.Errorf("%s: example %q: %v", c.CommandPath(), part, err)
					continue
				}
				for _, arg := range rest {
					name, isFlag := strings.CutPrefix(arg, "--")
					name, _, _ = strings.Cut(name, "=")
					if isFlag && found.Flag(name) == nil && name != "help" {
						t.Errorf("%s: example %q: %s has no flag --%s", c.CommandPath(), part, found.CommandPath(), name)
					}
				}
			}
		}
	})
}

func TestParentCommands(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"session"}, {"keyset"}, {"help"}, {"help", "session", "list"}} {
		if r := run(t, nil, args...); r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "Usage:") {
			t.Errorf("sessiond %v: %+v", args, r)
		}
	}
	for _, args := range [][]string{{"nonsense"}, {"session", "nonsense"}, {"keyset", "nonsense"}, {"config", "nonsense"}} {
		r := run(t, nil, args...)
		r.want(t, 2, `unknown command or argument "nonsense"`)
		r.want(t, 2, "--help")
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := run(t, nil, "version")
	form := regexp.MustCompile(`^sessiond \d+\.\d+\.\d+\S* commit \S+ go1\.\d+\S* \w+/\w+\n$`)
	if r.code != 0 || r.stderr != "" || !form.MatchString(r.stdout) {
		t.Errorf("%+v", r)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	r := run(t, nil, "completion", "bash")
	if r.code != 0 || r.stderr != "" || len(r.stdout) < 1000 {
		t.Fatalf("code %d, stderr %q, %d characters", r.code, r.stderr, len(r.stdout))
	}
	check := exec.Command("bash", "-n")
	check.Stdin = strings.NewReader(r.stdout)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	suggestions := run(t, nil, "__complete", "session", "")
	for _, want := range []string{"create\t", "revoke\t", "watch\t"} {
		if !strings.Contains(suggestions.stdout, want) {
			t.Errorf("no %q in %q", want, suggestions.stdout)
		}
	}
}

func TestKeysetCreate(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "keyset.json")
	r := run(t, nil, "keyset", "create", name)
	if r.code != 0 || r.stderr != "" || !regexp.MustCompile(`keyset\.json: key \d+\n$`).MatchString(r.stdout) {
		t.Fatalf("%+v", r)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	again := run(t, nil, "keyset", "create", name)
	again.want(t, 1, "exists and was left as it is")
	after, err := os.ReadFile(name)
	if err != nil || string(after) != string(before) {
		t.Errorf("the file was changed (%v)", err)
	}
	run(t, nil, "keyset", "create").want(t, 2, "usage: sessiond keyset create FILE")
	run(t, nil, "keyset", "create", filepath.Join(filepath.Dir(name), "no", "dir")).want(t, 1, "no such file or directory")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	reference := run(t, nil, "config", "reference")
	if reference.code != 0 || reference.stderr != "" {
		t.Fatalf("%+v", reference)
	}
	file := writeFile(t, "reference.yaml", reference.stdout)
	effective := run(t, []string{"SESSIOND_SESSION_RETENTION=2h"}, "config", "--config", file, "--listen", "127.0.0.1:1")
	if effective.code != 0 || effective.stderr != "" {
		t.Fatalf("%+v", effective)
	}
	for _, want := range []string{"listen: 127.0.0.1:1\n", "retention: 2h\n", "url: pebble:///var/lib/sessiond\n"} {
		if !strings.Contains(effective.stdout, want) {
			t.Errorf("no %q in:\n%s", want, effective.stdout)
		}
	}
	again := run(t, nil, "config", "--config", writeFile(t, "effective.yaml", effective.stdout))
	if again.code != 0 || again.stdout != effective.stdout {
		t.Errorf("what config prints does not load as it is: %+v", again)
	}
	environ := []string{"SESSIOND_LISTENN=127.0.0.1:2"}
	run(t, environ, "config", "--config", file).want(t, 0, "sessiond: warning: SESSIOND_LISTENN: ")
	r := run(t, nil, "config", "--config", writeFile(t, "bad.yaml", "sesion: {}"))
	r.want(t, 1, "sesion")
	r.want(t, 1, "config reference")
}
