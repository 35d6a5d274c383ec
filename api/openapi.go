package api

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// OpenAPI is the OpenAPI 3.1 document of the API, in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte

// OpenAPIJSON is the document as JSON. It converts anew at each call; servers
// keep the result.
func OpenAPIJSON() ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(OpenAPI, &doc); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return b, nil
}
