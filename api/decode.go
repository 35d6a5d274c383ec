package api

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sessiond.example/sessiond"
	"sessiond.example/sessiond/internal/strictjson"
)

// The functions here read request bodies, strictly: what is not JSON as it
// should be matches [sessiond.ErrMalformed], members that are unknown or of the
// wrong type match [sessiond.ErrInvalid]. Bounds of values are the manager's.

// DecodeCreate reads the body of a create.
func DecodeCreate(body []byte) (p sessiond.CreateParams, err error) {
	var d decoder
	var c content
	err = d.object(body, func(name []byte, v jsontext.Value) bool {
		switch string(name) {
		case "id":
			p.ID = sessiond.ID(d.text("/id", v))
			d.check(p.ID != "", "/id", "must not be empty")
		case "subject":
			p.Subject = d.text("/subject", v)
		default:
			return d.content(&c, name, v)
		}
		return true
	})
	p.Data, p.Labels, p.ExpiresIn, p.IdleTimeout = c.data, c.labels, c.expiresIn, c.idleTimeout
	return p, err
}

// DecodeUpdate reads the body of a PUT.
func DecodeUpdate(body []byte) (p sessiond.UpdateParams, err error) {
	var d decoder
	var c content
	err = d.object(body, func(name []byte, v jsontext.Value) bool { return d.content(&c, name, v) })
	p.Data, p.Labels, p.ExpiresIn, p.IdleTimeout = c.data, c.labels, c.expiresIn, c.idleTimeout
	return p, err
}

// content is what callers may set at a create and change later.
type content struct {
	data                   jsontext.Value
	labels                 map[string]string
	expiresIn, idleTimeout *time.Duration
}

// content reads one member of c and reports whether it is one.
func (d *decoder) content(c *content, name []byte, v jsontext.Value) bool {
	switch string(name) {
	case "data":
		c.data = v.Clone() // the body is not ours to keep
	case "labels":
		c.labels = d.labels(v)
	case "expires_in":
		c.expiresIn = d.seconds("/expires_in", v)
	case "idle_timeout":
		c.idleTimeout = d.seconds("/idle_timeout", v)
	default:
		return false
	}
	return true
}

// DecodeRotate reads the body of a rotate, which may be empty.
func DecodeRotate(body []byte) (p sessiond.RotateParams, err error) {
	if len(body) == 0 {
		return p, nil
	}
	var d decoder
	err = d.object(body, func(name []byte, v jsontext.Value) bool {
		switch string(name) {
		case "token":
			p.Token = sessiond.Token(d.text("/token", v))
			d.check(p.Token != "", "/token", "must not be empty")
		case "subject":
			p.Subject = d.text("/subject", v)
			d.check(p.Subject != "", "/subject", "must not be empty")
		default:
			return false
		}
		return true
	})
	return p, err
}

// DecodeEmpty reads a body that says nothing: no bytes, or an object without
// members.
func DecodeEmpty(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	var d decoder
	return d.object(body, func([]byte, jsontext.Value) bool { return false })
}

// DecodeVerify reads the body of a verify. A token of any text is well-formed.
func DecodeVerify(body []byte) (t sessiond.Token, p sessiond.VerifyParams, err error) {
	var d decoder
	given := false
	err = d.object(body, func(name []byte, v jsontext.Value) bool {
		switch string(name) {
		case "token":
			t, given = sessiond.Token(d.text("/token", v)), true
		case "touch":
			d.check(v.Kind() == 't' || v.Kind() == 'f', "/touch", "must be true or false")
			p.NoTouch = v.Kind() == 'f'
		default:
			return false
		}
		return true
	})
	if err == nil && !given {
		err = &sessiond.InvalidError{Fields: []sessiond.FieldError{{Pointer: "/token", Detail: "is required"}}}
	}
	return t, p, err
}

// A decoder collects what is wrong with a message.
type decoder struct{ bad []sessiond.FieldError }

func (d *decoder) check(ok bool, pointer, detail string) {
	if !ok {
		d.bad = append(d.bad, sessiond.FieldError{Pointer: pointer, Detail: detail})
	}
}

// object calls known for every member of body; known reports whether the
// member is one of the message's.
func (d *decoder) object(body []byte, known func(name []byte, v jsontext.Value) bool) error {
	var buf [strictjson.MaxMembers]strictjson.Member
	members, sure := strictjson.Members(buf[:0], body, sessiond.MaxNesting)
	if !sure {
		if err := sessiond.ValidateJSON(body, sessiond.MaxNesting); err != nil {
			return err
		}
		var err error
		if members, err = objectMembers(body); err != nil {
			return err
		}
	}
	for _, m := range members {
		if !known(m.Name, m.Value) {
			d.check(false, pointer(string(m.Name)), "unknown member")
		}
	}
	if len(d.bad) > 0 {
		return &sessiond.InvalidError{Fields: d.bad}
	}
	return nil
}

// objectMembers are the members of a value that is known to be valid.
func objectMembers(body []byte) (members []strictjson.Member, err error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, fmt.Errorf("%w: the body must be a JSON object", sessiond.ErrMalformed)
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("%w: member name", sessiond.ErrMalformed)
		}
		m := strictjson.Member{Name: []byte(name.String())}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("%w: member value", sessiond.ErrMalformed)
		}
		m.Value = value.Clone()
		members = append(members, m)
	}
	return members, nil
}

func (d *decoder) text(pointer string, v jsontext.Value) string {
	if v.Kind() != '"' {
		d.check(false, pointer, "must be a string")
		return ""
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	b, err := jsontext.AppendUnquote(nil, v)
	d.check(err == nil, pointer, "must be a string")
	return string(b)
}

func (d *decoder) seconds(pointer string, v jsontext.Value) *time.Duration {
	n, ok := sessiond.ParseSeconds(v)
	d.check(ok, pointer, "must be a whole number of seconds")
	if !ok {
		return nil
	}
	return &n
}

func (d *decoder) labels(v jsontext.Value) map[string]string {
	labels := map[string]string{}
	if v.Kind() != '{' {
		d.check(false, "/labels", "must be an object of strings")
		return nil
	}
	// It fails with nothing but what is in d.bad, since v was validated with its surroundings.
	_ = d.object(v, func(name []byte, v jsontext.Value) bool {
		label, at := string(name), "/labels"
		if v.Kind() != '"' {
			at += pointer(label)
		}
		labels[label] = d.text(at, v)
		return true
	})
	return labels
}

// pointer is the RFC 6901 pointer to a member of the root. Names that are not
// fit to be shown are left out.
func pointer(name string) string {
	if len(name) > 64 || !sessiond.ValidText(name) {
		return ""
	}
	return "/" + escapePointer.Replace(name)
}

var escapePointer = strings.NewReplacer("~", "~0", "/", "~1")
