package sessiond_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"sessiond.example/sessiond"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", sessiond.MaxIDLength)
	for id, want := range map[string]bool{
		"a": true, "A": true, "0": true, "session-001": true, "a.b_c~d-e": true, long: true, "sst": true, "sst-1": true,
		"SST_x": true, "0190163d-8694-739b-aea5-966c26f8ad91": true, "a..": true,
		"": false, long + "a": false, "sst_": false, "sst_abc": false, ".": false, "..": false, "-a": false, "_a": false,
		"~a": false, "a/b": false, "a b": false, "a%20": false, "a\x00": false, "a\n": false, "é": false, "aé": false,
		"a\xff": false, "a:b": false, "a+b": false, "*": false,
	} {
		got, err := sessiond.ParseID(id)
		if (err == nil) != want {
			t.Errorf("ParseID(%q) = %v, valid is %t", id, err, want)
		}
		if want && string(got) != id {
			t.Errorf("ParseID(%q) = %q", id, got)
		}
		if err != nil {
			wantInvalid(t, id, err, "/id")
		}
	}
}

func TestValidTenantAndLabelKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for name, want := range map[string]bool{
		"a": true, "0": true, "a-b": true, "a-": true, long: true,
		"": false, long + "a": false, "-a": false, "A": false, "a.b": false, "a_b": false, "a b": false, "é": false,
		"a\n": false, "a\x00": false,
	} {
		if sessiond.ValidTenant(name) != want {
			t.Errorf("ValidTenant(%q) is %t", name, !want)
		}
	}
	for key, want := range map[string]bool{
		"a": true, "0": true, "a.b_c-d": true, "a..": true, long: true,
		"": false, long + "a": false, "A": false, ".a": false, "-a": false, "_a": false, "a b": false, "a~": false,
		"é": false, "a\x00": false, "aé": false,
	} {
		if sessiond.ValidLabelKey(key) != want {
			t.Errorf("ValidLabelKey(%q) is %t", key, !want)
		}
	}
}

func TestValidText(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", sessiond.MaxText/2)
	for text, want := range map[string]bool{
		"": true, "alice": true, "a b": true, "مرحبا": true, "日本語": true, long: true, "e\u0301": true, "\u200d": true,
		long + "a": false, "a\x00": false, "a\tb": false, "a\nb": false, "a\x7f": false, "a\u0085": false,
		"\u202e": false, "a\u202ab": false, "\u2066": false, "\u2069": false, "\u200e": false, "\u200f": false,
		"\u061c": false, "a\xff": false, "\xed\xa0\x80": false, "\xc0\x80": false,
	} {
		if sessiond.ValidText(text) != want {
			t.Errorf("ValidText(%q) is %t", text, !want)
		}
	}
}

func manyLabels(n int) map[string]string {
	labels := make(map[string]string, n)
	for i := range n {
		labels[fmt.Sprint("k", i)] = ""
	}
	return labels
}

