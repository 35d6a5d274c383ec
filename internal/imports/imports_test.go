package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "sessiond.example/sessiond"

// allowed is the import table: what a package may import beside the standard
// library, in its non-test files. "." is the root package; a path without a
// dot in its first element is one of ours. Imports go one way, downwards.
var allowed = map[string]struct {
	imports []string
	why     string
}{
	".":                    {[]string{"internal/strictjson", "github.com/go-json-experiment/json/jsontext"}, "embedders get no dependency but strict JSON"},
	"auth":                 {[]string{"github.com/golang-jwt/jwt/v5", "github.com/go-json-experiment/json", "golang.org/x/sync"}, "who calls; knows nothing of sessions"},
	"keyset":               {[]string{"github.com/tink-crypto/tink-go/v2", "google.golang.org/protobuf"}, "cryptography is Tink's"},
	"memstore":             {[]string{".", "github.com/google/btree"}, "the readable reference"},
	"pgstore":              {[]string{".", "github.com/jackc/pgx/v5", "github.com/pressly/goose/v3", "golang.org/x/sys"}, "stores share a contract, not code; goose runs the migrations"},
	"redisstore":           {[]string{".", "internal/recordcodec", "github.com/valkey-io/valkey-go"}, "stores share a contract, and the codec of records where the engine has no columns"},
	"internal/recordcodec": {[]string{".", "google.golang.org/protobuf"}, "one format of records for stores without columns"},
	"pebblestore":          {[]string{".", "internal/recordcodec", "internal/steadyclock", "github.com/cockroachdb/pebble/v2", "github.com/maypok86/otter/v2", "google.golang.org/protobuf", "github.com/cockroachdb/errors", "golang.org/x/sys"}, "stores share a contract, not code"},
	"storetest":            {[]string{".", "memstore", "github.com/google/go-cmp", "pgregory.net/rapid"}, "runs against any store"},
	"api":                  {[]string{".", "internal/strictjson", "github.com/go-json-experiment/json", "go.yaml.in/yaml/v3"}, "the wire, shared by server and client"},
	"server":               {[]string{".", "api", "auth", "internal/admission", "github.com/go-json-experiment/json"}, "never a store, never telemetry"},
	"client":               {[]string{".", "api"}, "light enough for every service"},
	"telemetry":            {[]string{".", "auth", "github.com/prometheus/client_golang", "github.com/go-json-experiment/json", "go.opentelemetry.io/otel", "github.com/go-logr/logr"}, "wrappers; nothing below knows them. otel makes and exports spans, logr takes its complaints, auth names its refusals"},
	"internal/admission":   {nil, "one idea; knows nothing of sessions"},
	"internal/strictjson":  {nil, "one idea"},
	"internal/steadyclock": {[]string{"golang.org/x/sys"}, "one idea"},
	"internal/devidp":      {[]string{"github.com/zitadel/oidc/v3", "github.com/go-jose/go-jose/v4", "github.com/go-chi/chi/v5"}, "a real issuer, kept out of the library"},
	"internal/faultstore":  {[]string{"."}, "test support"},
	"internal/behaviour":   {[]string{".", "auth", "client", "server", "github.com/google/go-cmp", "github.com/go-json-experiment/json"}, "test support: sessions behind a manager and behind a server"},
	"internal/apitest":     {[]string{"api", "github.com/getkin/kin-openapi", "github.com/go-json-experiment/json"}, "test support"},
	"internal/load":        {[]string{"github.com/HdrHistogram/hdrhistogram-go"}, "knows HTTP, nothing of ours"},
	"internal/loadgen":     {[]string{".", "keyset", "pebblestore", "internal/load", "internal/testserver", "github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sync", "golang.org/x/sys"}, "measures servers from outside, and the embedded store in process"},
	"internal/testserver":  {[]string{"github.com/jackc/pgx/v5", "golang.org/x/sys", "go.uber.org/goleak"}, "test support: real servers, knows nothing of ours"},
	"internal/consistency": {[]string{".", "internal/behaviour", "server", "github.com/anishathalye/porcupine", "github.com/go-json-experiment/json"}, "test support: looks at stores through managers and servers"},
	"internal/faultmatrix": {[]string{".", "client", "server", "internal/behaviour", "internal/testserver", "github.com/google/go-cmp", "go.uber.org/goleak"}, "test support: looks at stores through servers too"},
	"internal/doctest":     {nil, "runs the documents; only tests"},
	"internal/deploytest":  {nil, "checks the deployment files; only tests"},
	"internal/imports":     {nil, "this test"},
}

// cmd wires everything together and may import anything of ours.
func wiring(pkg string) bool { return strings.HasPrefix(pkg, "cmd/") }

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	seen := 0
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		pkg := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if pkg == "" {
			pkg = "."
		}
		if wiring(pkg) {
			continue
		}
		row, ok := allowed[pkg]
		if !ok {
			t.Errorf("package %s is not in the import table: add it with a reason", pkg)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") {
				continue // standard library
			}
			name := strings.TrimPrefix(imp, module+"/")
			if imp == module {
				name = "."
			}
			if !slices.ContainsFunc(row.imports, func(a string) bool {
				return name == a || a != "." && strings.Contains(strings.Split(a, "/")[0], ".") && strings.HasPrefix(name, a+"/")
			}) {
				t.Errorf("%s imports %s, which the import table does not allow (%s)", pkg, name, row.why)
			}
		}
	}
	if seen < len(allowed)/2 {
		t.Fatalf("go list showed only %d packages", seen)
	}
}
