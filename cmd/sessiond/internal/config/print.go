package config

// The configuration as text: the effective one, and the commented sample.

import (
	_ "embed"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed sessiond.sample.yaml
var sample string

// Reference returns the commented sample file: every key with its meaning, bounds and default. It loads and is valid.
// Keys that have no useful default hold an example: the issuer, the keyset file and a gateway.
func Reference() string { return sample }

// Print writes c as YAML that [Load] reads: all keys in the order of the Config type, maps sorted by name, optional
// keys of an issuer or gateway only where they are set. User names, passwords and secret parameters in addresses are
// replaced by "xxxxx".
func (c *Config) Print(w io.Writer) error {
	shown := *c
	shown.Store.URL = c.Store.shown()
	root, err := treeOf(reflect.ValueOf(shown))
	if err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	return writeTree(w, root)
}

func writeTree(w io.Writer, root *yaml.Node) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	return encoder.Close()
}

// treeOf is the inverse of decoder.decode, without secrets.
func treeOf(v reflect.Value) (*yaml.Node, error) {
	switch value := v.Interface().(type) {
	case time.Duration:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: formatDuration(value)}, nil
	case Size:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: value.String()}, nil
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.Itoa(value)}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatBool(value)}, nil
	case string:
		return textNode(hideSecrets(value)), nil
	case ClaimPath:
		if dotted, ok := value.dotted(); ok {
			return textNode(dotted), nil
		}
	}
	node := &yaml.Node{}
	switch v.Kind() {
	case reflect.Struct:
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if omitEmpty(field) && v.Field(i).IsZero() {
				continue
			}
			if err := appendMember(node, fieldKey(field), v.Field(i)); err != nil {
				return nil, err
			}
		}
	case reflect.Map:
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			if err := appendMember(node, name.String(), v.MapIndex(name)); err != nil {
				return nil, err
			}
		}
	case reflect.Slice:
		node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		if v.Type().Elem().Kind() != reflect.Struct {
			node.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			item, err := treeOf(v.Index(i))
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, item)
		}
	default:
		return nil, fmt.Errorf("values of type %s cannot be printed", v.Type())
	}
	return node, nil
}

func appendMember(node *yaml.Node, name string, v reflect.Value) error {
	value, err := treeOf(v)
	if err != nil {
		return err
	}
	node.Content = append(node.Content, textNode(name), value)
	return nil
}

// textNode is quoted by the encoder where it would otherwise be read as something else.
func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}