// TestCreateBounds holds every bound from both sides.
func TestCreateBounds(t *testing.T) {
	t.Parallel()
	e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxData = 100; p.MaxIdleTimeout = time.Hour }))
	ofSize := func(n int) sessiond.CreateParams {
		return sessiond.CreateParams{Data: data(`{"a":"` + strings.Repeat("x", n-8) + `"}`)}
	}
	expires := func(d time.Duration) sessiond.CreateParams { return sessiond.CreateParams{ExpiresIn: &d} }
	idle := func(d time.Duration) sessiond.CreateParams { return sessiond.CreateParams{IdleTimeout: &d} }
	labels := func(k, v string) sessiond.CreateParams {
		return sessiond.CreateParams{Labels: map[string]string{k: v}}
	}
	object := func(s string) sessiond.CreateParams { return sessiond.CreateParams{Data: data(s)} }
	most := e.Policy().MaxLifetime
	for _, p := range []sessiond.CreateParams{
		{}, {ID: sessiond.ID(strings.Repeat("a", 128))}, {Subject: strings.Repeat("s", 256)},
		{Labels: manyLabels(16)}, labels(strings.Repeat("k", 63), strings.Repeat("v", 256)),
		ofSize(100), object(" \t\r\n{ } "), object(`{"a":1,"A":2}`),
		object(`{"a":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + `}`),
		object(`{"a":"` + strings.Repeat(" ", 3) + `"   ` + strings.Repeat(" ", 200) + `}`), // counted compact
		expires(time.Second), expires(most), idle(time.Second), idle(time.Hour),
		{IdempotencyKey: strings.Repeat("~", 128)},
	} {
		if _, _, err := e.Create(e.ctx, p); err != nil {
			t.Errorf("Create(%+v): %v", p, err)
		}
	}
	for _, tt := range []struct {
		p       sessiond.CreateParams
		pointer string
	}{
		{sessiond.CreateParams{ID: "sst_a"}, "/id"},
		{sessiond.CreateParams{ID: sessiond.ID(strings.Repeat("a", 129))}, "/id"},
		{sessiond.CreateParams{Subject: strings.Repeat("s", 257)}, "/subject"},
		{sessiond.CreateParams{Subject: "a\x00"}, "/subject"},
		{sessiond.CreateParams{Subject: "\u202e"}, "/subject"},
		{sessiond.CreateParams{Labels: manyLabels(17)}, "/labels"},
		{labels("K", ""), "/labels"}, {labels("", ""), "/labels"}, {labels(strings.Repeat("k", 64), ""), "/labels"},
		{labels("k", strings.Repeat("v", 257)), "/labels"}, {labels("k", "\n"), "/labels"},
		{labels("k", "\u2066"), "/labels"}, {labels("k", "\xff"), "/labels"},
		{ofSize(101), "/data"}, {object(`[]`), "/data"}, {object(`null`), "/data"}, {object(`"x"`), "/data"},
		{object(``), "/data"}, {object(`{`), "/data"}, {object(`{"a":1}}`), "/data"}, {object(`{"a":1,"a":1}`), "/data"},
		{object(`{"a":{"b":1,"\u0062":1}}`), "/data"}, {object(`{"a":"\ud800"}`), "/data"},
		{object(`{"\udc00":1}`), "/data"}, {object("{\"a\":\"\xff\"}"), "/data"},
		{object(`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`), "/data"},
		{expires(0), "/expires_in"}, {expires(-time.Second), "/expires_in"}, {expires(most + time.Second), "/expires_in"},
		{expires(1500 * ms), "/expires_in"}, {expires(math.MaxInt64), "/expires_in"}, {expires(math.MinInt64), "/expires_in"},
		{idle(0), "/idle_timeout"}, {idle(-time.Second), "/idle_timeout"}, {idle(time.Hour + time.Second), "/idle_timeout"},
		{idle(1001 * ms), "/idle_timeout"}, {idle(math.MaxInt64), "/idle_timeout"},
		{sessiond.CreateParams{IdempotencyKey: strings.Repeat("k", 129)}, ""},
		{sessiond.CreateParams{IdempotencyKey: "a b"}, ""}, {sessiond.CreateParams{IdempotencyKey: "a\x7f"}, ""},
		{sessiond.CreateParams{IdempotencyKey: "é"}, ""}, {sessiond.CreateParams{IdempotencyKey: "\n"}, ""},
	} {
		_, token, err := e.Create(e.ctx, tt.p)
		wantInvalid(t, fmt.Sprintf("Create(%+v)", tt.p), err, tt.pointer)
		if token != "" {
			t.Error("a refused create gave a token")
		}
	}
}

func TestCreateTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, _, err := e.Create(e.ctx, sessiond.CreateParams{
		ID: "/", Subject: "\x00", Data: data("[]"), Labels: map[string]string{"": ""}, ExpiresIn: new(time.Duration(0)),
		IdleTimeout: new(time.Duration(-1)),
	})
	for _, pointer := range []string{"/id", "/subject", "/data", "/labels", "/expires_in", "/idle_timeout"} {
		wantInvalid(t, "everything wrong", err, pointer)
	}
	for _, tenant := range []string{"", "A", "-a", strings.Repeat("a", 64)} {
		_, _, err := e.As(tenant, sessiond.Actor{}).Create(e.ctx, sessiond.CreateParams{})
		wantInvalid(t, "tenant "+tenant, err, "")
		_, err = e.As(tenant, sessiond.Actor{}).Get(e.ctx, "a")
		wantErr(t, "get in tenant "+tenant, err, sessiond.ErrNotFound)
	}
}

// TestDefaults: what a create doesn't say comes from the policy; without
// MaxIdleTimeout idle timeouts may be off or as long as a century.
func TestDefaults(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, token := e.create(sessiond.CreateParams{})
	if s.ExpiresAt.Sub(s.CreatedAt) != 12*time.Hour || s.IdleTimeout != 30*time.Minute || string(s.Data) != "{}" ||
		s.Version != 1 || s.Status != sessiond.StatusActive || s.Subject != "" || len(s.Labels) != 0 || token == "" ||
		!s.CreatedBy.IsZero() || s.Tenant != sessiond.DefaultTenant || s.ETag == "" {
		t.Errorf("%+v", s)
	}
	if len(s.ID) != 36 || s.ID[14] != '7' {
		t.Errorf("id %s is not a UUIDv7", s.ID)
	}
	for _, at := range []time.Time{s.CreatedAt, s.UpdatedAt, s.LastActiveAt, s.ExpiresAt, s.IdleExpiresAt} {
		if at.Location() != time.UTC || at.Truncate(time.Millisecond) != at {
			t.Errorf("time %v is not in UTC and milliseconds", at)
		}
	}
	const century = 876_000 * time.Hour
	for idle, ok := range map[time.Duration]bool{0: true, century: true, century + time.Second: false} {
		s, _, err := e.Create(e.ctx, sessiond.CreateParams{IdleTimeout: &idle})
		if (err == nil) != ok {
			t.Errorf("idle timeout %v: %v", idle, err)
		}
		if err == nil && idle == 0 && !s.IdleExpiresAt.IsZero() {
			t.Errorf("idle deadline %v without idle timeout", s.IdleExpiresAt)
		}
	}
}

func TestValidateJSONErrorsRevealNothing(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{"secret":1,"secret":2}`, `{"a":secret}`, `"secret`, `{"secret"}`, "\"secret\xff\"", `"secret" secret`,
		`{"a":"\ud800secret"}`, strings.Repeat("[", 40) + `"secret"`,
	} {
		err := sessiond.ValidateJSON([]byte(in), sessiond.MaxNesting)
		wantErr(t, in, err, sessiond.ErrMalformed)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats the input: %v", err)
		}
	}
}
