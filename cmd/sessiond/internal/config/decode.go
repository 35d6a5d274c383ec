package config

// The strict decoder: from a YAML or JSON tree into the Config type. YAML and JSON share it, so that a key means the
// same in a file, a variable and a flag.

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxNodes  = 100_000 // visits, so that aliases cannot multiply the work
	maxErrors = 20      // reported for one source
)

// decoder fills values from one source and collects what is wrong with it.
type decoder struct {
	source string // the file, variable or flag, as messages name it
	lines  bool   // whether nodes know their line
	nodes  int
	errs   []error
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	if d.full() {
		return
	}
	where := d.source
	if d.lines {
		where += ":" + strconv.Itoa(n.Line)
	}
	if path != "" {
		where += ": " + path
	}
	d.errs = append(d.errs, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
	if d.full() {
		d.errs = append(d.errs, fmt.Errorf("%s: too many errors, the rest is not shown", d.source))
	}
}

func (d *decoder) full() bool { return len(d.errs) >= maxErrors }

func (d *decoder) err() error { return errors.Join(d.errs...) }

// decode sets v, which is settable, from n. path is the key as messages name it. The recursion ends because the
// Config type does not contain itself: a tree that goes deeper has the wrong type somewhere.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(n, path, "more than %d values: use fewer aliases or entries", maxNodes)
		}
		return
	}
	if d.full() {
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(n, path, "YAML tags are not supported: remove %s", quote(n.Tag))
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[ClaimPath]():
		d.claimPath(n, v, path)
	case v.Kind() == reflect.Struct:
		d.structure(n, v, path)
	case v.Kind() == reflect.Map:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	t := v.Type()
	d.members(n, path, func(key, value *yaml.Node) {
		for i := range t.NumField() {
			if fieldKey(t.Field(i)) == key.Value {
				d.decode(value, v.Field(i), join(path, key.Value))
				return
			}
		}
		d.fail(key, join(path, key.Value), "unknown key%s", suggestKey(key.Value, t))
	})
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.members(n, path, func(key, value *yaml.Node) {
		element := reflect.New(v.Type().Elem()).Elem()
		if gateway, ok := element.Addr().Interface().(*Gateway); ok {
			*gateway = DefaultGateway()
		}
		d.decode(value, element, join(path, key.Value))
		v.SetMapIndex(reflect.ValueOf(key.Value), element)
	})
}

// members calls f for each member of a mapping, once per key. A key without a value ("gateways:" and nothing below)
// is an empty mapping.
func (d *decoder) members(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "is %s, not a mapping of keys to values", kindName(n))
		return
	}
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !d.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 || isNull(key) {
			d.fail(key, path, "has a key that is not a name")
			continue
		}
		if key.ShortTag() == "!!merge" {
			d.fail(key, path, "YAML merge keys are not supported: write the keys out")
			continue
		}
		if first, seen := lines[key.Value]; seen {
			d.fail(key, join(path, key.Value), "%s", "appears twice"+d.firstSeen(first))
			continue
		}
		lines[key.Value] = key.Line
		f(key, value)
	}
}

func (d *decoder) firstSeen(line int) string {
	if !d.lines {
		return ""
	}
	return fmt.Sprintf(", first in line %d", line)
}

// sequence leaves an empty list that was written apart from a list that was not (nil): Validate refuses the former
// where it would read as "nothing" and mean "everything".
func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	list := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), maxNodes))
	if isNull(n) {
		v.Set(list)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "is %s, not a list", kindName(n))
		return
	}
	for i, item := range n.Content {
		if d.full() || d.nodes > maxNodes {
			return
		}
		element := reflect.New(v.Type().Elem()).Elem()
		d.decode(item, element, path+"["+strconv.Itoa(i)+"]")
		list = reflect.Append(list, element)
	}
	v.Set(list)
}

// claimPath accepts the dotted form and the list of names.
func (d *decoder) claimPath(n *yaml.Node, v reflect.Value, path string) {
	var result ClaimPath
	var err error
	if n.Kind == yaml.SequenceNode {
		var names []string
		before := len(d.errs)
		d.sequence(n, reflect.ValueOf(&names).Elem(), path)
		if len(d.errs) > before {
			return
		}
		result = names
		err = result.check()
	} else {
		var dotted string
		before := len(d.errs)
		d.scalar(n, reflect.ValueOf(&dotted).Elem(), path)
		if len(d.errs) > before {
			return
		}
		result, err = ParseClaimPath(dotted)
	}
	if err != nil {
		d.fail(n, path, "%w", err)
		return
	}
	v.Set(reflect.ValueOf(result))
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		d.fail(n, path, "has no value: give one or remove the key")
		return
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "is %s, not a single value", kindName(n))
		return
	}
	if v.Kind() == reflect.String {
		if n.ShortTag() == "!!bool" {
			d.fail(n, path, "is a boolean, not text: put it in quotes")
			return
		}
		v.SetString(n.Value)
		return
	}
	if err := setScalar(v, n.Value); err != nil {
		d.fail(n, path, "%w", err)
	}
}

// setScalar parses the text of everything that is not text itself.
func setScalar(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case time.Duration:
		parsed, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s is not a duration: write a number and a unit, as in 90s or 12h", quote(text))
		}
		v.SetInt(int64(parsed))
	case Size:
		parsed, err := ParseSize(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(parsed))
	case int:
		parsed, err := parseDigits(text)
		if err != nil || v.OverflowInt(parsed) {
			return fmt.Errorf("%s is not a whole number in decimal digits, or is too large", quote(text))
		}
		v.SetInt(parsed)
	case bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%s is not a boolean: write true or false", quote(text))
		}
		v.SetBool(text == "true")
	default:
		return fmt.Errorf("values of type %s cannot be configured", v.Type())
	}
	return nil
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// join appends a key to a path. Keys that are not plain names, such as subjects, are quoted.
func join(path, key string) string {
	plain := key != "" && len(key) <= 64 && strings.Trim(key,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	switch {
	case !plain:
		return path + "[" + quote(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}
