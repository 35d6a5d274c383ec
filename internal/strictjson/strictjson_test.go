package strictjson_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond/internal/strictjson"
)

const deep = 32

// texts that the fast path has to be sure of.
var usual = []string{
	`{}`, `[]`, `""`, `0`, `-0`, `1`, `-12.50e+7`, `1E-2`, `true`, `false`, `null`, " \t\r\n{ } ",
	`{"a":1,"b":[1,2,{"a":null}],"c":{"a":"x","b":[]}}`,
	`{"é":"日本語 \u00e9\uffff \"\\\/\b\f\n\r\t"}`,
	"{\n  \"subject\" : \"anna\" ,\n  \"labels\" : { } \n}\n",
	`[{"a":1},{"a":1}]`, `{"a":{"a":{"a":1}},"b":{"a":1}}`,
	strings.Repeat("[", deep) + strings.Repeat("]", deep),
	strings.Repeat(`{"a":`, deep) + `1` + strings.Repeat("}", deep),
}

// texts that must not be accepted.
var wrong = []string{
	``, ` `, `{`, `}`, `[`, `]`, `"`, `{]`, `[}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a":1 "b":2}`,
	`{a:1}`, `{1:1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"b":{"a":1,"a":2}}`, `{"a":{},"b":1,"a":2}`, `{"a":1}}`, `{"a":1}x`,
	`01`, `-`, `1.`, `.1`, `1e`, `1e+`, `+1`, `0x1`, `1_0`, `--1`, `tru`, `truee`, `True`, `nul`, `NaN`, `Infinity`,
	"\"\x00\"", "\"\n\"", "\"\x1f\"", `"\x"`, `"\u12"`, `"\u12g4"`, `"\`, `"\u`, `'a'`, `"\ud800"`, `"\udc00\ud800"`, `"\uD800x"`,
	"\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xc0\x80\"", "{\"\xff\":1}", "\ufeff{}", "{}\x00",
	"\v{}", "\u00a0{}", `// x`, `{}/**/`,
	strings.Repeat("[", deep+1) + strings.Repeat("]", deep+1),
	strings.Repeat(`{"a":`, deep) + `{}` + strings.Repeat("}", deep),
}

func TestValid(t *testing.T) {
	for _, text := range usual {
		if ok, _ := strictjson.Valid([]byte(text), deep); !ok {
			t.Errorf("not sure of %s", text)
		}
	}
	for _, text := range wrong {
		if ok, _ := strictjson.Valid([]byte(text), deep); ok {
			t.Errorf("accepts %q", text)
		}
	}
	// What it is not sure of, although it is valid.
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, `,"%d":1`, i)
	}
	for _, text := range []string{`{"\u0061":1}`, `"\ud83d\ude00"`, "{" + many.String()[1:] + "}"} {
		if ok, _ := strictjson.Valid([]byte(text), deep); ok || oracle([]byte(text), deep) != nil {
			t.Errorf("%s: accepted %v, jsontext: %v", text, ok, oracle([]byte(text), deep))
		}
	}
}

func TestMembers(t *testing.T) {
	const text = ` { "a" : [ 1 , 2 ] ,"é":{"b":1,"c":2}, "" :-0.0,"s":"\"" } `
	members, ok := strictjson.Members(nil, []byte(text), deep)
	var got strings.Builder
	for _, m := range members {
		fmt.Fprintf(&got, "%s=%s;", m.Name, m.Value)
	}
	if want := `a=[ 1 , 2 ];é={"b":1,"c":2};=-0.0;s="\"";`; !ok || got.String() != want {
		t.Errorf("%v %s, want %s", ok, got.String(), want)
	}
	for _, text := range append([]string{`[]`, `[{"a":1}]`, `1`, `"{}"`}, wrong...) {
		if members, ok := strictjson.Members(nil, []byte(text), deep); ok {
			t.Errorf("%q has members: %s", text, members)
		}
	}
	var many strings.Builder
	for i := range strictjson.MaxMembers + 1 {
		fmt.Fprintf(&many, `,"%d":%d`, i, i)
		members, ok := strictjson.Members(nil, []byte("{"+many.String()[1:]+"}"), deep)
		if want := i < strictjson.MaxMembers; ok != want || ok && len(members) != i+1 {
			t.Errorf("%d members: %d, sure: %v", i+1, len(members), ok)
		}
	}
}

// oracle is what jsontext says.
func oracle(text []byte, depth int) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		switch _, err := d.ReadToken(); {
		case err != nil:
			return err
		case d.StackDepth() > depth:
			return fmt.Errorf("nested more than %d deep", depth)
		case d.StackDepth() == 0:
			if _, err := d.ReadToken(); err != io.EOF {
				return fmt.Errorf("more text: %v", err)
			}
			return nil
		}
	}
}

// FuzzStrictJSON: what is accepted is accepted by jsontext, with the same members.
func FuzzStrictJSON(f *testing.F) {
	for _, text := range append(usual, wrong...) {
		f.Add([]byte(text), uint8(deep))
	}
	f.Fuzz(func(t *testing.T, text []byte, depth uint8) {
		ok, compact := strictjson.Valid(text, int(depth))
		members, object := strictjson.Members(nil, text, int(depth))
		if object && !(ok && jsontext.Value(text).Kind() == '{') {
			t.Fatalf("%q: valid %v, object %v", text, ok, object)
		}
		if !ok {
			return
		}
		if err := oracle(text, int(depth)); err != nil {
			t.Fatalf("accepts %q: %v", text, err)
		}
		short := jsontext.Value(bytes.Clone(text))
		if err := short.Compact(); err != nil || compact != bytes.Equal(short, text) {
			t.Fatalf("%q is compact: %v; compacted: %q, %v", text, compact, short, err)
		}
		if object {
			compareMembers(t, text, members)
		}
	})
}

func compareMembers(t *testing.T, text []byte, members []strictjson.Member) {
	t.Helper()
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if _, err := d.ReadToken(); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		name, err := d.ReadToken()
		if err != nil || name.String() != string(m.Name) {
			t.Fatalf("%q: member %q is %q, %v", text, m.Name, name, err)
		}
		value, err := d.ReadValue()
		if err != nil || !bytes.Equal(value, m.Value) {
			t.Fatalf("%q: value %q is %q, %v", text, m.Value, value, err)
		}
	}
	if d.PeekKind() != '}' {
		t.Fatalf("%q has more than %d members", text, len(members))
	}
}

// The fast path allocates nothing.
func TestAllocations(t *testing.T) {
	text := []byte(usual[12])
	if n := testing.AllocsPerRun(100, func() {
		var buf [8]strictjson.Member
		strictjson.Valid(text, deep)
		if members, _ := strictjson.Members(buf[:0], text, deep); len(members) != 3 {
			t.Errorf("%d members", len(members))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkValid(b *testing.B) {
	text := []byte(`{"subject":"user-4711","data":{"cart":["apple","pear","plum"],"theme":"dark","locale":"en-GB",` +
		`"csrf":"6f1c9f2e5b7d4a3c8e0f1a2b3c4d5e6f"},"labels":{"device":"phone","client":"web"}}`)
	b.Run("strictjson", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			strictjson.Valid(text, deep)
		}
	})
	b.Run("jsontext", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if oracle(text, deep) != nil {
				b.Fatal()
			}
		}
	})
}
