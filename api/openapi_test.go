package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func schema(t *testing.T, doc *openapi3.T, name string) *openapi3.Schema {
	t.Helper()
	ref := doc.Components.Schemas[name]
	if ref == nil {
		t.Fatalf("there is no schema %q", name)
	}
	return ref.Value
}

func TestOpenAPIIsValid(t *testing.T) {
	doc := document(t)
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := gorillamux.NewRouter(doc); err != nil {
		t.Errorf("gorillamux: %v", err)
	}
	if _, err := legacy.NewRouter(doc, openapi3.DisableExamplesValidation()); err != nil {
		t.Errorf("legacy: %v", err)
	}
}

func TestOpenAPIJSONIsTheYAML(t *testing.T) {
	b, err := api.OpenAPIJSON()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]any, 2)
	for i, doc := range []*openapi3.T{document(t), doc} {
		again, err := doc.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &texts[i]); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Errorf("(-yaml +json):\n%s", diff)
	}
	if !strings.Contains(string(b), `"operationId":"revoke_matching"`) {
		t.Error("operations are missing from the JSON")
	}
}

// enum is the closed set of a string schema, sorted.
func enum(s *openapi3.Schema) []string {
	var values []string
	for _, v := range s.Enum {
		values = append(values, fmt.Sprint(v))
	}
	slices.Sort(values)
	return values
}

func TestOpenAPIClosedSetsAreTheCodes(t *testing.T) {
	doc := document(t)
	var types []string
	for _, code := range codesOf(t) {
		types = append(types, api.NewProblem(code, "").Type)
	}
	tests := map[string][]string{
		"ProblemType": types,
		"Status":      slices.Collect(maps.Values(constants(t, "../session.go", "Status"))),
		"EndReason":   slices.Collect(maps.Values(constants(t, "../session.go", "EndReason"))),
		"EventType":   slices.Collect(maps.Values(constants(t, "../event.go", "EventType"))),
	}
	for name, want := range tests {
		slices.Sort(want)
		if diff := cmp.Diff(want, enum(schema(t, doc, name))); diff != "" {
			t.Errorf("%s (-go +document):\n%s", name, diff)
		}
	}
	want := []string{api.AppliedNo, api.AppliedUnknown}
	if diff := cmp.Diff(want, enum(schema(t, doc, "Problem").Properties["applied"].Value)); diff != "" {
		t.Errorf("applied (-go +document):\n%s", diff)
	}
}

// Every documented refusal names the status and the types that codes have.
func TestOpenAPIResponsesAreTheCodes(t *testing.T) {
	doc := document(t)
	status := map[string]int{}
	seen := map[string]bool{}
	for _, code := range codesOf(t) {
		p := api.NewProblem(code, "")
		status[p.Type] = p.Status
	}
	for name, ref := range doc.Components.Responses {
		content := ref.Value.Content[api.MediaProblem]
		if content == nil {
			continue
		}
		own := content.Schema.Value.AllOf[1].Value.Properties
		got := enum(own["status"].Value)
		for _, typ := range enum(own["type"].Value) {
			seen[typ] = true
			if len(got) != 1 || got[0] != strconv.Itoa(status[typ]) {
				t.Errorf("response %s has status %v, its type %s has %d", name, got, typ, status[typ])
			}
		}
	}
	for typ := range status {
		if !seen[typ] {
			t.Errorf("no response has the type %s", typ)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for code, ref := range op.Responses.Map() {
				content := ref.Value.Content[api.MediaProblem]
				if content == nil {
					continue
				}
				if got := enum(content.Schema.Value.AllOf[1].Value.Properties["status"].Value); got[0] != code {
					t.Errorf("%s %s: answer %s is described by one of %v", method, path, code, got)
				}
			}
		}
	}
}

// longest is the longest lifetime, in seconds, that a policy may allow.
func longest(t *testing.T) float64 {
	t.Helper()
	low, high := int64(1), int64(9_000_000_000)
	for low+1 < high {
		mid := (low + high) / 2
		p := sessiond.DefaultPolicy()
		p.DefaultLifetime, p.MaxLifetime = time.Second, time.Duration(mid)*time.Second
		if p.Validate() == nil {
			low = mid
		} else {
			high = mid
		}
	}
	return float64(low)
}

