package proxy

import (
	"errors"
	"strings"
	"testing"
)

func TestNormalisePath(t *testing.T) {
	tests := []struct {
		raw, want string
		err       error
	}{
		{"/", "/", nil},
		{"/ws", "/ws", nil},
		{"/ws/", "/ws/", nil},
		{"//ws///chat//", "/ws/chat/", nil},
		{"/a/./b", "/a/b", nil},
		{"/a/.", "/a/", nil},
		{"/a/../b", "/b", nil},
		{"/a/b/..", "/a/", nil},
		{"/a/..", "/", nil},
		{"/a/../", "/", nil},
		{"/.hidden", "/.hidden", nil},
		{"/a..b/..c", "/a..b/..c", nil},
		{"/%77s", "/ws", nil},
		{"/a%2fb", "/a/b", nil},
		{"/a%2F..%2fb", "/b", nil},
		{"/%2e%2e%2fetc", "", errPathRoot},
		{"/..", "", errPathRoot},
		{"/a/../../b", "", errPathRoot},
		{"/%00", "", errPathNUL},
		{"/a%", "", errPathEscape},
		{"/a%2", "", errPathEscape},
		{"/a%zz", "", errPathEscape},
		{"/a%252e", "/a%2e", nil},
		{"/%C3%BC", "/ü", nil},
		{"/a+b", "/a+b", nil},
		{`/a\..\b`, `/a\..\b`, nil},
	}
	for _, tt := range tests {
		got, err := normalisePath(tt.raw)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.raw, got, err, tt.want, tt.err)
		}
	}
}

func FuzzNormalisePath(f *testing.F) {
	for _, seed := range []string{"/", "/a/../b", "/%2e%2e/x", "//a//./b/..", "/a%00", "/%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		raw = "/" + raw
		path, err := normalisePath(raw)
		if err != nil {
			return
		}
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.IndexByte(path, 0) >= 0 {
			t.Fatalf("%q: %q", raw, path)
		}
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q: %q", raw, path)
			}
		}
		again, err := normalisePath(escapePath(path))
		if err != nil || again != path {
			t.Fatalf("%q: normalised to %q, and that to %q, %v", raw, path, again, err)
		}
	})
}

func TestSplitTarget(t *testing.T) {
	tests := []struct{ target, path, query string }{
		{"/a?b=c", "/a", "?b=c"},
		{"/a?b?c", "/a", "?b?c"},
		{"/", "/", ""},
		{"http://example.com", "/", ""},
		{"http://example.com?x", "/", "?x"},
		{"http://example.com/a/b?x", "/a/b", "?x"},
		{"/http://example.com/", "/http://example.com/", ""},
	}
	for _, tt := range tests {
		if path, query := splitTarget(tt.target); path != tt.path || query != tt.query {
			t.Errorf("%s: %q %q, want %q %q", tt.target, path, query, tt.path, tt.query)
		}
	}
}
