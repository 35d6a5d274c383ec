package config

// Layering: command line over environment over file over defaults.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds the configuration file and each file that a variable names.
const maxFileBytes = 1 << 20

// LoadParams says where to look.
type LoadParams struct {
	// File is the path of the YAML file; empty: no file.
	File string

	// Environ holds the environment as "NAME=value", as os.Environ returns it.
	Environ []string

	// Flags holds values from the command line by key ("store.url"), written as in a variable: lists and maps are
	// JSON.
	Flags map[string]string
}

// Warning is about something that is suspect but does not stop the start. It contains no values.
type Warning struct {
	Name string // the variable
	Text string // what is wrong with it
}

func (w Warning) String() string { return w.Name + ": " + w.Text }

// Load reads the configuration: Flags over Environ over File over Default. A list or map replaces the one below it as
// a whole. All errors of all sources are returned at once, joined; the configuration is then nil, the warnings are
// still complete. Load reads the configuration file and the files named by variables ending in _FILE, 1 MiB each at
// most, and opens nothing else. The result is not validated.
func Load(params LoadParams) (*Config, []Warning, error) {
	c := Default()
	var errs []error
	if params.File != "" {
		errs = append(errs, c.loadFile(params.File))
	}
	warnings, err := c.loadEnviron(params.Environ)
	errs = append(errs, err)
	errs = append(errs, c.loadFlags(params.Flags))
	if err := errors.Join(errs...); err != nil {
		return nil, warnings, err
	}
	return &c, warnings, nil
}

func (c *Config) loadFile(name string) error {
	content, err := readFile(name)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	return c.parseYAML(name, content)
}

// parseYAML lays one YAML document over c.
func (c *Config) parseYAML(source string, content []byte) error {
	if !utf8.Valid(content) {
		return fmt.Errorf("%s: not UTF-8", source)
	}
	parser := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := parser.Decode(&document); errors.Is(err, io.EOF) {
		return nil // nothing but comments
	} else if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	d := decoder{source: source, lines: true}
	d.decode(document.Content[0], reflect.ValueOf(c).Elem(), "")
	if err := parser.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.errs = append(d.errs, fmt.Errorf("%s: more than one YAML document, or text after it", source))
	}
	return d.err()
}

// clientVariables belong to the commands that call a server, and are none of serve's business.
var clientVariables = []string{envPrefix + "SERVER", envPrefix + "TOKEN", envPrefix + "CONFIG"}

func (c *Config) loadEnviron(environ []string) ([]Warning, error) {
	given := make(map[string]string)
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if _, seen := given[name]; ok && !seen && strings.HasPrefix(name, envPrefix) {
			given[name] = value // the first of a repeated name, like os.Getenv
		}
	}
	var errs []error
	var names []string
	for _, key := range Keys() {
		name := EnvName(key)
		names = append(names, name)
		value, direct := given[name]
		file, fromFile := given[name+"_FILE"]
		delete(given, name)
		delete(given, name+"_FILE")
		source := name
		switch {
		case direct && fromFile:
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set: remove one", name, name))
			continue
		case fromFile:
			source = name + "_FILE"
			content, err := readFile(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", source, err))
				continue
			}
			value = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
		case !direct:
			continue
		}
		errs = append(errs, c.set(key, value, source))
	}
	var warnings []Warning
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(clientVariables, name) {
			warnings = append(warnings, Warning{Name: name, Text: "unknown variable, ignored" + suggest(name, names)})
		}
	}
	return warnings, errors.Join(errs...)
}

func (c *Config) loadFlags(flags map[string]string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		errs = append(errs, c.set(key, flags[key], "command line: "+key))
	}
	return errors.Join(errs...)
}

// set assigns the text of a variable or flag to a key.
func (c *Config) set(key, value, source string) error {
	var target reflect.Value
	eachKey(reflect.TypeFor[Config](), "", nil, func(k string, index []int) {
		if k == key {
			target = reflect.ValueOf(c).Elem().FieldByIndex(index)
		}
	})
	if !target.IsValid() {
		return fmt.Errorf("%s: unknown key%s", source, suggest(key, Keys()))
	}
	if !utf8.ValidString(value) {
		return fmt.Errorf("%s: not UTF-8", source)
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if target.Kind() == reflect.Slice || target.Kind() == reflect.Map {
		var err error
		if node, err = parseJSON(value); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	d := decoder{source: source}
	d.decode(node, target, "")
	return d.err()
}

// maxJSONDepth is more than the Config type can hold.
const maxJSONDepth = 16

// parseJSON turns a JSON text into the tree that the decoder reads. Repeated members stay for it to find.
func parseJSON(text string) (*yaml.Node, error) {
	if err := json.Unmarshal([]byte(text), new(json.RawMessage)); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	parser := json.NewDecoder(strings.NewReader(text))
	parser.UseNumber()
	return jsonNode(parser, maxJSONDepth)
}

func jsonNode(parser *json.Decoder, depth int) (*yaml.Node, error) {
	if depth == 0 {
		return nil, fmt.Errorf("nested deeper than %d", maxJSONDepth)
	}
	token, err := parser.Token()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}, nil
	}
	switch token := token.(type) {
	case nil:
		return scalar("!!null", "null")
	case bool:
		return scalar("!!bool", fmt.Sprint(token))
	case json.Number:
		return scalar("!!float", token.String())
	case string:
		return scalar("!!str", token)
	}
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if token == json.Delim('[') {
		node = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	}
	for parser.More() {
		child, err := jsonNode(parser, depth-1)
		if err != nil {
			return nil, err
		}
		node.Content = append(node.Content, child)
	}
	if _, err := parser.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return node, nil
}

// readFile reads a file of at most maxFileBytes. It does not ask for the size first: secrets come through pipes too.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(content) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return content, nil
}
