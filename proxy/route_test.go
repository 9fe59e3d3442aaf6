package proxy

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"wstunnel/internal/config"
	"wstunnel/internal/logs"
)

// match makes a pattern from the way it stands in a configuration.
func match(pattern string) config.Match {
	kind, rest, spaced := strings.Cut(pattern, " ")
	switch {
	case !spaced:
		return config.Match{Kind: config.MatchPrefix, Path: pattern}
	case kind == "=":
		return config.Match{Kind: config.MatchExact, Path: rest}
	case kind == "^~":
		return config.Match{Kind: config.MatchPrefixStop, Path: rest}
	case kind == "~":
		return config.Match{Kind: config.MatchRegex, Regexp: regexp.MustCompile(rest)}
	}
	return config.Match{Kind: config.MatchRegexFold, Regexp: regexp.MustCompile("(?i)" + rest)}
}

func tableOf(sites ...config.Site) *table {
	return newTable(&config.Config{Sites: sites}, building{server: &Server{access: accessLogs{own: logs.New(io.Discard, logs.JSON)}}})
}

func siteOf(hosts string, patterns ...string) config.Site {
	s := config.Site{Hosts: strings.Fields(hosts)}
	for _, p := range patterns {
		s.Locations = append(s.Locations, config.Location{Match: match(p), Static: "/srv"})
	}
	return s
}

func TestSiteByHost(t *testing.T) {
	tbl := tableOf(siteOf("example.com www.example.com"), siteOf("*.example.com"), siteOf("*.deep.example.com"),
		siteOf("xn--bcher-kva.example"), siteOf("127.0.0.1 ::1"), siteOf("_"))
	tests := []struct{ host, want string }{
		{"example.com", "example.com"},
		{"EXAMPLE.com", "example.com"},
		{"example.com:8080", "example.com"},
		{"example.com.", "example.com"},
		{"example.com.:80", "example.com"},
		{"www.example.com", "example.com"},
		{"a.example.com", "*.example.com"},
		{"b.a.example.com", "*.example.com"},
		{"a.deep.example.com", "*.deep.example.com"},
		{"deep.example.com", "*.example.com"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"127.0.0.1:80", "127.0.0.1"},
		{"[::1]:80", "127.0.0.1"},
		{"[0:0:0:0:0:0:0:1]", "127.0.0.1"},
		{"notexample.com", "_"},
		{"example.com.evil.org", "_"},
		{"", "_"},
	}
	for _, tt := range tests {
		if got := tbl.site(tt.host); got == nil || got.name != tt.want {
			t.Errorf("%s: %v, want %s", tt.host, got, tt.want)
		}
	}
	if got := tableOf(siteOf("example.com")).site("other.org"); got != nil {
		t.Errorf("a host of no site got %s", got.name)
	}
}

func TestHundredsOfHostsMatchInAnyCase(t *testing.T) {
	var sites []config.Site
	for i := range 500 {
		sites = append(sites, siteOf("host"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+".example"))
	}
	if got := tableOf(sites...).site("HOSTBXX.Example:443"); got == nil || got.name != "hostbxx.example" {
		t.Errorf("got %v", got)
	}
}

func TestLocationPrecedenceIsThatOfNginx(t *testing.T) {
	all := []string{"/", "/ws", "= /ws", "/ws/chat/", "^~ /static/", "~ \\.php$", "~* \\.JPG$", "~ ^/ws/reg", "/images/"}
	tests := []struct{ path, want string }{
		{"/", "/"},
		{"/other", "/"},
		{"/ws", "= /ws"},
		{"/ws/", "/ws"},
		{"/ws/x", "/ws"},
		{"/wsx", "/"},
		{"/ws/chat/", "/ws/chat/"},
		{"/ws/chat/1", "/ws/chat/"},
		{"/static/a.php", "^~ /static/"},
		{"/a.php", "~ \\.php$"},
		{"/a.PHP", "/"},
		{"/images/a.jpg", "~* \\.JPG$"},
		{"/images/a.png", "/images/"},
		{"/ws/register.php", "~ \\.php$"}, // the first regex in file order
		{"/ws/register", "~ ^/ws/reg"},
	}
	s := tableOf(siteOf("_", all...)).site("any")
	for _, tt := range tests {
		if got, slash, err := s.location(tt.path); got == nil || got.pattern != tt.want || slash || err != nil {
			t.Errorf("%s: %v, %t, %v, want %s", tt.path, got, slash, err, tt.want)
		}
	}
}

func TestPathThatLacksTheSlashOfAPrefix(t *testing.T) {
	tests := []struct {
		patterns   []string
		path, want string
		lacksSlash bool
	}{
		{[]string{"/ws/"}, "/ws", "/ws/", true},
		{[]string{"/ws/"}, "/ws/", "/ws/", false},
		{[]string{"/a/ws/", "/"}, "/a/ws", "/a/ws/", true},
		{[]string{"/a/ws/", "/"}, "/a", "/", false},
		{[]string{"/ws/", "/ws"}, "/ws", "/ws", false},
		{[]string{"/ws/", "= /ws"}, "/ws", "= /ws", false},
		{[]string{"/ws/", "~ ^/ws"}, "/ws", "/ws/", true}, // before any regex, as nginx
		{[]string{"^~ /ws/", "/"}, "/ws", "^~ /ws/", true},
	}
	for _, tt := range tests {
		got, slash, err := tableOf(siteOf("_", tt.patterns...)).site("any").location(tt.path)
		if got == nil || got.pattern != tt.want || slash != tt.lacksSlash || err != nil {
			t.Errorf("%q, %s: %v, %t, %v; want %s, %t", tt.patterns, tt.path, got, slash, err, tt.want, tt.lacksSlash)
		}
	}
	if got, _, _ := tableOf(siteOf("_", "/ws/")).site("any").location("/w"); got != nil {
		t.Errorf("/w matched %s", got.pattern)
	}
}
