package main

import (
	"flag"
	"net/http"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated pages under docs")

func TestDocsOnOps(t *testing.T) {
	t.Parallel()
	s := startDev(t, t.TempDir())
	a := s.doWith(http.DefaultClient, "GET", s.ops+"/docs", "", "").want(t, http.StatusOK)
	for name, want := range map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"X-Content-Type-Options":  "nosniff",
		"Content-Security-Policy": "default-src 'none'; style-src 'sha256-",
	} {
		if got := a.header.Get(name); !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(a.body, "<!DOCTYPE html>") || !strings.Contains(a.body, `id="revoke_matching"`) {
		t.Errorf("not the reference: %.200s", a.body)
	}
	if got := s.status(s.api + "/docs"); got != http.StatusUnauthorized {
		t.Errorf("GET /docs on the API's address is %d", got)
	}
}
