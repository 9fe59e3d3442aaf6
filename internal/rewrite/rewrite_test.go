package rewrite

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/route"
)

func locationOf(pattern string) *config.Location {
	match := config.Match{Kind: config.MatchPrefix, Path: pattern}
	if kind, path, spaced := strings.Cut(pattern, " "); spaced {
		match = config.Match{Kind: map[string]config.MatchKind{"=": config.MatchExact, "^~": config.MatchPrefixStop}[kind], Path: path}
	}
	return &config.Location{Match: match, RewriteResponses: true}
}

// targetOf makes a target from "h:9000/path".
func targetOf(s string) *config.Target {
	host, path, hasPath := strings.Cut(s, "/")
	t := &config.Target{URL: "http://" + s, Scheme: "http", Host: host, Servers: []config.Server{{Network: "tcp", Address: host}}}
	if hasPath {
		t.Path = "/" + path
	}
	return t
}

// TestTargetPathMapping is the path mapping of Apache and nginx, with exactly one slash at each join.
func TestTargetPathMapping(t *testing.T) {
	tests := []struct{ pattern, target, request, want string }{
		{"/ws", "h:9000", "/ws", "/ws"},
		{"/ws", "h:9000", "/ws/chat", "/ws/chat"},
		{"/ws", "h:9000", "/ws//chat/%2e?a=%zz", "/ws//chat/%2e?a=%zz"}, // as it came
		{"/ws", "h:9000/", "/ws", "/"},
		{"/ws", "h:9000/", "/ws/", "/"},
		{"/ws", "h:9000/", "/ws/chat", "/chat"},
		{"/ws", "h:9000/", "/ws?x=1", "/?x=1"},
		{"/ws/", "h:9000/", "/ws/chat", "/chat"},
		{"/ws/", "h:9000/", "/ws/", "/"},
		{"/ws", "h:9000/ws", "/ws", "/ws"},
		{"/ws", "h:9000/ws", "/ws/", "/ws/"},
		{"/ws", "h:9000/ws", "/ws/chat", "/ws/chat"},
		{"/ws", "h:9000/app/", "/ws/chat", "/app/chat"},
		{"/ws/", "h:9000/app", "/ws/chat", "/app/chat"},
		{"/", "h:9000/app", "/x?y", "/app/x?y"},
		{"/", "h:9000/app/", "/", "/app/"},
		{"/", "h:9000", "http://example.com/x?y", "/x?y"},
		{"/ws", "h:9000/", "/a/../ws//b%20c/%2e%2e/d%3fe", "/d%3Fe"},  // normalised, then escaped
		{"/ws", "h:9000/", "/ws/a%2Fb//c;d?e//f", "/a%2Fb//c;d?e//f"}, // what follows the prefix goes on as it came
		{"/ws/", "h:9000/x/", "/ws/%7euser/%C3%BC", "/x/%7euser/%C3%BC"},
		{"/ws/", "h:9000/x", "//ws//a", "/x//a"},
		{"/ws/a", "h:9000/x", "/%77s//a/b%2fc", "/x/b%2fc"},
		{"/ws", "h:9000/x", "/ws%2Fa%2fb", "/x/a%2fb"}, // but for the slash at the join
		{"/ws", "h:9000/x", "/ws/a%2F..%2Fb", "/x/b"},
		{"/ws", "h:9000/x", "/ws/a/%2E%2E/b%2fc", "/x/b/c"},
		{"/ws", "h:9000/x", "/ws/.hidden//a", "/x/.hidden//a"},
		{"/", "h:9000/x", "/a%2Fb//c", "/x/a%2Fb//c"},
		{"= /ws", "h:9000/socket", "/ws?x", "/socket?x"},
		{"^~ /ws", "h:9000/", "/ws/chat", "/chat"},
		{"~ ^/ws", "h:9000", "/wsx", "/wsx"},
	}
	for _, tt := range tests {
		raw, _ := route.Split(tt.request)
		path, err := route.Normalise(raw)
		if err != nil {
			t.Fatal(err)
		}
		in := &Inbound{Target: tt.request, Path: path, Request: &head.Request{}}
		if got := rewriteTarget(in, locationOf(tt.pattern).Match, targetOf(tt.target)); got != tt.want {
			t.Errorf("%s -> %s: %s became %s, want %s", tt.pattern, tt.target, tt.request, got, tt.want)
		}
	}
}

// fieldsFrom makes fields of names and values.
func fieldsFrom(pairs ...string) (fields head.Fields) {
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, head.Field{Name: pairs[i], Value: pairs[i+1], ID: head.IDOf(pairs[i])})
	}
	return fields
}

