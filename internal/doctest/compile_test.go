package doctest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packages are what statements in a document may use, by the name they use.
var packages = map[string]string{
	"client":      "sessiond.example/sessiond/client",
	"context":     "context",
	"errors":      "errors",
	"fmt":         "fmt",
	"http":        "net/http",
	"keyset":      "sessiond.example/sessiond/keyset",
	"memstore":    "sessiond.example/sessiond/memstore",
	"os":          "os",
	"pebblestore": "sessiond.example/sessiond/pebblestore",
	"sessiond":    "sessiond.example/sessiond",
	"time":        "time",
}

// TestCompiled compiles the Go blocks of all documents, each as a package of its own that exists only in an overlay,
// which is more than vet can do with.
func TestCompiled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	module, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	args := []string{"build", "-overlay", filepath.Join(dir, "overlay.json")}
	for _, file := range documents(t) {
		all, err := blocks(filepath.Base(file), read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range all {
			if b.lang != "go" || b.marker != "compiled" {
				continue
			}
			name := fmt.Sprintf("block%d", len(overlay.Replace))
			source := filepath.Join(dir, name+".go")
			if err := os.WriteFile(source, []byte(goFile(&b)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay.Replace[filepath.Join(module, "internal", "doctest", name, name+".go")] = source
			args = append(args, "./internal/doctest/"+name)
		}
	}
	content, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(overlay.Replace) < 2 {
		t.Fatalf("there are only %d blocks in Go", len(overlay.Replace))
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// goFile makes a file of a block. Errors are told with the place in the document.
func goFile(b *block) string {
	place := fmt.Sprintf("//line %s:%d\n", b.file, b.line)
	if strings.Contains(b.text, "package ") {
		return place + strings.Replace(b.text, "package main\n", "package example\n", 1) // needs no linking
	}
	imports := ""
	for name, path := range packages {
		if name != "context" && strings.Contains(b.text, name+".") {
			imports += fmt.Sprintf("import %q\n", path)
		}
	}
	return "package example\n\nimport \"context\"\n" + imports + "\nfunc example(ctx context.Context) error {\n" + place +
		b.text + "\nreturn nil\n}\n\nvar _ = example\n"
}
