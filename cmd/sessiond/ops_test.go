package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/api"
)

// canary is part of everything that must not be in the log.
const canary = "c4n4ry"

// traffic does every operation once, and some that are refused, and returns the
// tokens of sessions that it was given.
func (s *running) traffic(token string) (secrets []string) {
	s.t.Helper()
	secretData := `{"secret":"` + canary + `"}`
	made := s.do("POST", "/sessions/", token, `{"id":"s1","subject":"alice","data":`+secretData+`}`)
	first := made.want(s.t, 201).member(s.t, "token")
	s.do("GET", "/sessions/s1", token, "").want(s.t, 200)
	s.do("GET", "/sessions/?include=data", token, "").want(s.t, 200)
	s.do("PUT", "/sessions/s1", token, `{"data":`+secretData+`,"labels":{"a":"b"}}`).want(s.t, 200)
	s.do("PATCH", "/sessions/s1", token, `{"data":{"more":"`+canary+`"}}`,
		"Content-Type: application/merge-patch+json").want(s.t, 200)
	s.do("POST", "/sessions/s1/touch", token, "").want(s.t, 200)
	second := s.do("POST", "/sessions/s1/rotate", token, `{"token":"`+first+`"}`).want(s.t, 200).member(s.t, "token")
	s.do("POST", "/verify", token, `{"token":"`+second+`"}`).want(s.t, 200)
	form := "Content-Type: application/x-www-form-urlencoded"
	s.do("POST", "/introspect", token, "token="+second, form).want(s.t, 200)
	s.do("GET", "/auth/web/"+canary+"?"+canary, "", "", "Cookie: session="+second+"; other="+canary).want(s.t, 200)
	s.do("GET", "/auth/web", second, "").want(s.t, 200)
	stream, ended := s.openStream(token)
	s.eventually("an event stream in the metrics", func() bool { return s.metric("sessiond_event_streams") == "1" })
	stream.Close()
	<-ended
	s.do("POST", "/revoke", token, "token="+second, form).want(s.t, 200)
	s.do("GET", "/sessions/s1", token, "").want(s.t, 410)
	s.do("POST", "/sessions/", token, `{"id":"s2"}`).want(s.t, 201)
	s.do("DELETE", "/sessions/s2?reason=security&note=lost", token, "").want(s.t, 204)
	s.do("DELETE", "/sessions/?subject=alice", token, "").want(s.t, 200)

	// Refused ones.
	s.do("POST", "/sessions/", token, `{"data":{"`+canary+`":1,"`+canary+`":2}}`).want(s.t, 400)
	s.do("POST", "/sessions/", token, `{"`+canary+`":1}`).want(s.t, 422)
	s.do("GET", "/sessions/", canary+"."+canary+"."+canary, "").want(s.t, 401)
	s.do("GET", "/sessions/", "", "", "Authorization: Basic "+canary).want(s.t, 401)
	s.do("GET", "/"+canary, token, "").want(s.t, 404)
	s.do("GET", "/sessions/"+second, token, "").want(s.t, 404)
	s.do("GET", "/sessions/?"+canary+"=1", token, "").want(s.t, 400)
	s.do("POST", "/verify", token, `{"token":"sst_`+canary+`"}`).want(s.t, 200)
	s.do("BREW", "/sessions/", token, "").want(s.t, 405)
	return []string{first, second, token}
}

