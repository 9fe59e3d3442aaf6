//go:build linux

package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPHPServesFortyAssetsAtOnceWithSixWorkers: a page's scripts over one HTTP/2 connection come all, while no worker is held by a connection that waits.
func TestPHPServesFortyAssetsAtOnceWithSixWorkers(t *testing.T) {
	fpm := startFPM(t, 6)
	root := scripts(t, map[string]string{"asset.php": `<?php usleep(10000); header('Content-Type: text/css'); echo str_repeat($_GET['n'] . ' ', 8192);`, "a.css": strings.Repeat("c", 9000)})
	for _, keepAlive := range []string{"off", "3"} {
		f := startTLS(t, strings.Replace(phpSite(fpm, root, "tls: self-signed"), "php: unix:"+fpm.socket, `php: {url: "unix:`+fpm.socket+`", keepalive: `+keepAlive+`}`, 1))
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"}, ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", f.secure)
			},
		}
		c := &http.Client{Transport: transport, Timeout: patience}
		begin := time.Now()
		for range 3 {
			var all sync.WaitGroup
			for n := range 40 {
				all.Go(func() {
					target, want := fmt.Sprintf("/asset.php?n=%d", n), strings.Repeat(fmt.Sprint(n, " "), 8192)
					if n%4 == 3 {
						target, want = "/a.css", strings.Repeat("c", 9000)
					}
					resp, err := c.Get("https://example.com" + target)
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 || string(body) != want {
						t.Errorf("%s: %s over %s, %d bytes, %v", target, resp.Status, resp.Proto, len(body), err)
					}
				})
			}
			all.Wait()
		}
		if took := time.Since(begin); took > 5*time.Second*raceFactor {
			t.Errorf("with keepalive %s it took %v", keepAlive, took)
		}
		transport.CloseIdleConnections()
		f.stop()
	}
}

