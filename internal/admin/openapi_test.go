package admin

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestEveryRouteIsDescribed in docs/openapi.yaml, and nothing else is.
func TestEveryRouteIsDescribed(t *testing.T) {
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var description struct {
		OpenAPI string                          `yaml:"openapi"`
		Paths   map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &description); err != nil || !strings.HasPrefix(description.OpenAPI, "3.1.") {
		t.Fatal(description.OpenAPI, err)
	}
	var described []string
	for path, operations := range description.Paths {
		for method := range operations {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	routes := NewDesk(nil, nil, nil, slog.New(slog.DiscardHandler)).handler.patterns
	for _, pattern := range routes {
		pattern = strings.TrimSuffix(pattern, "{$}")
		if !slices.Contains(described, pattern) && !slices.Contains(described, pattern+"/") {
			t.Errorf("%s is not described", pattern)
		}
	}
	for _, operation := range described {
		if !slices.Contains(routes, operation) && !slices.Contains(routes, operation+"{$}") {
			t.Errorf("%s is described, and no route", operation)
		}
	}
}
