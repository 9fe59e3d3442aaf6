//go:build linux

package main_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// apacheConf is Debian's prefork Apache as it comes, but for its place and the number of its workers.
const apacheConf = `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/apache.pid
ErrorLog %[1]s/error.log
ServerName site.test
Listen %[2]s
%[3]s
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
StartServers 5
MinSpareServers 5
MaxSpareServers 10
MaxRequestWorkers %[4]d
MaxConnectionsPerChild 0
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
LoadModule lua_module /usr/lib/apache2/modules/mod_lua.so
LuaMapHandler ^/ %[1]s/asset.lua
`

// assetScript takes a worker as long as a small PHP script does.
const assetScript = `function handle(r)
  r.usleep(10000)
  r.content_type = "text/plain"
  r:write(string.rep("x", 8192))
  return apache2.OK
end
`

// nginxPlaces keep an nginx to a directory of its own.
const nginxPlaces = `  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  scgi_temp_path %[1]s/scgi;
  uwsgi_temp_path %[1]s/uwsgi;
`

// nginxConf is nginx as Debian's recipes have it in front of an Apache.
const nginxConf = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
worker_processes auto;
events { worker_connections 768; }
http {
  access_log off;
` + nginxPlaces + `  server {
    listen %[2]s ssl http2;
    ssl_certificate %[3]s;
    ssl_certificate_key %[4]s;
    location / {
      proxy_pass http://%[5]s;
      proxy_set_header Host $host;
    }
  }
}
`

// assets is how many files a page has beside itself.
const assets = 40

// startApache runs a prefork Apache with so many workers.
func startApache(t *testing.T, workers int) (address string) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // Apache's workers have a user of their own
	}
	if err := os.WriteFile(filepath.Join(dir, "asset.lua"), []byte(assetScript), 0o644); err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "User www-data\nGroup www-data"
	}
	address = freePort(t)
	conf := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, apacheConf, dir, address, user, workers), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "apache2", "apache2"), "-D", "FOREGROUND", "-f", conf))
	awaitListener(t, address)
	return address
}

// startNginx runs nginx with TLS and HTTP/2 before a backend.
func startNginx(t *testing.T, backend string) (*program, string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := certificate(t)
	address := freePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, address, cert, key, backend), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, exec.Command(installed(t, "nginx", "nginx"), "-c", conf, "-p", dir, "-e", "stderr"))
	awaitListener(t, address)
	return p, address
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	eventually(t, address+" listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// visit loads a page with its assets over one HTTP/2 connection, as a browser does, and returns how long that took.
func visit(address string) (time.Duration, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: patience}
	load := func(i int) error {
		resp, err := c.Get(fmt.Sprintf("https://%s/%d.txt", address, i))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || n != 8<<10 || resp.ProtoMajor != 2) {
			err = fmt.Errorf("%s over %s with %d bytes", resp.Status, resp.Proto, n)
		}
		return err
	}
	begin := time.Now()
	if err := load(0); err != nil {
		return 0, err
	}
	errs := make(chan error, assets)
	for i := range assets {
		go func() { errs <- load(i + 1) }()
	}
	var first error
	for range assets {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return time.Since(begin), first
}

// visits has several visitors load pages, each a few one after the other, and returns how long each page took. What is in front of Apache has
// been asked once before.
func visits(t *testing.T, address string) []time.Duration {
	t.Helper()
	const visitors, pages = 4, 3
	if _, err := visit(address); err != nil {
		t.Error(err)
	}
	var mu sync.Mutex
	var all []time.Duration
	var running sync.WaitGroup
	for range visitors {
		running.Go(func() {
			for range pages {
				took, err := visit(address)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return all
}

// TestPagesFromPreforkApacheAreNoSlowerThanThroughNginx: each of its workers serves one connection, idle or not; a page that waits for
// workers to give up on idle connections takes seconds. The bounds leave room for a busy machine.
func TestPagesFromPreforkApacheAreNoSlowerThanThroughNginx(t *testing.T) {
	for _, workers := range []int{6, 25, 150} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			apache := startApache(t, workers)
			throughUs := func() []time.Duration {
				f := startFront(t, settings(`{path: /, http: "http://`+apache+`"}`))
				defer f.stop(t)
				return visits(t, f.https)
			}
			throughNginx := func() []time.Duration {
				nginx, address := startNginx(t, apache)
				defer nginx.wait(t)
				defer nginx.signal(t, syscall.SIGTERM)
				return visits(t, address)
			}
			throughNginx()              // Apache starts its workers when they are needed
			for round := 1; ; round++ { // others may have the machine while it is our turn
				ours, theirs := inTurns(throughUs, throughNginx)
				half, last := len(ours)/2, len(ours)-1
				t.Logf("half of the pages take %v, at most %v; through nginx %v, at most %v", ours[half], ours[last], theirs[half], theirs[last])
				if ours[half] <= 5*theirs[half]/4+50*time.Millisecond && ours[last] <= 2*theirs[last]+500*time.Millisecond {
					break
				}
				if round == 4 {
					t.Fatal("pages are slower than through nginx")
				}
			}
		})
	}
}

// inTurns measures two of which now one comes first and now the other, and returns what each has taken, the shortest times first.
func inTurns(a, b func() []time.Duration) (as, bs []time.Duration) {
	for _, first := range []bool{true, false, true} {
		if first {
			as = append(as, a()...)
		}
		bs = append(bs, b()...)
		if !first {
			as = append(as, a()...)
		}
	}
	slices.Sort(as)
	slices.Sort(bs)
	return as, bs
}
