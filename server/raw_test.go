package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/server"
)

const post = "POST /sessions/ HTTP/1.1\r\n"

// raw sends bytes as they are and reads one answer.
func (s *service) raw(method, request string) answer {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	// The server may answer and close before it has read everything.
	go io.WriteString(conn, request) //nolint:errcheck // see above
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%.80q: %v", request, err)
	}
	return s.read(fmt.Sprintf("%.80q", request), resp)
}

func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.create(`{"id":"x"}`)
	auth := "Authorization: Bearer " + s.credential(all) + "\r\n"
	host := "Host: x\r\n" + auth
	json := host + "Content-Type: application/json\r\n"
	big := strings.Repeat("x", 70<<10)
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	chunked := "Transfer-Encoding: chunked\r\n"
	tests := map[string]struct {
		request string
		status  int
	}{
		"HTTP/1.0":              {"GET /sessions/x HTTP/1.0\r\n" + auth + "\r\n", 200},
		"absolute form":         {"GET http://elsewhere/sessions/x HTTP/1.1\r\n" + host + "\r\n", 200},
		"absolute, no path":     {"GET http://elsewhere HTTP/1.1\r\n" + host + "\r\n", 404},
		"opaque":                {"GET x:y HTTP/1.1\r\n" + host + "\r\n", 404},
		"asterisk":              {"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 404},
		"asterisk, nobody":      {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 401},
		"CONNECT host":          {"CONNECT x:443 HTTP/1.1\r\n" + host + "\r\n", 404},
		"CONNECT host, nobody":  {"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 401},
		"CONNECT path":          {"CONNECT /sessions/x HTTP/1.1\r\n" + host + "\r\n", 405},
		"TRACE":                 {"TRACE /sessions/x HTTP/1.1\r\n" + host + "\r\n", 405},
		"fragment":              {"GET /sessions/x#y HTTP/1.1\r\n" + host + "\r\n", 404},
		"dots":                  {"GET /sessions/../sessions/x HTTP/1.1\r\n" + host + "\r\n", 404},
		"encoded dots":          {"GET /sessions/%2e%2e/sessions/x HTTP/1.1\r\n" + host + "\r\n", 404},
		"two slashes":           {"GET //sessions/x HTTP/1.1\r\n" + host + "\r\n", 404},
		"two slashes, nobody":   {"GET //sessions/x HTTP/1.1\r\nHost: x\r\n\r\n", 401},
		"broken escape":         {"GET /sessions/%zz HTTP/1.1\r\n" + host + "\r\n", 400},
		"no host":               {"GET /sessions/x HTTP/1.1\r\n" + auth + "\r\n", 400},
		"weak and control":      {"DELETE /sessions/x HTTP/1.1\r\nIf-Match: \"a\tb\"\r\n" + host + "\r\n", 400},
		"empty If-Match":        {"DELETE /sessions/x HTTP/1.1\r\nIf-Match:\r\n" + host + "\r\n", 400},
		"empty tenant":          {"GET /sessions/x HTTP/1.1\r\nSessiond-Tenant:\r\n" + host + "\r\n", 403},
		"empty key":             {post + "Idempotency-Key:\r\nContent-Length: 2\r\n" + json + "\r\n{}", 400},
		"empty coding":          {post + "Content-Encoding:\r\nContent-Length: 2\r\n" + json + "\r\n{}", 415},
		"huge length":           {post + "Content-Length: 99999999999\r\n" + json + "\r\n{}", 413},
		"big chunked":           {post + chunked + json + "\r\n" + chunk(big), 413},
		"chunked":               {post + chunked + json + "\r\n" + chunk("{") + chunk("}") + chunk(""), 201},
		"broken chunk":          {post + chunked + json + "\r\nzz\r\n{}", 400},
		"empty chunked GET":     {"GET /sessions/x HTTP/1.1\r\n" + chunked + host + "\r\n0\r\n\r\n", 200},
		"chunked GET":           {"GET /sessions/x HTTP/1.1\r\n" + chunked + host + "\r\n" + chunk("x") + chunk(""), 400},
		"empty chunked rotate":  {"POST /sessions/x/rotate HTTP/1.1\r\n" + chunked + host + "\r\n0\r\n\r\n", 200},
		"two lengths":           {post + "Content-Length: 2\r\nContent-Length: 3\r\n" + json + "\r\n{}", 400},
		"big header":            {"GET /sessions/x HTTP/1.1\r\nX: " + big + "\r\n" + host + "\r\n", 431},
		"header with a newline": {"GET /sessions/x HTTP/1.1\r\nX-Request-Id: a\r\n b\r\n" + host + "\r\n", 200},
		"pipelined garbage":     {"GET /sessions/x HTTP/1.1\r\n" + host + "\r\n\x00\xff", 200},
		"comma in If-Match":     {"DELETE /sessions/x HTTP/1.1\r\nIf-Match: \"a,b\"\r\n" + host + "\r\n", 412},
		"auth with bad escape":  {"GET /auth/web/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"auth, CONNECT":         {"CONNECT /auth/web HTTP/1.1\r\nHost: x\r\n\r\n", 401},
		"auth, absolute":        {"GET http://y/auth/web HTTP/1.1\r\nHost: x\r\n\r\n", 401},
	}
	for name, tt := range tests {
		method, _, _ := strings.Cut(tt.request, " ")
		a := s.raw(method, tt.request)
		if a.status != tt.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, tt.status)
		}
		if a.header.Get("Location") != "" && a.status != 201 {
			t.Errorf("%s: redirected", name)
		}
	}
}

func TestEveryAnswerHasTheCommonHeaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.create(`{"id":"x"}`)
	host := "Host: x\r\nX-Request-Id: r\r\n"
	auth := host + "Authorization: Bearer " + s.credential(all) + "\r\n"
	for _, request := range []string{
		"GET /sessions/x HTTP/1.1\r\n" + auth, "HEAD /sessions/x HTTP/1.1\r\n" + auth, "GET /sessions/y HTTP/1.1\r\n" + auth,
		"GET /nowhere HTTP/1.1\r\n" + auth, "PUT /sessions HTTP/1.1\r\n" + auth, "GET /sessions/x HTTP/1.1\r\n" + host,
		"GET /auth/web HTTP/1.1\r\n" + host, "DELETE /sessions/x HTTP/1.1\r\n" + auth, "HEAD /events HTTP/1.1\r\n" + auth,
	} {
		method, _, _ := strings.Cut(request, " ")
		a := s.raw(method, request+"\r\n")
		got := map[string]string{}
		for _, name := range []string{
			"Cache-Control", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "X-Request-Id", "Server",
		} {
			got[name] = strings.Join(a.header.Values(name), "|")
		}
		want := map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Request-Id": "r", "Server": "",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", request, diff)
		}
		if a.header.Get("Content-Type") == "" && a.status != 204 {
			t.Errorf("%q: no Content-Type", request)
		}
	}
}

// A client that sends too slowly is given up on.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(o *options) { o.memory = true })
		json := "Host: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + s.credential(all) + "\r\n"
		for text, most := range map[string]time.Duration{
			"GET /sessions/x HT":                            5 * time.Second,
			post + "Content-Length: 9\r\n" + json + "\r\n{": 10 * time.Second,
			"": 60 * time.Second,
		} {
			conn, err := s.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil || time.Since(begin) > most+time.Second {
				t.Errorf("%.20q: %v after %v", text, err, time.Since(begin))
			}
			if strings.HasPrefix(text, "POST") && !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
				t.Errorf("%q", answer)
			}
			conn.Close()
		}
	})
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *options) { o.http2 = true })
	cred := s.credential(all)
	s.create(`{"id":"x"}`)
	s.do("GET", "/sessions/x", cred, "").must(200)
	s.do("HEAD", "/sessions/x", cred, "").must(200)
	s.do("POST", "/sessions/", cred, `{"data":"`+strings.Repeat("x", 70<<10)+`"}`).want(413, "body-too-large")
	s.do("DELETE", "/sessions/x", cred, "").must(204)
	s.do("GET", "/auth/web", "", "").want(401, "unauthenticated")
}

