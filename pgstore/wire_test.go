package pgstore_test

import (
	"maps"
	"testing"

	"sessiond.example/sessiond/pgstore"
)

// TestLabels reads labels as the server writes them, which is done without a JSON decoder where
// nothing is escaped.
func TestLabels(t *testing.T) {
	t.Parallel()
	c := connect(t, newDatabase(t))
	for _, labels := range []map[string]string{
		{"a": "b"}, {"a": ""}, {"a": "b", "c": "d"}, {"a": "{", "b": "}", "c": ", ", "d": ": "},
		{"a": `"`}, {"a": `\`}, {"a": `\"`, "b": `"\`}, {"a": "\n"}, {"a": "é", "b": "\u2028"}, {"a": "<&>"},
		{"a": "x", "b": `", "c": "`}, {"a": `b": "c`},
	} {
		text := value[string](t, c, "SELECT $1::jsonb::text", labels)
		if got, err := pgstore.ReadLabels(text); err != nil || !maps.Equal(got, labels) {
			t.Errorf("%s is read as %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		``, `{`, `{"a"}`, `{"a": 1}`, `["a", "b"]`, `{"a": "b"`, `{"a": "b"}}`, `{"a": "b" "c": "d"}`, `"a": "b"`, `{"a", "b"}`,
	} {
		if got, err := pgstore.ReadLabels(text); err == nil {
			t.Errorf("%s is read as %q", text, got)
		}
	}
}

// TestArgumentsOutOfOrder wants a mistake of the program to be noticed before anything is sent.
func TestArgumentsOutOfOrder(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(){
		"swapped":  func() { pgstore.PutArgs("id", "tenant") },
		"one less": func() { pgstore.PutArgs("tenant") },
		"one more": func() { pgstore.PutArgs("tenant", "id", "id") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("arguments with one %s pass", name)
				}
			}()
			put()
		}()
	}
	pgstore.PutArgs("tenant", "id")
}
