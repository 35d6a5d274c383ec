package server_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sessiond.example/sessiond/auth"
)

func TestLifeOfASession(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	a := s.do("POST", "/sessions/", cred, `{"id":"s1","subject":"anna","data":{"n":1.50},"labels":{"device":"x"}}`).
		must(http.StatusCreated)
	if got := a.header.Get("Location"); got != "/sessions/s1" {
		t.Errorf("Location %q", got)
	}
	if !strings.HasPrefix(a.text("token"), "sst_") || a.json("version") != 1.0 {
		t.Errorf("created: %s", a.body)
	}
	if !strings.Contains(a.body, `"data":{"n":1.50}`) {
		t.Errorf("data came back changed: %s", a.body)
	}
	created := a.header.Get("Etag")

	got := s.do("GET", "/sessions/s1", cred, "").must(200)
	if got.header.Get("Etag") != created || got.text("token") != "" {
		t.Errorf("get: %v %s", got.header, got.body)
	}
	head := s.do("HEAD", "/sessions/s1", cred, "").must(200)
	if head.body != "" || head.header.Get("Content-Length") != got.header.Get("Content-Length") ||
		head.header.Get("Etag") != created {
		t.Errorf("head: %v %q", head.header, head.body)
	}
	put := s.do("PUT", "/sessions/s1", cred, `{"data":{"a":1}}`).must(200)
	if put.header.Get("Etag") == created || put.json("version") != 2.0 || put.text("labels", "device") != "x" {
		t.Errorf("put: %v %s", put.header, put.body)
	}
	patched := s.do("PATCH", "/sessions/s1", cred, `{"data":{"b":2},"labels":null}`).must(200)
	if !strings.Contains(patched.body, `"data":{"a":1,"b":2},"labels":{}`) {
		t.Errorf("patch: %s", patched.body)
	}
	touched := s.do("POST", "/sessions/s1/touch", cred, "").must(200)
	if touched.header.Get("Etag") != patched.header.Get("Etag") {
		t.Errorf("touch changed the ETag")
	}
	s.do("POST", "/sessions/s1/touch", cred, "{}").must(200)
	rotated := s.do("POST", "/sessions/s1/rotate", cred, "").must(200)
	if rotated.text("token") == a.text("token") || rotated.json("version") != 4.0 {
		t.Errorf("rotate: %s", rotated.body)
	}
	list := s.do("GET", "/sessions?subject=anna", cred, "").must(200)
	if !strings.Contains(list.body, `"id":"s1"`) || strings.Contains(list.body, `"data"`) {
		t.Errorf("list: %s", list.body)
	}
	s.do("DELETE", "/sessions/s1?reason=logout&note=bye", cred, "").must(204)
	s.do("DELETE", "/sessions/s1", cred, "", "If-Match", `"x"`).must(204) // ended: the condition is ignored
	gone := s.do("GET", "/sessions/s1", cred, "").want(410, "session-revoked")
	if gone.text("end_reason") != "logout" || gone.text("ended_by", "sub") != "tester" || gone.text("ended_at") == "" {
		t.Errorf("gone: %s", gone.body)
	}
	for _, r := range [][3]string{
		{"PUT", "", `{}`}, {"PATCH", "", `{}`}, {"POST", "/touch", ""}, {"POST", "/rotate", ""},
	} {
		s.do(r[0], "/sessions/s1"+r[1], cred, r[2]).want(410, "session-revoked")
		s.do(r[0], "/sessions/s1"+r[1], cred, r[2], "If-Match", `"x"`).want(410, "session-revoked")
		s.do(r[0], "/sessions/unknown"+r[1], cred, r[2], "If-Match", `"x"`).want(404, "session-not-found")
	}
	s.do("DELETE", "/sessions/unknown", cred, "", "If-Match", "*").want(404, "session-not-found")
	s.do("POST", "/sessions", cred, `{"id":"s1"}`).want(409, "session-exists")
	s.do("DELETE", "/sessions/s1?erase=true", cred, "").must(204)
	s.do("GET", "/sessions/s1", cred, "").want(404, "session-not-found")
}

