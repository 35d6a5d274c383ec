package config

// Keys by name: the dotted paths that variables and flags set, and suggestions for misspelled ones.

import (
	"reflect"
	"strings"
)

// envPrefix begins the name of every environment variable of ours.
const envPrefix = "SESSIOND_"

// Keys returns the dotted path of every key that a variable or a flag can set, in the order of the Config type. A list
// or map is one key.
func Keys() []string {
	var keys []string
	eachKey(reflect.TypeFor[Config](), "", nil, func(key string, _ []int) { keys = append(keys, key) })
	return keys
}

// EnvName returns the environment variable of a key: SESSIOND_STORE_URL for store.url.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// eachKey calls f with the path and the field index of every key below the struct type t.
func eachKey(t reflect.Type, prefix string, index []int, f func(key string, index []int)) {
	for i := range t.NumField() {
		field := t.Field(i)
		key := prefix + fieldKey(field)
		at := append(index[:len(index):len(index)], i)
		if field.Type.Kind() == reflect.Struct {
			eachKey(field.Type, key+".", at, f)
			continue
		}
		f(key, at)
	}
}

// fieldKey is the name of a field in the file.
func fieldKey(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// omitEmpty tells whether a key is left out of the printed configuration when it was not set.
func omitEmpty(f reflect.StructField) bool {
	return strings.HasSuffix(f.Tag.Get("yaml"), ",omitempty")
}

// suggest returns `; did you mean "x"?` for the candidate nearest to name, or nothing if none is near.
func suggest(name string, candidates []string) string {
	best, bestDistance := "", 1+max(2, len(name)/3)
	if len(name) > 64 {
		return ""
	}
	for _, c := range candidates {
		if d := distance(name, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + quote(best) + "?"
}

// suggestKey is suggest among the fields of t. In a section, a key that would be right elsewhere is answered with its
// whole path.
func suggestKey(name string, t reflect.Type) string {
	var fields []string
	for i := range t.NumField() {
		fields = append(fields, fieldKey(t.Field(i)))
	}
	if s := suggest(name, fields); s != "" || t == reflect.TypeFor[Issuer]() || t == reflect.TypeFor[Gateway]() {
		return s
	}
	for _, key := range Keys() {
		if strings.HasSuffix(key, "."+name) {
			return "; did you mean " + quote(key) + "?"
		}
	}
	return ""
}

// distance is the number of bytes to insert, delete, replace or swap with their neighbor to turn a into b.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j]+cost, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
