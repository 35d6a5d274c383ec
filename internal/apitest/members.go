package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// checkMembers finds members of a JSON body that its schema does not name, and
// names that do not fit propertyNames. The document leaves objects of answers
// open, because later versions may add members; the version at hand must not.
func checkMembers(schema *openapi3.Schema, body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return walk([]*openapi3.Schema{schema}, value, "")
}

// walk checks value against the schemas that apply to it together.
func walk(schemas []*openapi3.Schema, value any, pointer string) error {
	schemas = spread(nil, schemas)
	switch value := value.(type) {
	case []any:
		var items []*openapi3.Schema
		for _, s := range schemas {
			if s.Items != nil {
				items = append(items, s.Items.Value)
			}
		}
		for i, item := range value {
			if err := walk(items, item, fmt.Sprintf("%s/%d", pointer, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			var inner []*openapi3.Schema
			known := false
			for _, s := range schemas {
				if p := s.Properties[name]; p != nil {
					inner, known = append(inner, p.Value), true
				}
				if n := s.PropertyNames; n != nil {
					if err := n.Value.VisitJSONString(name); err != nil {
						return fmt.Errorf("at %s: the name does not fit the schema", pointer)
					}
				}
				known = known || s.AdditionalProperties.Schema != nil ||
					s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has
			}
			at := pointer + "/" + name
			if !known {
				return fmt.Errorf("the body has a member that is not documented: %s", at)
			}
			if err := walk(inner, value[name], at); err != nil {
				return err
			}
		}
	}
	return nil
}

// spread adds to dst the schemas and those that they are made of.
func spread(dst, schemas []*openapi3.Schema) []*openapi3.Schema {
	for _, s := range schemas {
		dst = append(dst, s)
		for _, refs := range []openapi3.SchemaRefs{s.AllOf, s.OneOf, s.AnyOf} {
			for _, ref := range refs {
				dst = spread(dst, []*openapi3.Schema{ref.Value})
			}
		}
	}
	return dst
}
