package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestAuthorityThatNeverEndsIsNotWaitedFor: it sends a little now and then, so that it is never silent for long.
func TestAuthorityThatNeverEndsIsNotWaitedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		begin, more string
		status      int
	}{
		"nothing":       {"", "", 504},
		"half a head":   {"HTTP/1.1 200 OK\r\n", "X: y\r\n", 504},
		"interim":       {"", "HTTP/1.1 102 Processing\r\n\r\n", 504},
		"endless body":  {"HTTP/1.1 200 OK\r\n\r\n", "x", 200},
		"endless no":    {"HTTP/1.1 403 No\r\n\r\n", "x", 403},
		"flood":         {"HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 1<<20), "x", 200},
		"chunked flood": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 10), 200},
	} {
		t.Run(name, func(t *testing.T) {
			authority := startBackend(t, func(_ *backend, conn net.Conn) {
				go io.Copy(io.Discard, conn)
				io.WriteString(conn, tt.begin)
				for {
					time.Sleep(20 * time.Millisecond) // two seconds of the server's
					if _, err := io.WriteString(conn, tt.more); err != nil {
						return
					}
					if tt.more == "" {
						if _, err := conn.Write(nil); err != nil {
							return
						}
					}
				}
			})
			f := start(t, `
sites: [{hosts: [example.com], auth_request: "http://`+authority.address+`", locations: [{path: /, respond: 200}]}]
`)
			defer f.hurry()()
			c := f.dial()
			c.send(request("GET", "/"))
			if a := c.answer("GET"); a.StatusCode != tt.status && !(tt.status == 504 && a.StatusCode == 502) {
				t.Errorf("%s, want %d", a.Status, tt.status)
			}
		})
	}
}

// slowAuthority lets requests in when it is told to.
func slowAuthority(t *testing.T, release <-chan bool) *backend {
	return startHeads(t, func(string) string {
		pass(release)
		return "HTTP/1.1 200 OK\r\nRemote-User: alice\r\nContent-Length: 0\r\n\r\n"
	})
}

// TestBodiesOfGuardedRequestsArriveWhole, whenever they come: with the head, while leave is asked for, or behind it, in pieces, over each protocol.
func TestBodiesOfGuardedRequestsArriveWhole(t *testing.T) {
	release := make(chan bool)
	authority := slowAuthority(t, release)
	b := startEcho(t)
	f := start(t, `
sites: [{hosts: [example.com], auth_request: "http://`+authority.address+`", locations: [`+httpTo(b.address)+`]}]
`)
	body := strings.Repeat("0123456789", 30_000)
	chunked := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for name, tt := range map[string]struct{ lines, with, meanwhile, after string }{
		"with the head":  {"Content-Length: 300000\r\n", body, "", ""},
		"meanwhile":      {"Content-Length: 300000\r\n", "", body, ""},
		"behind":         {"Content-Length: 300000\r\n", "", "", body},
		"in parts":       {"Content-Length: 300000\r\n", body[:100_000], body[100_000:200_000], body[200_000:]},
		"chunked":        {"Transfer-Encoding: chunked\r\n", chunked(body[:100_000]), chunked(body[100_000:200_000]), chunked(body[200_000:]) + "0\r\n\r\n"},
		"chunked before": {"Transfer-Encoding: chunked\r\n", chunked(body) + "0\r\n\r\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := len(authority.seen())
			c := f.dial()
			next := request("GET", "/next")
			c.send(request("POST", "/", tt.lines))
			go func() {
				c.send(tt.with)
				authority.awaitRequests(t, n+1)
				c.send(tt.meanwhile)
				release <- true
				c.send(tt.after, next)
				release <- true
			}()
			if a := c.expect(200); a.body != "POST / "+body {
				t.Errorf("got %d bytes", len(a.body))
			}
			if a := c.expect(200); a.body != "GET /next " {
				t.Errorf("got %q", a.body)
			}
		})
	}
	t.Run("continue", func(t *testing.T) {
		c := f.dial()
		c.send(request("POST", "/", "Expect: 100-continue\r\nContent-Length: 300000\r\n"))
		release <- true
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
			t.Fatalf("%q", head)
		}
		c.send(body)
		if a := c.expect(200); a.body != "POST / "+body {
			t.Errorf("got %d bytes", len(a.body))
		}
	})
}

