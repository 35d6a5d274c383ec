package load_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sessiond.example/sessiond/internal/load"
)

// TestRealServer sends requests to net/http, with and without TLS.
func TestRealServer(t *testing.T) {
	t.Parallel()
	var wrong atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"a":1}` || r.Header.Get("Authorization") != "Bearer secret" ||
			r.Header.Get("X-Extra") != "1" || r.Header.Get("Content-Type") != "application/merge-patch+json" ||
			r.Method != "PATCH" || r.URL.Path != "/base/x" || r.Proto != "HTTP/1.1" {
			wrong.Add(1)
		}
		io.WriteString(w, strings.Repeat("x", 5000)) // in chunks
	})
	for _, secure := range []bool{false, true} {
		s := httptest.NewUnstartedServer(handler)
		var trust *tls.Config
		if secure {
			s.StartTLS()
			pool := x509.NewCertPool()
			pool.AddCert(s.Certificate())
			trust = &tls.Config{RootCAs: pool}
		} else {
			s.Start()
		}
		defer s.Close()
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		dial, err := load.Dialer(u, trust)
		if err != nil {
			t.Fatal(err)
		}
		request := load.Request("PATCH", u.Host, "/base/x", "secret", `{"a":1}`, "X-Extra: 1")
		res := run(t, load.Load{
			Dial: dial, Next: func(_ int, buf []byte) []byte { return append(buf, request...) },
			Connections: 3, Duration: 20 * time.Millisecond,
		})
		if res.Count(200) == 0 || res.Count(200) != res.Total || res.Failed != 0 {
			t.Errorf("TLS %v: %d of %d answers are 200, %d failed: %v", secure, res.Count(200), res.Total, res.Failed, res.Failure)
		}
		if secure { // a certificate of somebody unknown
			dial, err := load.Dialer(u, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := dial(t.Context()); err == nil {
				t.Error("an unknown certificate is trusted")
			}
		}
	}
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d requests did not come as they were meant", n)
	}
}

func TestDialerRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "127.0.0.1", "ftp://127.0.0.1", "http://"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := load.Dialer(u, nil); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
