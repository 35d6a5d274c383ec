package config_test

// The sample file is generated from the Config type: its comments are the comments of the fields, its values the
// defaults plus examples. "go test -run TestReferenceIsTheConfigType -update" writes it.

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

var update = flag.Bool("update", false, "write the sample file")

const sampleHead = `# Configuration of sessiond: every key with its default, or an example where there is no default.
#
# Durations are written as 90s, 12h or 1h30m; sizes as bytes or with KiB, MiB, GiB. Each key is also an environment
# variable (store.url is SESSIOND_STORE_URL; lists and maps are JSON), and with _FILE appended names a file that holds
# the value (SESSIOND_STORE_URL_FILE). Flag over environment over this file. Unknown keys are errors.

`

// example is the configuration of the sample: the defaults, and what has none.
func example() config.Config {
	c := config.Default()
	c.Auth.Issuers = []config.Issuer{{
		Issuer:      "https://id.example.com/realms/main",
		Audience:    "sessiond",
		RolesClaims: []config.ClaimPath{{"realm_access", "roles"}},
		Roles:       map[string][]string{"support": {"sessions:inspect", "sessions:delete"}},
		Subjects:    map[string][]string{"system:serviceaccount:shop:cart": {"sessions:verify"}},
	}}
	c.Gateways = map[string]config.Gateway{"web": config.DefaultGateway()}
	c.Encryption.KeysetFile = "/etc/sessiond/keyset.json"
	return c
}

// options are the values with which the sample shows the optional keys of an issuer, commented out.
var options = config.Issuer{
	JWKSURL:            "https://id.example.com/keys",
	CAFile:             "/etc/sessiond/ca.pem",
	RequireTyp:         "at+jwt",
	Tenant:             "default",
	TenantClaim:        "tenant",
	Tenants:            []string{"shop", "support"},
	AllowedPermissions: []string{"sessions:verify"},
	LogoutAudiences:    []string{"shop-web"},
}

func TestReferenceIsTheConfigType(t *testing.T) {
	want := generateSample(t)
	if *update {
		if err := os.WriteFile("sessiond.sample.yaml", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, config.Reference()); diff != "" {
		t.Errorf("the sample file is not what the Config type says; run the test with -update (-want +got):\n%s", diff)
	}
}

func TestReferenceLoadsAsDefaultsAndExamples(t *testing.T) {
	t.Parallel()
	got, err := config.ParseYAML([]byte(config.Reference()))
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("loaded sample (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the sample is not valid: %v", err)
	}
}

// Optional keys are commented out; with the comment sign removed each has to be a key that loads.
func TestReferenceOptionalKeysLoad(t *testing.T) {
	t.Parallel()
	optional := regexp.MustCompile(`(?m)^( +)# ([a-z_]+: [^ ]+|tenants: .*)$`)
	got, err := config.ParseYAML([]byte(optional.ReplaceAllString(config.Reference(), "$1$2")))
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	issuer := &want.Auth.Issuers[0]
	given := reflect.ValueOf(issuer).Elem()
	for i := range given.NumField() {
		if given.Field(i).IsZero() {
			given.Field(i).Set(reflect.ValueOf(options).Field(i))
		}
	}
	gateway := config.DefaultGateway()
	gateway.ForeignCookies = []string{}
	want.Gateways["web"] = gateway
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("sample with its optional keys (-want +got):\n%s", diff)
	}
}

// Every comment has to state the default, and rightly.
func TestFieldCommentsStateDefaults(t *testing.T) {
	t.Parallel()
	comments := fieldComments(t)
	var check func(v reflect.Value)
	check = func(v reflect.Value) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			comment := strings.Join(strings.Fields(comments[v.Type().Name()+"."+field.Name]), " ")
			if comment == "" {
				t.Errorf("%s.%s has no comment", v.Type().Name(), field.Name)
				continue
			}
			if field.Type.Kind() == reflect.Struct {
				check(v.Field(i))
				continue
			}
			node, err := config.Tree(v.Field(i))
			if err != nil {
				t.Fatal(err)
			}
			text, err := config.WriteTree(node)
			if err != nil {
				t.Fatal(err)
			}
			want := " Default " + strings.TrimSpace(text) + "."
			if quoted := ` Default "` + strings.TrimSpace(text) + `".`; !strings.HasSuffix(comment, want) &&
				!strings.HasSuffix(comment, quoted) {
				t.Errorf("comment of %s.%s does not end with %q", v.Type().Name(), field.Name, want)
			}
		}
	}
	check(reflect.ValueOf(config.Default()))
	check(reflect.ValueOf(config.Issuer{}))
	check(reflect.ValueOf(config.DefaultGateway()))
}

func generateSample(t *testing.T) string {
	t.Helper()
	c := example()
	root, err := config.Tree(reflect.ValueOf(c))
	if err != nil {
		t.Fatal(err)
	}
	describe(t, root, reflect.TypeFor[config.Config](), fieldComments(t))
	text, err := config.WriteTree(root)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^( *[^ #-].*[^:\n])\n( *#)`).ReplaceAllString(text, "$1\n\n$2")
	text = regexp.MustCompile(`(?m)^( *)off_([a-z_]+: )`).ReplaceAllString(text, "$1# $2")
	return sampleHead + text
}

// describe puts the comment of each field above its key, and adds the keys that were left out, marked with "off_".
func describe(t *testing.T, node *yaml.Node, typ reflect.Type, comments map[string]string) {
	t.Helper()
	given := make(map[string][]*yaml.Node)
	for i := 0; i < len(node.Content); i += 2 {
		given[node.Content[i].Value] = node.Content[i : i+2]
	}
	var content []*yaml.Node
	for i := range typ.NumField() {
		field := typ.Field(i)
		name := config.FieldKey(field)
		pair := given[name]
		if pair == nil {
			option := reflect.Zero(field.Type)
			if typ == reflect.TypeFor[config.Issuer]() {
				option = reflect.ValueOf(options).Field(i)
			}
			value, err := config.Tree(option)
			if err != nil {
				t.Fatal(err)
			}
			pair = []*yaml.Node{{Kind: yaml.ScalarNode, Value: "off_" + name}, value}
		}
		pair[0].HeadComment = strings.TrimSpace(comments[typ.Name()+"."+field.Name])
		switch element := field.Type; {
		case element.Kind() == reflect.Struct:
			describe(t, pair[1], element, comments)
		case element == reflect.TypeFor[[]config.Issuer]():
			describe(t, pair[1].Content[0], element.Elem(), comments)
		case element == reflect.TypeFor[map[string]config.Gateway]():
			describe(t, pair[1].Content[1], element.Elem(), comments)
		}
		content = append(content, pair...)
	}
	node.Content = content
}

// fieldComments reads the comments of config.go, by "Type.Field".
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if structure, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range structure.Fields.List {
				comments[spec.Name.Name+"."+field.Names[0].Name] = field.Doc.Text()
			}
		}
		return false
	})
	return comments
}
