package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// startMirror is a backend that answers with the head of the request as it came, and with fields of its own.
func startMirror(t *testing.T) *backend {
	t.Helper()
	return startHeads(t, func(head string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: mirror\r\nX-Powered-By: PHP/8\r\nX-Internal-A: 1\r\nX-Internal-B: 2\r\nSet-Cookie: own=1\r\nContent-Length: %d\r\n\r\n%s", len(head), head)
	})
}

// fieldsOf returns the lines of a head of a name, without that.
func fieldsOf(head, name string) string {
	var values []string
	for line := range strings.SplitSeq(head, "\r\n") {
		if field, value, ok := strings.Cut(line, ": "); ok && strings.EqualFold(field, name) {
			values = append(values, value)
		}
	}
	return strings.Join(values, " | ")
}

func TestHeaderRulesOfRequests(t *testing.T) {
	b := startMirror(t)
	f := start(t, `
headers: {request: {set: {X-Level: file, X-File: "1"}, remove: [X-Debug, X-Secret-*]}}
sites:
  - hosts: [example.com]
    headers: {request: {set: {X-Level: site}, add: {X-More: [a, b]}}}
    locations:
      - path: /
        http: "http://`+b.address+`"
        headers:
          request:
            set:
              X-Level: location
              Host: $host.internal
              X-All: "$scheme $remote_addr $request_method $request_uri $uri $args$is_args $server_name $ssl_protocol. $$5"
              X-Cookie: $cookie_session
              X-Arg: $arg_q
              X-Agent: $http_user_agent
              X-Empty: ""
              X-Forwarded-For: $remote_addr
              X-Request-Id: $request_id
`)
	c := f.dial()
	c.send("GET /a%20b?q=1&r=%20 HTTP/1.1\r\nHost: Example.com:8080\r\nConnection: X-Level, x-file\r\nX-Debug: 1\r\nX-Secret-Key: k\r\nX-Level: mine\r\nX-Empty: full\r\n" +
		"X-More: own\r\nCookie: a=b; session=s3\r\nUser-Agent: test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
	head := c.expect(200).body
	for name, want := range map[string]string{
		"Host": "example.com.internal", "X-Level": "location", "X-File": "1", "X-More": "own | a | b", "X-Debug": "", "X-Secret-Key": "", "X-Empty": "",
		"X-All":    "http 127.0.0.1 GET /a%20b?q=1&r=%20 /a b q=1&r=%20? example.com . $5",
		"X-Cookie": "s3", "X-Arg": "1", "X-Agent": "test", "X-Forwarded-For": "127.0.0.1", "Connection": "",
	} {
		if got := fieldsOf(head, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if id := fieldsOf(head, "X-Request-Id"); len(id) != 32 {
		t.Errorf("request id %q", id)
	}
}

func TestHeaderRulesOfAnswers(t *testing.T) {
	b := startMirror(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    headers:
      response:
        - {set: {X-Frame-Options: DENY, X-From: $upstream_http_server}, remove: [X-Powered-By, X-Internal-*, Content-*]}
        - {set: {X-Always: $uri}, add: {Set-Cookie: "ours=$request_method"}, always: true}
    locations:
      - {path: /, http: "http://`+b.address+`"}
      - {path: /none, respond: 404}
      - {path: /there, redirect: /here}
`)
	for path, want := range map[string]struct {
		status             int
		frame, all, cookie string
	}{
		"/a":     {200, "DENY", "/a", "own=1 | ours=GET"},
		"/none":  {404, "", "/none", "ours=GET"},
		"/there": {302, "DENY", "/there", "ours=GET"},
		"/b%0ac": {200, "DENY", "/b%0Ac", "own=1 | ours=GET"},
	} {
		c := f.dial()
		c.send("GET " + path + " HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
		whole := c.rest()
		head, body, _ := strings.Cut(whole, "\r\n\r\n")
		head += "\r\n"
		if !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", want.status)) || fieldsOf(head, "X-Frame-Options") != want.frame ||
			fieldsOf(head, "X-Always") != want.all || fieldsOf(head, "Set-Cookie") != want.cookie {
			t.Errorf("%s: %s, want %+v", path, head, want)
		}
		for _, name := range []string{"X-Powered-By", "X-Internal-A", "X-Internal-B"} {
			if got := fieldsOf(head, name); got != "" {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if got := fieldsOf(head, "Content-Length"); got != fmt.Sprint(len(body)) {
			t.Errorf("%s: length %s of %d", path, got, len(body))
		}
		if from := fieldsOf(head, "X-From"); want.status == 200 && from != "mirror" {
			t.Errorf("%s: from %q", path, from)
		}
	}
}

func TestHeaderRulesHoldForHandshakes(t *testing.T) {
	b := startEchoSocket(t)
	f := start(t, oneSite(`{path: /ws, websocket: "ws://`+b.address+`", headers: {request: {set: {X-Who: $remote_addr}, remove: [Origin]}, response: [{set: {X-Not: "1"}}, {set: {X-Ours: "1"}, always: true}]}}`))
	c := f.dial()
	c.send(strings.Replace(upgrade, "\r\n\r\n", "\r\nOrigin: http://example.com\r\n\r\n", 1))
	head := c.head()
	if !strings.HasPrefix(head, "HTTP/1.1 101 ") || fieldsOf(head, "X-Ours") != "1" || fieldsOf(head, "X-Not") != "" {
		t.Errorf("got %q", head)
	}
}

func TestRedirects(t *testing.T) {
	f := start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: /a, redirect: "https://example.org$request_uri"}
      - {path: /b, redirect: {to: "$scheme://www.$host$uri?from=$request_uri", status: 301}}
      - {path: "~ ^/c(.*)$", redirect: {to: "https://example.org$1", status: 308}}
      - {path: "~ ^/d/(?P<rest>.*)$", redirect: {to: "/new/$rest", status: 307}}
      - {path: "~ ^/e(.*)$", redirect: "$1"}
      - {path: /f, redirect: {to: "https://example.org/?q=$arg_q&all=$args", status: 303}}
      - {path: /g, redirect: "$request_uri/x"}
`)
	tests := []struct {
		target   string
		status   int
		location string
	}{
		{"/a/x?y=z", 302, "https://example.org/a/x?y=z"},
		{"/a", 302, "https://example.org/a"},
		{"/b/x%20y?q=1&r=2", 301, "http://www.example.com/b/x%20y?from=/b/x%2520y?q%3D1%26r%3D2"},
		{"/c.evil.test/", 308, "https://example.org/.evil.test/"},
		{"/c/x", 308, "https://example.org/x"},
		{"/c", 308, "https://example.org/"},
		{"/c@evil.test", 308, "https://example.org/@evil.test"},
		{"/d/a%0dSet-Cookie:x=1", 307, "/new/a%0DSet-Cookie:x=1"},
		{"/a%0d%0aSet-Cookie:x=1", 404, ""},
		{"/d/%3fa=b%23c", 307, "/new/%3Fa=b%23c"},
		{"/e%5cevil.test", 302, "/%5Cevil.test"},
		{"/e/evil.test", 302, "/evil.test"},
		{"/f?q=a%26b&r=1", 303, "https://example.org/?q=a%26b&all=q%3Da%2526b%26r%3D1"},
		{"http://example.com//g", 302, "//g"},
	}
	for _, tt := range tests {
		c := f.dial()
		c.send("GET " + tt.target + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
		a := c.expect(tt.status)
		if tt.location == "//g" { // a path that would be another host
			if got := a.Header.Get("Location"); got != "/g/x" {
				t.Errorf("%s: %q", tt.target, got)
			}
			continue
		}
		if got := a.Header.Get("Location"); got != tt.location {
			t.Errorf("%s: %q, want %q", tt.target, got, tt.location)
		}
	}
}

func TestAnswersOfTheConfigurationsOwn(t *testing.T) {
	f := start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: /ok, respond: {body: "hello $remote_addr\n"}}
      - {path: /json, respond: {status: 201, body: '{"a":"$arg_a"}', type: application/json}}
      - {path: /no, respond: 403}
      - {path: /words, respond: {status: 403, body: "our own words"}}
      - {path: /empty, respond: 204}
      - {path: /gone, respond: 444}
`)
	for path, want := range map[string]string{
		"/ok":       "200 text/plain; charset=utf-8 hello 127.0.0.1\n",
		"/json?a=1": `201 application/json {"a":"1"}`,
		"/no":       "403 text/plain; charset=utf-8 403 Forbidden\n",
		"/empty":    "204  ",
		"/words":    "403 text/plain; charset=utf-8 our own words",
	} {
		for _, method := range []string{"GET", "POST"} {
			c := f.dial()
			c.send(method + " " + path + " HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n")
			a := c.answer(method)
			if got := fmt.Sprintf("%d %s %s", a.StatusCode, a.Header.Get("Content-Type"), a.body); got != want {
				t.Errorf("%s %s: %q, want %q", method, path, got, want)
			}
		}
	}
	c := f.dial()
	c.send("GET /gone HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if got := c.rest(); got != "" {
		t.Errorf("444 answered %q", got)
	}
	await(t, "its line", func() bool { return strings.Contains(f.log.String(), `"status":444`) })
}

func TestRewrites(t *testing.T) {
	b := startEcho(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    rewrite:
      - {path: "^/old/(.*)$", to: "/new/$1"}
      - {path: "^/new/(.*)$", to: "/never"}
      - {path: "^/q/([0-9]+)$", to: "/page?id=$1"}
      - {path: "^/drop$", to: "/page?"}
    locations:
      - {path: /, http: "http://`+b.address+`"}
      - {path: /v1/, http: "http://`+b.address+`/api/", rewrite: {path: "^/v1/x/(.*)$", to: "/v1/y/$1", stay: true}}
      - {path: /from/, rewrite: {path: "^/from/(.*)$", to: "/to/$1"}}
      - {path: /to/, http: "http://`+b.address+`/target/"}
      - {path: /circle/, rewrite: {path: "^/circle/(.*)$", to: "/circle/$1x"}}
      - {path: "~ ^/user/([0-9]+)/(.*)$", http: "http://`+b.address+`/u/$2/$1"}
      - {path: /out, rewrite: {path: "^/out(.*)$", to: "$1"}}
`)
	for target, want := range map[string]string{
		"/old/a%20b?x=y":  "GET /new/a%20b?x=y ",
		"/q/7?a=b":        "GET /page?id=7&a=b ",
		"/q/7":            "GET /page?id=7 ",
		"/drop?a=b":       "GET /page ",
		"/v1/x/z?a":       "GET /api/y/z?a ",
		"/v1/z":           "GET /api/z ",
		"/from/a%2fb?c":   "GET /target/a/b?c ",
		"/user/5/a%20b?q": "GET /u/a%20b/5?q ",
		"/plain%2fpath?x": "GET /plain%2fpath?x ",
		"/old/%0dX:%20":   "GET /new/%0DX:%20 ",
	} {
		c := f.dial()
		c.send("GET " + target + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if a := c.expect(200); a.body != want {
			t.Errorf("%s: %q, want %q", target, a.body, want)
		}
	}
	c := f.dial()
	c.send("GET /circle/a HTTP/1.1\r\nHost: example.com\r\n\r\n")
	c.expect(404) // rewritten once, and then there is nothing that it is for
}

func TestConditionsOfLocations(t *testing.T) {
	f := start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: /, when: {method: [POST, PUT]}, respond: {body: write}}
      - {path: /, when: {header: {X-Stage: "~ ^(beta|dev)$"}}, respond: {body: stage}}
      - {path: /, when: {cookie: {vip: true}, query: {x: "1"}}, respond: {body: both}}
      - {path: /, when: {client: [10.0.0.0/8]}, respond: {body: inside}}
      - {path: /, when: {header: {Accept-Language: "~* ^DE"}}, respond: {body: de}}
      - {path: /, when: {query: {lang: "!= en", new: true}}, respond: {body: newer}}
      - {path: /, when: {header: {User-Agent: "!~ Mozilla", X-Bot: false}, query: {bot: true}}, respond: {body: bot}}
      - {path: /, respond: {body: other}}
      - {path: /deep/, when: {method: DELETE}, respond: {body: deep}}
      - {path: = /deep/x, when: {method: DELETE}, respond: {body: exact}}
`)
	for _, tt := range []struct{ request, want string }{
		{"GET /", "other"},
		{"POST /", "write"},
		{"PUT /x", "write"},
		{"GET /\r\nX-Stage: dev", "stage"},
		{"GET /\r\nX-Stage: prod", "other"},
		{"GET /?x=1\r\nCookie: a=b; vip=", "both"},
		{"GET /?x=2\r\nCookie: vip=1", "other"},
		{"GET /?x=%31\r\nCookie: vip=1", "both"},
		{"GET /\r\nCookie: vip=1", "other"},
		{"GET /\r\nAccept-Language: de-AT, en", "de"},
		{"GET /?new=", "newer"},
		{"GET /?new&lang=en", "other"},
		{"GET /?bot\r\nUser-Agent: curl", "bot"},
		{"GET /?bot\r\nUser-Agent: Mozilla/5", "other"},
		{"GET /?bot\r\nX-Bot: 1", "other"},
		{"DELETE /deep/", "deep"},
		{"DELETE /deep/x", "exact"},
		{"GET /deep/x", "other"},
	} {
		line, fields, _ := strings.Cut(tt.request, "\r\n")
		if fields != "" {
			fields += "\r\n"
		}
		c := f.dial()
		c.send(line + " HTTP/1.1\r\nHost: example.com\r\n" + fields + "Content-Length: 0\r\n\r\n")
		if a := c.expect(200); a.body != tt.want {
			t.Errorf("%q: %q, want %q", tt.request, a.body, tt.want)
		}
	}
}

func TestProxyIsForPagesAndSockets(t *testing.T) {
	b := startEchoSocket(t)
	f := start(t, "sites: [{hosts: [example.com], proxy: \""+b.address+"\"}]\n")
	c := f.dial()
	c.send(upgrade)
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Errorf("got %q", head)
	}
	pages := startEcho(t)
	f = start(t, "sites: [{hosts: [example.com], locations: [{path: /app/, proxy: \"http://"+pages.address+"/\"}]}]\n")
	c = f.dial()
	c.send("GET /app/x HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if a := c.expect(http.StatusOK); a.body != "GET /x " {
		t.Errorf("got %q", a.body)
	}
}
