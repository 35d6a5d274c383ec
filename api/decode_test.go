package api_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/api"
)

func decodeCreate(b []byte) error { _, err := api.DecodeCreate(b); return err }
func decodeUpdate(b []byte) error { _, err := api.DecodeUpdate(b); return err }
func decodeRotate(b []byte) error { _, err := api.DecodeRotate(b); return err }
func decodeVerify(b []byte) error { _, _, err := api.DecodeVerify(b); return err }

var decoders = map[string]func([]byte) error{
	"create": decodeCreate, "update": decodeUpdate, "rotate": decodeRotate, "verify": decodeVerify,
	"empty": api.DecodeEmpty,
}

func nested(depth int) string {
	return `{"data":` + strings.Repeat(`{"a":`, depth-2) + `{}` + strings.Repeat(`}`, depth-2) + `}`
}

// What is not one JSON object in good UTF-8 is malformed for every decoder.
func TestMalformedBodies(t *testing.T) {
	bodies := []string{
		"null", "true", "1", `"text"`, "[]", "[{}]", "{", "}", "{]", "{}{}", "{},", "{} x", "{}\x00", " ",
		"\xef\xbb\xbf{}", `{'id':"a"}`, `{id:"a"}`, `{"id":"a",}`, `{,}`, `{"id"}`, `{"id":}`, `{"id":a}`,
		`{"id":"a"//comment` + "\n}", `{"id":"a","id":"a"}`, `{"id":"a","\u0069d":"a"}`,
		`{"data":{"a":1,"a":2}}`, `{"data":[[{"x":{"a":1,"\u0061":2}}]]}`, `{"unknown":{"a":1,"a":1}}`,
		"{\"id\":\"\xff\"}", "{\"\xc0\xaf\":1}", `{"id":"\ud800"}`, `{"id":"\udc00\ud800"}`, `{"data":{"\ud83d":1}}`,
		"{\"id\":\"a\nb\"}", `{"id":"\x41"}`, `{"expires_in":01}`, `{"expires_in":+1}`, `{"expires_in":.5}`,
		`{"expires_in":1.}`, `{"expires_in":NaN}`, `{"data":Infinity}`, `{"data":1e}`, `{"data":{},"data":{}}`,
		nested(sessiond.MaxNesting + 1), strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000),
	}
	for name, decode := range decoders {
		for _, body := range bodies {
			err := decode([]byte(body))
			if !errors.Is(err, sessiond.ErrMalformed) || errors.Is(err, sessiond.ErrInvalid) {
				t.Errorf("%s of %.60q: %v, want ErrMalformed", name, body, err)
			}
		}
	}
	for _, decode := range []func([]byte) error{decodeCreate, decodeUpdate, decodeVerify} {
		if err := decode(nil); !errors.Is(err, sessiond.ErrMalformed) {
			t.Errorf("no body: %v, want ErrMalformed", err)
		}
	}
	for _, decode := range []func([]byte) error{decodeRotate, api.DecodeEmpty} {
		if err := decode(nil); err != nil {
			t.Errorf("no body: %v", err)
		}
	}
}

