package telemetry_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/memstore"
	"sessiond.example/sessiond/telemetry"
)

func TestLoggerLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out sink
		logger := telemetry.NewLog(&out, slog.LevelDebug).Logger().With("store", "memory")
		zone := time.FixedZone("east", 2*60*60)
		logger.WithGroup("g").Debug("hello", "at", time.Date(2026, 1, 2, 3, 4, 5, 6789, zone), "level", slog.LevelWarn,
			"n", 7, "err", errors.New("no"))
		want := `{"time":"2000-01-01T00:00:00.000Z","level":"debug","msg":"hello","store":"memory",` +
			`"g":{"at":"2026-01-02T01:04:05.000Z","level":"warn","n":7,"err":"no"}}` + "\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("line (-want +got):\n%s", diff)
		}
	})
}

// unfit are the characters that must never reach a line.
func unfit(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || strings.ContainsRune("\u2028\u2029\ufeff", r)
}

func TestUnfitCharacters(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if unfit(r) {
			all.WriteRune(r)
		}
	}
	text := "a\"b\\c/<é漢🙂>" + all.String() + "end\x80\xff\xe2\x80"
	want := strings.ToValidUTF8(strings.ReplaceAll(text, "\x80\xff\xe2\x80", "\ufffd\ufffd\ufffd\ufffd"), "")

	var out sink
	l := telemetry.NewLog(&out, nil)
	l.Operation(telemetry.Operation{Principal: text})
	l.Logger().Info(text, "principal", text, "err", errors.New(text), "any", []string{text}, text, 1)
	lines := out.lines(t)
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	for i, line := range lines {
		if line["principal"] != want {
			t.Errorf("line %d: principal = %+q, want %+q", i, line["principal"], want)
		}
	}
	if lines[1]["msg"] != want || lines[1]["err"] != want {
		t.Errorf("msg = %+q, err = %+q, want %+q", lines[1]["msg"], lines[1]["err"], want)
	}
	for _, r := range strings.ReplaceAll(out.String(), "\n", "") {
		if unfit(r) {
			t.Errorf("%U is in a line as it is", r)
		}
	}
}

// canaries are secrets in the forms in which they could slip into a line.
func canaries(t *testing.T) []string {
	t.Helper()
	m, err := sessiond.New(sessiond.Config{Store: memstore.New(memstore.Options{}), Sealer: sessiond.NoSealing{}})
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := m.Create(t.Context(), sessiond.CreateParams{})
	if err != nil {
		t.Fatal(err)
	}
	_, long, err := m.Create(t.Context(), sessiond.CreateParams{ID: sessiond.ID(strings.Repeat("x", 128))})
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		string(token), string(long),
		"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlX2NhbmFyeQ",
		"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
		"sst_sst_" + strings.Repeat("k", 16),
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	type nested struct {
		Inner  map[string]string
		Header http.Header
	}
	for i, secret := range canaries(t) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for _, text := range []string{
				secret, "Bearer " + secret, `{"token":"` + secret + `"}`, "say \u202e \"" + secret + "\" \n twice " + secret,
				"sst_ eyJ eyJ.x sst_short eyJ.. " + secret,
			} {
				var out sink
				l := telemetry.NewLog(&out, nil)
				l.Operation(telemetry.Operation{
					Op: text, SessionID: text, Tenant: text, Principal: text, RequestID: text, TraceID: text,
					Reason: sessiond.EndReason(text), AuthFailure: text, Route: text, Method: text,
				})
				l.Logger().With("with", text).WithGroup(text).Info(text, "string", text,
					"err", fmt.Errorf("wrapped: %w", errors.New(text)), text, "key",
					"any", nested{map[string]string{text: text}, http.Header{"Authorization": {text}}},
					slog.Group("group", "inner", text), "stringer", sessiond.Token(text), "kept", "sst_[redacted]")
				if strings.Contains(out.String(), secret) || strings.Contains(out.String(), secret[:20]) {
					t.Errorf("%q is in the log:\n%s", text, out.String())
				}
				lines := out.lines(t)
				if len(lines) != 2 {
					t.Fatalf("%d lines, want 2", len(lines))
				}
				for _, member := range []string{"op", "session_id", "tenant", "principal", "request_id", "trace_id",
					"reason", "auth_failure"} {
					if lines[0][member] != "[redacted]" {
						t.Errorf("%s = %v, want a redaction", member, lines[0][member])
					}
				}
				if lines[1]["msg"] != "[redacted]" || lines[1]["with"] != "[redacted]" {
					t.Errorf("line = %v, want redactions", lines[1])
				}
				if group, _ := lines[1]["[redacted]"].(map[string]any); group["kept"] != "sst_[redacted]" {
					t.Errorf("a harmless string is redacted: %v", group)
				}
			}
		})
	}
}

