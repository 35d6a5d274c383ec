package sessiond_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sessiond.example/sessiond"
)

// mergeCases are RFC 7396, appendix A, and what it leaves open.
var mergeCases = []struct{ target, patch, want string }{
	{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
	{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
	{`{"a":"b"}`, `{"a":null}`, `{}`},
	{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
	{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
	{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
	{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
	{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
	{`["a","b"]`, `["c","d"]`, `["c","d"]`},
	{`{"a":"b"}`, `["c"]`, `["c"]`},
	{`{"a":"foo"}`, `null`, `null`},
	{`{"a":"foo"}`, `"bar"`, `"bar"`},
	{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
	{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
	{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	// The order of members stays, new ones come last.
	{`{"z":1,"a":2,"m":3}`, `{"b":4,"a":5}`, `{"z":1,"a":5,"m":3,"b":4}`},
	// Nulls inside arrays are values.
	{`{"a":1}`, `{"a":[null,{"b":null}]}`, `{"a":[null,{"b":null}]}`},
	// Numbers stay digit for digit, whether the patch brings them or passes them by.
	{`{"a":1.0,"b":{"c":1e400,"d":-0}}`, `{"b":{"e":9007199254740993}}`,
		`{"a":1.0,"b":{"c":1e400,"d":-0,"e":9007199254740993}}`},
	{`{"n":0.1}`, `{"n":123456789012345678901234567890.0001E+2}`, `{"n":123456789012345678901234567890.0001E+2}`},
	// Names are equal by what they mean, not by how they are written, and case counts.
	{`{"\u0061":1,"A":2}`, `{"a":null}`, `{"A":2}`},
	{`{"a\/b":1}`, `{"a/b":2}`, `{"a/b":2}`},
	{`{"":1}`, `{"":{"":2}}`, `{"":{"":2}}`},
	{`{"a":"😀é"}`, `{"b":"\ud83d\ude00"}`, `{"a":"😀é","b":"\ud83d\ude00"}`},
}

func TestMergePatch(t *testing.T) {
	t.Parallel()
	for _, tt := range mergeCases {
		got, err := sessiond.MergePatch(data(tt.target), data(tt.patch))
		if err != nil || string(got) != tt.want {
			t.Errorf("merge of %s into %s: %s, %v, want %s", tt.patch, tt.target, got, err, tt.want)
		}
	}
}

// TestPatchData plays the same table through sessions, one level down.
func TestPatchData(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, tt := range mergeCases {
		s, _ := e.create(sessiond.CreateParams{Data: data(`{"x":` + tt.target + `}`)})
		want := `{"x":` + tt.want + `}`
		if tt.patch == "null" {
			want = "{}"
		}
		got, err := e.patch(s.ID, `{"data":{"x":`+tt.patch+`}}`)
		if err != nil || string(got.Data) != want {
			t.Errorf("patch %s of %s: %s, %v, want %s", tt.patch, tt.target, got.Data, err, want)
		}
		if got := e.get(s.ID).Data; string(got) != want {
			t.Errorf("patch %s of %s: Get shows %s, want %s", tt.patch, tt.target, got, want)
		}
	}
}

func TestPatchMembers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, _ := e.create(sessiond.CreateParams{
		Data: data(`{"a":1}`), Labels: map[string]string{"ip": "192.0.2.1", "device": "phone"},
	})
	for _, tt := range []struct {
		patch, data string
		labels      map[string]string
	}{
		{`{"labels":{"ip":null,"os":"linux"}}`, `{"a":1}`, map[string]string{"device": "phone", "os": "linux"}},
		{`{"labels":{"os":"\u006cinux","no-such":null}}`, `{"a":1}`, map[string]string{"device": "phone", "os": "linux"}},
		{`{"labels":null}`, `{"a":1}`, map[string]string{}},
		{`{"data":null,"labels":{"x":""}}`, `{}`, map[string]string{"x": ""}},
		{` { "data" : { "b" : { "c" : null } } } `, `{"b":{}}`, map[string]string{"x": ""}},
	} {
		got, err := e.patch(s.ID, tt.patch)
		if err != nil {
			t.Errorf("%s: %v", tt.patch, err)
			continue
		}
		if diff := cmp.Diff(tt.labels, got.Labels); diff != "" || string(got.Data) != tt.data {
			t.Errorf("%s: data %s, labels %v", tt.patch, got.Data, got.Labels)
		}
	}
}

func TestPatchRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, policy(func(p *sessiond.Policy) { p.MaxData = 64 }))
	labels := map[string]string{}
	for i := range sessiond.MaxLabels {
		labels[fmt.Sprint("k", i)] = "v"
	}
	s, token := e.create(sessiond.CreateParams{
		ID: "s", Data: data(`{"a":"` + strings.Repeat("x", 50) + `"}`), Labels: labels,
	})
	from := e.position()
	for patch, pointer := range map[string]string{
		`{"data":[]}`:                           "/data",
		`{"data":"x"}`:                          "/data",
		`{"labels":[]}`:                         "/labels",
		`{"labels":{"k0":1}}`:                   "/labels/k0",
		`{"labels":{"k0":{"a":"b"}}}`:           "/labels/k0",
		`{"labels":{"one-more":"v"}}`:           "/labels",
		`{"labels":{"k0":null,"K":"v"}}`:        "/labels",
		`{"labels":{"k0":"a\u0000b"}}`:          "/labels",
		`{"expires_in":null}`:                   "/expires_in",
		`{"idle_timeout":null}`:                 "/idle_timeout",
		`{"expires_in":"60"}`:                   "/expires_in",
		`{"expires_in":60.0}`:                   "/expires_in",
		`{"expires_in":6e1}`:                    "/expires_in",
		`{"expires_in":0}`:                      "/expires_in",
		`{"expires_in":-1}`:                     "/expires_in",
		`{"expires_in":9223372036854775807}`:    "/expires_in",
		`{"expires_in":99999999999999999999}`:   "/expires_in",
		`{"idle_timeout":-0}`:                   "/idle_timeout",
		`{"idle_timeout":-1}`:                   "/idle_timeout",
		`{"idle_timeout":18446744073709551617}`: "/idle_timeout",
		`{"idle_timeout":true}`:                 "/idle_timeout",
		`{"subject":"mallory"}`:                 "/subject",
		`{"Data":{}}`:                           "/Data",
		`{"version":7}`:                         "/version",
		`{"a/b~c":1}`:                           "/a~1b~0c",
		`{"data":{"b":"0123456789"}}`:           "/data", // too large only together with what is there
	} {
		_, err := e.patch("s", patch)
		wantInvalid(t, patch, err, pointer)
		if err != nil && strings.Contains(err.Error(), "mallory") {
			t.Errorf("%s: the error repeats the input: %v", patch, err)
		}
	}
	for _, patch := range []string{
		``, ` `, `null`, `[]`, `"x"`, `1`, `{`, `{"data":{}`, `{"data":{}} x`, `{"data":{}}{}`, `{data:{}}`, `{"a":1,}`,
		`{"data":{"a":1,"a":2}}`, `{"data":{},"data":{}}`, `{"data":{"a":"\ud800"}}`, "{\"data\":{\"a\":\"\xff\"}}",
		`{"data":{"a":01}}`, `{"data":{"a":NaN}}`, "\ufeff{}",
		`{"data":` + strings.Repeat(`{"a":`, 32) + `1` + strings.Repeat(`}`, 33),
	} {
		_, err := e.patch("s", patch)
		wantErr(t, patch, err, sessiond.ErrMalformed)
	}
	if diff := cmp.Diff(s, e.get("s")); diff != "" {
		t.Errorf("refused patches changed the session:\n%s", diff)
	}
	e.wantTypes(from)
	if !e.verify(token).Active {
		t.Error("the token died")
	}
}

// TestPatchDepth: 32 levels counted from the patch are the most, of which the
// data has 31.
func TestPatchDepth(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, _ := e.create(sessiond.CreateParams{})
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	if _, err := e.patch(s.ID, `{"data":`+nested(31)+`}`); err != nil {
		t.Errorf("31 levels of data: %v", err)
	}
	_, err := e.patch(s.ID, `{"data":`+nested(32)+`}`)
	wantErr(t, "32 levels of data", err, sessiond.ErrMalformed)
	if _, err := e.Update(e.ctx, s.ID, sessiond.UpdateParams{Data: data(nested(31))}); err != nil {
		t.Errorf("31 levels of data: %v", err)
	}
	_, err = e.Update(e.ctx, s.ID, sessiond.UpdateParams{Data: data(nested(32))})
	wantInvalid(t, "32 levels of data", err, "/data")
}

func TestParallelPatchesAllSurvive(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, _ := e.create(sessiond.CreateParams{Data: data(`{"n":{}}`)})
	const writers = 40
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if _, err := e.patch(s.ID, fmt.Sprintf(`{"data":{"n":{"k%d":%d}}}`, i, i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := e.get(s.ID)
	if got.Version != writers+1 {
		t.Errorf("version %d after %d patches", got.Version, writers)
	}
	for i := range writers {
		if want := fmt.Sprintf(`"k%d":%d`, i, i); !strings.Contains(string(got.Data), want) {
			t.Errorf("%s is lost: %s", want, got.Data)
		}
	}
}