// metric is the value of a metric without labels, or with the labels given in
// the name; empty when there is none.
func (s *running) metric(name string) string {
	s.t.Helper()
	for line := range strings.Lines(s.metrics()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (s *running) metrics() string {
	s.t.Helper()
	return s.get(s.ops + "/metrics")
}

// get is the body of what is at url.
func (s *running) get(url string) string {
	s.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}

func TestOpsMetrics(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, dir)
	s.traffic(devToken(t, dir, "--permissions", strings.Join(permissionNames(), ",")))
	s.eventually("the end of the event stream", func() bool { return s.metric("sessiond_event_streams") == "0" })
	metrics := s.metrics()
	for _, want := range []string{
		`sessiond_sessions_active{tenant="default"} `,
		`sessiond_session_operations_total{op="create",result="`,
		`sessiond_session_operations_total{op="auth",result="`,
		`sessiond_session_operation_duration_seconds_count{op="verify"} 2`,
		`sessiond_sessions_ended_total{reason="logout"} 1`,
		`sessiond_sessions_ended_total{reason="security"} 1`,
		"sessiond_sweep_backlog 0",
		"sessiond_sweep_lag_seconds 0",
		`sessiond_store_operation_duration_seconds_count{op="`,
		"sessiond_clock_offset_seconds ",
		`sessiond_auth_failures_total{reason="missing"} `,
		`sessiond_jwks_age_seconds{issuer="` + s.ops + `"} `,
		`sessiond_keyset_primary_info{key_id="`,
		`sessiond_store_class_info{class="durable"} 1`,
		"sessiond_event_streams 0",
		"sessiond_build_info{",
		`http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="201",http_route="/sessions"} 2`,
		"go_goroutines ",
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(metrics, canary) {
		t.Error("/metrics has what a client sent")
	}
}

func TestOpsGuarantee(t *testing.T) {
	t.Parallel()
	s := startDev(t, t.TempDir())
	var got struct {
		Store, Class string
		Findings     []string
		VerifiedAt   time.Time `json:"verified_at"`
	}
	if err := json.Unmarshal([]byte(s.get(s.ops+"/guarantee")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Store != "pebble" || got.Class != "durable" || len(got.Findings) == 0 || time.Since(got.VerifiedAt) > time.Hour {
		t.Errorf("guarantee %+v", got)
	}
}

func TestOpsDocument(t *testing.T) {
	t.Parallel()
	s := startDev(t, t.TempDir())
	want, err := api.OpenAPIJSON()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), s.get(s.ops+"/openapi.json")); diff != "" {
		t.Errorf("/openapi.json is not the document (-want +got):\n%s", diff)
	}
	if got := s.get(s.ops + "/healthz"); got != "ok\n" {
		t.Errorf("/healthz is %q", got)
	}
	// The operators' address is none of the API, and the other way round.
	if got := s.status(s.ops + "/sessions/"); got != http.StatusNotFound {
		t.Errorf("the API is on the operators' address: %d", got)
	}
	if got := s.status(s.api + "/metrics"); got != http.StatusUnauthorized {
		t.Errorf("the metrics are on the API's address: %d", got)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.serve(t)
	s := start(t, nil, "serve", "--log-level", "debug", "--config", i.configFile(t,
		"store: {url: 'memory:'}\ngateways: {web: {cookie_name: session}}"))
	s.waitReady()
	secrets := append(s.traffic(i.token(t, permissionNames()...)), canary)
	s.end()

	seen := make(map[string]int)
	for line := range strings.Lines(s.stderr.String()) {
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("the log has a secret: %s", line)
			}
		}
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		for _, name := range []string{"time", "level", "msg"} {
			if text, ok := l[name].(string); !ok || text == "" {
				t.Errorf("no %s: %s", name, line)
			}
		}
		if l["msg"] == "operation" {
			seen[checkOperation(t, l)]++
		}
	}
	want := map[string]int{
		"create 201": 2, "create 400": 1, "create 422": 1, "get 200": 1, "get 404": 1, "get 410": 1, "list 200": 1,
		"list 400": 1, "list 401": 2, "update 200": 1, "patch 200": 1, "touch 200": 1, "rotate 200": 1,
		"verify 200": 2, "introspect 200": 1, "auth 200": 2, "events 200": 1, "revoke 200": 1, "delete 204": 1,
		"revoke_matching 200": 1, " 404": 1, " 405": 1,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("operations in the log (-want +got):\n%s", diff)
	}
}

// checkOperation checks the members of an operation's line, and returns its
// operation and status.
func checkOperation(t *testing.T, l map[string]any) string {
	t.Helper()
	status, _ := l["status"].(float64)
	name := fmt.Sprintf("%v %v", l["op"], status)
	for _, member := range []string{"op", "tenant", "principal", "request_id"} {
		if _, ok := l[member].(string); !ok {
			t.Errorf("%s: no %s: %v", name, member, l)
		}
	}
	if ms, ok := l["duration_ms"].(float64); !ok || ms < 0 || l["request_id"] == "" {
		t.Errorf("%s: %v", name, l)
	}
	switch op := l["op"]; {
	case status >= 400:
	case op == "auth":
		if l["tenant"] != "default" || l["session_id"] != "s1" {
			t.Errorf("%s: %v", name, l)
		}
	default:
		if l["tenant"] != "default" || l["principal"] != "tester" {
			t.Errorf("%s: %v", name, l)
		}
		one := op != "list" && op != "events" && op != "revoke_matching" && op != "verify" && op != "revoke"
		if id, _ := l["session_id"].(string); one && id != "s1" && id != "s2" {
			t.Errorf("%s: session_id %q", name, id)
		}
	}
	if name == "delete 204" && l["reason"] != "security" || name == "revoke 200" && l["reason"] != "logout" {
		t.Errorf("%s: reason %v", name, l["reason"])
	}
	return name
}
