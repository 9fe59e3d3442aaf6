package main_test

import (
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// description is docs/openapi.yaml, as far as answers are checked with it.
type description struct{ root map[string]any }

func describedAPI(t *testing.T) *description {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := yaml.Unmarshal(text, &d.root); err != nil {
		t.Fatal(err)
	}
	return &d
}

// resolve follows a $ref.
func (d *description) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	var at any = d.root
	for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = at.(map[string]any)[name]
	}
	return d.resolve(at)
}

// operation returns what is described of a request.
func (d *description) operation(method, target string) (map[string]any, error) {
	path, _, _ := strings.Cut(target, "?")
	for pattern, item := range d.root["paths"].(map[string]any) {
		expression := "^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(pattern), "[^/]+") + "$"
		if operation, ok := item.(map[string]any)[strings.ToLower(method)]; ok && regexp.MustCompile(expression).MatchString(path) {
			return operation.(map[string]any), nil
		}
	}
	return nil, fmt.Errorf("%s %s is not described", method, path)
}

// check compares an answer with what is described.
func (d *description) check(method, target string, status int, contentType, body string) error {
	operation, err := d.operation(method, target)
	if err != nil {
		return err
	}
	response := d.resolve(operation["responses"].(map[string]any)[fmt.Sprint(status)])
	kind, _, _ := mime.ParseMediaType(contentType)
	content, ok := response["content"].(map[string]any)[kind].(map[string]any)
	if !ok {
		return fmt.Errorf("%s %s: %d with %s is not described", method, target, status, kind)
	}
	var value any = body
	if kind == "application/json" {
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			return fmt.Errorf("%s %s: %w", method, target, err)
		}
	}
	if err := d.conforms(content["schema"], value); err != nil {
		return fmt.Errorf("%s %s: %d: %w: %.300s", method, target, status, err, body)
	}
	return nil
}

// conforms checks a value by a schema of the kinds that the description has.
func (d *description) conforms(schema, value any) error {
	s := d.resolve(schema)
	if constant, ok := s["const"]; ok && constant != value {
		return fmt.Errorf("%v is not %q", value, constant)
	}
	if words, ok := s["enum"].([]any); ok && !slices.Contains(words, value) {
		return fmt.Errorf("%v is none of %v", value, words)
	}
	switch v := value.(type) {
	case map[string]any:
		return d.conformsObject(s, v)
	case []any:
		if s["type"] != "array" {
			return fmt.Errorf("a list is no %v", s["type"])
		}
		for i := range v {
			if err := d.conforms(s["items"], v[i]); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
	case string:
		if s["type"] != "string" {
			return fmt.Errorf("%q is no %v", v, s["type"])
		}
		if _, err := time.Parse(time.RFC3339, v); err != nil && s["format"] == "date-time" {
			return err
		}
	case float64:
		if least, ok := s["minimum"].(int); s["type"] != "number" && (s["type"] != "integer" || v != math.Trunc(v)) || ok && v < float64(least) {
			return fmt.Errorf("%v is no %v", v, s)
		}
	case bool:
		if s["type"] != "boolean" {
			return fmt.Errorf("%v is no %v", v, s["type"])
		}
	default:
		return fmt.Errorf("%v is not described", v)
	}
	return nil
}

func (d *description) conformsObject(s, v map[string]any) error {
	if s["type"] != "object" {
		return fmt.Errorf("an object is no %v", s["type"])
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("there is no %v", name)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, value := range v {
		property, known := properties[name]
		if !known {
			return fmt.Errorf("%s is not described", name)
		}
		if err := d.conforms(property, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
