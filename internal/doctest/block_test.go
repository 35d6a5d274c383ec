package doctest_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A block is a fenced code block with the marker before it.
type block struct {
	file, lang, text string
	line             int    // of the first line of text
	marker, argument string // empty without a marker
}

func (b *block) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

var (
	fence  = regexp.MustCompile("^( *)```([a-z]*)$")
	marker = regexp.MustCompile(`^<!-- ([a-z ]+?)(?:: (.+))? -->$`)
)

// blocks are the code blocks of a document.
func blocks(file, content string) ([]block, error) {
	var all []block
	var open *block
	var comment []string
	indent := ""
	for i, line := range strings.Split(content, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != nil && m != nil && m[2] == "":
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case m != nil:
			indent = m[1]
			open = &block{file: file, lang: m[2], line: i + 2}
			if comment != nil {
				open.marker, open.argument = comment[1], comment[2]
			}
			comment = nil
		case strings.HasPrefix(line, "```"):
			return nil, fmt.Errorf("%s:%d: a fence of another form: %s", file, i+1, line)
		case strings.TrimSpace(line) != "":
			comment = marker.FindStringSubmatch(strings.TrimSpace(line))
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block is not closed", open)
	}
	return all, nil
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	got, err := blocks("x.md", "a\n<!-- not run: why -->\n```sh\none\n\ntwo\n```\n- b\n\n  ```json\n  {}\n  ```\n"+
		"<!-- run -->\ntext\n```sh\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{"x.md", "sh", "one\n\ntwo\n", 4, "not run", "why"}, {"x.md", "json", "{}\n", 11, "", ""}, {"x.md", "sh", "", 16, "", ""},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"```sh\nopen", "````sh\nx\n````"} {
		if _, err := blocks("x.md", bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
