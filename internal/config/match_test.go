package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	tests := []struct {
		path    string
		kind    MatchKind
		literal string // or the regex, or what the mistake says
		bad     bool
	}{
		{"/", MatchPrefix, "/", false},
		{"/ws", MatchPrefix, "/ws", false},
		{"/ws/", MatchPrefix, "/ws/", false},
		{"/a b/é%", MatchPrefix, "/a b/é%", false},
		{"/.well-known/..x", MatchPrefix, "/.well-known/..x", false},
		{"= /ws", MatchExact, "/ws", false},
		{"^~  /ws", MatchPrefixStop, "/ws", false},
		{`~ \.php$`, MatchRegex, `\.php$`, false},
		{`~* \.PHP$`, MatchRegexFold, `(?i)\.PHP$`, false},

		{"", 0, "does not start with /", true},
		{"ws", 0, "does not start with /", true},
		{"=/ws", 0, "a space and a pattern after =", true},
		{"^~/ws", 0, "a space and a pattern after ^~", true},
		{"~", 0, "a space and a pattern after ~", true},
		{"~* ", 0, "a space and a pattern after ~*", true},
		{"= ws", 0, "does not start with /", true},
		{"/a?b", 0, "holds a ? or #", true},
		{"/a#b", 0, "holds a ? or #", true},
		{"/a\x00", 0, "NUL", true},
		{"/a%20b", 0, `write "/a b"`, true},
		{"/%zz%2", MatchPrefix, "/%zz%2", false},
		{"//a", 0, `write "/a"`, true},
		{"/a//", 0, `write "/a/"`, true},
		{"/a/./b", 0, `write "/a/b"`, true},
		{"/a/../b/", 0, `write "/b/"`, true},
		{"/a/..", 0, `write "/"`, true},
		{"/a/.", 0, `write "/a/"`, true},
		{"~ (", 0, `missing closing ) "("`, true},
		{"~ (?=x)", 0, "RE2 syntax", true},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			m, p := parseMatch(scalar{text: tt.path, written: tt.path})
			if p != nil {
				if !tt.bad || !strings.Contains(p.found+"; "+p.allowed, tt.literal) {
					t.Errorf("got %v, want %q", p, tt.literal)
				}
				return
			}
			got := m.Path
			if m.Regexp != nil {
				got = m.Regexp.String()
			}
			if tt.bad || m.Kind != tt.kind || got != tt.literal {
				t.Errorf("got %v %q, want %v %q (bad: %v)", m.Kind, got, tt.kind, tt.literal, tt.bad)
			}
		})
	}
}

func TestMatchesEverything(t *testing.T) {
	everything := []string{
		".", ".*", ".+", "^", "^/", "^/.*", "^/.*$", "/", "/.*", "^.*$", "^.", "$", ".*$", "(.*)", "^/(.*)$", "^(/.*)$",
		"(?i)^/", "^(.)", "^.+$", "(?:.*)",
	}
	for _, pattern := range everything {
		if m, p := parseMatch(scalar{text: "~ " + pattern}); p != nil || !matchesEverything(m.Regexp) {
			t.Errorf("%s does not match everything", pattern)
		}
	}
	some := []string{"^/$", "/$", "^$", "^.$", "/.", "/.+", "^/.", "//", "^/a", "a", `\.php$`, "[^a]", "^/?$", "(?m)^$", "..", ".*a"}
	for _, pattern := range some {
		if m, p := parseMatch(scalar{text: "~ " + pattern}); p != nil || matchesEverything(m.Regexp) {
			t.Errorf("%s matches everything", pattern)
		}
	}
}

func TestShadowedLocations(t *testing.T) {
	tests := []struct {
		paths string // separated by |
		want  string // index of each shadowed one, <- and of the one that shadows it
	}{
		{"/a|/a/|/a/b|/", ""},
		{"/a|/a", "1<-0"},
		{"/a|^~ /a", "1<-0"},
		{"^~ /a|/a", "1<-0"},
		{"/a|= /a", ""},
		{"= /a|= /a", "1<-0"},
		{"~ x|~ x", "1<-0"},
		{"~ x|~* x", ""},
		{"~* x|~* x", "1<-0"},
		{"~ x|~ .", ""},
		{"~ .|~ x", "1<-0"},
		{"~ x|~ ^/|~ y|~* z", "2<-1 3<-1"},
		{"/|~ .", "0<-1"},
		{"/|~ .|^~ /a|= /b", "0<-1"},
		{"~ x|^~ /", "0<-1"},
		{"^~ /|~ x|= /a", "1<-0"},
		{"^~ /|~ x|^~ /a", "1<-0"},
		{"^~ /|~ x|/a", ""}, // under /a the search goes on
		{"/a|/a|/a", "1<-0 2<-0"},
	}
	for _, tt := range tests {
		t.Run(tt.paths, func(t *testing.T) {
			var f shadowFinder
			for i, path := range strings.Split(tt.paths, "|") {
				m, p := parseMatch(scalar{text: path})
				if p != nil {
					t.Fatal(p)
				}
				f.add(Location{Match: m}, scalar{written: path, pos: Pos{Line: i, Col: 1}})
			}
			var got []string
			for _, s := range f.find(func(line int) string { return "line " + strconv.Itoa(line) }) {
				_, by, _ := strings.Cut(s.problem.found, "the location on line ")
				got = append(got, fmt.Sprintf("%d<-%s", s.pos.Line, by[:1]))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

func TestShadowsAreOfOneSite(t *testing.T) {
	mustParse(t, "f.yaml", `
listen: [{address: ":80"}]
sites:
  - hosts: a.example
    locations: [{path: /, http: "http://127.0.0.1:1"}]
  - hosts: b.example
    locations: [{path: /, http: "http://127.0.0.1:1"}]
`)
}
