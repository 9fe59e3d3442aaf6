package proxy_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBodyOfAGuardedRequestWaitsForTheDisk: the path was never looked for before, so that the disk is asked beside the loop.
func TestBodyOfAGuardedRequestWaitsForTheDisk(t *testing.T) {
	b := startEcho(t)
	root := t.TempDir()
	f := start(t, `
sites:
  - hosts: [example.com]
    allow: [127.0.0.1]
    locations:
      - {path: /, root: `+root+`, try_files: [$uri, "/back$uri"]}
      - {path: /back/, http: "http://`+b.address+`"}
`)
	body := strings.Repeat("0123456789", 1000)
	for _, path := range []string{"/a", "/b", "/c"} {
		c := f.dial()
		c.send(request("POST", path, "Content-Length: 10000\r\n"), body)
		if a := c.expect(200); a.body != "POST /back"+path+" "+body {
			t.Errorf("%s: got %d bytes", path, len(a.body))
		}
	}
}

func TestRedirectsToPathsWithURLsInTheirQuery(t *testing.T) {
	f := start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: /a, redirect: "/login?rd=$scheme://$http_host$request_uri"}
      - {path: "~ ^/b/(.*)$", redirect: "/r/$1?u=http://x.example/$1"}
      - {path: /c, redirect: "/new/$arg_x"}
`)
	for target, want := range map[string]string{
		"/a/x?y=z&admin=1": "/login?rd=http://example.com/a/x?y%3Dz%26admin%3D1",
		"/b/c/d":           "/r/c/d?u=http://x.example/c/d",
		"/c?x=a?b=c":       "/new/a%3Fb=c",
	} {
		c := f.dial()
		c.send(request("GET", target))
		if got := c.expect(302).Header.Get("Location"); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestNobodySpoofsWhatTheAuthorityWouldSay(t *testing.T) {
	authority, _ := startAuthority(t)
	got := make(chan string, 1)
	b := startBackend(t, readUntilLastChunk(got))
	m := startMirror(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    auth_request: {url: "`+authority+`", copy_headers: [Remote-User]}
    locations:
      - {path: /inside, satisfy: any, allow: [127.0.0.1], http: "http://`+m.address+`"}
      - {path: /trailers, http: "http://`+b.address+`", headers: {request: {remove: [X-Secret], set: {X-Set: "1"}}}}
`)
	c := f.dial()
	c.send(request("GET", "/inside", "Remote-User: admin\r\n"))
	if user := fieldsOf(c.expect(200).body, "Remote-User"); user != "" {
		t.Errorf("a client that was not asked about says that it is %q", user)
	}
	c = f.dial()
	c.send(request("POST", "/trailers", "Cookie: session=alice\r\nTransfer-Encoding: chunked\r\n"),
		"1\r\nx\r\n0\r\nRemote-User: admin\r\nX-Secret: 1\r\nX-Set: 2\r\nX-Real-Ip: 6.6.6.6\r\nX-Sum: 3\r\n\r\n")
	c.expect(200)
	text := <-got
	_, trailers, _ := strings.Cut(text, "\r\n0\r\n")
	if trailers != "X-Sum: 3\r\n\r\n" {
		t.Errorf("trailers %q of %q", trailers, text)
	}
}

func TestAuthorityThatDoesNotAnswerAsItShould(t *testing.T) {
	for name, tt := range map[string]struct {
		answer string
		status int
	}{
		"101":           {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502},
		"100 and 200":   {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200},
		"garbage":       {"xyz\r\n\r\n", 502},
		"half a body":   {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", 200},
		"half a head":   {"HTTP/1.1 200 OK\r\nContent-Le", 502},
		"304":           {"HTTP/1.1 304 Not Modified\r\n\r\n", 502},
		"smuggled name": {"HTTP/1.1 200 OK\r\nRemote_User: admin\r\nContent-Length: 0\r\n\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			authority := startBackend(t, func(_ *backend, conn net.Conn) {
				buf := make([]byte, 4096)
				conn.Read(buf)
				io.WriteString(conn, tt.answer)
				if name == "101" {
					io.Copy(io.Discard, conn)
				}
			})
			m := startMirror(t)
			f := start(t, `
sites:
  - hosts: [example.com]
    auth_request: {url: "http://`+authority.address+`", copy_headers: [Remote-User]}
    locations: [{path: /, http: "http://`+m.address+`"}]
`)
			c := f.dial()
			c.send(request("GET", "/"))
			if a := c.expect(tt.status); strings.Contains(a.body, "admin") {
				t.Errorf("the backend got %q", a.body)
			}
		})
	}
}

