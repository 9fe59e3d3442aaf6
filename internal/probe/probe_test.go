package probe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/dns/dnsmessage"

	"wstunnel/internal/probe"
	"wstunnel/internal/ws"
)

// patience is given to steps that end by themselves, and haste to those that are to run out of time.
const (
	patience = 10 * time.Second
	haste    = time.Second
)

// startTCP hands each connection to serve, until the test ends.
func startTCP(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(patience))
			running.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// answering is a server that answers a request's head with what answer makes of its key, and then reads on until the client leaves.
func answering(answer func(key string) string) func(net.Conn) {
	return func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		io.WriteString(conn, answer(request.Header.Get("Sec-WebSocket-Key")))
		io.Copy(io.Discard, conn)
	}
}

// always is an answer whatever the key is.
func always(text string) func(string) string { return func(string) string { return text } }

// saying is a server that says something as soon as somebody connects.
func saying(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// switching is a 101 with the right Accept, and with other lines.
func switching(lines ...string) func(key string) string {
	return func(key string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ws.Accept(key) + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
}

const (
	upgradeLine    = "Upgrade: websocket"
	connectionLine = "Connection: Upgrade"
)

// options are those of a probe of a URL.
func options(t *testing.T, url string) probe.Options {
	t.Helper()
	target, err := probe.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return probe.Options{Target: target, Origin: target.Origin(), Timeout: patience}
}

var (
	ports = regexp.MustCompile(`(127\.0\.0\.1:|port )\d+`)
	keys  = regexp.MustCompile(`[A-Za-z0-9+/]{27}=`)
)

// masked is a text without what differs from run to run.
func masked(text string) string {
	return keys.ReplaceAllString(ports.ReplaceAllString(text, "${1}PORT"), "KEY")
}

// check compares how a probe ended.
func check(t *testing.T, r *probe.Report, outcome probe.Outcome, cause string) {
	t.Helper()
	if got := masked(r.Cause); r.Outcome != outcome || got != cause {
		t.Errorf("%s: %s\nwant %s: %s", r.Outcome, got, outcome, cause)
	}
	if outcome != probe.Open && len(r.Advice) == 0 {
		t.Errorf("no advice for %q", r.Cause)
	}
}

func TestServersThatSpeakSomethingElse(t *testing.T) {
	tests := []struct {
		name  string
		serve func(net.Conn)
		cause string
	}{
		{"ssh", saying("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "The port PORT speaks SSH, not HTTP."},
		{"smtp", saying("220 mail.example ESMTP\r\n"), "The port PORT speaks SMTP or FTP, not HTTP."},
		{"redis", answering(always("-ERR unknown command 'GET'\r\n")), "The port PORT speaks Redis, not HTTP."},
		{"mysql", saying("\x4a\x00\x00\x00\x0a8.0.36\x00"), "The port PORT speaks MySQL, not HTTP."},
		{"tls alert", answering(always("\x15\x03\x01\x00\x02\x02\x46")), "The port PORT speaks TLS, and was asked without."},
		{"http/2", saying("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"), "The server speaks nothing but HTTP/2, as servers of gRPC do; a WebSocket begins with HTTP/1.1."},
		{"fastcgi record", answering(always("\x01\x0b\x00\x00\x00\x08\x00\x00\x47\x00\x00\x00\x00\x00\x00\x00")), "This is no HTTP server: it speaks FastCGI, as PHP-FPM does, which knows no WebSockets."},
		{"unknown", answering(always("hello\r\n")), `What came is no answer of HTTP: it begins with "hello\r\n".`},
		{"no word", func(conn net.Conn) { bufio.NewReader(conn).ReadString('\n') }, "The server closed the connection without a word."},
		{"half a head", func(conn net.Conn) {
			http.ReadRequest(bufio.NewReader(conn))
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nServer")
		}, "The answer is malformed: after 23 bytes of the response head: unexpected EOF."},
		{"two lengths", answering(always("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")), "The answer is malformed: the response has 2 Content-Length and 0 Transfer-Encoding headers."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := probe.Run(context.Background(), options(t, "ws://"+startTCP(t, tt.serve)+"/ws"))
			check(t, r, probe.Broken, tt.cause)
		})
	}
}

func TestAnswersThatAreNo101(t *testing.T) {
	const nginx = "Server: nginx/1.22.1\r\n"
	tests := []struct {
		answer, cause string
		advice        string // that is among it
	}{
		{
			"200 OK\r\n" + nginx + "Content-Type: text/html\r\n\r\n<html><head><title>My shop</title></head>",
			"A page was served in place of a WebSocket (200): what answers does not know that /ws is one, or a proxy on the way has dropped the Upgrade header.",
			`where nginx is on the way, its location needs: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`,
		},
		{
			"301 Moved Permanently\r\nServer: Apache\r\nLocation: https://HOST/ws?a=b",
			"The server redirects (301) from http to https; browsers follow no redirect of a WebSocket.", "write wss://127.0.0.1:PORT/ws?a=b",
		},
		{
			"308 Permanent Redirect\r\nLocation: /ws/?a=b",
			"The server redirects (308) to the same path with a slash at its end; browsers follow no redirect of a WebSocket.", "write ws://127.0.0.1:PORT/ws/?a=b",
		},
		{
			"302 Found\r\nLocation: /accounts/login/?next=/ws",
			"The server redirects (302) to a page to log in at (http://127.0.0.1:PORT/accounts/login/?next=/ws); browsers follow no redirect of a WebSocket.",
			"probe with the cookie of somebody who has: -H 'Cookie: ...'",
		},
		{
			"307 Temporary Redirect\r\nLocation: https://www.example.com/",
			"The server redirects (307) to https://www.example.com/; browsers follow no redirect of a WebSocket.", "write wss://www.example.com/ if that is where the WebSocket is",
		},
		{"302 Found", "The server redirects (302) to nowhere; browsers follow no redirect of a WebSocket.", "see the log of whoever answered"},
		{
			"400 Bad Request\r\n" + nginx + "\r\nThe plain HTTP request was sent to HTTPS port",
			"The port PORT speaks TLS, and was asked without (400).", "write wss://127.0.0.1:PORT/ws?a=b",
		},
		{
			"400 Bad Request\r\n\r\n" + `{"code":0,"message":"Transport unknown"}`,
			"This is socket.io (or Engine.IO), which was asked without its parameters (400).", "probe with ?EIO=4&transport=websocket behind the path",
		},
		{
			"400 Bad Request\r\n" + nginx + "\r\nCan \"Upgrade\" only to ...\n",
			"The WebSocket server takes this for no handshake (400): a proxy on the way has dropped the Upgrade header, or asks over HTTP/1.0.",
			`where nginx is on the way, its location needs: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`,
		},
		{"400 Bad Request", "The server takes the request for malformed (400).", "see the log of whoever answered"},
		{
			"401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", "The server wants to know who asks (401).",
			"probe with user and password in the URL: ws://USER:PASSWORD@127.0.0.1:PORT/ws?a=b",
		},
		{
			"401 Unauthorized\r\nWWW-Authenticate: Bearer", "The server wants to know who asks (401).",
			"probe with what the page sends: -H 'Cookie: ...' as its browser has it, or -H 'Authorization: ...'",
		},
		{
			"403 Forbidden", "The server refuses this client (403): as a rule the origin, which was http://127.0.0.1:PORT.",
			"where the page is of another origin, probe with that: --origin https://example.com",
		},
		{
			"404 Not Found\r\n" + nginx + "\r\nnothing", "There is nothing at /ws on this server (404).",
			"see whether the path is right to the letter, with its slash at the end or without",
		},
		{"405 Method Not Allowed\r\nAllow: POST", "What is at /ws takes no GET (405), with which each WebSocket begins: it is no WebSocket server.", "see whether the path is right"},
		{
			"421 Misdirected Request", "The server was asked for another host than the TLS handshake was made for (421).",
			"the name in the URL and -H 'Host: ...' have to be one",
		},
		{
			"426 Upgrade Required\r\nServer: Apache/2.4.57 (Debian)\r\nUpgrade: websocket",
			"The WebSocket server got no Upgrade header (426), which was sent: a proxy on the way has dropped it.",
			`where Apache is on the way, before ProxyPass "/", with mod_proxy_wstunnel: ProxyPass "/ws" "ws://127.0.0.1:PORT/ws"`,
		},
		{
			"426 Upgrade Required\r\nSec-WebSocket-Version: 7, 8", "The server speaks only the versions 7, 8 of WebSocket (426), and browsers only 13.",
			"let the server have a library of this decade",
		},
		{"429 Too Many Requests\r\nRetry-After: 30", "The server was asked too often (429).", "wait for what Retry-After says (30) before the next try"},
		{"418 I'm a teapot", "The server refuses the request (418 I'm a teapot).", "see the log of whoever answered"},
		{"500 Internal Server Error", "The server failed while it answered (500 Internal Server Error).", "see the log of the backend: its handler for /ws failed"},
		{"502 Bad Gateway", "The front end could not reach its backend, or got no valid answer of HTTP from it (502).", "see whether the backend runs, and on the port that the front end asks"},
		{
			"503 Service Unavailable\r\nServer: Apache\r\nRetry-After: 5", "Nobody serves this at the moment (503): the backend is down, in maintenance, or has too much to do.",
			"Apache leaves a backend alone for 60 s that did not answer once: retry=0 behind ProxyPass lets it try again",
		},
		{"504 Gateway Timeout", "The backend behind the front end did not answer in time (504).", "probe the backend itself, where the front end runs: wstunnel probe ws://127.0.0.1:PORT/ws"},
		{
			"508 Loop Detected", "The request came back to the front end that had sent it (508): a target of the front end leads to the front end itself.",
			"the front end's log says which location; its target has to be the backend's own port",
		},
	}
	for _, tt := range tests {
		t.Run(tt.answer[:3], func(t *testing.T) {
			var address string
			head, body, _ := strings.Cut(tt.answer, "\r\n\r\n")
			head += fmt.Sprintf("\r\nContent-Length: %d", len(body))
			address = startTCP(t, answering(func(string) string {
				return strings.ReplaceAll("HTTP/1.1 "+head+"\r\n\r\n"+body, "HOST", address)
			}))
			r := probe.Run(context.Background(), options(t, "ws://"+address+"/ws?a=b"))
			check(t, r, probe.Refused, tt.cause)
			if advice := masked(strings.Join(r.Advice, "\n")); !strings.Contains("\n"+advice+"\n", "\n"+tt.advice+"\n") {
				t.Errorf("the advice is\n%s\nwithout\n%s", advice, tt.advice)
			}
		})
	}
}

func Test101sThatBrowsersDoNotTake(t *testing.T) {
	rightKey := switching(upgradeLine, connectionLine)
	tests := []struct {
		name         string
		answer       func(string) string
		subprotocols []string
		cause        string
	}{
		{"no Upgrade", switching(connectionLine), nil, "The 101 has no header Upgrade: websocket, so that browsers fail the connection."},
		{"no Connection", switching(upgradeLine), nil, "The 101 has no header Connection: Upgrade, so that browsers fail the connection."},
		{"keep-alive", switching(upgradeLine, "Connection: keep-alive"), nil, "The 101 has Connection: keep-alive, where browsers want Upgrade."},
		{"h2c", switching("Upgrade: h2c", connectionLine), nil, "The 101 has Upgrade: h2c, where browsers want websocket."},
		{
			"no Accept", always("HTTP/1.1 101 Switching Protocols\r\n" + upgradeLine + "\r\n" + connectionLine + "\r\n\r\n"), nil,
			"The 101 has no Sec-WebSocket-Accept, so that browsers fail the connection.",
		},
		{
			"wrong Accept", func(key string) string { return rightKey(key + "x") }, nil,
			"The Sec-WebSocket-Accept is wrong: KEY, where the key asks for KEY.",
		},
		{
			"other subprotocol", switching(upgradeLine, connectionLine, "Sec-WebSocket-Protocol: mqtt"),
			[]string{"chat"},
			"The server chose the subprotocol mqtt, which was not asked for; browsers fail the connection.",
		},
		{
			"unasked subprotocol", switching(upgradeLine, connectionLine, "Sec-WebSocket-Protocol: mqtt"), nil,
			"The server chose the subprotocol mqtt, which was not asked for; browsers fail the connection.",
		},
		{
			"no subprotocol", rightKey,
			[]string{"chat.v2", "chat.v1"},
			"The server chose none of the subprotocols chat.v2, chat.v1, so that browsers fail the connection.",
		},
		{
			"other extension", switching(upgradeLine, connectionLine, "Sec-WebSocket-Extensions: permessage-deflate, x-mux"), nil,
			"The server agreed to the extension x-mux, which was not offered; browsers fail the connection.",
		},
		{
			"masked frames", func(key string) string { return rightKey(key) + "\x8a\x81abcd\x00" }, nil,
			"The WebSocket opened, but the server's frames break RFC 6455: frame masked by a server or not masked by a client; browsers fail the connection.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, "ws://"+startTCP(t, answering(tt.answer))+"/ws")
			o.Subprotocols = tt.subprotocols
			check(t, probe.Run(context.Background(), o), probe.Broken, tt.cause)
		})
	}
}

func TestSocketsThatOpenAndDoNotAnswer(t *testing.T) {
	open := switching(upgradeLine, connectionLine)
	closing := func(code uint16, reason string) func(string) string {
		return func(key string) string { return open(key) + string(ws.AppendClose(nil, code, reason, nil)) }
	}
	tests := []struct {
		name  string
		serve func(net.Conn)
		cause string
	}{
		{"closes with 1008", answering(closing(1008, "who are you?")), `The WebSocket opened, and the server closed it at once with 1008 "who are you?".`},
		{"closes with 1013", answering(closing(1013, "")), "The WebSocket opened, and the server closed it at once with 1013."},
		{"closes without a code", answering(func(key string) string { return open(key) + "\x88\x00" }), "The WebSocket opened, and the server closed it at once with no code."},
		{"ends", func(conn net.Conn) {
			request, _ := http.ReadRequest(bufio.NewReader(conn))
			io.WriteString(conn, open(request.Header.Get("Sec-WebSocket-Key")))
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		}, "The WebSocket opened, and the server ended the connection without a Close frame."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, probe.Run(context.Background(), options(t, "ws://"+startTCP(t, tt.serve)+"/ws")), probe.Unanswered, tt.cause)
		})
	}
}