func TestDataIsForReadersOnly(t *testing.T) {
	t.Parallel()
	s := start(t)
	const body = `{"data":{"secret":1}}`
	hasData := func(a answer) bool { return strings.Contains(a.body, `"secret"`) }
	id := s.create(body).text("id")
	tests := map[string]struct {
		perms                auth.Permissions
		method, target, body string
		want                 bool
	}{
		"create":            {auth.Create, "POST", "/sessions/", body, true},
		"get, inspect":      {auth.Inspect, "GET", "/sessions/" + id, "", false},
		"get, read":         {auth.Read, "GET", "/sessions/" + id, "", true},
		"list":              {auth.Read, "GET", "/sessions/", "", false},
		"list with data":    {auth.Read, "GET", "/sessions/?include=data", "", true},
		"put":               {auth.Update, "PUT", "/sessions/" + id, body, false},
		"put, read":         {auth.Update | auth.Read, "PUT", "/sessions/" + id, body, true},
		"patch":             {auth.Update, "PATCH", "/sessions/" + id, body, false},
		"patch, read":       {auth.Update | auth.Read, "PATCH", "/sessions/" + id, body, true},
		"touch":             {auth.Update, "POST", "/sessions/" + id + "/touch", "", false},
		"touch, read":       {auth.Update | auth.Read, "POST", "/sessions/" + id + "/touch", "", true},
		"rotate":            {auth.Create, "POST", "/sessions/" + id + "/rotate", "", false},
		"rotate, read":      {auth.Create | auth.Read, "POST", "/sessions/" + id + "/rotate", "", true},
		"rotate, inspector": {auth.Create | auth.Inspect, "POST", "/sessions/" + id + "/rotate", "", false},
	}
	for name, tt := range tests {
		a := s.do(tt.method, tt.target, s.credential(tt.perms), tt.body)
		if a.status/100 != 2 || hasData(a) != tt.want {
			t.Errorf("%s: %d %s, want data: %v", name, a.status, a.body, tt.want)
		}
	}
	token := s.create(body).text("token")
	if a := s.do("POST", "/verify", s.credential(auth.Verify), `{"token":"`+token+`"}`); !hasData(a) {
		t.Errorf("verify: %s", a.body)
	}
	fresh := s.create(body)
	a := s.do("POST", "/sessions/"+fresh.text("id")+"/rotate", s.credential(auth.Verify),
		`{"token":"`+fresh.text("token")+`"}`).must(200)
	if !hasData(a) {
		t.Errorf("rotate by token: %s", a.body)
	}
	s.do("GET", "/sessions/?include=data", s.credential(auth.Inspect), "").want(403, "permission-denied")
	s.do("GET", "/sessions/?include=data&limit=101", s.credential(all), "").want(400, "malformed-request")
	s.do("GET", "/sessions/?include=data&limit=100", s.credential(all), "").must(200)
}

func TestConditionalWrites(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	first := s.create(`{"id":"c"}`).header.Get("Etag")
	current := s.do("PUT", "/sessions/c", cred, `{"labels":{"a":"1"}}`, "If-Match", first).must(200).header.Get("Etag")
	writes := [][3]string{
		{"PUT", "", `{"labels":{"a":"2"}}`}, {"PATCH", "", `{"labels":{"a":"3"}}`}, {"POST", "/rotate", ""},
		{"DELETE", "", ""},
	}
	for _, w := range writes {
		for _, tag := range []string{first, `"x"`, "W/" + current, `"x", ` + first, `"x",,"y"`, `"*"`} {
			s.do(w[0], "/sessions/c"+w[1], cred, w[2], "If-Match", tag).want(412, "version-mismatch")
		}
		for _, tag := range []string{
			"x", `"x`, `"x" "y"`, `*, "x"`, `"x", *`, ",", ", ,", "w/" + current, `W/x`, `"a"b`, `""",`, "\"a b\"",
		} {
			s.do(w[0], "/sessions/c"+w[1], cred, w[2], "If-Match", tag).want(400, "malformed-request")
		}
	}
	if a := s.do("GET", "/sessions/c", cred, "", "If-None-Match", current); a.status != 200 ||
		a.header.Get("Etag") != current {
		t.Errorf("a refused write changed something: %d %s", a.status, a.body)
	}
	for i, w := range writes {
		tags := []string{"If-Match", current}
		switch i {
		case 1:
			tags = []string{"If-Match", `"x"`, "If-Match", current} // two lines are one list
		case 2:
			tags = []string{"If-Match", ` , W/"z", ` + current + "\t, "}
		case 3:
			tags = []string{"If-Match", "*"}
		}
		a := s.do(w[0], "/sessions/c"+w[1], cred, w[2], tags...)
		if a.status/100 != 2 {
			t.Fatalf("%v with %v: %d %s", w, tags, a.status, a.body)
		}
		current = a.header.Get("Etag")
	}
}

