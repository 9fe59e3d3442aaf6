package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	const upstreams = "upstreams: {chat: {servers: [127.0.0.1:1, 'unix:/run/c.sock']}, php.pool: {servers: [h.example:2]}}\n"
	tests := []struct {
		key, target string
		servers     string // network and address of each, or what the mistake says
		host, path  string
	}{
		{"websocket", "ws://127.0.0.1:9000", "[{tcp 127.0.0.1:9000}]", "127.0.0.1:9000", ""},
		{"websocket", "ws://127.0.0.1:9000/", "[{tcp 127.0.0.1:9000}]", "127.0.0.1:9000", "/"},
		{"websocket", "WS://127.0.0.1:9000/app/", "[{tcp 127.0.0.1:9000}]", "127.0.0.1:9000", "/app/"},
		{"websocket", "ws://h.example", "[{tcp h.example:80}]", "h.example", ""},
		{"websocket", "wss://h.example", "[{tcp h.example:443}]", "h.example", ""},
		{"websocket", "wss://h.example:443/a%20b", "[{tcp h.example:443}]", "h.example:443", "/a%20b"},
		{"http", "http://localhost", "[{tcp localhost:80}]", "localhost", ""},
		{"http", "http://app_1:8080", "[{tcp app_1:8080}]", "app_1:8080", ""},
		{"http", "https://[::1]", "[{tcp [::1]:443}]", "[::1]", ""},
		{"http", "http://[::80]", "[{tcp [::80]:80}]", "[::80]", ""},
		{"http", "http://[::1]:8080/x", "[{tcp [::1]:8080}]", "[::1]:8080", "/x"},
		{"http", "http://bücher.example:80", "[{tcp xn--bcher-kva.example:80}]", "xn--bcher-kva.example:80", ""},
		{"http", "unix:/run/a b.sock", "[{unix /run/a b.sock}]", "localhost", ""},
		{"websocket", "ws://chat", "[{tcp 127.0.0.1:1} {unix /run/c.sock}]", "chat", ""},
		{"websocket", "ws://chat/room/", "[{tcp 127.0.0.1:1} {unix /run/c.sock}]", "chat", "/room/"},
		{"http", "https://php.pool", "[{tcp h.example:2}]", "php.pool", ""},
		{"http", "http://chat:9000", "[{tcp chat:9000}]", "chat:9000", ""},

		{"websocket", "http://h.example", "write ws:// here", "", ""},
		{"websocket", "https://h.example", "write wss:// here", "", ""},
		{"http", "ws://h.example", "write http:// here", "", ""},
		{"http", "wss://h.example", "write https:// here", "", ""},
		{"http", "ftp://h.example", "unknown scheme", "", ""},
		{"http", "127.0.0.1:80", "has no scheme", "", ""},
		{"http", "", "has no scheme", "", ""},
		{"http", "http://", "has no host", "", ""},
		{"http", "http://:80", "has no host", "", ""},
		{"http", "http://h.example:", "bad port", "", ""},
		{"http", "http://h.example:0", "bad port", "", ""},
		{"http", "http://h.example:65536", "bad port", "", ""},
		{"http", "http://h.example:080", "bad port", "", ""},
		{"http", "http://::1", "brackets around it", "", ""},
		{"http", "http://[::1", "bad host", "", ""},
		{"http", "http://[1.2.3.4]", "bad host", "", ""},
		{"http", "http://1.2.3.400", "bad host", "", ""},
		{"http", "http://a b.example", "bad host", "", ""},
		{"http", "http://h.example/a?b", "query or fragment", "", ""},
		{"http", "http://h.example?b", "query or fragment", "", ""},
		{"http", "http://h.example/#b", "query or fragment", "", ""},
		{"http", "http://me:secret@h.example/", "user name or password", "", ""},
		{"http", "http://h.example/a//b", "not normalised", "", ""},
		{"http", "http://h.example/a/../b", "not normalised", "", ""},
		{"http", "http://h.example/a/%2e%2e/b", "not normalised", "", ""},
		{"http", "http://h.example/a%zz", "bad percent escape", "", ""},
		{"http", "http://h.example/a b", "percent escapes", "", ""},
		{"http", "http://h.example/é", "percent escapes", "", ""},
		{"websocket", "ws://chta", `an upstream ("chat", "php.pool"), or a host with a port; did you mean "chat"?`, "", ""},
		{"websocket", "ws://intranet/x", `names no upstream`, "", ""},
		{"http", "unix:run/x.sock", "an absolute path", "", ""},
		{"http", "unix:///run/x.sock", "an absolute path", "", ""},
		{"http", "unix:/" + strings.Repeat("x", 107), "too long", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.key+" "+tt.target, func(t *testing.T) {
			text := upstreams + siteWith(fmt.Sprintf("%s: %q", tt.key, tt.target))
			cfg, err := Parse("f.yaml", []byte(text), noEnv)
			if err != nil {
				if tt.host != "" || !strings.Contains(err.Error(), tt.servers) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want one mistake with %q", err, tt.servers)
				}
				return
			}
			loc := cfg.Sites[0].Locations[0]
			got := loc.HTTP
			if tt.key == "websocket" {
				got = loc.WebSocket
			}
			var addresses []string
			for _, s := range got.Servers {
				addresses = append(addresses, "{"+s.Network+" "+s.Address+"}")
			}
			if servers := fmt.Sprint(addresses); servers != tt.servers || got.Host != tt.host || got.Path != tt.path {
				t.Errorf("got %s, host %q, path %q; want %s, %q, %q", servers, got.Host, got.Path, tt.servers, tt.host, tt.path)
			}
			if got.URL != tt.target || !got.TLSVerify || got.TLS != strings.Contains(tt.target, "s://") && got.Scheme != "ws" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestTargetNamesNoUpstreamWithoutAny(t *testing.T) {
	got := mistakes(t, "f.yaml", siteWith("http: http://chat"), noEnv)
	want := `f.yaml:6:15: target "http://chat" names no upstream; a host with a port, such as http://127.0.0.1:9000, or a name defined under upstreams`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTLSOptionsOfTargets(t *testing.T) {
	name := workDir(t) + "/f.yaml"
	tests := []struct {
		name       string
		lines      []string
		verifyHTTP bool
		caHTTP     bool
		verifyWS   bool
		caWS       bool
		mistake    string
	}{
		{"default", []string{"http: https://a.example", "websocket: wss://a.example"}, true, false, true, false, ""},
		{"location", []string{"http: https://a.example", "websocket: wss://a.example", "tls_verify: false"}, false, false, false, false, ""},
		{"one of two", []string{"http: http://a.example", "websocket: wss://a.example", "tls_ca: a.pem"}, true, false, true, true, ""},
		{"target", []string{"http: {url: 'https://a.example', tls_ca: a.pem}", "websocket: wss://a.example"}, true, true, true, false, ""},
		{"target over location", []string{"http: {url: 'https://a.example', tls_verify: true}", "websocket: wss://a.example", "tls_verify: false"}, true, false, false, false, ""},
		{"no TLS", []string{"http: http://a.example", "tls_verify: false"}, false, false, false, false, "f.yaml:7:9: tls_verify on a location without"},
		{"static", []string{"static: dir", "tls_ca: a.pem"}, false, false, false, false, "f.yaml:7:9: tls_ca on a location without"},
		{"target no TLS", []string{"http: {url: 'http://a.example', tls_verify: false}"}, false, false, false, false, "f.yaml:6:41: tls_verify on a target without TLS"},
		{"missing CA", []string{"http: https://a.example", "tls_ca: none.pem"}, false, false, false, false, `f.yaml:7:17: cannot read file "none.pem": no such file`},
		{"bad CA", []string{"http: https://a.example", "tls_ca: bad.pem"}, false, false, false, false, `f.yaml:7:17: bad certificate file "bad.pem": no PEM block CERTIFICATE`},
		{"CA is a directory", []string{"http: https://a.example", "tls_ca: dir"}, false, false, false, false, `f.yaml:7:17: cannot read file "dir": not a regular file`},
		{"no URL", []string{"http: {tls_verify: false}"}, false, false, false, false, `f.yaml:6:15: no "url"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := Parse(name, []byte(siteWith(tt.lines...)), noEnv)
			if tt.mistake != "" {
				if err == nil || !strings.Contains(err.Error(), tt.mistake) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("got %v, want %s", err, tt.mistake)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			h, w := cfg.Sites[0].Locations[0].HTTP, cfg.Sites[0].Locations[0].WebSocket
			got := []bool{h.TLSVerify, h.RootCAs != nil && h.CAFile != "", w.TLSVerify, w.RootCAs != nil && w.CAFile != ""}
			want := []bool{tt.verifyHTTP, tt.caHTTP, tt.verifyWS, tt.caWS}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
