//go:build linux

package proxy_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// nginxForPHP is nginx as Debian and WordPress have it, before the same php-fpm.
const nginxForPHP = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 768; }
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; scgi_temp_path %[1]s/scgi; uwsgi_temp_path %[1]s/uwsgi;
  set_real_ip_from 127.0.0.3;
  real_ip_header X-Forwarded-For;
  server {
    listen %[2]s;
    server_name example.com;
    root %[3]s;
    index index.php index.html;
    location / { try_files $uri $uri/ /index.php?$args; }
    location ~ [^/]\.php(/|$) {
      fastcgi_split_path_info ^(.+?\.php)(/.*)$;
      if (!-f $document_root$fastcgi_script_name) { return 404; }
      include /etc/nginx/fastcgi.conf;
      fastcgi_param PATH_INFO $fastcgi_path_info;
      fastcgi_param PATH_TRANSLATED $document_root$fastcgi_path_info if_not_empty;
      fastcgi_pass unix:%[4]s;
    }
  }
}
`

func startNginxForPHP(t *testing.T, fpm *fpm, root string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxForPHP, dir, address, root, fpm.socket), 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("nginx is missing: install the package nginx")
	}
	cmd := exec.Command(program, "-c", conf, "-p", dir, "-e", "stderr")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	await(t, "nginx to listen", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return address
}

// wantedParams are those in which we and nginx differ, and why.
var wantedParams = map[string]string{
	"SERVER_SOFTWARE":        "says who we are",
	"SERVER_PORT":            "each has its own",
	"REMOTE_PORT":            "each connection has its own",
	"HTTP_CONNECTION":        "is between the client and us (RFC 9110, section 7.6.1)",
	"HTTP_KEEP_ALIVE":        "likewise",
	"HTTP_TE":                "likewise",
	"HTTP_X_LISTED":          "likewise, by Connection",
	"HTTP_CONTENT_LENGTH":    "stands in CONTENT_LENGTH (RFC 3875, section 4.1.18)",
	"HTTP_CONTENT_TYPE":      "stands in CONTENT_TYPE, likewise",
	"HTTP_TRANSFER_ENCODING": "likewise; the length is known by then, and stands in CONTENT_LENGTH",
	"HTTP_X_FORWARDED_FOR":   "is no untrusted client's to say",
	"HTTP_EXPECT":            "was answered by us",
	"PATH_INFO":              "is set where there is one only (RFC 3875, section 4.1.5)",
	"PATH_TRANSLATED":        "likewise (section 4.1.6)",
	"REMOTE_USER":            "names whom we have authenticated, and nobody who only says so (section 4.1.11)",
	"HTTP_COOKIE":            "is one of several; nginx joins them since 1.23",
	"HTTP_X_TWICE":           "likewise",
}

func paramsOf(body string) map[string]string {
	params := map[string]string{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		params[name] = value
	}
	return params
}

// TestPHPGetsWhatNginxGivesIt compares every parameter of the same requests with those that the real nginx sends by Debian's fastcgi.conf.
func TestPHPGetsWhatNginxGivesIt(t *testing.T) {
	fpm := startFPM(t, 2)
	root := scripts(t, map[string]string{"index.php": dump, "a.php": dump, "dir/index.php": dump})
	nginx := startNginxForPHP(t, fpm, root)
	f := start(t, phpSite(fpm, root))
	body := strings.Repeat("0123456789", 1000)
	long := strings.Repeat("x", 200)
	requests := []string{
		"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET /?a=b&c=%20d?e HTTP/1.1\r\nHost: EXAMPLE.com:80\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
		"GET /some/where?x HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET /a.php/info/%C3%BC?q HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET /dir/ HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, X-Listed\r\nX-Listed: a\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n",
		"GET //x/../a.php?%41 HTTP/1.1\r\nHost: example.com\r\nX-" + long + ": " + long + "\r\nX-Empty:\r\n\r\n",
		"GET http://example.com/a.php?x=y HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET /a.php HTTP/1.0\r\nHost: example.com\r\n\r\n",
		"GET /a.php HTTP/1.1\r\nHost: example.com\r\nAuthorization: Basic dXNlcjpwYXNz\r\nCookie: a=b; c=d\r\nProxy: http://evil\r\nX_Real: y\r\nX-Real.Y: z\r\n\r\n",
		"GET /a.php HTTP/1.1\r\nHost: example.com\r\nCookie: a=b\r\nX-Twice: 1\r\nCookie: c=d\r\nX-Twice: 2\r\nx-twice: 3\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
		"POST /a.php HTTP/1.1\r\nHost: example.com\r\nContent-Type: text/plain\r\nContent-Length: 10000\r\nExpect: 100-continue\r\n\r\n" + body,
		"POST /some/where HTTP/1.1\r\nHost: example.com\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
		"PUT /a.php HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n",
		"HEAD /a.php HTTP/1.1\r\nHost: example.com\r\n\r\n",
	}
	seen := map[string]bool{}
	for _, request := range requests {
		ask := func(address string) map[string]string {
			c := dial(t, address)
			c.send(request)
			method, _, _ := strings.Cut(request, " ")
			if strings.Contains(request, "Expect") {
				c.head()
			}
			a := c.answer(method)
			if a.StatusCode != 200 {
				t.Errorf("%.60q: %s %q", request, a.Status, a.body)
			}
			return paramsOf(a.body)
		}
		theirs, ours := ask(nginx), ask(f.plain)
		names := map[string]bool{}
		for name := range theirs {
			names[name] = true
		}
		for name := range ours {
			names[name] = true
		}
		var different []string
		for name := range names {
			their, has := theirs[name]
			our, have := ours[name]
			if has == have && their == our {
				continue
			}
			seen[name] = true
			if _, wanted := wantedParams[name]; !wanted {
				different = append(different, fmt.Sprintf("%s: %q %v, nginx has %q %v", name, our, have, their, has))
			}
		}
		slices.Sort(different)
		for _, d := range different {
			t.Errorf("%.60q: %s", request, d)
		}
	}
	for name, reason := range wantedParams {
		if !seen[name] {
			t.Errorf("%s, which %s, never differs", name, reason)
		}
	}
}
