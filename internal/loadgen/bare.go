package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// bareBodies are the answers of the bare handler, in base64.
type bareBodies struct{ Get, Verify, Create string }

// serveBare serves the bodies read from in, with as little as net/http needs:
// the measure of what the standard library leaves room for.
func serveBare(address string, in io.Reader) error {
	var bodies bareBodies
	if err := json.NewDecoder(in).Decode(&bodies); err != nil {
		return err
	}
	mux := http.NewServeMux()
	for pattern, answer := range map[string]struct {
		status int
		body   string
	}{
		"GET /get":     {http.StatusOK, bodies.Get},
		"POST /verify": {http.StatusOK, bodies.Verify},
		"POST /create": {http.StatusCreated, bodies.Create},
	} {
		body, err := base64.StdEncoding.DecodeString(answer.body)
		if err != nil {
			return err
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(answer.status)
			w.Write(body) // a client that is gone needs no answer
		})
	}
	return http.ListenAndServe(address, mux)
}
