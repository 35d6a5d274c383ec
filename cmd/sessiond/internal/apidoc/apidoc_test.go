package apidoc_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/cmd/sessiond/internal/apidoc"
)

func page(t *testing.T, openapi []byte) (text string, root *html.Node) {
	t.Helper()
	b, err := apidoc.Page(openapi)
	if err != nil {
		t.Fatal(err)
	}
	root, err = html.Parse(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b), root
}

// attr is an attribute of an element.
func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// find returns the elements below n that match.
func find(n *html.Node, match func(*html.Node) bool) []*html.Node {
	var all []*html.Node
	for e := range n.Descendants() {
		if e.Type == html.ElementNode && match(e) {
			all = append(all, e)
		}
	}
	return all
}

func named(names ...string) func(*html.Node) bool {
	return func(n *html.Node) bool { return slices.Contains(names, n.Data) }
}

func withID(id string) func(*html.Node) bool {
	return func(n *html.Node) bool { got, ok := attr(n, "id"); return ok && got == id }
}

// text is what a reader sees of n, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	for e := range n.Descendants() {
		if e.Type == html.TextNode {
			b.WriteString(e.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// paths is the part of the document that says what has to be on the page.
type paths map[string]map[string]yaml.Node

type operation struct {
	OperationID string      `yaml:"operationId"`
	Summary     string      `yaml:"summary"`
	Permissions []string    `yaml:"x-permissions"`
	AnyMethod   bool        `yaml:"x-any-method"`
	Parameters  []parameter `yaml:"parameters"`
	Responses   map[string]struct {
		Ref string `yaml:"$ref"`
	} `yaml:"responses"`
}

type parameter struct {
	Ref  string `yaml:"$ref"`
	Name string `yaml:"name"`
	In   string `yaml:"in"`
}

func TestEveryOperationIsThere(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths      paths `yaml:"paths"`
		Components struct {
			Parameters map[string]parameter `yaml:"parameters"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	_, root := page(t, api.OpenAPI)
	operations := 0
	for path, item := range doc.Paths {
		var shared []parameter
		if n, ok := item["parameters"]; ok {
			if err := n.Decode(&shared); err != nil {
				t.Fatal(err)
			}
		}
		for method, n := range item {
			if method == "parameters" {
				continue
			}
			operations++
			var op operation
			if err := n.Decode(&op); err != nil {
				t.Fatal(err)
			}
			articles := find(root, func(n *html.Node) bool {
				by, _ := attr(n, "aria-labelledby")
				return n.Data == "article" && by == op.OperationID
			})
			if len(articles) != 1 {
				t.Errorf("%s is on the page %d times", op.OperationID, len(articles))
				continue
			}
			if op.AnyMethod {
				method = "any"
			}
			shown := text(articles[0])
			want := append([]string{op.Summary, strings.ToUpper(method) + " " + path}, op.Permissions...)
			for _, p := range append(shared, op.Parameters...) {
				if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
					p = doc.Components.Parameters[name]
				}
				want = append(want, p.Name+" "+p.In)
			}
			for status := range op.Responses {
				if status < "400" {
					status = "Answer " + status
				}
				want = append(want, status)
			}
			for _, w := range want {
				if !strings.Contains(shown, w) {
					t.Errorf("%s lacks %q", op.OperationID, w)
				}
			}
		}
	}
	if operations < 14 {
		t.Errorf("the document has only %d operations", operations)
	}
}

func TestEverySchemaMemberIsThere(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `yaml:"properties"`
			} `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	_, root := page(t, api.OpenAPI)
	for name, s := range doc.Components.Schemas {
		if len(s.Properties) == 0 {
			continue
		}
		headings := find(root, withID("schema-"+name))
		if len(headings) != 1 {
			t.Errorf("the schema %s is on the page %d times", name, len(headings))
			continue
		}
		var b strings.Builder
		for n := headings[0].NextSibling; n != nil && n.Data != "h3"; n = n.NextSibling {
			fmt.Fprintf(&b, " %s ", text(n))
		}
		for member := range s.Properties {
			if !strings.Contains(b.String(), " "+member+" ") {
				t.Errorf("the schema %s lacks %s", name, member)
			}
		}
	}
}

func TestEveryProblemIsThere(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas struct {
				ProblemType struct {
					Enum []string `yaml:"enum"`
				} `yaml:"ProblemType"`
			} `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	_, root := page(t, api.OpenAPI)
	for _, urn := range doc.Components.Schemas.ProblemType.Enum {
		code := urn[strings.LastIndexByte(urn, ':')+1:]
		p := api.NewProblem(api.Code(code), "")
		found := find(root, withID("problem-"+code))
		if len(found) != 1 {
			t.Errorf("the problem %s is on the page %d times", code, len(found))
			continue
		}
		row := text(found[0].Parent)
		if !strings.HasPrefix(row, fmt.Sprintf("%s%d", code, p.Status)) || len(row) < len(code)+20 {
			t.Errorf("the problem %s has the row %q", code, row)
		}
	}
	if n := len(doc.Components.Schemas.ProblemType.Enum); n < 18 {
		t.Errorf("the document has only %d problems", n)
	}
}

func TestPageIsWellFormed(t *testing.T) {
	t.Parallel()
	b, _ := page(t, api.OpenAPI)
	void := []string{"meta", "br", "hr", "img", "link", "input"}
	var open []string
	for z := html.NewTokenizer(strings.NewReader(b)); ; {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			if len(open) > 0 {
				t.Errorf("never closed: %v", open)
			}
			return
		case html.StartTagToken:
			name, _ := z.TagName()
			if slices.Contains(open, "p") && slices.Contains([]string{"p", "ul", "table", "pre", "div"}, string(name)) {
				t.Errorf("<%s> in a paragraph", name)
			}
			if !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Fatalf("</%s> closes %v", name, open)
			}
			open = open[:len(open)-1]
		}
	}
}

func TestAnchorsAndHeadings(t *testing.T) {
	t.Parallel()
	_, root := page(t, api.OpenAPI)
	ids := make(map[string]bool)
	for _, n := range find(root, func(*html.Node) bool { return true }) {
		if id, ok := attr(n, "id"); ok {
			if ids[id] || id == "" {
				t.Errorf("id %q is not unique", id)
			}
			ids[id] = true
		}
	}
	for _, n := range find(root, func(*html.Node) bool { return true }) {
		for _, name := range []string{"href", "aria-labelledby"} {
			target, ok := attr(n, name)
			if !ok || name == "href" && !strings.HasPrefix(target, "#") {
				continue
			}
			if !ids[strings.TrimPrefix(target, "#")] {
				t.Errorf("%s of <%s> leads to %q, which is not there", name, n.Data, target)
			}
		}
	}
	level := 0
	for _, h := range find(root, named("h1", "h2", "h3", "h4", "h5", "h6")) {
		next := int(h.Data[1] - '0')
		if next > level+1 {
			t.Errorf("heading %q of level %d follows level %d", text(h), next, level)
		}
		level = next
	}
	for _, landmark := range []string{"header", "nav", "main", "footer", "h1"} {
		if n := len(find(root, named(landmark))); n != 1 {
			t.Errorf("there are %d <%s>", n, landmark)
		}
	}
	for _, table := range find(root, named("table")) {
		if len(find(table, named("caption"))) != 1 || len(find(table, named("th"))) < 3 {
			t.Errorf("a table lacks caption or headers: %.80s", text(table))
		}
	}
}

// The browser loads nothing for the page, and the policy that goes with it admits its style.
func TestPageIsSelfContained(t *testing.T) {
	t.Parallel()
	b, root := page(t, api.OpenAPI)
	for _, n := range find(root, func(*html.Node) bool { return true }) {
		if slices.Contains([]string{"script", "link", "img", "iframe", "object", "embed", "base", "form"}, n.Data) {
			t.Errorf("the page has a <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if a.Key == "src" || a.Key == "style" || a.Key == "srcset" || strings.HasPrefix(a.Key, "on") ||
				a.Key == "href" && n.Data != "a" {
				t.Errorf("<%s> has the attribute %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	styles := find(root, named("style"))
	if len(styles) != 1 {
		t.Fatalf("there are %d <style>", len(styles))
	}
	css := styles[0].FirstChild.Data
	if strings.Contains(css, "url(") || strings.Contains(css, "@import") {
		t.Error("the style loads something")
	}
	sum := sha256.Sum256([]byte(css))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(
		apidoc.ContentSecurityPolicy(), want) {
		t.Errorf("the policy %q does not admit the style: want %s", apidoc.ContentSecurityPolicy(), want)
	}
	if len(b) > 1<<20 {
		t.Errorf("the page has %d bytes", len(b))
	}
}

func TestHostileDescriptions(t *testing.T) {
	t.Parallel()
	hostile, err := os.ReadFile("testdata/hostile.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, root := page(t, hostile)
	for _, n := range find(root, func(*html.Node) bool { return true }) {
		if n.Data == "script" || n.Data == "img" || n.Data == "svg" {
			t.Errorf("a <%s> came through", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
			if a.Key == "href" && a.Val != "openapi.json" && !strings.HasPrefix(a.Val, "#") && !strings.HasPrefix(a.Val, "/") &&
				!strings.HasPrefix(a.Val, "https://good.example/") || strings.HasPrefix(a.Val, "//") {
				t.Errorf("a link leads to %q", a.Val)
			}
		}
	}
	if !strings.Contains(b, `<a href="https://good.example/?a=1&amp;b=2">a <strong>good</strong> link</a>`) {
		t.Error("the good link is not there")
	}
	if got := strings.Count(b, "alert(1)"); got < 6 {
		t.Errorf("only %d of the hostile texts are shown as text", got)
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ source, want string }{
		{"", ""},
		{"one\ntwo\n\nthree", "<p>one two</p>\n<p>three</p>\n"},
		{"## A `b`\ntext", "<h3 id=\"a-b\">A <code>b</code></h3>\n<p>text</p>\n"},
		{"- one\n  more\n- **two**\n\nend", "<ul>\n<li>one more</li>\n<li><strong>two</strong></li>\n</ul>\n<p>end</p>\n"},
		{"`a*b` *c* **d `e`**", "<p><code>a*b</code> <em>c</em> <strong>d <code>e</code></strong></p>\n"},
		{"2 * 3 * 4, a [b] and a ` c", "<p>2 * 3 * 4, a [b] and a ` c</p>\n"},
		{"`<b>` & \"q\"", "<p><code>&lt;b&gt;</code> &amp; &#34;q&#34;</p>\n"},
		{"[x](javascript:y) [z](#z)", "<p>[x](javascript:y) <a href=\"#z\">z</a></p>\n"},
	} {
		if got := apidoc.Markdown(tt.source, 2); got != tt.want {
			t.Errorf("%q became\n%s, want\n%s", tt.source, got, tt.want)
		}
	}
}

func TestBadDocuments(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"empty":            "",
		"not YAML":         "a: [",
		"unknown target":   `{"components":{"schemas":{"A":{"properties":{"b":{"$ref":"#/components/schemas/B"}}}}}}`,
		"foreign document": `{"components":{"schemas":{"A":{"properties":{"b":{"$ref":"https://x.example/"}}}}}}`,
		"circle": `{"components":{"schemas":{"A":{"properties":{"b":{"$ref":"#/components/schemas/B"}}},
			"B":{"$ref":"#/components/schemas/B"}}}}`,
		"endless": `{"components":{"schemas":{"A":{"allOf":[{"$ref":"#/components/schemas/A"}]}}}}`,
	} {
		if b, err := apidoc.Page([]byte(doc)); err == nil {
			t.Errorf("%s: gave a page of %d bytes", name, len(b))
		}
	}
}

func FuzzMarkdown(f *testing.F) {
	f.Add("# a\n\n- `b`\n- **c *d***\n[e](https://f.example/)")
	f.Add("<script>alert(1)</script>[x](javascript:alert(1))")
	f.Fuzz(func(t *testing.T, source string) {
		nodes, err := html.ParseFragment(strings.NewReader(apidoc.Markdown(source, 2)), &html.Node{
			Type: html.ElementNode, Data: "main", DataAtom: atom.Main,
		})
		if err != nil {
			t.Fatal(err)
		}
		known := []string{"p", "ul", "li", "code", "strong", "em", "a", "h2", "h3", "h4", "h5", "h6"}
		for _, n := range nodes {
			for _, e := range find(n, func(n *html.Node) bool { return !slices.Contains(known, n.Data) }) {
				t.Errorf("%q gave a <%s>", source, e.Data)
			}
		}
	})
}
