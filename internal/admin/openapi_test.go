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
				operation := strings.ToUpper(method) + " " + path
				described = append(described, operation)
				if got, want := queryNames(t, operations["parameters"], operations[method]), queries[operation]; !slices.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("%s is described with a query of %v, and takes %v", operation, got, want)
				}
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

// queryNames are the names in the query that a path, or an operation, is described with.
func queryNames(t *testing.T, ofPath, operation yaml.Node) (names []string) {
	t.Helper()
	var of struct{ Parameters []map[string]any }
	if err := operation.Decode(&of); err != nil {
		t.Fatal(err)
	}
	all := of.Parameters
	if ofPath.Kind != 0 {
		var more []map[string]any
		if err := ofPath.Decode(&more); err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	for _, p := range all {
		if p["$ref"] == "#/components/parameters/site" {
			names = append(names, "site")
		} else if p["in"] == "query" {
			names = append(names, p["name"].(string))
		}
	}
	slices.Sort(names)
	return names
}
