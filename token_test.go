package sessiond_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/faultstore"
)

var tokenForm = regexp.MustCompile(`^sst_[A-Za-z0-9_-]+$`)

func TestTokenForm(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	longTenant := strings.Repeat("t", sessiond.MaxTenant)
	longID := sessiond.ID(strings.Repeat("i", sessiond.MaxIDLength))
	seen := map[sessiond.Token]bool{}
	for _, tenant := range []string{"a", sessiond.DefaultTenant, longTenant} {
		for _, id := range []sessiond.ID{
			"", "a", "s-1", longID, longID[1:], longID[2:], "0190163d-8694-739b-aea5-966c26f8ad91",
			"0190163D-8694-739B-AEA5-966C26F8AD91", "0190163d-8694-739b-aea5-966c26f8ad9",
			"0190163d-8694-739b-aea5-966c26f8adxx",
			"0190163d_8694-739b-aea5-966c26f8ad91", "00000000-0000-0000-0000-000000000000",
		} {
			e := e.as(tenant, sessiond.Actor{})
			s, token := e.create(sessiond.CreateParams{ID: id})
			if !tokenForm.MatchString(string(token)) || len(token) > sessiond.MaxTokenLength || seen[token] {
				t.Errorf("token of %s/%s has %d characters or a wrong form", tenant, id, len(token))
			}
			seen[token] = true
			if v := e.verify(token); !v.Active || v.Session.ID != s.ID || v.Session.Tenant != tenant || v.Session.ETag != "" {
				t.Errorf("token of %s/%s verifies as %+v", tenant, s.ID, v)
			}
			_, again := e.rotate(s.ID, sessiond.RotateParams{})
			if !tokenForm.MatchString(string(again)) || len(again) != len(token) || seen[again] {
				t.Errorf("rotated token of %s/%s has a wrong form", tenant, id)
			}
		}
	}
}

// TestTokenNeverShows tries every way in which a program may print a token by
// accident.
func TestTokenNeverShows(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, token := e.create(sessiond.CreateParams{})
	secret := string(token)
	leaks := func(what, text string) {
		t.Helper()
		for _, form := range []string{
			secret, secret[4:], fmt.Sprintf("%x", secret[4:]), fmt.Sprintf("%X", secret[4:]),
			fmt.Sprintf("%d", []byte(secret[4:])),
		} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows the token", what)
			}
		}
		plain := strings.ToLower(strings.ReplaceAll(text, " ", ""))
		if !strings.Contains(plain, "redacted") && !strings.Contains(plain, fmt.Sprintf("%x", "redacted")) {
			t.Errorf("%s shows something else: %s", what, text)
		}
	}
	params := sessiond.RotateParams{Token: token}
	// Only %p is missing, for which package fmt asks no type; vet refuses it.
	for _, verb := range []string{
		"%v", "%+v", "%#v", "%s", "%q", "%#q", "%+q", "%x", "%X", "% x", "%#x",
		"%d", "%b", "%o", "%c", "%U", "%e", "%t", "%z", "%500s",
	} {
		leaks(verb, fmt.Sprintf(verb, token))
		leaks(verb+" in a slice", fmt.Sprintf(verb, []sessiond.Token{token}))
		if strings.HasSuffix(verb, "v") {
			leaks(verb+" in a struct", fmt.Sprintf(verb, params))
			leaks(verb+" in a map", fmt.Sprintf(verb, map[string]any{"token": token}))
		}
	}
	leaks("Sprint", fmt.Sprint(token))
	leaks("Errorf", fmt.Errorf("token %v", token).Error())
	for name, marshal := range map[string]func(any) ([]byte, error){
		"encoding/json": json.Marshal,
		"json v2":       func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
	} {
		for _, v := range []any{token, &token, params.Token, map[string]any{"t": token}, []any{token}} {
			b, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			leaks(name, string(b))
		}
	}
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		out.Reset()
		slog.New(h).Info("m", "token", token)
		leaks("slog", out.String())
		out.Reset()
		slog.New(h).Info("m", "params", params)
		leaks("slog of a struct", out.String())
	}
}

// spell writes the bytes of a token with a checksum that fits.
func spell(b []byte) sessiond.Token {
	b = binary.BigEndian.AppendUint32(b[:len(b):len(b)], crc32.ChecksumIEEE(b))
	return sessiond.Token(sessiond.TokenPrefix + base64.RawURLEncoding.EncodeToString(b))
}

// unspell is the bytes of a token before its checksum.
func unspell(t testing.TB, token sessiond.Token) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(string(token), sessiond.TokenPrefix))
	if err != nil {
		t.Fatal(err)
	}
	return b[:len(b)-4]
}