func TestTimesThatRunOut(t *testing.T) {
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nobody.Close() })
	silent := startTCP(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	half := startTCP(t, answering(always("HTTP/1.1 101 Switching")))
	mute := startTCP(t, answering(switching(upgradeLine, connectionLine)))
	tests := []struct {
		name, url string
		outcome   probe.Outcome
		cause     string
	}{
		{"dns", "ws://slow.example/ws", probe.NoAddress, "The name server did not say in time what the address of slow.example is."},
		{"tls", "wss://" + silent + "/ws", probe.NoTLS, "The TLS handshake did not end within 1s."},
		{"answer", "ws://" + silent + "/ws", probe.Broken, "The server took the connection and said nothing within 1s."},
		{"head", "ws://" + half + "/ws", probe.Broken, "The head of the answer was not whole within 1s."},
		{"pong", "ws://" + mute + "/ws", probe.Unanswered, "The WebSocket opened, but the server did not answer a ping within 1s."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := options(t, tt.url)
			o.Timeout = haste
			o.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "udp", nobody.LocalAddr().String())
			}}
			check(t, probe.Run(context.Background(), o), tt.outcome, tt.cause)
		})
	}
}

// startGorilla is a WebSocket server on gorilla/websocket, which keeps the origin's rules.
func startGorilla(t *testing.T, secure bool) (url string) {
	t.Helper()
	up := websocket.Upgrader{Subprotocols: []string{"chat.v2"}, EnableCompression: true}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		conn.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("welcome ", 10_000)))
		conn.WriteControl(websocket.PingMessage, []byte("and you?"), time.Now().Add(patience))
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}))
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