func TestOpenAPIBoundsAreTheConstants(t *testing.T) {
	doc := document(t)
	size := func(v *uint64) int {
		if v == nil {
			return -1
		}
		return int(*v)
	}
	of := func(name string) *openapi3.Schema { return schema(t, doc, name) }
	parameter := func(name string) *openapi3.Schema { return doc.Components.Parameters[name].Value.Schema.Value }
	list := doc.Paths.Value("/sessions/").Get
	limit := list.Parameters.GetByInAndName("query", "limit").Schema.Value
	patchLabel := of("SessionPatch").Properties["labels"].Value.AdditionalProperties.Schema.Value
	for _, tt := range []struct {
		name      string
		got, want int
	}{
		{"Text", size(of("Text").MaxLength), sessiond.MaxText},
		{"FilterText", size(of("FilterText").MaxLength), sessiond.MaxText},
		{"label in a patch", size(patchLabel.MaxLength), sessiond.MaxText},
		{"ID", size(of("ID").MaxLength), sessiond.MaxIDLength},
		{"Token", size(of("Token").MaxLength), sessiond.MaxTokenLength},
		{"Tenant", size(of("Tenant").MaxLength), sessiond.MaxTenant},
		{"Labels", size(of("Labels").MaxProps), sessiond.MaxLabels},
		{"LabelKey", size(of("LabelKey").MaxLength), sessiond.MaxLabelKey},
		{"Idempotency-Key", size(parameter("IdempotencyKey").MaxLength), sessiond.MaxIdempotencyKey},
		{"limit", int(*limit.Max), sessiond.MaxLimit},
		{"default limit", int(limit.Default.(float64)), sessiond.DefaultLimit},
		{"page", size(of("SessionPage").Properties["sessions"].Value.MaxItems), sessiond.MaxLimit},
		{"revoked", int(*of("Revoked").Properties["revoked"].Value.Max), sessiond.MaxRevoke},
		{"expires_in", int(*of("ExpiresIn").Max), int(longest(t))},
		{"idle_timeout", int(*of("IdleTimeout").Max), int(longest(t))},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: the document says %d, the code %d", tt.name, tt.got, tt.want)
		}
	}
	for _, text := range []string{
		fmt.Sprintf("at most %d deep", sessiond.MaxNesting),
		fmt.Sprintf("at most %d with `include=data`", sessiond.MaxLimitData),
		fmt.Sprintf("At most %d KiB as compact", sessiond.DefaultPolicy().MaxData>>10),
		fmt.Sprintf("%d h by default", sessiond.DefaultPolicy().MaxLifetime/time.Hour),
		fmt.Sprintf("%d h unless changed", sessiond.DefaultPolicy().DefaultLifetime/time.Hour),
		fmt.Sprintf("%d min unless changed", sessiond.DefaultPolicy().DefaultIdleTimeout/time.Minute),
	} {
		if !strings.Contains(string(api.OpenAPI), text) {
			t.Errorf("the document does not say %q", text)
		}
	}
}

func TestOpenAPIFormsAreTheValidators(t *testing.T) {
	doc := document(t)
	validID := func(s string) bool { _, err := sessiond.ParseID(s); return err == nil }
	forms := map[string]func(string) bool{
		"ID": validID, "Tenant": sessiond.ValidTenant, "LabelKey": sessiond.ValidLabelKey, "Text": sessiond.ValidText,
	}
	samples := []string{
		"", "a", "A", "0", "-", ".", "_", "~", "a-", "a.b", "a_b", "a~b", "aB", "a b", "a/b", "a%", "é", "a\n", "a\x7f",
		"a\u0085",
		"s", "ss", "sst", "sst_", "sst_x", "sst-x", "sst.", "sstx_", "ss_t", "s_st", "Sst_x", "xsst_", "sst~", "ssst_",
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a", 128), strings.Repeat("a", 129),
		strings.Repeat("a", 256), strings.Repeat("a", 257),
	}
	for c := range 128 { // around the prefix of tokens
		for _, start := range []string{"", "s", "ss", "sst", "sst_"} {
			samples = append(samples, start+string(rune(c)), start+string(rune(c))+"a")
		}
	}
	for name, valid := range forms {
		for _, s := range samples {
			err := schema(t, doc, name).VisitJSONString(s)
			if (err == nil) != valid(s) {
				t.Errorf("%s %q: document says %v, code says %v", name, s, err == nil, valid(s))
			}
		}
	}
}

