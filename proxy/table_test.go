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
	return newTable(&config.Config{Sites: sites}, &building{server: &Server{access: accessLogs{own: logs.New(io.Discard, logs.JSON)}}})
}

func siteOf(hosts string, patterns ...string) config.Site {
	s := config.Site{Hosts: strings.Fields(hosts)}
	for _, p := range patterns {
		s.Locations = append(s.Locations, config.Location{Match: match(p), Files: config.Files{Static: "/srv"}})
	}
	return s
}

func TestSiteByHost(t *testing.T) {
	tbl := tableOf(siteOf("example.com www.example.com"), siteOf("*.example.com"), siteOf("*.deep.example.com"),
		siteOf("mail.*"), siteOf("mail.deep.*"), siteOf("xn--bcher-kva.example"), siteOf("127.0.0.1 ::1"), siteOf("_"))
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
		{"mail.example.org", "mail.*"},
		{"mail.example.com", "*.example.com"},
		{"mail.deep.example.org", "mail.deep.*"},
		{"mail.", "_"},
		{"mailx.example.org", "_"},
		{"x.mail.example.org", "_"},
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
