package config

import (
	"strings"
	"testing"
)

// FuzzCondition: each condition is understood in one way, or is a mistake.
func FuzzCondition(f *testing.F) {
	for _, seed := range []string{"true", "false", "a", "~ a", "~* a", "!~ a", "!~* a", "!= a", "~", "!", "!a", "~a", "= a", "~ (", "!=", "", " ", "!=  a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, p := parseCondition("X", scalar{text: text, written: text})
		if p != nil {
			if p.found == "" || p.allowed == "" {
				t.Fatalf("%q: a mistake without words", text)
			}
			return
		}
		if c.Any && (c.Regexp != nil || c.Value != "") || c.Regexp != nil && c.Value != "" {
			t.Fatalf("%q: %+v", text, c)
		}
		if c.Not && !strings.HasPrefix(text, "!") && text != "false" {
			t.Fatalf("%q is taken for its opposite", text)
		}
		if !c.Not && strings.HasPrefix(text, "!") {
			t.Fatalf("%q is not taken for its opposite", text)
		}
	})
}
