package config

import (
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	tests := []struct{ host, want, mistake string }{
		{"example.com", "example.com", ""},
		{"EXAMPLE.Com.", "example.com", ""},
		{"localhost", "localhost", ""},
		{"*.Example.com", "*.example.com", ""},
		{"_", "_", ""},
		{"bücher.example", "xn--bcher-kva.example", ""},
		{"*.BÜCHER.example", "*.xn--bcher-kva.example", ""},
		{"192.0.2.1", "192.0.2.1", ""},
		{"2001:DB8:0::1", "2001:db8::1", ""},
		{"[2001:db8::1]", "2001:db8::1", ""},
		{"", "", "empty host"},
		{"*", "", "_ for every host"},
		{"a.*.example", "", "whole first label"},
		{"*a.example", "", "whole first label"},
		{"example.com:443", "", `write "example.com"`},
		{"[2001:db8::1]:443", "", `write "[2001:db8::1]"`},
		{"https://example.com", "", `write "example.com"`},
		{"https://example.com:8443/x", "", `write "example.com"`},
		{"example.com/chat", "", `write "example.com"; paths go to locations`},
		{"*.example.com:80", "", `write "*.example.com"`},
		{"http://", "", "a plain host name"},
		{"exa mple.com", "", "bad host name"},
		{"a..example", "", "bad host name"},
		{"example.com..", "", "bad host name"},
		{"-a.example", "", "bad host name"},
		{"a_b.example", "", "bad host name"},
		{"1.2.3.400", "", "bad host name"},
		{"[1.2.3.4]", "", "bad host name"},
		{"fe80::1%eth0", "", "bad address"},
		{strings.Repeat("a", 64) + ".example", "", "bad host name"},
		{strings.Repeat("a.", 127) + "example", "", "bad host name"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			got, p := parseHost(scalar{text: tt.host, written: tt.host})
			if p == nil {
				p = &problem{}
			}
			if text := p.found + "; " + p.allowed; got != tt.want || (tt.mistake == "") != (p.found == "") || !strings.Contains(text, tt.mistake) {
				t.Errorf("got %q and %s, want %q and %q", got, text, tt.want, tt.mistake)
			}
		})
	}
}
