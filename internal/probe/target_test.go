package probe_test

import (
	"testing"

	"wstunnel/internal/head"
	"wstunnel/internal/probe"
)

func TestURLs(t *testing.T) {
	tests := []struct{ url, shown, origin, mistake string }{
		{"wss://example.com", "wss://example.com/", "https://example.com", ""},
		{"WSS://Example.COM:443/ws?a=%20b#c", "wss://example.com/ws?a=%20b", "https://example.com", ""},
		{"https://example.com:8443/ws", "wss://example.com:8443/ws", "https://example.com:8443", ""},
		{"http://[::1]:9000/", "ws://[::1]:9000/", "http://[::1]:9000", ""},
		{"ws://127.0.0.1/a%2Fb", "ws://127.0.0.1/a%2Fb", "http://127.0.0.1", ""},
		{"ws://user:secret@münchen.example/", "ws://xn--mnchen-3ya.example/", "http://xn--mnchen-3ya.example", ""},
		{"example.com/ws", "", "", `"example.com/ws" is no URL: write wss://example.com/ws`},
		{"ftp://example.com", "", "", `"ftp://example.com" begins with ftp://, where ws, wss, http or https is allowed`},
		{"ws://", "", "", `"ws://" names no host that can be asked for`},
		{"ws://a b/", "", "", `"ws://a b/" is no URL: invalid character " " in host name`},
		{"ws://example.com:99999/", "", "", `"ws://example.com:99999/" names no host that can be asked for`},
		{"ws://example.com:port/", "", "", `"ws://example.com:port/" is no URL: invalid port ":port" after host`},
	}
	for _, tt := range tests {
		target, err := probe.ParseURL(tt.url)
		switch {
		case tt.mistake != "":
			if err == nil || err.Error() != tt.mistake {
				t.Errorf("%s: %v, want %s", tt.url, err, tt.mistake)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.url, err)
		case target.String() != tt.shown || target.Origin() != tt.origin:
			t.Errorf("%s: %s, %s; want %s, %s", tt.url, target, target.Origin(), tt.shown, tt.origin)
		}
	}
}

func mustField(t *testing.T, text string) head.Field {
	t.Helper()
	f, err := probe.ParseField(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFieldsAndAddressesOfTheCommandLine(t *testing.T) {
	if f := mustField(t, "X-Token:  a: b "); f.Name != "X-Token" || f.Value != "a: b" {
		t.Errorf("%+v", f)
	}
	for _, wrong := range []string{"X-Token", "X Token: a", ": a", "A: b\r\nC: d", "Content-Length: 5", "transfer-encoding: chunked", "Host: a b"} {
		if f, err := probe.ParseField(wrong); err == nil {
			t.Errorf("%q is taken for %+v", wrong, f)
		}
	}
	for _, own := range []string{"Connection: close", "upgrade: h2c"} {
		if probe.CheckField(mustField(t, own)) == nil {
			t.Errorf("%q takes the place of the handshake's", own)
		}
	}
	for text, want := range map[string][2]string{
		"127.0.0.1:9000": {"tcp", "127.0.0.1:9000"}, "[::1]:80": {"tcp", "[::1]:80"}, "chat.example:80": {"tcp", "chat.example:80"}, "unix:/run/a.sock": {"unix", "/run/a.sock"},
	} {
		if network, address, err := probe.ParseConnect(text); err != nil || network != want[0] || address != want[1] {
			t.Errorf("%s: %s %s, %v", text, network, address, err)
		}
	}
	for _, wrong := range []string{"", "127.0.0.1", ":80", "a:", "a:b", "unix:a.sock", "::1:80"} {
		if network, address, err := probe.ParseConnect(wrong); err == nil {
			t.Errorf("%q is taken for %s %s", wrong, network, address)
		}
	}
}
