package sessiond

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond/internal/strictjson"
)

// MaxNesting is how deep objects and arrays may lie within each other in a
// request, counted from its root. Session.Data lies one below the root.
const MaxNesting = 32

const maxDataNesting = MaxNesting - 1

// ValidateJSON checks that b is one JSON value as RFC 8259 and RFC 7493 want
// it: valid UTF-8 without lone surrogates, no object with duplicate members,
// nothing after the value, nested at most depth deep. The error matches
// [ErrMalformed] and does not repeat the input.
func ValidateJSON(b []byte, depth int) error {
	if ok, _ := strictjson.Valid(b, depth); ok {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		_, err := d.ReadToken()
		switch {
		case err != nil:
			return fmt.Errorf("%w: %s", ErrMalformed, syntaxDetail(err, d.InputOffset()))
		case d.StackDepth() > depth:
			return fmt.Errorf("%w: nested more than %d deep", ErrMalformed, depth)
		case d.StackDepth() == 0: // the value is complete
			if len(bytes.TrimLeft(b[d.InputOffset():], " \t\r\n")) > 0 {
				return fmt.Errorf("%w: text after the value at byte %d", ErrMalformed, d.InputOffset())
			}
			return nil
		}
	}
}

// syntaxDetail says what is wrong without the input that jsontext's own texts
// may repeat.
func syntaxDetail(err error, offset int64) string {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Sprintf("duplicate member near byte %d", offset)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "unexpected end"
	case errors.As(err, &syntax):
		return fmt.Sprintf("syntax error near byte %d", syntax.ByteOffset)
	default:
		return "syntax error"
	}
}

// A member is one name and value of a JSON object.
type member struct {
	name  string
	value jsontext.Value
}

// members lists the members of a valid JSON object in their order.
func members(object jsontext.Value) ([]member, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, fmt.Errorf("%w: not an object", ErrMalformed)
	}
	var ms []member
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrMalformed, syntaxDetail(err, d.InputOffset()))
		}
		m := member{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrMalformed, syntaxDetail(err, d.InputOffset()))
		}
		m.value = value.Clone()
		ms = append(ms, m)
	}
	return ms, nil
}

// mergePatch applies a JSON merge patch (RFC 7396, section 2) to target. Both
// are valid JSON; target may be nil for an absent value. Values that the patch
// does not touch stay as they were written, numbers digit for digit.
func mergePatch(target, patch jsontext.Value) (jsontext.Value, error) {
	if patch.Kind() != '{' {
		return patch, nil
	}
	var result []member
	if target.Kind() == '{' {
		var err error
		if result, err = members(target); err != nil {
			return nil, err
		}
	}
	changes, err := members(patch)
	if err != nil {
		return nil, err
	}
	index := make(map[string]int, len(result))
	for i, m := range result {
		index[m.name] = i
	}
	for _, c := range changes {
		i, exists := index[c.name]
		if c.value.Kind() == 'n' {
			if exists {
				result[i].value = nil
			}
			continue
		}
		var old jsontext.Value
		if exists {
			old = result[i].value
		}
		merged, err := mergePatch(old, c.value)
		if err != nil {
			return nil, err
		}
		if exists {
			result[i].value = merged
		} else {
			result = append(result, member{c.name, merged})
		}
	}
	return appendObject(nil, result)
}

// appendObject writes members as an object, leaving out those without value.
func appendObject(dst jsontext.Value, ms []member) (jsontext.Value, error) {
	dst = append(dst, '{')
	first := true
	for _, m := range ms {
		if m.value == nil {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		var err error
		if dst, err = jsontext.AppendQuote(dst, m.name); err != nil {
			return nil, fmt.Errorf("%w: member name", ErrMalformed)
		}
		dst = append(dst, ':')
		dst = append(dst, m.value...)
	}
	return append(dst, '}'), nil
}
