package deploytest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sessiond.example/sessiond/keyset"
)

const chart = "deploy/helm/sessiond/"

// The chart can only read files of its own.
func TestChartHasTheRules(t *testing.T) {
	t.Parallel()
	if read(t, chart+"files/alerts.yaml") != read(t, rulesPath) {
		t.Errorf("%sfiles/alerts.yaml is not %s: copy it", chart, rulesPath)
	}
}

func TestChartHasTheVersion(t *testing.T) {
	t.Parallel()
	program := submatch(t, "cmd/sessiond/version.go", `(?m)^const version = "(.*)"$`)
	if got := submatch(t, chart+"Chart.yaml", `(?m)^appVersion: (.*)$`); got != program {
		t.Errorf("appVersion is %s, the program's is %s", got, program)
	}
}

// A schema is what is used here of a JSON schema.
type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Properties map[string]*schema
	Additional any `json:"additionalProperties"`
	Defs       map[string]*schema
}

// Every value is described, and everything described has a default.
func TestChartValuesAndSchema(t *testing.T) {
	t.Parallel()
	var s schema
	if err := json.Unmarshal([]byte(read(t, chart+"values.schema.json")), &s); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	decode(t, "values.yaml", read(t, chart+"values.yaml"), &values)
	values["global"] = nil // of Helm
	compareValues(t, "", values, &s)
}

func compareValues(t *testing.T, path string, values map[string]any, s *schema) {
	t.Helper()
	if s.Additional != false {
		t.Errorf("schema of %q accepts unknown values", path)
	}
	for name, value := range values {
		sub := s.Properties[name]
		if sub == nil {
			t.Errorf("%s%s has no schema", path, name)
			continue
		}
		inner, ok := value.(map[string]any)
		if ok && len(sub.Properties) > 0 && path+name != "config" {
			compareValues(t, path+name+".", inner, sub)
		}
	}
	for name := range s.Properties {
		if _, ok := values[name]; !ok {
			t.Errorf("%s%s has no default in values.yaml", path, name)
		}
	}
}

// A name that values.yaml does not have renders as nothing.
func TestChartUsesValuesThatExist(t *testing.T) {
	t.Parallel()
	var values map[string]any
	decode(t, "values.yaml", read(t, chart+"values.yaml"), &values)
	files, err := filepath.Glob(filepath.Join(root, chart, "templates", "*"))
	if err != nil || len(files) < 8 {
		t.Fatalf("templates %v, %v", files, err)
	}
	unused := make(map[string]bool)
	for name := range values {
		unused[name] = true
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.Values((?:\)?\.[a-zA-Z]+)+)`).FindAllStringSubmatch(string(content), -1) {
			path := strings.Split(strings.ReplaceAll(m[1], ")", "")[1:], ".")
			delete(unused, path[0])
			at := any(values)
			for i, name := range path {
				inner, ok := at.(map[string]any)
				if !ok || i > 0 && path[0] == "config" {
					break
				}
				if at, ok = inner[name]; !ok {
					t.Errorf("%s: .Values%s does not exist", filepath.Base(file), m[1])
					break
				}
			}
		}
	}
	for name := range unused {
		t.Errorf("no template uses the value %s", name)
	}
}

// The sidecar's script makes a file that the program accepts of one that it refuses, and follows changes.
func TestKeysetSidecar(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, private := filepath.Join(dir, "secret.json"), filepath.Join(dir, "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	first := writeKeyset(t, secret)

	template := read(t, chart+"templates/statefulset.yaml")
	_, script, _ := strings.Cut(template, "            - |\n")
	script, _, found := strings.Cut(script, "          startupProbe:")
	if !found || !strings.Contains(script, "sleep 5") {
		t.Fatalf("not the script: %s", script)
	}
	script = strings.NewReplacer("/secret/keyset.json", secret, "/keyset/", private+"/", "sleep 5", "sleep 0.05").Replace(script)
	cmd := exec.Command("sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		if cmd.Process.Signal(syscall.SIGTERM) != nil {
			return
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the script ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the script does not end when it is asked to")
			cmd.Process.Kill()
		}
	}()

	copied := filepath.Join(private, "keyset.json")
	waitForKeyset(t, copied, first)
	waitForKeyset(t, copied, writeKeyset(t, secret))
}

// writeKeyset makes the file as a Secret volume shows it, which the program refuses.
func writeKeyset(t *testing.T, name string) (primary uint32) {
	t.Helper()
	keys, err := keyset.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.ReplaceFile(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.Load(name); err == nil {
		t.Error("a keyset that its group can read is accepted now: the chart needs no sidecar any more")
	}
	return keys.Primary()
}

func waitForKeyset(t *testing.T, name string, primary uint32) {
	t.Helper()
	var err error
	for range 200 {
		var keys *keyset.Keyset
		if keys, err = keyset.Load(name); err == nil && keys.Primary() == primary {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the keyset with the key %d did not arrive: %v", primary, err)
}

// A variable that is no setting is only warned of when the program starts.
func TestChartSetsKnownVariables(t *testing.T) {
	t.Parallel()
	reference := read(t, "cmd/sessiond/internal/config/sessiond.sample.yaml")
	want := map[string]string{
		"SESSIOND_LISTEN": "listen:", "SESSIOND_OPS_LISTEN": "ops_listen:", "SESSIOND_STORE_URL": "url:",
		"SESSIOND_ENCRYPTION_KEYSET_FILE": "keyset_file:", "SESSIOND_TLS_CERT_FILE": "cert_file:",
		"SESSIOND_TLS_KEY_FILE": "key_file:",
	}
	var got []string
	for _, m := range regexp.MustCompile(`name: (SESSIOND_\w+)`).FindAllStringSubmatch(
		read(t, chart+"templates/statefulset.yaml")+read(t, chart+"templates/_helpers.tpl"), -1) {
		got = append(got, m[1])
		if key := want[m[1]]; key == "" || !strings.Contains(reference, key) {
			t.Errorf("%s is no setting", m[1])
		}
	}
	for name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("the chart does not set %s", name)
		}
	}
}
