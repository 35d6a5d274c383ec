package main

// The pages under docs that are made of the code. "go generate ./cmd/sessiond" writes them.

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra/doc"
	"go.yaml.in/yaml/v3"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

const docsDir = "../../docs"

// manDate is the date of the man pages: that of their last change worth telling.
var manDate = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

func TestManPages(t *testing.T) {
	t.Parallel()
	want := make(map[string]string)
	dir := t.TempDir()
	root := (&program{}).rootCommand()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "sessiond", Manual: "sessiond manual", Date: &manDate}
	if err := doc.GenManTree(root, header, dir); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(dir + "/*.1")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 10 {
		t.Errorf("there are only %d commands", len(names))
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(name)] = string(bytes.TrimLeft(content, "\n"))
	}
	checkGenerated(t, filepath.Join(docsDir, "man"), "*.1", want)
}

func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	checkGenerated(t, docsDir, "configuration.md", map[string]string{"configuration.md": configurationPage(t)})
}

// checkGenerated compares the files in dir that match pattern with what they should be, or writes them.
func checkGenerated(t *testing.T, dir, pattern string, want map[string]string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		for name, content := range want {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	got := make(map[string]string)
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(name)] = string(content)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs are not what the code says; run \"go generate ./cmd/sessiond\" (-want +got):\n%s", diff)
	}
}

const configurationHead = `# Configuration

<!-- Generated from the code: go generate ./cmd/sessiond -->

` + "`sessiond serve --config FILE`" + ` reads a YAML file. What must be set is an issuer with its audience, and the keyset file;
everything else has a default. Unknown and repeated keys, wrong types and values out of bounds are errors, all told at once.

` + "`sessiond config`" + `, with the same flags, environment and file, checks them and prints what would be in force, with secrets
hidden. ` + "`sessiond config reference`" + ` prints [the whole file](#the-whole-file) with comments.

## Where a value comes from

A flag wins over the environment, the environment over the file, the file over the default.

- **File**: ` + "`--config FILE`, or the variable `SESSIOND_CONFIG`" + `.
- **Environment**: every key of the tables has a variable. Lists and maps are JSON.
- **File named by a variable**: with ` + "`_FILE`" + ` appended, a variable names a file that holds the value, as orchestrators mount
  secrets: ` + "`SESSIOND_STORE_URL_FILE=/run/secrets/store-url`" + `. Both forms of a variable at once are an error. A variable with the
  prefix that is not a key only warns: orchestrators add some.
- **Flags** exist for the common keys:

`

// configurationPage is docs/configuration.md: the keys of the sample file as tables, and the file itself.
func configurationPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(configurationHead + "| flag | key |\n|---|---|\n")
	for _, f := range configFlags {
		fmt.Fprintf(&b, "| `--%s` | `%s` |\n", f.flag, f.key)
	}
	b.WriteString("\nDurations are written as `90s`, `12h` or `1h30m`; sizes as a number of bytes, or with `KiB`, `MiB` or `GiB`.\n")

	// Optional keys are commented out in the sample.
	optional := regexp.MustCompile(`(?m)^( +)# ([a-z_]+: [^ ]+|tenants: .*)$`)
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(optional.ReplaceAllString(config.Reference(), "$1$2")), &root); err != nil {
		t.Fatal(err)
	}
	p := configPage{t: t, b: &b, keys: config.Keys()}
	b.WriteString("\n## Top level\n\n" + p.head())
	members := root.Content[0].Content
	for i := 0; i < len(members); i += 2 { // keys that are in no section
		if members[i+1].Kind == yaml.ScalarNode {
			p.key("", members[i], members[i+1])
		}
	}
	for i := 0; i < len(members); i += 2 {
		if members[i+1].Kind == yaml.MappingNode {
			p.section(members[i], members[i+1])
		}
	}
	if len(p.keys) > 0 {
		t.Errorf("keys that the sample lacks: %q", p.keys)
	}
	b.WriteString("\n## The whole file\n\n<!-- config -->\n```yaml\n" + config.Reference() + "```\n")
	return b.String()
}

// A configPage is the page that is being made.
type configPage struct {
	t    *testing.T
	b    *strings.Builder
	keys []string // still to be shown
}

func (p *configPage) head() string {
	return "| key | environment | default | meaning |\n|---|---|---|---|\n"
}

// section shows the keys below a key, as dotted names. Entries of lists and maps have a table of their own.
func (p *configPage) section(key, value *yaml.Node) {
	name := key.Value
	comment, _ := describe(p.t, key)
	fmt.Fprintf(p.b, "\n## `%s`\n\n", name)
	if slices.Contains(p.keys, name) { // a map is one key: its entries are members
		p.b.WriteString(p.head())
		p.key("", key, value)
		p.members("An entry of `"+name+"`", value.Content[1])
		return
	}
	p.b.WriteString(comment + "\n\n" + p.head())
	var lists [][2]*yaml.Node
	for i := 0; i < len(value.Content); i += 2 {
		p.key(name+".", value.Content[i], value.Content[i+1])
		if list := value.Content[i+1]; list.Kind == yaml.SequenceNode && len(list.Content) > 0 {
			lists = append(lists, [2]*yaml.Node{value.Content[i], list.Content[0]})
		}
	}
	for _, l := range lists {
		p.members("An entry of `"+name+"."+l[0].Value+"`", l[1])
	}
}

// key shows a key that has a variable.
func (p *configPage) key(prefix string, key, value *yaml.Node) {
	name := prefix + key.Value
	i := slices.Index(p.keys, name)
	if i < 0 {
		p.t.Errorf("%s is no key", name)
		return
	}
	p.keys = slices.Delete(p.keys, i, i+1)
	comment, byDefault := describe(p.t, key)
	fmt.Fprintf(p.b, "| `%s` | `%s` | %s | %s |\n", name, config.EnvName(name), byDefault, comment)
}

// members shows what an entry of a list or map has.
func (p *configPage) members(title string, entry *yaml.Node) {
	fmt.Fprintf(p.b, "\n### %s\n\n| key | default | meaning |\n|---|---|---|\n", title)
	for i := 0; i < len(entry.Content); i += 2 {
		key := entry.Content[i]
		if i == 0 && key.HeadComment == "" {
			key.HeadComment = entry.HeadComment
		}
		comment, byDefault := describe(p.t, key)
		fmt.Fprintf(p.b, "| `%s` | %s | %s |\n", key.Value, byDefault, comment)
	}
}

// describe is the comment of a key without its default, and that.
func describe(t *testing.T, key *yaml.Node) (comment, byDefault string) {
	t.Helper()
	lines := strings.Split(key.HeadComment, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
	}
	comment = strings.TrimSpace(strings.Join(lines, " "))
	if comment == "" {
		t.Errorf("%s has no comment", key.Value)
	}
	comment = strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(comment)
	before, after, ok := strings.Cut(comment, " Default ")
	if !ok {
		return comment, ""
	}
	byDefault = strings.TrimSuffix(after, ".")
	if byDefault == `""` {
		return before, "empty"
	}
	return before, "`" + byDefault + "`"
}