func inboundOf(trusted bool, header ...string) *Inbound {
	peer := netip.MustParseAddr("192.0.2.1")
	return &Inbound{
		Request: &head.Request{Method: "GET", Target: "/", Host: "example.com:8080", Major: 1, Minor: 1, Fields: fieldsFrom(header...)},
		Target:  "/", Path: "/", Peer: peer, Client: peer, Secure: true, Port: "8443", Trusted: trusted, LoopID: "wstunnel-x",
	}
}

func TestRequestHeadAsTheBackendSeesIt(t *testing.T) {
	forwarding := "CDN-Loop: wstunnel-x\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Host: example.com:8080\nX-Forwarded-Port: 8443\nX-Forwarded-Proto: https\nX-Real-IP: 192.0.2.1"
	tests := []struct {
		name   string
		in     *Inbound
		change func(*config.Location)
		want   string // what follows Host
	}{
		{"nothing", inboundOf(false), nil, forwarding},
		{
			"hop by hop", inboundOf(false, "Connection", "close, X-Gone", "X-Gone", "1", "Keep-Alive", "5", "Te", "trailers",
				"Proxy-Connection", "x", "Upgrade", "h2c", "Http2-Settings", "x", "Expect", "100-continue", "Proxy", "http://evil"), nil,
			forwarding,
		},
		{"Connection cannot remove the front end's own", inboundOf(false, "Connection", "X-Forwarded-For, X-Real-IP, Host, Content-Length"), nil, forwarding},
		{"dots", inboundOf(false, "X.forwarded.for", "6.6.6.6"), nil, forwarding},
		{"other marks", inboundOf(false, "X!forwarded~for", "6.6.6.6"), nil, forwarding},
		{"underscores", inboundOf(false, "X_forwarded_for", "6.6.6.6"), nil, forwarding},
		{"forged", inboundOf(false, "X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "http", "X-Real-Ip", "6.6.6.6", "Forwarded", "for=6.6.6.6"), nil, forwarding},
		{
			"forged, of the kinds that this front end does not set", inboundOf(false, "X-Forwarded-Prefix", "/evil", "X-Forwarded-Server", "evil", "X-Forwarded-Ssl", "on",
				"X-Original-Url", "/admin", "X-Rewrite-Url", "/admin"), nil, forwarding,
		},
		{
			"of these kinds, from a trusted proxy", inboundOf(true, "X-Forwarded-Prefix", "/app", "X-Original-Url", "/app/x"), nil,
			"X-Forwarded-Prefix: /app\nX-Original-Url: /app/x\n" + forwarding,
		},
		{
			"from a trusted proxy", inboundOf(true, "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "wss", "X-Forwarded-Host", "public.example", "X-Forwarded-Port", "443"),
			nil,
			"CDN-Loop: wstunnel-x\nX-Forwarded-For: 203.0.113.9, 192.0.2.1\nX-Forwarded-Host: public.example\nX-Forwarded-Port: 443\nX-Forwarded-Proto: https\nX-Real-IP: 192.0.2.1",
		},
		{
			"Forwarded on request", inboundOf(false), func(l *config.Location) { l.Forwarded = true },
			forwarding + "\nForwarded: for=192.0.2.1;host=\"example.com:8080\";proto=https",
		},
		{"Origin and cookies are left alone", inboundOf(false, "Origin", "https://example.com", "Cookie", "a=b; c=d"), nil, "Origin: https://example.com\nCookie: a=b; c=d\n" + forwarding},
	}
	for _, tt := range tests {
		l := locationOf("/")
		if tt.change != nil {
			tt.change(l)
		}
		before := slices.Clone(tt.in.Request.Fields)
		out := Request(nil, tt.in, l, targetOf("h:9000"), "")
		got := string(http1.AppendRequest(nil, &out))
		want := "GET / HTTP/1.1\r\nHost: example.com:8080\r\n" + strings.ReplaceAll(tt.want, "\n", "\r\n") + "\r\n\r\n"
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
		if !slices.Equal(before, tt.in.Request.Fields) {
			t.Errorf("%s: the inbound header was modified", tt.name)
		}
	}
}

func TestHostBackendSendsTheTargetsName(t *testing.T) {
	l := locationOf("/")
	l.BackendHost = true
	if out := Request(nil, inboundOf(false), l, targetOf("h:9000"), ""); out.Host != "h:9000" {
		t.Errorf("Host %s", out.Host)
	}
}

func TestResponseRewriting(t *testing.T) {
	tests := []struct{ pattern, target, name, value, want string }{
		{"/ws", "h:9000/", "Location", "http://h:9000/login", "https://example.com:8080/ws/login"},
		{"/ws", "h:9000/", "Location", "ws://h:9000/login", "https://example.com:8080/ws/login"},
		{"/ws", "h:9000/", "Location", "HTTP://H:9000/login?a#b", "https://example.com:8080/ws/login?a#b"},
		{"/ws", "h:9000/", "Location", "/login", "/ws/login"},
		{"/ws", "h:9000/", "Location", "//h:9000/login", "//h:9000/login"},
		{"/ws", "h:9000/", "Location", "login", "login"},
		{"/ws", "h:9000/", "Location", "https://elsewhere.example/", "https://elsewhere.example/"},
		{"/ws", "h:9000/app", "Location", "/app", "/ws"},
		{"/ws", "h:9000/app", "Location", "/application", "/application"},
		{"/", "h:9000/app", "Location", "/app", "/"},
		{"/", "h:9000/app/", "Content-Location", "http://h:9000/app/x", "https://example.com:8080/x"},
		{"/", "h:9000/app/", "Refresh", "5; URL=/app/x", "5; URL=/x"},
		{"/", "h:9000/app/", "Refresh", "5", "5"},
		{"/", "h:9000/app", "Set-Cookie", "a=b; Path=/app; HttpOnly", "a=b; Path=/; HttpOnly"},
		{"/ws", "h:9000/", "Set-Cookie", "a=b; path=/", "a=b; path=/ws"},
		{"/ws", "h:9000/", "Set-Cookie", "a=/; Domain=h; Path=/x", "a=/; Domain=example.com; Path=/ws/x"},
		{"/", "h:9000", "Location", "http://h:9000/x", "https://example.com:8080/x"},          // its own name is for nobody else
		{"/", "h:9000", "Location", "http://example.com:8080/x", "http://example.com:8080/x"}, // it means what it says
		{"/", "h:9000", "Set-Cookie", "a=b; Path=/; Domain=h", "a=b; Path=/; Domain=example.com"},
		// A backend may have been told the public path.
		{"/ws/", "h:9000/", "Location", "/ws/login", "/ws/login"},
		{"/ws/", "h:9000/", "Location", "http://h:9000/ws/login", "https://example.com:8080/ws/login"},
		{"/ws/", "h:9000/", "Location", "/wsx", "/ws/wsx"},
		{"/ws", "h:9000/", "Set-Cookie", "a=b; path=/ws", "a=b; path=/ws"},
		{"/a", "h:9000/a/b", "Location", "/a/b/c", "/a/c"},
		{"/ws", "h:9000/ws", "Location", "http://h:9000/ws/x", "https://example.com:8080/ws/x"},
		// A backend that is sent the public Host may build its URLs from that.
		{"/ws", "h:9000/", "Location", "http://example.com:8080/login", "https://example.com:8080/ws/login"},
		{"/ws", "h:9000/", "Location", "https://example.com:8080/ws/login", "https://example.com:8080/ws/login"},
		{"/", "h:9000/app/", "Location", "http://example.com:8080/app/x", "https://example.com:8080/x"},
	}
	for _, tt := range tests {
		h := Response(nil, fieldsFrom(tt.name, tt.value), 302, inboundOf(false), locationOf(tt.pattern), targetOf(tt.target), false)
		if got := h.Get(head.IDOf(tt.name)); got != tt.want {
			t.Errorf("%s -> %s, %s %s: %s, want %s", tt.pattern, tt.target, tt.name, tt.value, got, tt.want)
		}
	}
}

// TestRedirectsLeadToWhereTheClientAsked, which a trusted proxy in front knows better.
func TestRedirectsLeadToWhereTheClientAsked(t *testing.T) {
	in := inboundOf(true, "X-Forwarded-Proto", "http", "X-Forwarded-Host", "public.example")
	h := Response(nil, fieldsFrom("Location", "http://h:9000/login"), 302, in, locationOf("/ws"), targetOf("h:9000/"), false)
	if got := h.Get(head.Location); got != "http://public.example/ws/login" {
		t.Errorf("got %s", got)
	}
}

func TestResponseRewritingCanBeTurnedOff(t *testing.T) {
	l := locationOf("/ws")
	l.RewriteResponses = false
	h := Response(nil, fieldsFrom("Location", "/login"), 302, inboundOf(false), l, targetOf("h:9000/"), false)
	if h.Get(head.Location) != "/login" {
		t.Errorf("got %s", h.Get(head.Location))
	}
}

func TestResponseHeadersThatEndHere(t *testing.T) {
	fields := fieldsFrom("Connection", "close, X-Listed, Upgrade")
	for _, name := range []string{"Keep-Alive", "X-Listed", "Upgrade", "Proxy-Connection", "X-Kept"} {
		fields = append(fields, fieldsFrom(name, "h2,h2c")...)
	}
	h := Response(nil, fields, 200, inboundOf(false), locationOf("/"), targetOf("h:9000"), false)
	if len(h) != 1 || h[0].Name != "X-Kept" {
		t.Errorf("left: %v", h)
	}
	h = Response(nil, fieldsFrom("Upgrade", "websocket", "Connection", "Upgrade"), 426, inboundOf(false), locationOf("/"), targetOf("h:9000"), false)
	if h.Get(head.Upgrade) != "websocket" {
		t.Error("a 426 lost the protocol that it asks for")
	}
}