// The members of the document's schemas are those of the structs.
func TestOpenAPIMembersAreTheStructs(t *testing.T) {
	doc := document(t)
	for name, message := range map[string]any{
		"Session": api.Session{}, "SessionPage": api.SessionPage{}, "Revoked": api.Revoked{}, "Actor": api.Actor{},
		"CreateRequest": api.CreateRequest{}, "UpdateRequest": api.UpdateRequest{}, "RotateRequest": api.RotateRequest{},
		"VerifyRequest": api.VerifyRequest{}, "Introspection": api.Introspection{}, "Event": api.Event{},
		"Problem": api.Problem{},
	} {
		s := schema(t, doc, name)
		var members, always []string
		typ := reflect.TypeOf(message)
		for i := range typ.NumField() {
			tag, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "Session" && tag == "token" {
				continue // SessionWithToken
			}
			members = append(members, tag)
			if options == "" {
				always = append(always, tag)
			}
		}
		slices.Sort(members)
		slices.Sort(always)
		if diff := cmp.Diff(members, slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("%s: members (-go +document):\n%s", name, diff)
		}
		required := slices.Sorted(slices.Values(s.Required))
		if diff := cmp.Diff(always, required); diff != "" {
			t.Errorf("%s: required (-go +document):\n%s", name, diff)
		}
	}
}

func TestOpenAPIPathsAreTheConstants(t *testing.T) {
	want := []string{
		api.PathSessions + "/", api.PathSession, api.PathTouch, api.PathRotate, api.PathVerify, api.PathIntrospect,
		api.PathRevoke, api.PathAuth, api.PathEvents, api.PathLogout,
	}
	slices.Sort(want)
	doc := document(t)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(doc.Paths.Map()))); diff != "" {
		t.Errorf("paths (-go +document):\n%s", diff)
	}
	for _, name := range []string{api.HeaderTenant, api.HeaderRequestID, api.HeaderIdempotencyKey, "If-Match", "Last-Event-ID"} {
		if !strings.Contains(string(api.OpenAPI), "name: "+name+"\n") {
			t.Errorf("no parameter is called %s", name)
		}
	}
	ok := doc.Paths.Value(api.PathAuth).Get.Responses.Value("200").Value
	for _, name := range []string{
		api.HeaderSessionID, api.HeaderSessionSubject, api.HeaderSessionTenant, api.HeaderSessionExpiresAt,
	} {
		if h := ok.Headers[name]; h == nil || !h.Value.Required {
			t.Errorf("%s is not a required header of %s", name, api.PathAuth)
		}
	}
}

// A 503 to a write tells what became of it, and every refusal can be waited out
// or answered as its status demands.
func TestOpenAPIHeadersOfRefusals(t *testing.T) {
	doc := document(t)
	var errs []error
	if h := doc.Components.Responses["MethodNotAllowed"].Value.Headers["Allow"]; h == nil || !h.Value.Required {
		errs = append(errs, errors.New("405 without Allow"))
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for code, ref := range op.Responses.Map() {
				for _, need := range [][2]string{
					{"401", "WWW-Authenticate"}, {"503", "Retry-After"}, {code, api.HeaderRequestID},
				} {
					h := ref.Value.Headers[need[1]]
					if code == need[0] && (h == nil || !h.Value.Required) {
						errs = append(errs, fmt.Errorf("%s %s: %s without %s", method, path, code, need[1]))
					}
				}
			}
			write := method != http.MethodGet && op.OperationID != "verify" && op.OperationID != "introspect"
			unavailable := op.Responses.Value("503").Value.Content[api.MediaProblem].Schema.Value.AllOf[1].Value
			if slices.Contains(unavailable.Required, "applied") != write {
				errs = append(errs, fmt.Errorf("%s: applied is required of writes, and only of them", op.OperationID))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}
