package config_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond/cmd/sessiond/internal/config"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Size{
		"0": 0, "1": 1, "1000": 1000, "64KiB": 64 << 10, "1MiB": 1 << 20, "3GiB": 3 << 30, "0KiB": 0,
		"9223372036854775807": math.MaxInt64, "8589934591GiB": 8589934591 << 30,
	} {
		if got, err := config.ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "KiB", "-1", "+1", "1.5MiB", "64kib", "64KB", "64K", "64 KiB", " 64KiB", "64KiB ", "064KiB", "0x10", "1_000",
		"1e3", "64KiBKiB", "٣", "9223372036854775808", "8589934592GiB", "99999999999999999999GiB",
	} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"", "0", "64KiB", "1MiB", "8589934592GiB", "007", "-1", "1.5GiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := config.ParseSize(text)
		if err != nil {
			if size != 0 || len(err.Error()) > 600 {
				t.Fatalf("%q: %d with error %q", text, size, err)
			}
			return
		}
		if size < 0 || strings.Trim(text, "0123456789KMGiB") != "" {
			t.Fatalf("%q was read as %d", text, size)
		}
		if back, err := config.ParseSize(size.String()); err != nil || back != size {
			t.Fatalf("%q: %d prints as %q, which reads as %d, %v", text, size, size, back, err)
		}
	})
}

func TestParseClaimPath(t *testing.T) {
	t.Parallel()
	got, err := config.ParseClaimPath("realm_access.roles")
	if want := (config.ClaimPath{"realm_access", "roles"}); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := config.ParseClaimPath("https://x.example/y"); err != nil || len(got) != 1 {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"", ".", "a.", ".a", "a..b", strings.Repeat("a.", 16) + "a"} {
		if got, err := config.ParseClaimPath(text); err == nil {
			t.Errorf("%q: %q, want an error", text, got)
		}
	}
}

// What loads prints, and what is printed loads as the same, apart from hidden secrets.
func FuzzParseYAML(f *testing.F) {
	for _, seed := range []string{
		"", "~", "listen: 'a:1'", config.Reference(), "a: &a [*a]", "gateways: {x: {touch: false}}", "<<: {}",
		"auth: {issuers: [{issuer: a, tenant_claim: b.c, roles: {'on': [], \"\\t\": [a]}}]}", "{", "? ? ?", "--- |\n x",
		"limits: {max_body: 1}\n---\n", "!!map {listen: !!str a}", "session: {touch_interval: 1h0m1s}", "%YAML 1.1\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := config.ParseYAML(content)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil && strings.Count(err.Error(), "\n") > 20*(len(content)+1) {
			t.Fatal("an error out of proportion")
		}
		var first, second strings.Builder
		if err := c.Print(&first); err != nil {
			t.Fatal(err)
		}
		back, err := config.ParseYAML([]byte(first.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, first.String())
		}
		if err := back.Print(&second); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first.String(), second.String()); diff != "" {
			t.Fatalf("printed, loaded and printed again:\n%s", diff)
		}
	})
}