func TestPHPKeepsConnectionsOnlyWhereItIsTold(t *testing.T) {
	root := scripts(t, map[string]string{"index.php": `<?php echo getmypid(), ' ', strlen(file_get_contents('php://input'));`})
	fpm := startFPM(t, 1)
	site := func(keepAlive string) string {
		return strings.Replace(phpSite(fpm, root), "php: unix:"+fpm.socket, `php: {url: "unix:`+fpm.socket+`", keepalive: `+keepAlive+`}`, 1)
	}
	f := start(t, site("1"))
	for range 5 {
		if a := f.get(t, "/"); a.StatusCode != 200 {
			t.Errorf("%s %q", a.Status, a.body)
		}
		c := dial(t, f.plain)
		c.send("POST / HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000))
		if a := c.answer("POST"); !strings.HasSuffix(a.body, " 100000") {
			t.Errorf("%s %q", a.Status, a.body)
		}
	}
	// The one worker is held by a kept connection: another front end waits until that is given up.
	fpm.stop()
	fpm.start()
	if a := f.get(t, "/"); a.StatusCode != 200 {
		t.Errorf("behind a restart: %s %q", a.Status, a.body)
	}
	f.stop()
	f = start(t, site("off"))
	for range 3 {
		if a := f.get(t, "/"); a.StatusCode != 200 {
			t.Errorf("%s %q", a.Status, a.body)
		}
	}
}

func TestPHPKnowsWhoAskedAndHow(t *testing.T) {
	fpm := startFPM(t, 1)
	root := scripts(t, map[string]string{"index.php": dump})
	yaml := phpSite(fpm, root, "tls: self-signed", "params: {APP_ENV: production, SERVER_ADMIN: a=b, PHP_VALUE: \"memory_limit=77M\\nprecision=3\"}")
	f := startTLS(t, "trusted_proxies: [127.0.0.3]\n"+yaml)
	request := "GET /x HTTP/1.1\r\n" + host + "X-Forwarded-For: 203.0.113.9, 127.0.0.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Host: public.example\r\n" +
		"Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Client-Subject: CN=me\r\nProxy: http://evil\r\nPHP_VALUE: a=b\r\nPHP-Value: memory_limit=99M\r\nConnection: close\r\n\r\n"
	ask := func(conn net.Conn) map[string]string {
		conn.SetDeadline(time.Now().Add(patience))
		c := clientOver(t, conn)
		c.send(request)
		a := c.answer("GET")
		if a.StatusCode != 200 {
			t.Fatalf("%s %q", a.Status, a.body)
		}
		return paramsOf(a.body)
	}
	from := func(ip, address string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		conn, err := d.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	_, plainPort, _ := net.SplitHostPort(f.plain)
	_, securePort, _ := net.SplitHostPort(f.secure)
	tests := []struct {
		name string
		conn net.Conn
		want map[string]string // an empty value is for none
	}{
		{"nobody in between", from("127.0.0.9", f.plain), map[string]string{
			"REMOTE_ADDR": "127.0.0.9", "HTTPS": "", "REQUEST_SCHEME": "http", "SERVER_PORT": plainPort, "SERVER_ADDR": "127.0.0.1",
			"HTTP_X_FORWARDED_FOR": "", "HTTP_X_FORWARDED_PROTO": "", "HTTP_FORWARDED": "", "HTTP_X_REAL_IP": "",
		}},
		{"TLS", tls.Client(from("127.0.0.9", f.secure), &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"}), map[string]string{
			"REMOTE_ADDR": "127.0.0.9", "HTTPS": "on", "REQUEST_SCHEME": "https", "SERVER_PORT": securePort, "SERVER_ADDR": "127.0.0.2", "HTTP_X_FORWARDED_PROTO": "",
		}},
		{"a trusted proxy", from("127.0.0.3", f.plain), map[string]string{
			"REMOTE_ADDR": "203.0.113.9", "REMOTE_PORT": "", "HTTPS": "on", "REQUEST_SCHEME": "https", "SERVER_PORT": "8443", "HTTP_X_FORWARDED_PROTO": "https",
			"HTTP_X_FORWARDED_FOR": "203.0.113.9, 127.0.0.3", "HTTP_X_REAL_IP": "1.2.3.4",
		}},
	}
	for _, tt := range tests {
		got := ask(tt.conn)
		for _, each := range []map[string]string{tt.want, {
			"APP_ENV": "production", "SERVER_ADMIN": "a=b", "HTTP_HOST": "example.com", "SERVER_NAME": "example.com", "HTTP_PROXY": "", "HTTP_X_CLIENT_SUBJECT": "",
			"PHP_VALUE": "memory_limit=77M", "HTTP_PHP_VALUE": "memory_limit=99M", "REMOTE_USER": "", "GATEWAY_INTERFACE": "CGI/1.1", "PATH_INFO": "", "PATH_TRANSLATED": "",
		}} {
			for name, want := range each {
				if got[name] != want {
					t.Errorf("%s: %s=%q, want %q", tt.name, name, got[name], want)
				}
			}
		}
	}
}

// TestPHPParamsAreThoseOfTheOperatorAndNotTheClients asks Go's own responder, which drops nothing.
func TestPHPParamsAreThoseOfTheOperatorAndNotTheClients(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	seen := make(chan http.Header, 1)
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		io.WriteString(w, "Go")
	}))
	f := start(t, "sites: [{hosts: [example.com], php: \""+l.Addr().String()+"\", root: "+scripts(t, map[string]string{"index.php": ""})+"}]")
	a := f.get(t, "/", "Proxy: evil\r\n", "X_Real_IP: evil\r\n", "X.Real: evil\r\n", "X-Good: "+strings.Repeat("g", 5000)+"\r\n", "Upgrade: h2c\r\n")
	header := <-seen
	if a.body != "Go" || len(header.Get("X-Good")) != 5000 {
		t.Errorf("%s %v", a.Status, header)
	}
	for name, values := range header {
		if strings.Contains(values[0], "evil") || name == "Upgrade" || name == "Connection" {
			t.Errorf("%s goes on", name)
		}
	}
}

// TestPHPThroughAnUpstream: with max_connections requests wait for a worker here, and not in php-fpm's backlog.
func TestPHPThroughAnUpstream(t *testing.T) {
	fpm, other := startFPM(t, 2), startFPM(t, 1)
	root := scripts(t, map[string]string{"index.php": `<?php usleep(5000); echo 'page';`})
	f := start(t, "upstreams: {pool: {servers: [\"unix:"+fpm.socket+"\", \"unix:"+other.socket+"\"], max_connections: 1}}\n"+strings.Replace(phpSite(fpm, root), "unix:"+fpm.socket, "pool", 1))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if a := f.get(t, "/"); a.StatusCode != 200 || a.body != "page" {
				t.Errorf("%s %q", a.Status, a.body)
			}
		})
	}
	all.Wait()
	other.stop()
	for range 4 {
		if a := f.get(t, "/"); a.StatusCode != 200 {
			t.Errorf("with one of two: %s", a.Status)
		}
	}
}
