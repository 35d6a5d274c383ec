package doctest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// jsonValues are the JSON objects and arrays in an output: those that begin a line, or follow another.
func jsonValues(output string) ([]any, error) {
	var all []any
	for rest := output; rest != ""; {
		line := rest
		if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "[") {
			_, rest, _ = strings.Cut(rest, "\n")
			continue
		}
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, fmt.Errorf("cut off: %.200s", line)
			}
			return nil, fmt.Errorf("%w: %.200s", err, line)
		}
		all = append(all, v)
		rest = strings.TrimLeft(line[d.InputOffset():], " \r\n")
	}
	return all, nil
}

// different says where got is not what the document shows, or is empty.
func different(at string, shown, got any) string {
	switch want := shown.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is no object: %v", at, got)
		}
		names, has := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(g))
		if _, more := want["…"]; more { // the others are left out
			names = slices.DeleteFunc(names, func(name string) bool { return name == "…" })
			has = slices.DeleteFunc(has, func(name string) bool { return !slices.Contains(names, name) })
		}
		if !slices.Equal(names, has) {
			return fmt.Sprintf("%s is shown with members %v and has %v", at, names, has)
		}
		for _, name := range names {
			if d := different(at+"."+name, want[name], g[name]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return fmt.Sprintf("%s is shown with %d elements and is %v", at, len(want), got)
		}
		for i := range want {
			if d := different(fmt.Sprintf("%s[%d]", at, i), want[i], g[i]); d != "" {
				return d
			}
		}
		return ""
	default:
		if !alike(shown, got) {
			return fmt.Sprintf("%s is shown as %v and is %v", at, shown, got)
		}
		return ""
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// alike compares texts, numbers, booleans and null.
func alike(shown, got any) bool {
	switch want := shown.(type) {
	case string:
		g, ok := got.(string)
		return ok && (g == want || fits(want, g) || isTime(want) && isTime(g) || uuid.MatchString(want) && uuid.MatchString(g))
	case json.Number:
		g, ok := got.(json.Number)
		return ok && (g == want || len(want) == 10 && len(g) == 10) // seconds of Unix time
	default:
		return shown == got
	}
}

// fits tells whether text is pattern, in which "…" stands for anything but nothing.
func fits(pattern, text string) bool {
	if !strings.Contains(pattern, "…") {
		return pattern == text
	}
	re := strings.ReplaceAll(regexp.QuoteMeta(pattern), "…", "(?s:.+)")
	return regexp.MustCompile("^" + re + "$").MatchString(text)
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

// differentHTTP says which of the status and headers shown is not in the last answer of output.
func differentHTTP(shown, output string) string {
	at := max(strings.LastIndex(output, "HTTP/1.1 "), strings.LastIndex(output, "HTTP/2 "))
	if at < 0 {
		return "there is no answer with headers"
	}
	got := strings.Split(strings.ReplaceAll(output[at:], "\r", ""), "\n")
	for i, line := range strings.Split(strings.TrimSpace(shown), "\n") {
		if i == 0 {
			if got[0] != line {
				return fmt.Sprintf("the status line is %q, shown as %q", got[0], line)
			}
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		if !slices.ContainsFunc(got, func(h string) bool {
			gotName, gotValue, ok := strings.Cut(h, ": ")
			return ok && strings.EqualFold(gotName, name) && alike(value, gotValue)
		}) {
			return fmt.Sprintf("the header %q is not in %q", line, got)
		}
	}
	return ""
}

// differentText says which of the lines shown is not in output, in that order.
func differentText(shown, output string) string {
	lines := strings.Split(output, "\n")
	for line := range strings.SplitSeq(strings.TrimSpace(shown), "\n") {
		i := slices.IndexFunc(lines, func(got string) bool { return fits(strings.TrimSpace(line), strings.TrimSpace(got)) })
		if i < 0 {
			return fmt.Sprintf("there is no line %q", line)
		}
		lines = lines[i+1:]
	}
	return ""
}

func TestDifferent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		shown, got string
		same       bool
	}{
		{`{"a":1,"b":[true,null]}`, `{"b":[true,null],"a":1}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"b":2}`, `{"a":1}`, false},
		{`{"a":1,"…":"…"}`, `{"a":1,"b":2}`, true},
		{`{"a":1,"…":"…"}`, `{"a":2,"b":2}`, false},
		{`{"a":1,"…":"…"}`, `{"b":1}`, false},
		{`{"a":[1]}`, `{"a":[1,1]}`, false},
		{`{"a":"sst_…"}`, `{"a":"sst_x"}`, true},
		{`{"a":"sst_…"}`, `{"a":"sst_"}`, false},
		{`{"a":"2026-01-01T00:00:00.000Z"}`, `{"a":"2027-02-03T04:05:06.789Z"}`, true},
		{`{"a":"2026-01-01T00:00:00.000Z"}`, `{"a":"soon"}`, false},
		{`{"a":1767225600}`, `{"a":1798761600}`, true},
		{`{"a":"1"}`, `{"a":1}`, false},
		{`{"a":"01936f1e-7a52-7c3e-9d41-5b8f0e2a6c11"}`, `{"a":"01936f1e-7a52-7c3e-9d41-5b8f0e2a6c12"}`, true},
	} {
		shown, err := jsonValues(tt.shown)
		if err != nil {
			t.Fatal(err)
		}
		got, err := jsonValues(tt.got)
		if err != nil {
			t.Fatal(err)
		}
		if d := different("it", shown[0], got[0]); (d == "") != tt.same {
			t.Errorf("%s against %s: %q", tt.shown, tt.got, d)
		}
	}
}

func TestDifferentAnswers(t *testing.T) {
	t.Parallel()
	output := "HTTP/1.1 500 Oops\r\n\r\n{\"a\":1}{\"b\":2}HTTP/1.1 204 No Content\r\nEtag: \"x.1\"\r\n\r\n"
	for shown, same := range map[string]bool{
		"HTTP/1.1 204 No Content":                   true,
		"HTTP/1.1 204 No Content\nETag: \"x.1\"":    true,
		"HTTP/1.1 204 No Content\nETag: \"….1\"":    true,
		"HTTP/1.1 204 No Content\nETag: \"x.2\"":    false,
		"HTTP/1.1 204 No Content\nLocation: /x":     false,
		"HTTP/1.1 500 Oops":                         false,
		"HTTP/1.1 204 No Content\nEtag: \"x.1\"\nA": false,
	} {
		if d := differentHTTP(shown, output); (d == "") != same {
			t.Errorf("%q: %q", shown, d)
		}
	}
	if values, err := jsonValues(output); err != nil || len(values) != 2 {
		t.Errorf("found %v, %v", values, err)
	}
	if _, err := jsonValues("{\"a\":"); err == nil {
		t.Error("JSON that was cut off was taken")
	}
	if d := differentText("a…\nc", "b\nabc\nc\n"); d != "" {
		t.Error(d)
	}
	if differentText("c\nb", "b\nc\n") == "" {
		t.Error("lines in another order were taken")
	}
}