// What is well-formed but not the message is invalid, and says where.
func TestInvalidBodies(t *testing.T) {
	tests := []struct{ decoder, body, pointers string }{
		{"create", `{"id":""}`, "/id"},
		{"create", `{"id":null}`, "/id /id"},
		{"create", `{"ID":"a"}`, "/ID"},
		{"create", `{"id":"a","Id":"b"}`, "/Id"},
		{"create", `{"subject":1}`, "/subject"},
		{"create", `{"subject":null}`, "/subject"},
		{"create", `{"labels":null}`, "/labels"},
		{"create", `{"labels":[]}`, "/labels"},
		{"create", `{"labels":{"a":1,"b":"x","c":null}}`, "/labels/a /labels/c"},
		{"create", `{"labels":{"a/~":1}}`, "/labels/a~1~0"},
		{"create", `{"expires_in":1.0}`, "/expires_in"},
		{"create", `{"expires_in":1e3}`, "/expires_in"},
		{"create", `{"expires_in":-0}`, "/expires_in"},
		{"create", `{"expires_in":"60"}`, "/expires_in"},
		{"create", `{"expires_in":null}`, "/expires_in"},
		{"create", `{"expires_in":[],"idle_timeout":{}}`, "/expires_in /idle_timeout"},
		{"create", `{"idle_timeout":true}`, "/idle_timeout"},
		{"create", `{"token":"sst_x"}`, "/token"},
		{"create", `{"":1}`, "/"},
		{"create", `{"a/b~c":1}`, "/a~1b~0c"},
		{"create", `{"` + strings.Repeat("x", 65) + `":1}`, ""},
		{"create", `{"\u202e":1}`, ""},
		{"create", `{"\n":1}`, ""},
		{"create", `{"__proto__":{},"zzz":1}`, "/__proto__ /zzz"},
		{"update", `{"id":"a"}`, "/id"},
		{"update", `{"subject":"a"}`, "/subject"},
		{"update", `{"Data":{}}`, "/Data"},
		{"update", `{"labels":"x","expires_in":0.5}`, "/labels /expires_in"},
		{"rotate", `{"token":""}`, "/token"},
		{"rotate", `{"token":{}}`, "/token /token"},
		{"rotate", `{"subject":""}`, "/subject"},
		{"rotate", `{"subject":["x"]}`, "/subject /subject"},
		{"rotate", `{"data":{}}`, "/data"},
		{"verify", `{}`, "/token"},
		{"verify", `{"touch":true}`, "/token"},
		{"verify", `{"token":1}`, "/token"},
		{"verify", `{"token":null}`, "/token"},
		{"verify", `{"token":"x","touch":"false"}`, "/touch"},
		{"verify", `{"token":"x","touch":0}`, "/touch"},
		{"verify", `{"token":"x","Token":"y"}`, "/Token"},
		{"empty", `{"token":"x"}`, "/token"},
	}
	for _, tt := range tests {
		err := decoders[tt.decoder]([]byte(tt.body))
		var bad *sessiond.InvalidError
		if !errors.As(err, &bad) || errors.Is(err, sessiond.ErrMalformed) {
			t.Errorf("%s of %.60q: %v, want an InvalidError", tt.decoder, tt.body, err)
			continue
		}
		var got []string
		for _, f := range bad.Fields {
			got = append(got, f.Pointer)
			if f.Detail == "" || strings.Contains(f.Detail, "sst_x") {
				t.Errorf("%s of %q: detail %q", tt.decoder, tt.body, f.Detail)
			}
		}
		if strings.Join(got, " ") != tt.pointers {
			t.Errorf("%s of %.60q: pointers %q, want %q", tt.decoder, tt.body, got, tt.pointers)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestGoodBodies(t *testing.T) {
	const far = (876_000*3600 + 1) * time.Second // what numbers beyond every bound come back as
	create := []struct {
		body string
		want sessiond.CreateParams
	}{
		{` {} ` + "\r\n\t", sessiond.CreateParams{}},
		{nested(sessiond.MaxNesting), sessiond.CreateParams{
			Data: jsontext.Value(strings.TrimSuffix(strings.TrimPrefix(nested(sessiond.MaxNesting), `{"data":`), `}`))}},
		{`{"id":"a","subject":"\ud83d\ude00","data":{"n":1e999,"N":-0,"x":12345678901234567890.10},"labels":{},` +
			`"expires_in":60,"idle_timeout":0}`,
			sessiond.CreateParams{ID: "a", Subject: "😀",
				Data:   jsontext.Value(`{"n":1e999,"N":-0,"x":12345678901234567890.10}`),
				Labels: map[string]string{}, ExpiresIn: ptr(time.Minute), IdleTimeout: ptr(time.Duration(0))}},
		{`{"i\u0064":"\u0061","labels":{"k":"v"}}`, sessiond.CreateParams{ID: "a", Labels: map[string]string{"k": "v"}}},
		{`{"expires_in":9223372036854775808,"idle_timeout":-9223372036854775809}`,
			sessiond.CreateParams{ExpiresIn: ptr(far), IdleTimeout: ptr(-time.Second)}},
		{`{"data":null}`, sessiond.CreateParams{Data: jsontext.Value(`null`)}}, // the manager's to refuse
	}
	for _, tt := range create {
		got, err := api.DecodeCreate([]byte(tt.body))
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.body, err, diff)
		}
	}
	token, p, err := api.DecodeVerify([]byte(`{"touch":false,"token":"any \u0000 text"}`))
	if err != nil || string(token) != "any \x00 text" || !p.NoTouch {
		t.Errorf("verify: %q %v %v", string(token), p, err)
	}
	if _, p, err = api.DecodeVerify([]byte(`{"token":"","touch":true}`)); err != nil || p.NoTouch {
		t.Errorf("verify: %v %v", p, err)
	}
}

func TestDecodedDataIsACopy(t *testing.T) {
	body := []byte(`{"data":{"a":1}}`)
	p, err := api.DecodeCreate(body)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if string(p.Data) != `{"a":1}` {
		t.Errorf("data shares the body's memory: %q", p.Data)
	}
}

func addSeeds(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"id":"a","subject":"s","data":{"n":1e999},"labels":{"k":"v"},"expires_in":60,"idle_timeout":0}`,
		`{"data":{"a":1,"a":2}}`, `{"data": [ 1 , {"x":"\u0041\ud83d\ude00"} ] }`, `{"expires_in":1e3}`,
		`{"token":"sst_x","touch":false}`, `{"token":"sst_x","subject":"s"}`, "{\"id\":\"\xff\"}", `{"labels":{"a":1}}`,
		`{"expires_in":99999999999999999999}`, nested(32), nested(33), `[]`, ``,
	} {
		f.Add([]byte(s))
	}
}

// refused checks an error of a decoder: it is of one kind and quotes nothing.
func refused(t *testing.T, err error) {
	t.Helper()
	malformed, invalid := errors.Is(err, sessiond.ErrMalformed), errors.Is(err, sessiond.ErrInvalid)
	if malformed == invalid {
		t.Errorf("error of no kind, or of both: %v", err)
	}
	if p := api.FromError(err); p.Code() != api.CodeMalformed && p.Code() != api.CodeInvalidSession {
		t.Errorf("code %q", p.Code())
	}
}

func wholeSeconds(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	return ptr(int64(*d / time.Second))
}

// again decodes what message is on the wire and compares with first.
func again[T any](t *testing.T, message any, first T, decode func([]byte) (T, error)) {
	t.Helper()
	wire, err := api.Marshal(message)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	second, err := decode(wire)
	if err != nil {
		t.Fatalf("decode %s again: %v", wire, err)
	}
	compact := cmp.Transformer("canonical", func(v jsontext.Value) string {
		if v == nil {
			return "absent"
		}
		text, err := canonicalStrings(v)
		if err != nil {
			return err.Error()
		}
		return text
	})
	if diff := cmp.Diff(first, second, compact); diff != "" {
		t.Errorf("second reading differs:\n%s", diff)
	}
}

// canonicalStrings writes a value compactly with strings in one spelling and
// numbers digit for digit.
func canonicalStrings(v jsontext.Value) (string, error) {
	var b strings.Builder
	dec, enc := jsontext.NewDecoder(strings.NewReader(string(v))), jsontext.NewEncoder(&b)
	for {
		switch dec.PeekKind() {
		case 0:
			return b.String(), nil
		case '0':
			raw, err := dec.ReadValue()
			if err != nil {
				return "", fmt.Errorf("number: %w", err)
			}
			if err := enc.WriteValue(raw); err != nil {
				return "", fmt.Errorf("number: %w", err)
			}
		default:
			tok, err := dec.ReadToken()
			if err != nil {
				return "", fmt.Errorf("token: %w", err)
			}
			if err := enc.WriteToken(tok); err != nil {
				return "", fmt.Errorf("token: %w", err)
			}
		}
	}
}

func FuzzDecodeCreate(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := api.DecodeCreate(body)
		if err != nil {
			refused(t, err)
			return
		}
		again(t, api.CreateRequest{
			ID: string(p.ID), Subject: p.Subject, Data: p.Data, Labels: p.Labels,
			ExpiresIn: wholeSeconds(p.ExpiresIn), IdleTimeout: wholeSeconds(p.IdleTimeout),
		}, p, api.DecodeCreate)
	})
}

func FuzzDecodeUpdate(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := api.DecodeUpdate(body)
		if err != nil {
			refused(t, err)
			return
		}
		message := api.UpdateRequest{
			Data: p.Data, ExpiresIn: wholeSeconds(p.ExpiresIn), IdleTimeout: wholeSeconds(p.IdleTimeout),
		}
		if p.Labels != nil {
			message.Labels = &p.Labels
		}
		again(t, message, p, api.DecodeUpdate)
	})
}

func FuzzDecodeRotate(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := api.DecodeRotate(body)
		if err != nil {
			refused(t, err)
			return
		}
		wire, err := api.Marshal(api.RotateRequest{Token: string(p.Token), Subject: p.Subject})
		if err != nil {
			t.Fatal(err)
		}
		q, err := api.DecodeRotate(wire)
		if err != nil || q.Token != p.Token || q.Subject != p.Subject {
			t.Errorf("second reading of %s differs: %v", wire, err)
		}
	})
}

func FuzzDecodeVerify(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		token, p, err := api.DecodeVerify(body)
		if err != nil {
			refused(t, err)
			return
		}
		wire, err := api.Marshal(api.VerifyRequest{Token: string(token), Touch: ptr(!p.NoTouch)})
		if err != nil {
			t.Fatal(err)
		}
		token2, p2, err := api.DecodeVerify(wire)
		if err != nil || token2 != token || p2 != p {
			t.Errorf("second reading of %s differs: %v", wire, err)
		}
	})
}

func TestDecodersTakeWhatTheStructsWrite(t *testing.T) {
	bodies := map[string]any{
		"create": api.CreateRequest{ID: "a", Subject: "s", Data: jsontext.Value(`{}`), Labels: map[string]string{"k": "v"},
			ExpiresIn: ptr(int64(1)), IdleTimeout: ptr(int64(0))},
		"update": api.UpdateRequest{Data: jsontext.Value(`{}`), Labels: &map[string]string{}, ExpiresIn: ptr(int64(1)),
			IdleTimeout: ptr(int64(0))},
		"rotate": api.RotateRequest{Token: "sst_x", Subject: "s"},
		"verify": api.VerifyRequest{Token: "sst_x", Touch: ptr(false)},
		"empty":  struct{}{},
	}
	for _, name := range slices.Sorted(maps.Keys(decoders)) {
		b, err := api.Marshal(bodies[name])
		if err != nil {
			t.Fatal(err)
		}
		if err := decoders[name](b); err != nil {
			t.Errorf("%s refuses %s: %v", name, b, err)
		}
	}
}
