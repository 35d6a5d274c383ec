package server_test

import (
	"net/http"
	"testing"

	"sessiond.example/sessiond/server"
)

// discard is a ResponseWriter that keeps nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkGet is the handler alone, over the memory store, without the network.
func BenchmarkGet(b *testing.B) {
	s := start(b, func(o *options) { o.config.Observe = func(server.Operation) {} })
	s.create(`{"id":"x","subject":"anna","data":{"cart":[1,2,3]},"labels":{"device":"laptop"}}`)
	req, err := http.NewRequest(http.MethodGet, "http://x/sessions/x", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.credential(all))
	w := &discard{}
	b.ReportAllocs()
	for b.Loop() {
		w.header = make(http.Header)
		s.server.ServeHTTP(w, req)
	}
}
