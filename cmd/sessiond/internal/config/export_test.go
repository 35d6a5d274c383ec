package config

import (
	"bytes"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// FieldKey is the name of a field in the file.
var FieldKey = fieldKey

// ParseYAML reads the text of a file over the defaults.
func ParseYAML(content []byte) (*Config, error) {
	c := Default()
	return &c, c.parseYAML("file", content)
}

// Tree returns what Print writes for a value.
func Tree(v reflect.Value) (*yaml.Node, error) { return treeOf(v) }

// WriteTree writes a tree as Print does.
func WriteTree(root *yaml.Node) (string, error) {
	var b bytes.Buffer
	err := writeTree(&b, root)
	return b.String(), err
}
