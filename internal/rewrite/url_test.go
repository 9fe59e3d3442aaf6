package rewrite

import (
	"net/url"
	"strings"
	"testing"

	"wstunnel/internal/template"
)

// FuzzExpandURL: whatever a client sent, it starts no header line, no other host, and no other part of the URL than the one it stands in.
func FuzzExpandURL(f *testing.F) {
	for _, seed := range []string{"", "/", "//evil.test", "/\\evil.test", "@evil.test", ".evil.test", "a\r\nSet-Cookie: x=1", "?a=b#c", "%0d%0a", ":8080", "\x00", "é", "%"} {
		f.Add(seed)
	}
	texts := []string{"https://example.com$1", "https://example.com/$1", "https://example.com$request_uri", "/x/$1", "$1", "$request_uri", "https://example.com/?q=$1&r=$arg_x", "/y?q=$args", "/login?rd=$scheme://$1$request_uri", "/new/$1?u=http://x.test/$1"}
	f.Fuzz(func(t *testing.T, value string) {
		for _, text := range texts {
			tmpl, err := template.Parse(text, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			got := URL(tmpl, func(string) string { return value })
			if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' || r == '"' }) {
				t.Fatalf("%s with %q: %q", text, value, got)
			}
			parsed, err := url.Parse(got)
			if err != nil {
				t.Fatalf("%s with %q: %q, %v", text, value, got, err)
			}
			host := ""
			if strings.HasPrefix(text, "https:") {
				host = "example.com"
			}
			if parsed.Host != host || parsed.User != nil || strings.HasPrefix(got, "//") {
				t.Fatalf("%s with %q: %q leads to %q", text, value, got, parsed.Host)
			}
			if parsed.Query().Has("r") != strings.Contains(text, "r=") {
				t.Fatalf("%s with %q: the parameters are %v", text, value, parsed.Query())
			}
		}
	})
}
