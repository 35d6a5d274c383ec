package apidoc

import (
	"html/template"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A table shows the members of an object.
type table struct {
	Caption string
	Rows    []row
}

// A row is one member, parameter or header.
type row struct {
	Name        string
	In          string // of parameters
	Required    bool
	Type        typeName
	Bounds      []bound
	Description template.HTML
}

// A typeName is a type in words, which may end with the name of a schema.
type typeName struct {
	Text   string
	Schema string // a schema that the page shows
}

// A bound is a rule about a value: words, and the values they are about.
type bound struct {
	Text  string
	Codes []string
}

// shown tells whether a schema of components is an object that the page shows by itself.
func shown(schema *yaml.Node) bool {
	for _, key := range []string{"properties", "allOf", "oneOf"} {
		if member(schema, key) != nil {
			return true
		}
	}
	return false
}

// tables shows a schema: one table of members, or one for each alternative.
func (d *document) tables(schema *yaml.Node) []table {
	s, _ := d.resolve(schema)
	if alternatives := items(member(s, "oneOf")); len(alternatives) > 0 {
		var all []table
		for i, a := range alternatives {
			caption := "Either"
			if i > 0 {
				caption = "Or"
			}
			all = append(all, table{caption, d.rows(a, "", 0)})
		}
		return all
	}
	if rows := d.rows(s, "", 0); len(rows) > 0 {
		return []table{{"Members", rows}}
	}
	return nil
}

// rows are the members of an object, those of objects in it included, with dotted names.
func (d *document) rows(schema *yaml.Node, prefix string, depth int) []row {
	s, _ := d.resolve(schema)
	if depth > maxDepth {
		d.fail("schemas are nested more than %d deep", maxDepth)
	}
	if d.err != nil {
		return nil
	}
	var all []row
	for _, part := range items(member(s, "allOf")) {
		all = append(all, d.rows(part, prefix, depth+1)...)
	}
	required := texts(member(s, "required"))
	each(member(s, "properties"), func(name string, property *yaml.Node) {
		r := d.row(prefix+name, property)
		r.Required = slices.Contains(required, name)
		all = append(all, r)
		if r.Type.Schema != "" {
			return
		}
		inner, _ := d.resolve(property)
		suffix := "."
		if element := member(inner, "items"); element != nil {
			inner, suffix = element, "[]."
		}
		all = append(all, d.rows(inner, prefix+name+suffix, depth+1)...)
	})
	return all
}

// row shows the schema of a value under a name.
func (d *document) row(name string, schema *yaml.Node) row {
	s, _ := d.resolve(schema)
	r := row{Name: name, Type: d.typeOf(schema, 0)}
	r.Description = markdown(text(schema, "description"), 5)
	if s != schema && r.Type.Schema == "" {
		r.Description += markdown(text(s, "description"), 5)
	}
	if r.Type.Schema == "" {
		r.Bounds = d.bounds(s, 0)
	}
	return r
}

// typeOf names the type of a schema.
func (d *document) typeOf(schema *yaml.Node, depth int) typeName {
	s, name := d.resolve(schema)
	if depth > maxDepth {
		d.fail("schemas are nested more than %d deep", maxDepth)
		return typeName{}
	}
	if name != "" && shown(s) {
		return typeName{Schema: name}
	}
	t := typeName{Text: strings.Join(texts(member(s, "type")), " or ")}
	if format := text(s, "format"); format == "date-time" {
		t.Text += ", a time"
	}
	if element := member(s, "items"); element != nil {
		inner := d.typeOf(element, depth+1)
		return typeName{strings.TrimSpace(t.Text+" of "+inner.Text) + " ", inner.Schema}
	}
	if value := member(s, "additionalProperties"); value != nil && value.Kind == yaml.MappingNode {
		inner := d.typeOf(value, depth+1)
		return typeName{strings.TrimSpace(t.Text+" of "+inner.Text) + " ", inner.Schema}
	}
	return t
}

// bounds are the rules that a schema has about a value.
func (d *document) bounds(s *yaml.Node, depth int) []bound {
	var all []bound
	add := func(text string, codes ...string) { all = append(all, bound{text, codes}) }
	switch values := texts(member(s, "enum")); len(values) {
	case 0:
	case 1:
		add("always", values...)
	default:
		add("one of", values...)
	}
	for _, r := range []struct{ min, max, unit string }{
		{"minimum", "maximum", ""}, {"minLength", "maxLength", " characters"},
		{"minItems", "maxItems", " elements"}, {"minProperties", "maxProperties", " members"},
	} {
		if rule := between(text(s, r.min), text(s, r.max)); rule != "" {
			add(rule + r.unit)
		}
	}
	if pattern := text(s, "pattern"); pattern != "" {
		add("matches", pattern)
	}
	if names := member(s, "propertyNames"); names != nil && depth < maxDepth {
		n, _ := d.resolve(names)
		for _, b := range d.bounds(n, depth+1) {
			add("names: "+b.Text, b.Codes...)
		}
	}
	for _, of := range []struct{ key, what string }{{"items", "each: "}, {"additionalProperties", "values: "}} {
		inner, name := d.resolve(member(s, of.key))
		if inner == nil || depth > maxDepth || name != "" && shown(inner) {
			continue
		}
		for _, b := range d.bounds(inner, depth+1) {
			add(of.what+b.Text, b.Codes...)
		}
	}
	if value := member(s, "default"); value != nil {
		add("default", strconv.Quote(value.Value))
		if value.Tag != "!!str" || !strings.ContainsAny(value.Value, " ") && value.Value != "" {
			all[len(all)-1].Codes = []string{value.Value}
		}
	}
	return all
}

// between says a range in words, without its ends where they are empty.
func between(low, high string) string {
	switch {
	case low == "" && high == "":
		return ""
	case high == "":
		return "at least " + low
	case low == "":
		return "at most " + high
	case low == high:
		return "exactly " + low
	default:
		return low + " to " + high
	}
}