func TestVariablesOfBareQueries(t *testing.T) {
	f := start(t, `
sites: [{hosts: [example.com], locations: [{path: /, respond: {body: "$request_uri|$uri|$args|$is_args|$arg_A|$cookie_SID|$host"}}]}]
`)
	for target, want := range map[string]string{
		"/x?":    "/x?|/x|||||",
		"/x?a=1": "/x?a=1|/x|a=1|?|1||",
		"/x??":   "/x??|/x|?|?|||",
	} {
		c := f.dial()
		c.send(request("GET", target))
		if got := c.expect(200).body; got != want+"example.com" {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestHostOfTheRulesIsOne(t *testing.T) {
	m := startMirror(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: /, http: "http://`+m.address+`", headers: {request: {set: {Host: $http_x_host}}}}
      - {path: /b, http: "http://`+m.address+`", headers: {request: {add: {Host: [a.internal, b.internal]}}}}
`)
	for host, want := range map[string]string{
		"": "example.com", "x y": "example.com", "a, b": "example.com", "a/b": "example.com", "é": "example.com", "x@y": "example.com",
		"other.test:81": "other.test:81", "[::1]": "[::1]",
	} {
		c := f.dial()
		c.send(request("GET", "/", "X-Host: "+host+"\r\n"))
		if got := fieldsOf(c.expect(200).body, "Host"); got != want {
			t.Errorf("%q: the backend is asked for %q, want %q", host, got, want)
		}
	}
	c := f.dial()
	c.send(request("GET", "/b"))
	if got := fieldsOf(c.expect(200).body, "Host"); got != "b.internal" {
		t.Errorf("hosts %q", got)
	}
}

func TestQueryIsSentOnce(t *testing.T) {
	b := startEcho(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: "~ ^/c/(.*)$", http: "http://`+b.address+`/n/$1$is_args$args"}
      - {path: "~ ^/d/(.*)$", http: "http://`+b.address+`/n/$1"}
      - {path: /t/, root: `+t.TempDir()+`, try_files: [$uri, "/back$is_args$args"]}
      - {path: /u/, root: `+t.TempDir()+`, try_files: [$uri, "/back?q=$uri&$args"]}
      - {path: /v/, root: `+t.TempDir()+`, try_files: [$uri, /back]}
      - {path: /back, http: "http://`+b.address+`"}
`)
	for target, want := range map[string]string{
		"/c/x?a=1": "/n/x?a=1", "/c/x": "/n/x", "/c/x?": "/n/x", "/d/x?a=1": "/n/x?a=1",
		"/t/x?a=1": "/back?a=1", "/t/x": "/back", "/u/x?a=1": "/back?q=/u/x&a=1", "/v/x?a=1": "/back",
	} {
		c := f.dial()
		c.send(request("GET", target))
		if got := c.expect(200).body; got != "GET "+want+" " {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestNotToBeDeniedIsNoLeave(t *testing.T) {
	f := start(t, `
sites:
  - hosts: [example.com]
    satisfy: any
    basic_auth: {users: `+usersFile(t)+`}
    locations:
      - {path: /, deny: [10.0.0.0/8], respond: 200}
      - {path: /allowed, allow: [127.0.0.1], deny: [10.0.0.0/8], respond: 200}
      - {path: /denied, deny: [127.0.0.1], respond: 200}
      - {path: /open, basic_auth: off, deny: [10.0.0.0/8], respond: 200}
`)
	for _, tt := range []struct {
		path, lines string
		status      int
	}{
		{"/", "", 401}, {"/", basic("alice", "secret"), 200}, {"/allowed", "", 200}, {"/denied", "", 401}, {"/denied", basic("alice", "secret"), 200}, {"/open", "", 200},
	} {
		c := f.dial()
		c.send(request("GET", tt.path, tt.lines))
		c.expect(tt.status)
	}
}

func TestListingLeadsNowhereElse(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "out"), []byte("x"), 0o600)
	os.Mkdir(filepath.Join(dir, "in"), 0o700)
	os.Symlink("../out", filepath.Join(dir, "in", "l"))
	os.Symlink("..", filepath.Join(dir, "in", "d"))
	os.WriteFile(filepath.Join(dir, "in", "javascript:alert(1)"), nil, 0o600)
	f := start(t, `
sites: [{hosts: [example.com], locations: [{path: /, root: `+filepath.Join(dir, "in")+`, listing: true}]}]
`)
	c := f.dial()
	c.send(request("GET", "/"))
	a := c.expect(200)
	_, list, _ := strings.Cut(a.body, "<table>")
	if got := strings.Count(list, "<a "); got != 1 || !strings.Contains(list, `<a href="./javascript:alert(1)">`) {
		t.Errorf("%q", list)
	}
	for _, path := range []string{"/l", "/d/", "/d/out"} {
		c.send(request("GET", path))
		c.expect(404)
	}
}
