package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sessiond.example/sessiond/server"
)

// Every answer tells its length, whether or not it fits into the buffer of net/http, in both versions of HTTP.
func TestContentLength(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			t.Parallel()
			s := start(t, func(o *options) { o.http2 = http2; o.config = server.Config{} })
			credential := s.credential(all)
			get := func(method, id string) (length int64, body int) {
				req, err := http.NewRequest(method, s.url+"/sessions/"+id, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+credential)
				resp, err := s.plain.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || len(resp.TransferEncoding) > 0 {
					t.Fatalf("%s: %d %v %v", method, resp.StatusCode, resp.TransferEncoding, err)
				}
				return resp.ContentLength, len(b)
			}
			s.create(`{"id":"probe","data":{"x":""}}`)
			_, least := get(http.MethodGet, "probe")
			for _, size := range []int{least, 2047, 2048, 2049, 2050, 4096, 4097, 30_000} {
				id := fmt.Sprintf("s%04d", size%10_000) // as long as that of the probe
				s.create(fmt.Sprintf(`{"id":%q,"data":{"x":%q}}`, id, strings.Repeat("x", size-least)))
				length, body := get(http.MethodGet, id)
				if body != size || length != int64(size) {
					t.Errorf("GET of %d bytes: length %d, %d bytes", size, length, body)
				}
				if length, body = get(http.MethodHead, id); length != int64(size) || body != 0 {
					t.Errorf("HEAD of %d bytes: length %d, %d bytes", size, length, body)
				}
			}
		})
	}
}