func TestClientsThatLeaveWhileLeaveIsAsked(t *testing.T) {
	release := make(chan bool)
	authority := slowAuthority(t, release)
	var asked atomic.Int64
	b := startHeads(t, func(string) string { asked.Add(1); return ok })
	f := start(t, `
sites: [{hosts: [example.com], auth_request: "http://`+authority.address+`", locations: [`+httpTo(b.address)+`]}]
`)
	for i := range 20 {
		c := f.dial()
		c.send(request("GET", "/"))
		authority.awaitRequests(t, i+1)
		c.Conn.(*net.TCPConn).SetLinger(0) // a FIN may be that of a client that goes on reading
		c.Close()
	}
	await(t, "their lines", func() bool { return strings.Count(f.log.String(), `"status":499`) == 20 })
	close(release)
	if asked.Load() > 0 {
		t.Error("the backend was asked")
	}
}

// TestReloadWhileLeaveIsAsked: the request goes on by the configuration that it began with.
func TestReloadWhileLeaveIsAsked(t *testing.T) {
	release := make(chan bool)
	authority := slowAuthority(t, release)
	f := start(t, `
sites: [{hosts: [example.com], auth_request: "http://`+authority.address+`", locations: [{path: /, respond: {body: old}}]}]
`)
	c := f.dial()
	c.send(request("GET", "/"))
	authority.awaitRequests(t, 1)
	f.apply(t, plainListener+`
sites: [{hosts: [example.com], locations: [{path: /, respond: {body: new}}]}]
`)
	release <- true
	if a := c.expect(200); a.body != "old" {
		t.Errorf("got %q", a.body)
	}
	c.send(request("GET", "/"))
	if a := c.expect(200); a.body != "new" {
		t.Errorf("got %q", a.body)
	}
}

// TestPasswordsDoNotKeepOthersWaiting: while many are hashed, other requests are answered.
func TestPasswordsDoNotKeepOthersWaiting(t *testing.T) {
	f := startWith(t, plainListener+"trusted_proxies: [127.0.0.1]\n"+`
sites:
  - hosts: [example.com]
    locations:
      - {path: /, respond: 200}
      - {path: /in, basic_auth: {users: `+usersFile(t)+`}, respond: 200}
`)
	var wait sync.WaitGroup
	var statuses sync.Map
	for i := range 200 {
		wait.Go(func() {
			c := f.dial()
			c.send(request("GET", "/in", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", i), basic("alice", fmt.Sprint("guess", i))))
			a := c.answer("GET")
			statuses.Store(a.StatusCode, true)
		})
	}
	c := f.dial()
	for range 50 {
		c.send(request("GET", "/"))
		c.expect(200)
	}
	wait.Wait()
	statuses.Range(func(status, _ any) bool {
		if status != http.StatusUnauthorized && status != http.StatusServiceUnavailable {
			t.Errorf("status %d", status)
		}
		return true
	})
}

// TestLeaveThatIsAskedTwiceSetsItsCookieOnce: for a file that is not there, and for the backend beside it.
func TestLeaveThatIsAskedTwiceSetsItsCookieOnce(t *testing.T) {
	authority, _ := startAuthority(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    auth_request: "`+authority+`"
    locations: [{path: /, root: `+t.TempDir()+`, http: "http://`+startEcho(t).address+`"}]
`)
	c := f.dial()
	c.send(request("GET", "/none", "Cookie: session=alice\r\n"))
	if got := c.expect(200).Header.Values("Set-Cookie"); len(got) != 1 {
		t.Errorf("cookies %q", got)
	}
}
