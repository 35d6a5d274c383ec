package sessiond_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"sessiond.example/sessiond"
)

// mergeModel is RFC 7396, section 2, as its pseudo code says it.
func mergeModel(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	result := map[string]any{}
	if old, ok := target.(map[string]any); ok {
		for k, v := range old {
			result[k] = v
		}
	}
	for k, v := range changes {
		if v == nil {
			delete(result, k)
		} else {
			result[k] = mergeModel(result[k], v)
		}
	}
	return result
}

// decode keeps numbers as they are written.
func decode(t fataler, b []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
	return v
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// checkMerge holds one merge to the model.
func checkMerge(t fataler, target, patch []byte) {
	got, err := sessiond.MergePatch(bytes.Clone(target), bytes.Clone(patch))
	if err != nil {
		t.Fatalf("merge of %s into %s: %v", patch, target, err)
	}
	if err := sessiond.ValidateJSON(got, 64); err != nil {
		t.Fatalf("merge of %s into %s is %s: %v", patch, target, got, err)
	}
	if want := mergeModel(decode(t, target), decode(t, patch)); !reflect.DeepEqual(decode(t, got), want) {
		t.Fatalf("merge of %s into %s is %s, want %v", patch, target, got, want)
	}
	again, err := sessiond.MergePatch(bytes.Clone(got), bytes.Clone(patch))
	if err != nil || !bytes.Equal(again, got) {
		t.Fatalf("merge of %s into %s again is %s, %v, want %s", patch, target, again, err, got)
	}
}

// value draws any JSON value, with few names so that patches meet targets.
func value(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.Just[any](nil),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.SampledFrom([]any{
			json.Number("0"), json.Number("-1"), json.Number("1.50"), json.Number("1e5"), json.Number("9007199254740993"),
		}),
		rapid.Map(rapid.String(), func(s string) any { return s }),
	)
	if depth == 0 {
		return scalar
	}
	inner := value(depth - 1)
	name := rapid.SampledFrom([]string{"", "a", "b", "c/~", "é", "\""})
	return rapid.OneOf(
		scalar,
		rapid.Map(rapid.SliceOfN(inner, 0, 3), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(name, inner, 0, 4), func(m map[string]any) any { return m }),
		rapid.Map(rapid.MapOfN(name, inner, 1, 4), func(m map[string]any) any { return m }),
	)
}

func TestMergePatchModel(t *testing.T) {
	t.Parallel()
	values := value(3)
	rapid.Check(t, func(t *rapid.T) {
		encode := func(label string) []byte {
			b, err := json.Marshal(values.Draw(t, label))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		checkMerge(t, encode("target"), encode("patch"))
	})
}