func TestTokenSpellings(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	// Its 49 bytes leave spare bits in the last character.
	s, token := e.create(sessiond.CreateParams{ID: "s12"})
	uuid, uuidToken := e.create(sessiond.CreateParams{ID: "0190163d-8694-739b-aea5-966c26f8ad91"})
	if (len(token)-4)%4 == 0 {
		t.Fatal("the token has no spare bits to flip")
	}
	text := string(token)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, text[len(text)-1])
	raw, uuidRaw := unspell(t, token), unspell(t, uuidToken)
	const secret = 32
	version, tail := uuidRaw[0], uuidRaw[len(uuidRaw)-secret:]
	head := append([]byte{1, 7}, "default"...)
	noLongerMinimal := append(append([]byte{1, 0x87, 0}, "default\x03s12"...), raw[len(raw)-secret:]...)
	idAsText := append(append(append(head[:len(head):len(head)], 36), uuid.ID...), tail...)
	for name, bad := range map[string]string{
		"empty": "", "prefix": "sst_", "id": string(s.ID), "uuid": string(uuid.ID), "prefixed id": "sst_" + string(s.ID),
		"no prefix": text[4:], "upper prefix": "SST_" + text[4:], "twice the prefix": "sst_" + text,
		"leading space": " " + text, "trailing space": text + " ", "trailing newline": text + "\n",
		"inner newline": text[:20] + "\n" + text[20:], "inner return": text[:20] + "\r" + text[20:],
		"padding": text + "=", "more padding": text + "==", "NUL": text + "\x00",
		"spare bits":   text[:len(text)-1] + string(alphabet[last^1]),
		"cut":          text[:len(text)-1],
		"more":         text + "A",
		"other letter": text[:20] + string(alphabet[(strings.IndexByte(alphabet, text[20])+1)%64]) + text[21:],
		"std alphabet": "sst_" + base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\xff", 49))),
		"too long":     "sst_" + strings.Repeat("A", sessiond.MaxTokenLength),
		"redaction":    fmt.Sprint(token),
		"version 0":    string(spell(append([]byte{0}, raw[1:]...))),
		"version 3":    string(spell(append([]byte{3}, raw[1:]...))),
		"other kind":   string(spell(append([]byte{version}, raw[1:]...))),
		"UUID as text": string(spell(idAsText)),
		"long length":  string(spell(noLongerMinimal)),
		"no secret":    string(spell(raw[:len(raw)-secret])),
		"bad tenant":   string(spell(append(append([]byte{1, 7}, "DEFAULT\x03s12"...), raw[len(raw)-secret:]...))),
		"bad id":       string(spell(append(append([]byte{1, 7}, "default\x03s1/"...), raw[len(raw)-secret:]...))),
		"spare byte":   string(spell(append(append([]byte{1, 7}, "default\x03s12x"...), raw[len(raw)-secret:]...))),
		"huge length":  string(spell(append([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, raw...))),
		"other tenant": string(spell(append(append([]byte{1, 5}, "other\x03s12"...), raw[len(raw)-secret:]...))),
	} {
		calls := e.store.Calls(faultstore.Get)
		if v := e.verify(sessiond.Token(bad)); v.Active || v.Reason != "" {
			t.Errorf("%s: %+v", name, v)
		}
		// The others could be tokens of another system.
		ours := strings.HasPrefix(bad, "sst_") || strings.ContainsAny(bad, " \n\r\x00") || bad == ""
		if n := e.store.Calls(faultstore.Get) - calls; ours && n != 0 || !ours && n != 1 {
			t.Errorf("%s: %d reads of the store", name, n)
		}
		if err := e.RevokeToken(e.ctx, sessiond.Token(bad)); err != nil {
			t.Errorf("%s: RevokeToken: %v", name, err)
		}
	}
	if !e.verify(token).Active || !e.verify(uuidToken).Active {
		t.Error("a true token died")
	}
	if again := spell(raw); again != token {
		t.Error("the helper of this test spells tokens otherwise")
	}
}

// TestWrongSecret: a well-formed token with another secret is inactive and
// tells nothing, whatever the session's state.
func TestWrongSecret(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, token := e.create(sessiond.CreateParams{ID: "s"})
	raw := unspell(t, token)
	raw[len(raw)-1] ^= 1
	wrong := spell(raw)
	unknown := spell(append(append([]byte{1, 7}, "default\x02no"...), raw[len(raw)-32:]...))
	check := func() {
		t.Helper()
		for _, bad := range []sessiond.Token{wrong, unknown} {
			if v := e.verify(bad); v != (sessiond.Verification{}) {
				t.Errorf("%+v", v)
			}
			wantErr(t, "RevokeToken", e.RevokeToken(e.ctx, bad), nil)
		}
	}
	check()
	_, _, err := e.Rotate(e.ctx, s.ID, sessiond.RotateParams{Token: wrong})
	wantErr(t, "rotate with another secret", err, sessiond.ErrToken)
	if !e.verify(token).Active {
		t.Error("the true token died")
	}
	if err := e.RevokeToken(e.ctx, token); err != nil {
		t.Fatal(err)
	}
	check()
	if v := e.verify(token); v.Active || v.Reason != sessiond.EndLogout {
		t.Errorf("after the logout: %+v", v)
	}
}
