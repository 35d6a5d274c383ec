package apidoc

import (
	"fmt"
	"html/template"
	"strings"
)

// markdown renders the part of CommonMark that descriptions use: paragraphs, headings with "#", lists with "-", `code`,
// **strong**, *emphasis* and [links](#to). Everything else is text. Its input may be hostile: all of it is escaped, and
// only links within the page, to paths of the same origin, and to http and https addresses become links. level is
// what a heading of the first level becomes.
func markdown(source string, level int) template.HTML {
	var b strings.Builder
	var paragraph []string
	list := false
	flush := func() {
		if len(paragraph) == 0 {
			return
		}
		name := "p"
		if list {
			name = "li"
		}
		fmt.Fprintf(&b, "<%s>%s</%s>\n", name, inline(strings.Join(paragraph, " ")), name)
		paragraph = nil
	}
	endList := func() {
		flush()
		if list {
			b.WriteString("</ul>\n")
			list = false
		}
	}
	for line := range strings.SplitSeq(source, "\n") {
		indented := strings.HasPrefix(line, " ")
		line = strings.TrimSpace(line)
		title := strings.TrimLeft(line, "#")
		switch depth := len(line) - len(title); {
		case line == "":
			flush()
		case depth > 0 && depth <= 6 && strings.HasPrefix(title, " "):
			endList()
			h := min(6, level+depth-1)
			fmt.Fprintf(&b, "<h%d id=%q>%s</h%d>\n", h, slug(title), inline(strings.TrimSpace(title)), h)
		case strings.HasPrefix(line, "- "):
			if !list {
				endList()
				b.WriteString("<ul>\n")
				list = true
			}
			flush()
			paragraph = []string{line[2:]}
		default:
			if list && !indented && len(paragraph) == 0 {
				endList()
			}
			paragraph = append(paragraph, line)
		}
	}
	endList()
	return template.HTML(b.String())
}

// inline renders the text of one block. The delimiters nest only where a pair encloses another whole pair.
func inline(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.IndexAny(s, "`*[")
		if i < 0 {
			b.WriteString(template.HTMLEscapeString(s))
			break
		}
		b.WriteString(template.HTMLEscapeString(s[:i]))
		s = s[i:]
		html, size := span(s)
		if size == 0 { // no pair: the delimiter is text
			html, size = template.HTMLEscapeString(s[:1]), 1
		}
		b.WriteString(html)
		s = s[size:]
	}
	return b.String()
}

// span renders the span that begins s, and tells how many bytes it took; 0 when none begins.
func span(s string) (html string, size int) {
	for _, d := range []struct {
		mark, tag string
		nested    bool
	}{{"`", "code", false}, {"**", "strong", true}, {"*", "em", true}} {
		rest, ok := strings.CutPrefix(s, d.mark)
		if !ok {
			continue
		}
		content, _, ok := strings.Cut(rest, d.mark)
		if !ok || strings.TrimSpace(content) == "" || strings.TrimLeft(content, " ") != content {
			continue
		}
		text := template.HTMLEscapeString(content)
		if d.nested {
			text = inline(content)
		}
		return "<" + d.tag + ">" + text + "</" + d.tag + ">", 2*len(d.mark) + len(content)
	}
	if rest, ok := strings.CutPrefix(s, "["); ok {
		label, rest, ok := strings.Cut(rest, "](")
		target, _, closed := strings.Cut(rest, ")")
		if ok && closed && linkable(target) && !strings.Contains(label, "[") {
			return `<a href="` + template.HTMLEscapeString(target) + `">` + inline(label) + "</a>",
				len("[](") + len(label) + len(target) + len(")")
		}
	}
	return "", 0
}

// linkable tells whether a link may lead to target.
func linkable(target string) bool {
	if strings.ContainsAny(target, " \t\"'<>\\") || strings.HasPrefix(target, "//") {
		return false
	}
	for _, prefix := range []string{"#", "/", "https://", "http://"} {
		if strings.HasPrefix(target, prefix) {
			return true
		}
	}
	return false
}

// slug makes an anchor of a name.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(name)) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '.':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
