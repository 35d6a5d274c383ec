//go:build helm

package deploytest_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const helmPackage = "helm.sh/helm/v4/cmd/helm@v4.3.1"

// install puts a program into a directory of the test.
func install(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

const smallValues = `
image: {repository: registry.example.com/sessiond}
keyset: {existingSecret: keys}
config:
  auth:
    issuers: [{issuer: https://id.example.com/realms/main, audience: sessiond, tenant: shop}]
  gateways: {web: {tenant: shop}}
  session: {default_lifetime: 8h}
`

const fullValues = `
image: {repository: registry.example.com/sessiond, digest: "sha256:` + digest + `"}
imagePullSecrets: [{name: pull}]
fullnameOverride: sessions
existingConfigMap: mine
keyset: {existingSecret: keys, key: prod.json}
tls: {existingSecret: api-tls}
persistence: {storageClassName: fast, size: 100Gi, accessModes: [ReadWriteOncePod], annotations: {a: b}}
service: {type: LoadBalancer, port: 443, annotations: {lb: internal}}
resources: {limits: {memory: 1536Mi, cpu: 2}, requests: {memory: 1536Mi}}
networkPolicy: {apiFrom: [], opsFrom: [], egress: []}
podDisruptionBudget: {maxUnavailable: 0}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}, runbookURL: https://wiki.example.com/sessiond}
serviceAccount: {annotations: {x: z}}
extraEnv: [{name: SESSIOND_LOG_LEVEL, value: debug}]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ca}]
podAnnotations: {p: q}
podLabels: {team: auth}
nodeSelector: {disk: ssd}
tolerations: [{key: k, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: high
`

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const switchedOff = `
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
serviceAccount: {existingName: mine}
resources: {limits: null}
`

func TestHelm(t *testing.T) {
	t.Parallel()
	bin, err := filepath.Abs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	install(t, []string{"GOBIN=" + bin, "GOFLAGS="}, "install", helmPackage)
	install(t, nil, "build", "-o", bin, "./cmd/sessiond")
	c := helmChart{t, filepath.Join(bin, "helm"), filepath.Join(bin, "sessiond")}

	for name, files := range map[string][]string{
		"small": {smallValues}, "full": {fullValues}, "switched off": {smallValues, switchedOff},
		"shared store": {smallValues, "store: {existingSecret: db}\nreplicas: 3"},
	} {
		t.Run(name, func(t *testing.T) {
			c := c
			c.t = t
			if _, err := c.run("lint", files, "--strict"); err != nil {
				t.Error(err)
			}
			objects := c.template(files)
			if name != "full" {
				c.checkConfig(objects)
			} else {
				c.checkRules(objects)
			}
			if got := kinds(objects); slices.Contains(got, "NetworkPolicy") == (name == "switched off") {
				t.Errorf("rendered %v", got)
			}
		})
	}

	for name, bad := range map[string]string{
		"two replicas":             "replicas: 2",
		"another store":            "config: {store: {url: 'memory:'}}",
		"a volume of many writers": "persistence: {accessModes: [ReadWriteMany]}",
		"no time to drain":         "terminationGracePeriodSeconds: 20",
		"unclear memory":           "resources: {limits: {memory: lots}}",
		"no keyset":                "keyset: {existingSecret: ''}",
		"no issuer":                "config: {auth: {issuers: []}}",
		"a keyset in the values":   "keyset: {inline: secret}",
	} {
		if out, err := c.run("template", []string{smallValues, bad}); err == nil {
			t.Errorf("%s was accepted:\n%s", name, out)
		}
	}
}

// A helmChart runs helm on the chart.
type helmChart struct {
	t              *testing.T
	helm, sessiond string
}

func (c helmChart) run(command string, values []string, args ...string) (string, error) {
	c.t.Helper()
	args = append([]string{command}, args...)
	if command == "template" {
		args = append(args, "shop", "--namespace", "auth")
	}
	args = append(args, filepath.Join(root, chart))
	for _, v := range values {
		file := filepath.Join(c.t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(v), 0o600); err != nil {
			c.t.Fatal(err)
		}
		args = append(args, "--values", file)
	}
	var stderr strings.Builder
	cmd := exec.Command(c.helm, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()+string(out)))
	}
	return string(out), err
}

type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     yaml.Node
}

func (c helmChart) template(values []string) (objects []object) {
	c.t.Helper()
	out, err := c.run("template", values)
	if err != nil {
		c.t.Fatal(err)
	}
	d := yaml.NewDecoder(strings.NewReader(out))
	for {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			c.t.Fatalf("%v in\n%s", err, out)
		}
		objects = append(objects, o)
	}
}

func kinds(objects []object) (out []string) {
	for _, o := range objects {
		out = append(out, o.Kind)
	}
	return out
}

func find(t *testing.T, objects []object, kind string) object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o object) bool { return o.Kind == kind })
	if i < 0 {
		t.Fatalf("no %s in %v", kind, kinds(objects))
	}
	return objects[i]
}

// checkConfig lets the program read the configuration as the container would.
func (c helmChart) checkConfig(objects []object) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "config.yaml")
	config := find(c.t, objects, "ConfigMap").Data["config.yaml"]
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		c.t.Fatal(err)
	}
	var set struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Args []string
					Env  []struct {
						Name, Value string
						ValueFrom   struct {
							SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
						} `yaml:"valueFrom"`
					}
				}
			}
		}
	}
	stateful := find(c.t, objects, "StatefulSet")
	if err := stateful.Spec.Decode(&set); err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(c.sessiond, "config", "--config", file)
	store := "pebble:///var/lib/sessiond/store"
	for _, e := range set.Template.Spec.Containers[0].Env {
		if from := e.ValueFrom.SecretKeyRef; from.Name == "db" && from.Key == "url" {
			store = "postgres://db/sessions"
			e.Value = store
		}
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "warning") {
		c.t.Errorf("sessiond config: %v\n%s", err, out)
	}
	for _, want := range []string{"listen: :8080", "url: " + store, "default_lifetime: 8h"} {
		if !strings.Contains(strings.ReplaceAll(string(out), `"`, ""), want) {
			c.t.Errorf("the configuration lacks %s:\n%s", want, out)
		}
	}
}

// checkRules lets promtool read the rules after the chart has adapted them.
func (c helmChart) checkRules(objects []object) {
	c.t.Helper()
	rules := find(c.t, objects, "PrometheusRule")
	content, err := yaml.Marshal(&rules.Spec)
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(string(content), `job="sessiond",namespace="auth"`) ||
		!strings.Contains(string(content), "https://wiki.example.com/sessiond#sessionddown") {
		c.t.Error("the rules were not adapted")
	}
	file := filepath.Join(c.t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	promtool(c.t, "check", "rules", file)
}
