package doctest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// Links between documents lead to files and headings that exist.
func TestLinks(t *testing.T) {
	t.Parallel()
	found := 0
	for _, file := range documents(t) {
		content := read(t, file)
		for _, m := range link.FindAllStringSubmatch(content, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
				continue
			}
			if anchor != "" && strings.HasSuffix(target, ".md") && !hasHeading(read(t, target), anchor) {
				t.Errorf("%s: %s has no such heading", filepath.Base(file), m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("there are only %d links", found)
	}
}

func hasHeading(content, anchor string) bool {
	for _, m := range heading.FindAllStringSubmatch(content, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return true
		}
	}
	return false
}
