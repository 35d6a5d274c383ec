//go:build !race

package server_test

import (
	"net/http"
	"testing"

	"sessiond.example/sessiond/memstore"
)

// What a request allocates on our side of net/http, everything switched on. Not parallel, as AllocsPerRun wants it.
func TestAllocations(t *testing.T) {
	s := newWired(t, memstore.New(memstore.Options{}))
	session, token := s.create(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		most               float64
	}{
		{http.MethodGet, "/sessions/" + string(session.ID), "", http.StatusOK, 7},
		{http.MethodPost, "/verify", `{"token":"` + string(token) + `"}`, http.StatusOK, 13},
		{http.MethodPost, "/sessions/", usual, http.StatusCreated, 29},
	} {
		if got := testing.AllocsPerRun(200, s.repeat(t, tt.method, tt.path, tt.body, tt.status)); got > tt.most {
			t.Errorf("%s %s: %v allocations, want at most %v", tt.method, tt.path, got, tt.most)
		}
	}
}