func TestSocketThatOpens(t *testing.T) {
	o := options(t, startGorilla(t, false)+"/ws")
	o.Subprotocols = []string{"chat.v3", "chat.v2"}
	r := probe.Run(context.Background(), o)
	check(t, r, probe.Open, "")
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
		if !s.OK || s.Took <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if got := strings.Join(names, " "); got != "TCP HTTP PING CLOSE" || len(r.Notes) > 0 {
		t.Errorf("steps %s, notes %q", got, r.Notes)
	}
	for i, want := range []string{
		"connected to 127.0.0.1:PORT", "101 Switching Protocols; Sec-WebSocket-Accept fits the key; subprotocol: chat.v2; extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
		"answered; 1 message of the server's came first", "1000, answered with 1000",
	} {
		s := r.Steps[i]
		if got := masked(strings.Join(append([]string{s.Result}, s.Details...), "; ")); got != want {
			t.Errorf("%s: %q, want %q", s.Name, got, want)
		}
	}
}

func TestOriginThatTheServerRefuses(t *testing.T) {
	url := startGorilla(t, false) + "/ws"
	for origin, outcome := range map[string]probe.Outcome{"https://evil.example": probe.Refused, "": probe.Open} {
		o := options(t, url)
		o.Origin = origin
		if r := probe.Run(context.Background(), o); r.Outcome != outcome {
			t.Errorf("%q: %s: %s", origin, r.Outcome, r.Cause)
		}
	}
	o := options(t, url)
	o.Origin = "https://evil.example"
	check(t, probe.Run(context.Background(), o), probe.Refused, "The server refuses this client (403): as a rule the origin, which was https://evil.example.")
	server := startTCP(t, answering(always("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")))
	o = options(t, "ws://"+server)
	o.Origin = ""
	check(t, probe.Run(context.Background(), o), probe.Refused, "The server lets this request in from nobody, or not without an Origin (403): browsers always send one.")
}