func TestHTTPServerTellsTheLog(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	h := server.NewHTTPServer(http.NotFoundHandler(), slog.New(slog.NewTextHandler(log, nil)))
	h.ErrorLog.Print("complaint")
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "complaint") {
		t.Errorf("log: %s", log)
	}
	server.NewHTTPServer(http.NotFoundHandler(), nil).ErrorLog.Print("nobody hears")
}

func FuzzIfMatch(f *testing.F) {
	for _, seed := range []string{`"a"`, `*`, `W/"a", "b"`, `"a" "b"`, `,,"a",`, `"`, `W/`, "\"\xff\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		tags, err := server.ParseIfMatch([]string{header})
		if err != nil {
			return
		}
		if len(tags) == 0 {
			t.Fatalf("%q would be unconditional", header)
		}
		var parts []string
		for _, tag := range tags {
			parts = append(parts, string(tag))
			if tag != sessiond.AnyETag && !strings.HasSuffix(string(tag), `"`) {
				t.Errorf("%q gave the tag %q", header, tag)
			}
		}
		again, err := server.ParseIfMatch(parts)
		if diff := cmp.Diff(tags, again); err != nil || diff != "" {
			t.Errorf("%q: %v %s", header, err, diff)
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"subject=a&status=active", "label.a=b&label.c=d", "created_after=2020-01-01T00:00:00Z", "a=%zz", ";", "&&",
		"subject=a&subject=b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		filter, err := server.ParseFilter(raw)
		if err != nil {
			return
		}
		if raw == "" != (filter.IsZero()) && !strings.Contains(raw, "false") {
			t.Errorf("%q gave %+v", raw, filter)
		}
		if len(filter.Labels) > sessiond.MaxLabels || !sessiond.ValidText(filter.Subject) {
			t.Errorf("%q gave %+v", raw, filter)
		}
	})
}

// FuzzRequest sends any target and body, with and without a credential.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"POST", "/sessions/", `{"id":"a","data":{}}`}, {"PATCH", "/sessions/a", `{"data":{"a":null}}`}, {"PUT",
			"/sessions/a", `{}`},
		{"POST", "/sessions/a/rotate", `{"token":"sst_"}`}, {"POST", "/verify", `{"token":"x"}`}, {"POST", "/revoke",
			"token=x"},
		{"GET", "/sessions/?subject=a", ""}, {"DELETE", "/sessions/a?erase=true", ""}, {"GET", "/auth/web/..", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := start(f)
	good := s.credential(all)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		req, err := http.NewRequest(method, "http://x"+target, strings.NewReader(body))
		if err != nil || !strings.HasPrefix(target, "/") || strings.HasPrefix(req.URL.Path, "/events") {
			return
		}
		for _, cred := range []string{"", "bad", good} {
			for _, kind := range []string{
				"application/json", "application/merge-patch+json", "application/x-www-form-urlencoded",
			} {
				again := req.Clone(t.Context())
				again.Body = io.NopCloser(strings.NewReader(body))
				again.Header.Set("Content-Type", kind)
				again.Header.Set("Authorization", "Bearer "+cred)
				w := httptest.NewRecorder()
				s.server.ServeHTTP(w, again)
				forward := strings.HasPrefix(target, "/auth/")
				if w.Code >= 500 || cred != good && !forward && w.Code != 401 {
					t.Errorf("%s %q %q with %q: %d %s", method, target, body, cred, w.Code, w.Body)
				}
				if w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Body.String(), "sst_") && w.Code >= 400 {
					t.Errorf("%s %q %q: %v %s", method, target, body, w.Header(), w.Body)
				}
			}
		}
	})
}
