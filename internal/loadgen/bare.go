package main

import (
	"io"
	"maps"
	"net/http"
	"strconv"
)

// bareVariable is the environment variable that makes the program the bare
// handler, on the address that it holds.
const bareVariable = "SESSIOND_LOADGEN_BARE"

// A bareAnswer is what the bare handler answers to one method and path.
type bareAnswer struct {
	Pattern string // as of http.ServeMux
	Status  int
	Header  http.Header
	Body    []byte
}

// serveBare serves the answers read from in, with as little as net/http needs:
// the measure of what the standard library leaves room for.
func serveBare(address string, answers []bareAnswer) error {
	mux := http.NewServeMux()
	for _, a := range answers {
		mux.HandleFunc(a.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			maps.Copy(w.Header(), a.Header)
			w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
			w.WriteHeader(a.Status)
			w.Write(a.Body) // a client that is gone needs no answer
		})
	}
	return http.ListenAndServe(address, mux)
}
