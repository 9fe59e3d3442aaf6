//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// causesNginx has a plain port and one with TLS.
const causesNginx = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 64; }
http {
  access_log off;
` + nginxPlaces + `  server { listen %[2]s; return 200; }
  server { listen %[3]s ssl; ssl_certificate %[4]s; ssl_certificate_key %[5]s; return 200; }
}
`

func TestRunningServerSaysWhatIsWrongWithATarget(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t)
	plain, secure := freePort(t), freePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, causesNginx, dir, plain, secure, cert, key), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "nginx", "nginx"), "-c", conf, "-p", dir, "-e", "stderr"))
	awaitListener(t, plain)
	py := startSocketPython(t)
	f := startFront(t, settings(
		`{path: /secure, http: "http://`+secure+`"}`,
		`{path: /plain, http: "https://`+plain+`"}`,
		`{path: /pages, websocket: "ws://`+plain+`"}`,
		`{path: /socket, http: "http://`+py.address+`"}`))
	ask := func(path string, status int) {
		t.Helper()
		resp, err := newClient(nil).Get("http://" + f.http + path)
		if err != nil {
			t.Fatal(err)
		}
		if readAll(t, resp); resp.StatusCode != status {
			t.Errorf("%s: %s, want %d", path, resp.Status, status)
		}
	}
	ask("/secure", http.StatusBadRequest)
	f.awaitLog(t, 0, "the target speaks TLS, and was asked without: write `https://"+secure+"`, and below it tls_ca: with the file of its authority, if that is no public one",
		"site", "_", "location", "/secure")
	ask("/plain", http.StatusBadGateway)
	f.awaitLog(t, 0, "the target speaks plain HTTP, and was asked over TLS: write `http://"+plain+"`", "location", "/plain")
	for path, status := range map[string]int{"/pages": http.StatusOK, "/socket": http.StatusUpgradeRequired} {
		conn, resp, err := f.tryDial(t, "ws", path)
		if err == nil {
			conn.Close()
		}
		if resp == nil || resp.StatusCode != status {
			t.Errorf("%s: %v, %v, want %d", path, resp, err, status)
		}
	}
	f.awaitLog(t, 0, "the target answers a WebSocket's handshake with a page: it is a server of pages, whose WebSockets have another port or path, or a proxy that drops the Upgrade",
		"location", "/pages", "target", "ws://"+plain)
	f.awaitLog(t, 0, "a WebSocket was asked for on a location that has none; if its backend takes them too, write `proxy: http://"+py.address+
		"` in place of http:, or `websocket: ws://"+py.address+"` beside it", "location", "/socket")
}
