package apidoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A document is an OpenAPI document with its members in order. It remembers the first thing that was wrong.
type document struct {
	root *yaml.Node
	err  error
}

func (d *document) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// maxDepth bounds chains of references and the nesting of schemas.
const maxDepth = 16

// member is the value of a key of a mapping, or of a path of keys; nil if there is none.
func member(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		var found *yaml.Node
		each(n, func(k string, v *yaml.Node) {
			if k == key {
				found = v
			}
		})
		n = found
	}
	return n
}

// text is the scalar under a path of keys, empty if there is none.
func text(n *yaml.Node, path ...string) string {
	if n = member(n, path...); n != nil && n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return ""
}

// texts are the scalars of a sequence, or a lone scalar.
func texts(n *yaml.Node) []string {
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}
	}
	var all []string
	for _, item := range n.Content {
		all = append(all, item.Value)
	}
	return all
}

// each calls f for the members of a mapping in order.
func each(n *yaml.Node, f func(key string, v *yaml.Node)) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f(n.Content[i].Value, n.Content[i+1])
	}
}

// items are the elements of a sequence.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// resolve follows the reference that n may be, and names its target when that is a schema under components. Other
// members beside a $ref stay with n.
func (d *document) resolve(n *yaml.Node) (target *yaml.Node, schema string) {
	for range maxDepth {
		ref := text(n, "$ref")
		if ref == "" {
			return n, schema
		}
		path, ok := strings.CutPrefix(ref, "#/")
		if !ok {
			d.fail("%q is not a reference into the document", ref)
			return nil, ""
		}
		n = d.root
		for key := range strings.SplitSeq(path, "/") {
			n = member(n, strings.NewReplacer("~1", "/", "~0", "~").Replace(key))
		}
		if n == nil {
			d.fail("%q leads nowhere", ref)
			return nil, ""
		}
		if name, ok := strings.CutPrefix(path, "components/schemas/"); ok && schema == "" {
			schema = name
		}
	}
	d.fail("references go in a circle")
	return nil, ""
}

// example is a value as a reader sees it: JSON on several lines, or the text itself where the media type is not JSON.
func (d *document) example(n *yaml.Node, mediaType string) string {
	if !strings.HasSuffix(mediaType, "json") && n.Kind == yaml.ScalarNode {
		return n.Value
	}
	var compact, indented bytes.Buffer
	d.writeJSON(&compact, n)
	if err := json.Indent(&indented, compact.Bytes(), "", "  "); err != nil {
		d.fail("example in line %d: %w", n.Line, err)
	}
	return indented.String()
}

// writeJSON writes a value with its members in the order of the document.
func (d *document) writeJSON(b *bytes.Buffer, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			d.writeScalar(b, n.Content[i].Value)
			b.WriteByte(':')
			d.writeJSON(b, n.Content[i+1])
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			d.writeJSON(b, item)
		}
		b.WriteByte(']')
	default:
		var value any
		if err := n.Decode(&value); err != nil {
			d.fail("example in line %d: %w", n.Line, err)
		}
		d.writeScalar(b, value)
	}
}

func (d *document) writeScalar(b *bytes.Buffer, value any) {
	text := json.NewEncoder(b)
	text.SetEscapeHTML(false)
	if err := text.Encode(value); err != nil {
		d.fail("example: %w", err)
	}
}