func TestIdempotentCreate(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	const body = `{"subject":"anna"}`
	first := s.do("POST", "/sessions/", cred, body, "Idempotency-Key", "k1").must(201)
	again := s.do("POST", "/sessions/", cred, body, "Idempotency-Key", "k1").must(201)
	if first.text("id") != again.text("id") || first.header.Get("Etag") != again.header.Get("Etag") ||
		first.text("token") == again.text("token") || again.header.Get("Location") != "/sessions/"+first.text("id") {
		t.Errorf("first %s\nagain %s", first.body, again.body)
	}
	if a := s.do("POST", "/verify", cred, `{"token":"`+first.text("token")+`"}`); a.json("active") != false {
		t.Error("the lost token still works")
	}
	s.do("POST", "/sessions/", cred, `{"subject":"berta"}`, "Idempotency-Key", "k1").want(409, "session-exists")
	other := s.credentialIn("default", "somebody else", auth.Create)
	if a := s.do("POST", "/sessions/", other, body, "Idempotency-Key", "k1").must(201); a.text("id") == first.text("id") {
		t.Error("the keys of two callers met")
	}
	for _, bad := range []string{strings.Repeat("k", 129), "a b", "ü", "a\tb"} {
		s.do("POST", "/sessions/", cred, body, "Idempotency-Key", bad).want(400, "malformed-request")
	}
	s.do("POST", "/sessions/", cred, body, "Idempotency-Key", "a", "Idempotency-Key", "a").want(400, "malformed-request")
	s.do("POST", "/sessions/", cred, body, "Idempotency-Key", strings.Repeat("~", 128)).must(201)
}

func TestLimitPerSubject(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *options) { o.policy.MaxPerSubject = 1 })
	s.create(`{"subject":"anna"}`)
	guest := s.create(`{}`).text("id")
	cred := s.credential(all)
	s.do("POST", "/sessions/", cred, `{"subject":"anna"}`).want(409, "session-limit")
	s.do("POST", "/sessions/"+guest+"/rotate", cred, `{"subject":"anna"}`).want(409, "session-limit")
}

func TestUpdateThatEndsTheSession(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *service) {
		id := s.create(`{"data":{"secret":1}}`).text("id")
		cred := s.credential(all)
		time.Sleep(time.Minute)
		s.do("PUT", "/sessions/"+id, cred, `{"idle_timeout":61}`).must(200)
		if op := s.lastOp("update"); op.Reason != "" {
			t.Errorf("a live session has the reason %q", op.Reason)
		}
		a := s.do("PUT", "/sessions/"+id, cred, `{"idle_timeout":60}`).must(200)
		if a.text("status") != "expired" || a.text("end_reason") != "idle" || strings.Contains(a.body, "secret") {
			t.Errorf("ended: %s", a.body)
		}
		synctest.Wait()
		if op := s.lastOp("update"); op.Reason != "idle" {
			t.Errorf("reason %q", op.Reason)
		}
		s.do("GET", "/sessions/"+id, cred, "").want(410, "session-expired")
	})
}

