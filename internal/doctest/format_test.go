package doctest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The tables of docs/data-format.md have a row for every field and every kind of key that the embedded store writes.
func TestDataFormatHasEveryField(t *testing.T) {
	t.Parallel()
	page := read(t, root+"/docs/data-format.md")
	rows := func(heading string) map[string]bool {
		_, section, ok := strings.Cut(page, heading+"\n")
		if !ok {
			t.Fatalf("no section %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n#")
		found := make(map[string]bool)
		for _, m := range regexp.MustCompile("(?m)^\\| `?([0-9a-z]+)`? \\|").FindAllStringSubmatch(section, -1) {
			found[m[1]] = true
		}
		return found
	}
	for _, tt := range []struct{ file, prefix, heading string }{
		{"internal/recordcodec/record.go", "rec", "### Records"}, {"internal/recordcodec/event.go", "ev", "### Events"},
		{"pebblestore/keys.go", "key", "### Keys"}, {"pebblestore/keys.go", "meta", "### Keys"},
	} {
		shown, constants := rows(tt.heading), numbered(t, root+"/"+tt.file, tt.prefix)
		if len(constants) < 4 {
			t.Errorf("%s has only %d names with %s", tt.file, len(constants), tt.prefix)
		}
		for name, value := range constants {
			if !shown[value] {
				t.Errorf("%s lacks %s, which is %s", tt.heading, name, value)
			}
		}
	}
}

// numbered are the constants of a file, and the byte slices made of a literal, whose names begin with prefix and an
// upper-case letter.
func numbered(t *testing.T, file, prefix string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("^" + prefix + "[A-Z]")
	found := make(map[string]string)
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !named.MatchString(spec.Names[0].Name) {
			return true
		}
		value := spec.Values[0]
		if call, ok := value.(*ast.CallExpr); ok && len(call.Args) == 1 {
			value = call.Args[0]
		}
		if literal, ok := value.(*ast.BasicLit); ok {
			text := literal.Value
			if unquoted, err := strconv.Unquote(text); err == nil {
				text = unquoted
			}
			found[spec.Names[0].Name] = text
		}
		return true
	})
	return found
}