func TestMixedContent(t *testing.T) {
	address := strings.TrimPrefix(startGorilla(t, false), "ws://")
	o := options(t, "ws://chat.example/ws")
	o.Network, o.Address = "tcp", address
	r := probe.Run(context.Background(), o)
	check(t, r, probe.Open, "")
	if len(r.Notes) != 1 || r.Notes[0] != "a page that came over https cannot open ws://; it needs wss://chat.example/ws" {
		t.Errorf("notes %q", r.Notes)
	}
	o.Origin = "https://chat.example"
	o.Fields = append(o.Fields, mustField(t, "Host: chat.example"))
	r = probe.Run(context.Background(), o)
	check(t, r, probe.Blocked, "The WebSocket opens, but no browser opens it for a page of https://chat.example: to a page over https, ws:// is mixed content.")
	o = options(t, "ws://localhost/ws")
	o.Network, o.Address, o.Origin = "tcp", address, ""
	check(t, probe.Run(context.Background(), o), probe.Open, "")
}

// knowsNobody asks a name server that says of every name that it is not there.
func knowsNobody(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		for p := make([]byte, 512); ; {
			n, from, err := server.ReadFromUDPAddrPort(p)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(p[:n]) == nil {
				m.Response, m.RCode, m.Additionals = true, dnsmessage.RCodeNameError, nil
				answer, _ := m.Pack()
				server.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	check(t, probe.Run(context.Background(), options(t, "ws://"+address)), probe.NoConnection, "Nothing listens on 127.0.0.1:PORT, or a firewall refuses connections.")
	o := options(t, "ws://nosuch.example")
	o.Resolver = knowsNobody(t)
	check(t, probe.Run(context.Background(), o), probe.NoAddress, "There is no address for the name nosuch.example.")
	o = options(t, "ws://chat.example")
	o.Network, o.Address = "unix", t.TempDir()+"/no.sock"
	check(t, probe.Run(context.Background(), o), probe.NoConnection, "There is no socket at "+o.Address+".")
}

func TestAnswersOnAnotherAddress(t *testing.T) {
	address := strings.TrimPrefix(startGorilla(t, false), "ws://")
	_, port, _ := net.SplitHostPort(address)
	o := options(t, "ws://chat.example/ws")
	o.Network, o.Address, o.Origin = "tcp", "localhost:"+port, ""
	r := probe.Run(context.Background(), o)
	check(t, r, probe.Open, "")
	if r.Steps[0].Name != "DNS" || !strings.HasPrefix(r.Steps[0].Result, "localhost is ") {
		t.Errorf("%+v", r.Steps[0])
	}
}
