package route

import (
	"errors"
	"strings"
	"testing"
)

func TestNormalise(t *testing.T) {
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
		{"/%2e%2e%2fetc", "", ErrRoot},
		{"/..", "", ErrRoot},
		{"/a/../../b", "", ErrRoot},
		{"/%00", "", ErrNUL},
		{"/a%", "", ErrEscape},
		{"/a%2", "", ErrEscape},
		{"/a%zz", "", ErrEscape},
		{"/a%252e", "/a%2e", nil},
		{"/%C3%BC", "/ü", nil},
		{"/a+b", "/a+b", nil},
		{`/a\..\b`, `/a\..\b`, nil},
	}
	for _, tt := range tests {
		got, err := Normalise(tt.raw)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.raw, got, err, tt.want, tt.err)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"/", "/a/../b", "/%2e%2e/x", "//a//./b/..", "/a%00", "/%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		raw = "/" + raw
		path, err := Normalise(raw)
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
		again, err := Normalise(Escape(path))
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
		if path, query := Split(tt.target); path != tt.path || query != tt.query {
			t.Errorf("%s: %q %q, want %q %q", tt.target, path, query, tt.path, tt.query)
		}
	}
}
