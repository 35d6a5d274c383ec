package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

func printed(t *testing.T, c *config.Config) string {
	t.Helper()
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrintLoadsAgain(t *testing.T) {
	t.Parallel()
	c := example()
	for _, want := range []*config.Config{valid(), allTexts(), &c} {
		want.Auth.Issuers[0].TenantClaim = "https://x.example/t"
		got, err := config.ParseYAML([]byte(printed(t, want)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestPrintIsStableAndComplete(t *testing.T) {
	t.Parallel()
	c := valid()
	c.Gateways["app"] = config.Gateway{}
	c.Gateways["zoo"] = config.Gateway{}
	first := printed(t, c)
	for range 10 {
		if printed(t, c) != first {
			t.Fatal("the order changes")
		}
	}
	for _, key := range config.Keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if !strings.Contains(first, name+":") {
			t.Errorf("%s is missing", key)
		}
	}
	if !strings.Contains(first, "touch_interval: 1m\n") || !strings.Contains(first, "max_body: 64KiB\n") {
		t.Errorf("durations or sizes are not in their short form:\n%s", first)
	}
	if strings.Contains(first, "jwks_url") {
		t.Error("an optional key is printed that was not set")
	}
}

func TestPrintHidesSecrets(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"memory:":                        "'memory:'",
		"pebble:///var/lib/x":            "pebble:///var/lib/x",
		"postgres://h/db?sslmode=x":      "postgres://h/db?sslmode=x",
		"postgres://u:p@h/db":            "postgres://xxxxx@h/db",
		"postgres://u@h/db":              "postgres://xxxxx@h/db",
		"postgres://u:p/q@r@h/db":        "postgres://xxxxx@h/db",
		"postgres://h/db?a=b&PassWord=p": "postgres://h/db?a=b&xxxxx",
		"postgres://h/db?p%61ssword=p":   "postgres://h/db?xxxxx",
		"redis+cluster://:p@a:1,b:2":     "redis+cluster://xxxxx@a:1,b:2",
		"host=h password=p":              "xxxxx",
		"u:p@x://h":                      "xxxxx",
		"postgres:u:p@h":                 "xxxxx",
	} {
		c := valid()
		c.Store.URL = address
		if text := printed(t, c); !strings.Contains(text, "\n  url: "+want+"\n") {
			t.Errorf("%s is not printed as %s:\n%s", address, want, text)
		}
		if c.Store.URL != address {
			t.Errorf("Print changed store.url to %s", c.Store.URL)
		}
	}
	c := valid()
	c.Auth.Issuers[0].Issuer, c.Auth.Issuers[0].JWKSURL = "https://u:hunter2@a", "https://b?token=hunter2"
	if text := printed(t, c); strings.Contains(text, "hunter2") {
		t.Errorf("an issuer shows a secret:\n%s", text)
	}
}
