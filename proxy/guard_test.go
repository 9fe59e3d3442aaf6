package proxy_test

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// basic is the line with a name and a password.
func basic(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)) + "\r\n"
}

// usersFile is a file with alice, whose password is "secret".
func usersFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("alice:$apr1$c5JRYGsI$66gHNLE.sONjgvXJaHoI4.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// request is a small request with lines of its own.
func request(method, target string, lines ...string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: example.com\r\n" + strings.Join(lines, "") + "\r\n"
}

func TestClientsAreLetInByTheirAddress(t *testing.T) {
	f := startWith(t, plainListener+"trusted_proxies: [127.0.0.1]\n"+`
deny: [10.0.0.0/8]
sites:
  - hosts: [example.com]
    locations:
      - {path: /, respond: 200}
      - {path: /inside, allow: [192.168.0.0/16], deny: [192.168.6.6], respond: 200}
      - {path: /all, allow: [all], respond: 200}
`)
	for _, tt := range []struct {
		path, client string
		status       int
	}{
		{"/", "192.0.2.1", 200},
		{"/", "10.1.1.1", 403},
		{"/inside", "192.168.1.1", 200},
		{"/inside", "192.168.6.6", 403},
		{"/inside", "192.0.2.1", 403},
		{"/all", "10.1.1.1", 200},
		{"/all", "2001:db8::1", 200},
	} {
		c := f.dial()
		c.send(request("GET", tt.path, "X-Forwarded-For: "+tt.client+"\r\n"))
		c.expect(tt.status)
	}
}

func TestBasicAuth(t *testing.T) {
	b := startMirror(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    basic_auth: {realm: Staff, users: `+usersFile(t)+`}
    locations:
      - {path: /, http: "http://`+b.address+`", headers: {request: {set: {X-User: $remote_user}}}}
      - {path: /open, basic_auth: off, respond: 200}
      - {path: /ws, websocket: "ws://`+startEchoSocket(t).address+`"}
      - {path: /any, satisfy: any, allow: [127.0.0.1], respond: 200}
      - {path: /neither, satisfy: any, allow: [10.0.0.0/8], respond: 200}
      - {path: /both, allow: [10.0.0.0/8], respond: 200}
`)
	for _, tt := range []struct {
		request string
		status  int
	}{
		{request("GET", "/"), 401},
		{request("GET", "/", basic("alice", "wrong")), 401},
		{request("GET", "/", basic("bob", "secret")), 401},
		{request("GET", "/", "Authorization: Bearer x\r\n"), 401},
		{request("GET", "/", "Authorization: Basic %%\r\n"), 401},
		{request("GET", "/", basic("alice", "secret"), basic("alice", "secret")), 401},
		{request("GET", "/", basic("alice", "secret")), 200},
		{request("GET", "/", basic("alice", "secret")), 200},
		{request("POST", "/", basic("alice", "secret"), "Content-Length: 0\r\n"), 200},
		{request("GET", "/open"), 200},
		{request("GET", "/any"), 200},
		{request("GET", "/neither"), 401},
		{request("GET", "/neither", basic("alice", "secret")), 200},
		{request("GET", "/both", basic("alice", "secret")), 403},
		{request("GET", "/ws", upgradeLines), 401},
		{request("GET", "/ws", upgradeLines, basic("alice", "secret")), 101},
	} {
		c := f.dial()
		c.send(tt.request)
		a := c.answer("GET")
		if a.StatusCode != tt.status {
			t.Errorf("%q: %s, want %d", tt.request, a.Status, tt.status)
		}
		if want := `Basic realm="Staff", charset="UTF-8"`; tt.status == 401 && a.Header.Get("WWW-Authenticate") != want {
			t.Errorf("%q: challenge %q", tt.request, a.Header.Get("WWW-Authenticate"))
		}
		if tt.status == 200 && strings.HasPrefix(tt.request, "GET / ") && fieldsOf(a.body, "X-User") != "alice" {
			t.Errorf("the backend is told of %q", fieldsOf(a.body, "X-User"))
		}
	}
	if log := f.log.String(); strings.Contains(log, "secret") || strings.Contains(log, "$apr1$") {
		t.Error("a secret is in the log")
	}
}

func TestBodyWaitsForThePassword(t *testing.T) {
	b := startEcho(t)
	f := start(t, `
sites: [{hosts: [example.com], basic_auth: {users: `+usersFile(t)+`}, locations: [`+httpTo(b.address)+`]}]
`)
	body := strings.Repeat("0123456789", 20_000)
	for _, password := range []string{"wrong", "secret", "secret"} {
		c := f.dial()
		c.send(request("POST", "/", basic("alice", password), "Content-Length: 200000\r\n"), body)
		a := c.answer("POST")
		if want := map[string]int{"wrong": 401, "secret": 200}[password]; a.StatusCode != want || want == 200 && a.body != "POST / "+body {
			t.Errorf("%s: %s with %d bytes", password, a.Status, len(a.body))
		}
		if password == "wrong" { // so much is not waited for
			continue
		}
		c.send(request("GET", "/again", basic("alice", "secret")))
		if a := c.expect(200); a.body != "GET /again " {
			t.Errorf("got %q", a.body)
		}
	}
}

func TestClientThatGuessesPasswordsHasToWait(t *testing.T) {
	f := start(t, "sites: [{hosts: [example.com], basic_auth: {users: "+usersFile(t)+"}, respond: 200}]\n")
	c := f.dial()
	for range 10 {
		c.send(request("GET", "/", basic("alice", "guess")))
		c.expect(401)
	}
	c.send(request("GET", "/", basic("alice", "secret")))
	if a := c.expect(429); a.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	f.server.Skip(6 * time.Second)
	c.send(request("GET", "/", basic("alice", "secret")))
	c.expect(200)
}

// startAuthority is a server that is asked for leave: it looks at the cookie, and notes what it was asked.
func startAuthority(t *testing.T) (url string, seen *atomic.Pointer[http.Request]) {
	t.Helper()
	seen = &atomic.Pointer[http.Request]{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		cookie, _ := r.Cookie("session")
		who := ""
		if cookie != nil {
			who = cookie.Value
		}
		w.Header().Set("Set-Cookie", "seen="+who)
		switch who {
		case "alice":
			w.Header().Set("Remote-User", "alice")
			w.Header().Add("Remote-Groups", "staff")
			io.WriteString(w, strings.Repeat("x", 200_000))
		case "mallory":
			w.WriteHeader(http.StatusForbidden)
		case "portal":
			http.Redirect(w, r, "https://login.example.com/", http.StatusFound)
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/api/verify", seen
}

func TestAnotherServerIsAskedForLeave(t *testing.T) {
	authority, seen := startAuthority(t)
	b := startMirror(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    auth_request: {url: "`+authority+`", copy_headers: [Remote-User, Remote-Groups]}
    locations:
      - {path: /, http: "http://`+b.address+`"}
      - {path: /login, auth_request: {url: "`+authority+`", on_401: "https://login.example.com/?rd=$scheme://$http_host$request_uri"}, respond: 200}
      - {path: /ws, websocket: "ws://`+startEchoSocket(t).address+`", auth_request: {url: "`+authority+`", on_401: "https://login.example.com/"}}
      - {path: /open, auth_request: off, respond: 200}
      - {path: /down, auth_request: "http://127.0.0.1:1/", respond: 200}
`)
	ask := func(status int, text string) answer {
		t.Helper()
		c := f.dial()
		c.send(text)
		return c.expect(status)
	}
	a := ask(200, request("PUT", "/page?x=1", "Cookie: session=alice\r\nRemote-User: admin\r\nRemote_Groups: wheel\r\nX-Original-URL: /x\r\nX-Forwarded-Method: X\r\nIf-None-Match: *\r\nContent-Length: 3\r\n")+"abc")
	if fieldsOf(a.body, "Remote-User") != "alice" || fieldsOf(a.body, "Remote-Groups") != "staff" {
		t.Errorf("the backend got %q", a.body)
	}
	if got := strings.Join(a.Header.Values("Set-Cookie"), " "); got != "seen=alice own=1" {
		t.Errorf("cookies %q", got)
	}
	r := seen.Load()
	for name, want := range map[string]string{
		"X-Original-URL": "http://example.com/page?x=1", "X-Original-URI": "/page?x=1", "X-Original-Method": "PUT", "X-Forwarded-Method": "PUT",
		"X-Forwarded-Uri": "/page?x=1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "example.com", "X-Forwarded-For": "127.0.0.1",
		"If-None-Match": "", "Content-Length": "",
	} {
		if got := strings.Join(r.Header.Values(name), " | "); got != want {
			t.Errorf("the authority was told %s: %q, want %q", name, got, want)
		}
	}
	if r.Method != "GET" || r.URL.Path != "/api/verify" || r.Host != "example.com" || r.ContentLength != 0 {
		t.Errorf("the authority was asked %s %s of %s, %d bytes", r.Method, r.URL, r.Host, r.ContentLength)
	}
	if a := ask(401, request("GET", "/")); a.Header.Get("WWW-Authenticate") != `Bearer realm="x"` || a.Header.Get("Set-Cookie") != "seen=" {
		t.Errorf("%v", a.Header)
	}
	if a := ask(302, request("GET", "/login?a=b&c=d")); a.Header.Get("Location") != "https://login.example.com/?rd=http://example.com/login?a%3Db%26c%3Dd" {
		t.Errorf("%v", a.Header)
	}
	if a := ask(302, request("GET", "/", "Cookie: session=portal\r\n")); a.Header.Get("Location") != "https://login.example.com/" {
		t.Errorf("%v", a.Header)
	}
	ask(403, request("GET", "/", "Cookie: session=mallory\r\n"))
	ask(502, request("GET", "/", "Cookie: session=broken\r\n"))
	ask(502, request("GET", "/down"))
	ask(200, request("GET", "/open"))
	ask(401, request("GET", "/ws", upgradeLines))
	ask(401, request("GET", "/ws", upgradeLines, "Cookie: session=portal\r\n"))
	ask(101, request("GET", "/ws", upgradeLines, "Cookie: session=alice\r\n"))
	await(t, "the reason", func() bool { return strings.Contains(f.log.String(), "the server of auth_request answered 500") })
}

func TestAuthorityIsAskedOverKeptConnections(t *testing.T) {
	authority := startHeads(t, always("HTTP/1.1 204 No Content\r\n\r\n"))
	f := start(t, oneSite(`{path: /, respond: 200, auth_request: "http://`+authority.address+`/"}`))
	for range 5 {
		c := f.dial()
		for range 3 {
			c.send(get)
			c.expect(200)
		}
	}
	if n := authority.accepted(); n > 5 || len(authority.seen()) != 15 {
		t.Errorf("%d connections for %d questions", n, len(authority.seen()))
	}
}

func TestKeptConnectionToTheAuthorityThatWasStale(t *testing.T) {
	authority := startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for i := 0; ; i++ {
			head, err := rawHead(br)
			if err != nil || i == 1 { // it closes instead of answering a second time
				return
			}
			b.note(head)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	f := start(t, oneSite(`{path: /, respond: 200, auth_request: "http://`+authority.address+`/"}`))
	c := f.dial()
	for range 5 {
		c.send(get)
		c.expect(200)
	}
}

func TestOriginsOfHandshakes(t *testing.T) {
	b := startEchoSocket(t)
	f := start(t, oneSite(
		`{path: /ws, websocket: "ws://`+b.address+`", allowed_origins: ["https://example.org", "https://*.example.net", self]}`,
		`{path: /programs, websocket: "ws://`+b.address+`", allowed_origins: [absent]}`))
	for _, tt := range []struct {
		path, origin string
		status       int
	}{
		{"/ws", "https://example.org", 101},
		{"/ws", "https://a.example.net", 101},
		{"/ws", "http://example.com", 101},
		{"/ws", "https://example.com", 403},
		{"/ws", "https://evil.test", 403},
		{"/ws", "null", 403},
		{"/ws", "", 403},
		{"/programs", "", 101},
		{"/programs", "https://example.org", 403},
	} {
		line := ""
		if tt.origin != "" {
			line = "Origin: " + tt.origin + "\r\n"
		}
		c := f.dial()
		c.send(request("GET", tt.path, upgradeLines, line))
		c.expect(tt.status)
	}
}

func TestBodyThatIsTooLong(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(`{path: /, http: "http://`+b.address+`", max_body: 1KiB}`, `{path: /streamed, http: "http://`+b.address+`", max_body: 1KiB, buffer: {request: off}}`))
	long := strings.Repeat("x", 1025)
	for _, path := range []string{"/", "/streamed"} {
		for text, status := range map[string]int{
			request("POST", path, "Content-Length: 1024\r\n") + long[:1024]:                                     200,
			request("POST", path, "Content-Length: 1025\r\n") + long:                                            413,
			request("POST", path, "Content-Length: 1025\r\nExpect: 100-continue\r\n"):                           413,
			request("POST", path, "Transfer-Encoding: chunked\r\n") + "401\r\n" + long + "\r\n0\r\n\r\n":        413,
			request("POST", path, "Transfer-Encoding: chunked\r\n") + "400\r\n" + long[:1024] + "\r\n0\r\n\r\n": 200,
		} {
			c := f.dial()
			c.send(text)
			c.expect(status)
		}
	}
	for _, line := range b.seen() {
		if !strings.HasPrefix(line, "POST /") {
			t.Errorf("the backend saw %q", line)
		}
	}
}