func TestBulkRevoke(t *testing.T) {
	t.Parallel()
	s := start(t)
	spare := s.create(`{"subject":"anna","labels":{"device":"a"}}`).text("id")
	s.create(`{"subject":"anna","labels":{"device":"b"}}`)
	s.create(`{"subject":"anna","labels":{"device":"b"}}`)
	s.create(`{"subject":"berta"}`)
	revoker, admin := s.credential(auth.Delete), s.credential(auth.Delete|auth.Admin)
	count := func(a answer, n float64) {
		t.Helper()
		if a.want(200, ""); a.json("revoked") != n || a.json("complete") != true {
			t.Errorf("%s: %s, want %v", a.what, a.body, n)
		}
	}
	for _, q := range []string{"", "?", "?active_only=false", "?reason=logout", "?dry_run=true"} {
		s.do("DELETE", "/sessions/"+q, admin, "").want(422, "invalid-session")
		s.do("DELETE", "/sessions/"+q, revoker, "").want(403, "permission-denied")
	}
	for _, q := range []string{"?subject=", "?label.device=&subject=anna", "?status=&subject=anna", "?created_after="} {
		s.do("DELETE", "/sessions/"+q, admin, "").want(422, "invalid-session")
	}
	s.do("DELETE", "/sessions/?subject=", revoker, "").want(422, "invalid-session")
	denied := s.do("DELETE", "/sessions/?label.device=b", revoker, "").want(403, "permission-denied")
	if got := denied.header.Get("Www-Authenticate"); got != `Bearer error="insufficient_scope", scope="sessions:admin"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
	for _, q := range []string{
		"except=sst_x", "except=", "reason=idle", "reason=", "note=%00", "dry_run=1", "dry_run=", "limit=3", "cursor=x",
		"include=data", "erase=true", "created_before=0001-01-01T00:00:00Z",
	} {
		s.do("DELETE", "/sessions/?subject=anna&"+q, admin, "").want(400, "malformed-request")
	}
	s.do("DELETE", "/sessions/?subject=anna", admin, "", "If-Match", "*").want(400, "malformed-request")

	count(s.do("DELETE", "/sessions/?subject=anna&dry_run=true", revoker, ""), 3)
	count(s.do("DELETE", "/sessions?subject=anna&except="+spare+"&reason=security&note=x", revoker, ""), 2)
	if op := s.lastOp("revoke_matching"); op.Reason != "security" {
		t.Errorf("reason %q", op.Reason)
	}
	count(s.do("DELETE", "/sessions/?subject=anna&status=revoked", revoker, ""), 0)
	count(s.do("DELETE", "/sessions/?active_only=true", admin, ""), 2)
}

func TestListQueries(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	for range 3 {
		s.create(`{"subject":"a b","labels":{"device":"x","k.1":"é"}}`)
	}
	s.create(`{"subject":"other"}`)
	for q, want := range map[string]int{
		"": 4, "?": 4, "?subject=a+b": 3, "?subject=a%20b": 3, "?label.device=x&label.k.1=%C3%A9": 3, "?label.device=y": 0,
		"?status=active": 4, "?status=revoked": 0, "?active_only=true": 4, "?active_only=false": 4, "?limit=2": 2,
		"?created_after=2020-01-01T00:00:00Z": 4, "?created_before=2020-01-01T00:00:00.123%2B02:00": 0,
		"?expires_before=9999-01-01T00:00:00Z": 4, "?limit=1000": 4, "?%73ubject=other": 1,
	} {
		a := s.do("GET", "/sessions/"+q, cred, "").must(200)
		if list, _ := a.json("sessions").([]any); len(list) != want {
			t.Errorf("%s: %d sessions, want %d", q, len(list), want)
		}
	}
	for _, q := range []string{
		"subject=", "subject=%00", "subject=%ff", "subject=" + strings.Repeat("x", 257), "subject=a&subject=a",
		"subject=a&%73ubject=b", "status=", "status=ACTIVE", "status=dead", "active_only=", "active_only=1", "active_only",
		"label.=x", "label.A=x", "label.a=", "label.a", "Subject=x", "unknown=1", "=x", "&", "subject=x&", "&&",
		"subject=x;limit=1",
		"subject=%zz", "subject=%", "%zz=1", "limit=0", "limit=1001", "limit=01", "limit=+1", "limit=1e1",
		"limit=-1", "limit=",
		"limit=99999999999999999999", "cursor=", "cursor=x", "cursor=AAAA", "include=", "include=token", "created_after=now",
		"created_after=2020-01-01", "created_after=2020-01-01T00:00:00", "created_after=2020-01-01T00:00:00+02:00",
		"created_after=2020-01-01T0:00:00Z", "created_after=2020-01-01T00:00:00,5Z", "created_after=0001-01-01T00:00:00Z",
		"created_after=1969-12-31T23:59:59Z", "created_before=2020-02-30T00:00:00Z", "expires_before=1", "note=x", "except=a",
	} {
		s.do("GET", "/sessions/?"+q, cred, "").want(400, "malformed-request")
	}
	var many strings.Builder
	for i := range 17 {
		many.WriteString("&label.k" + string(rune('a'+i)) + "=x")
	}
	s.do("GET", "/sessions/?"+many.String()[1:], cred, "").want(400, "malformed-request")
}

func TestPaging(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	want := map[string]bool{}
	for range 5 {
		want[s.create(`{"subject":"anna"}`).text("id")] = true
	}
	cursor := ""
	for range 10 {
		a := s.do("GET", "/sessions/?subject=anna&limit=2"+cursor, cred, "").must(200)
		list, _ := a.json("sessions").([]any)
		for _, v := range list {
			id, _ := v.(map[string]any)["id"].(string)
			if !want[id] {
				t.Errorf("%s came twice or is foreign", id)
			}
			delete(want, id)
		}
		next := a.text("next_cursor")
		if next == "" {
			break
		}
		cursor = "&cursor=" + next
		s.do("GET", "/sessions/?subject=berta&cursor="+next, cred, "").want(400, "malformed-request")
		s.do("GET", "/sessions/?subject=anna&cursor="+next, s.credentialIn("other", "x", all), "").
			want(400, "malformed-request")
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	id := s.create(`{"id":"b"}`).text("id")
	targets := [][2]string{
		{"POST", "/sessions/"}, {"PUT", "/sessions/" + id}, {"PATCH", "/sessions/" + id}, {"POST",
			"/sessions/" + id + "/rotate"},
		{"POST", "/sessions/" + id + "/touch"}, {"POST", "/verify"},
	}
	deep := strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33)
	for _, tt := range targets {
		for _, body := range []string{
			"{", "[]", `"x"`, "null", "1", " ", "{}{}", "{},", `{"data":{},"data":{}}`, "{\"data\":{\"\xff\":1}}",
			`{"a":"\ud800"}`,
			"\xef\xbb\xbf{}", `{'a':1}`, "{\"a\":1} x", deep, `{"data":{"a":1,"a":2}}`, `{"data":{"x":NaN}}`,
		} {
			s.do(tt[0], tt[1], cred, body).want(400, "malformed-request")
		}
		for _, body := range []string{`{"unknown":1}`, `{"Data":{}}`, `{"":1}`} {
			a := s.do(tt[0], tt[1], cred, body).want(422, "invalid-session")
			if errs, _ := a.json("errors").([]any); len(errs) == 0 {
				t.Errorf("%v: no errors in %s", tt, a.body)
			}
		}
		for _, header := range [][]string{
			{"Content-Type", ""}, {"Content-Type", "text/plain"}, {"Content-Type", "application/json; charset=latin1"},
			{"Content-Type", "application/json; profile=x"}, {"Content-Type", "application/"}, {"Content-Encoding", "gzip"},
			{"Content-Encoding", "identity"}, {"Content-Type", "application/x-www-form-urlencoded"},
			{"Content-Type", "application/json", "Content-Type", "application/json"},
		} {
			s.do(tt[0], tt[1], cred, "{}", header...).want(415, "unsupported-media-type")
		}
		s.do(tt[0], tt[1], cred, `{"data":"`+strings.Repeat("x", 64<<10)+`"}`).want(413, "body-too-large")
	}
	for _, ok := range []string{
		"application/json; charset=utf-8", "Application/JSON", `application/json;charset="UTF-8"`, "application/json ",
	} {
		s.do("POST", "/sessions/", cred, "{}", "Content-Type", ok).must(201)
	}
	s.do("PATCH", "/sessions/b", cred, "{}", "Content-Type", "application/json").want(415, "unsupported-media-type")
	s.do("POST", "/sessions/", cred, "{}", "Content-Type", "application/merge-patch+json").
		want(415, "unsupported-media-type")
	s.do("POST", "/sessions/", cred, "").want(415, "unsupported-media-type")
	s.do("POST", "/sessions/", cred, "", "Content-Type", "application/json").want(400, "malformed-request")
	for _, tt := range [][2]string{
		{"GET", "/sessions/b"}, {"GET", "/sessions/"}, {"DELETE", "/sessions/b"}, {"GET", "/events"},
	} {
		s.do(tt[0], tt[1], cred, "{}").want(400, "malformed-request")
		s.do(tt[0], tt[1], cred, strings.Repeat("x", 64<<10+1)).want(400, "malformed-request")
	}
	for _, tt := range targets {
		s.do(tt[0], tt[1]+"?a=1", cred, "{}").want(400, "malformed-request")
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	for _, body := range []string{
		`{"id":"sst_x"}`, `{"id":""}`, `{"id":".x"}`, `{"id":"a/b"}`, `{"id":1}`, `{"id":null}`, `{"subject":"a\u0000"}`,
		`{"subject":"a\u202e"}`, `{"expires_in":0}`, `{"expires_in":-1}`, `{"expires_in":60.0}`, `{"expires_in":6e1}`,
		`{"expires_in":"60"}`, `{"expires_in":2592001}`, `{"expires_in":99999999999999999999}`, `{"idle_timeout":-1}`,
		`{"data":[]}`, `{"data":null}`, `{"data":{"x":"` + strings.Repeat("x", 32<<10) + `"}}`, `{"labels":{"A":"x"}}`,
		`{"labels":{"a":1}}`, `{"labels":[]}`, `{"status":"active"}`,
	} {
		s.do("POST", "/sessions/", cred, body).want(422, "invalid-session")
	}
	s.create(`{"id":"x","data":{"x":"` + strings.Repeat("x", 32<<10-8) + `"}}`)
	s.do("PATCH", "/sessions/x", cred, `{"data":{"y":1}}`).want(422, "invalid-session")
	for _, body := range []string{`{"expires_in":null}`, `{"idle_timeout":null}`, `{"data":1}`, `{"labels":{"a":1}}`} {
		s.do("PATCH", "/sessions/x", cred, body).want(422, "invalid-session")
	}
	// Input is judged before the session is looked for, and a text that can't be an id before the store is asked.
	s.do("PUT", "/sessions/unknown", cred, `{"expires_in":0}`).want(422, "invalid-session")
	s.do("PUT", "/sessions/sst_x", cred, `{`).want(400, "malformed-request")
	s.do("PUT", "/sessions/sst_x", cred, `{"x":1}`).want(422, "invalid-session")
}

// TestOrderOfRefusals: permission, then input, then the session, each whatever else is wrong.
func TestOrderOfRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	cred := s.credential(all)
	s.create(`{"id":"live"}`)
	s.create(`{"id":"ended"}`)
	s.do("DELETE", "/sessions/ended", cred, "").must(204)
	long := strings.Repeat("x", 257)
	for _, id := range []string{"unknown", "ended", "-no-id", "live"} {
		for _, r := range [][3]string{
			{"PUT", "", `{"expires_in":0}`}, {"PUT", "", `{"labels":{"A":"x"}}`}, {"PATCH", "", `{"idle_timeout":-1}`},
			{"PATCH", "", `{"labels":{"a":1}}`}, {"PATCH", "", `{"labels":{"A":"x"}}`},
			{"PATCH", "", `{"labels":{"a":"` + long + `"}}`}, {"POST", "/rotate", `{"subject":"` + long + `"}`},
			{"POST", "/touch", `{"a":1}`},
		} {
			s.do(r[0], "/sessions/"+id+r[1], cred, r[2], "If-Match", `"x"`).want(422, "invalid-session")
		}
	}
	for _, r := range [][3]string{{"GET", "", ""}, {"PUT", "", "{}"}, {"PATCH", "", "{}"}, {"DELETE", "", ""},
		{"POST", "/touch", ""}, {"POST", "/rotate", ""}} {
		s.do(r[0], "/sessions/-no-id"+r[1], cred, r[2]).want(404, "session-not-found")
	}
	revoker := s.credential(auth.Delete)
	for _, target := range []string{"/sessions/live?x=1&erase=true", "/sessions/live?erase=true&erase=true", "/sessions/?x=1",
		"/sessions/?status=", "/sessions/?status=active&x=%zz"} {
		s.do("DELETE", target, revoker, "").want(403, "permission-denied")
	}
	s.do("DELETE", "/sessions/?x=1&subject=a", revoker, "").want(400, "malformed-request")
	s.do("DELETE", "/sessions/live?x=1", revoker, "").want(400, "malformed-request")
	s.do("GET", "/sessions/?x=1&include=data", s.credential(auth.Inspect), "").want(403, "permission-denied")
}