func TestHarmlessStringsStay(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "sst_", "sst_short", "sst_fifteen_chars..", "eyJ", "eyJhbGciOiJFUzI1NiJ9", "eyJhbGciOiJFUzI1NiJ9.e30",
		"eyJ..", "eyJa..b", "Jeremy_J", strings.Repeat("eyJ", 1000), strings.Repeat("sst_.", 1000),
	} {
		var out sink
		l := telemetry.NewLog(&out, nil)
		l.Operation(telemetry.Operation{Principal: text})
		l.Logger().Info(text)
		lines := out.lines(t)
		if lines[0]["principal"] != text || lines[1]["msg"] != text {
			t.Errorf("%q became %q and %q", text, lines[0]["principal"], lines[1]["msg"])
		}
	}
}

func TestLongStringsAreCut(t *testing.T) {
	t.Parallel()
	var out sink
	logger := telemetry.NewLog(&out, nil).Logger()
	long := strings.Repeat("long\n\"\u202e", 20_000)
	logger.Info("m", "long", long, "short", "s", "medium", strings.Repeat("m", 1000))
	line := out.lines(t)[0]
	got := line["long"].(string)
	if !strings.HasSuffix(got, "...[cut]") || !strings.HasPrefix(long, strings.TrimSuffix(got, "...[cut]")) ||
		len(out.String()) > 20_000 {
		t.Errorf("a string of %d bytes became %d in a line of %d", len(long), len(got), len(out.String()))
	}
	if line["short"] != "s" || len(line["medium"].(string)) != 1000 {
		t.Errorf("other strings changed: %v", line)
	}
}

// FuzzLine puts any text into every kind of line: it comes back as it was or
// redacted, in one line of strict JSON.
func FuzzLine(f *testing.F) {
	for _, s := range []string{
		"", "plain", "\"\\\n\u202e\u2028\x7f\x9f\xff", "sst_0123456789abcdef", "eyJh.eyJ.c", "🙂é",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var out sink
		l := telemetry.NewLog(&out, nil)
		l.Operation(telemetry.Operation{Op: text})
		l.Logger().Info("m", "op", text)
		for line := range strings.Lines(out.String()) {
			if !jsontext.Value(line).IsValid() {
				t.Fatalf("not strict JSON: %q", line)
			}
		}
		var want strings.Builder // invalid bytes become one U+FFFD each
		for _, r := range text {
			want.WriteRune(r)
		}
		lines := out.lines(t)
		for _, line := range lines {
			got := line["op"].(string)
			if got != want.String() && (got != "[redacted]" && !strings.HasSuffix(got, "...[cut]")) {
				t.Errorf("%q became %q", text, got)
			}
			if len(line) != 9 && len(line) != 4 {
				t.Errorf("members were added: %v", line)
			}
		}
		if len(lines) != 2 || !utf8.ValidString(out.String()) {
			t.Fatalf("%d lines, want 2 of UTF-8", len(lines))
		}
		for _, r := range strings.ReplaceAll(out.String(), "\n", "") {
			if unfit(r) {
				t.Errorf("%U is in a line as it is", r)
			}
		}
	})
}
