package main

import (
	"net/http"

	"sessiond.example/sessiond/api"
	"sessiond.example/sessiond/cmd/sessiond/internal/apidoc"
)

// newDocsHandler answers with the reference of the API, rendered here once.
func newDocsHandler() (http.Handler, error) {
	page, err := apidoc.Page(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	policy := apidoc.ContentSecurityPolicy()
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		w.Write(page) // a reader that hangs up needs no more
	}), nil
}

//go:generate go test -run ^(TestManPages|TestConfigurationPage)$ . -update
