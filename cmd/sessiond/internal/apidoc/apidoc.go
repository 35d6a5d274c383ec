// Package apidoc renders an OpenAPI document as one HTML page for people. The page needs nothing but itself: no
// scripts, and no style, font or picture from elsewhere.
package apidoc

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	//go:embed page.tmpl.html
	pageText string
	//go:embed style.css
	styleText string
)

// ContentSecurityPolicy is the value of the header that allows exactly what the page has: its style.
func ContentSecurityPolicy() string {
	sum := sha256.Sum256([]byte(styleText))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// Page renders an OpenAPI 3.1 document, given as YAML or JSON. It understands what the document of sessiond uses:
// local references, one level of allOf and oneOf, and of CommonMark the part that [markdown] names. It fails when the
// document is not YAML or a reference leads nowhere.
func Page(openapi []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(openapi, &root); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return nil, fmt.Errorf("read the OpenAPI document: it is empty")
	}
	d := &document{root: root.Content[0]}
	view := d.page()
	if d.err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", d.err)
	}
	functions := template.FuncMap{
		"lower": strings.ToLower,
		"table": func(caption string, rows []row) table { return table{caption, rows} },
	}
	page, err := template.New("page").Funcs(functions).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("render the OpenAPI document: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, view); err != nil {
		return nil, fmt.Errorf("render the OpenAPI document: %w", err)
	}
	return b.Bytes(), nil
}
