//go:build linux

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// proxiedNginxConf is an nginx that takes who its client is from a PROXY header.
const proxiedNginxConf = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
events {}
http {
  access_log off;
` + nginxPlaces + `  server {
    listen %[2]s proxy_protocol;
    return 200 "$proxy_protocol_addr to port $proxy_protocol_server_port";
  }
}
`

// TestNginxTakesTheClientFromOurHeader, of both versions, also where a first front end has told it to a second one.
func TestNginxTakesTheClientFromOurHeader(t *testing.T) {
	dir, nginx := t.TempDir(), freePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, proxiedNginxConf, dir, nginx), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "nginx", "nginx"), "-c", conf, "-p", dir, "-e", "stderr"))
	awaitListener(t, nginx)
	site := func(target, version string) string {
		return `sites: [{hosts: [_], locations: [{path: /, http: {url: "http://` + target + `", proxy_protocol: ` + version + "}}]}]\n"
	}
	for _, version := range []string{"v1", "v2"} {
		second := freePort(t)
		inner := startFront(t, `listen: [{address: "`+second+`", proxy_protocol: true}]`+"\ntrusted_proxies: [127.0.0.1]\n"+site(nginx, version))
		first := freePort(t)
		outer := startFront(t, `listen: [{address: "`+first+`"}]`+"\n"+site(second, version))
		outer.http = first
		port := first[len("127.0.0.1:"):]
		if got := outer.get(t, "/"); got != "127.0.0.1 to port "+port {
			t.Errorf("%s: nginx was told %q, want port %s", version, got, port)
		}
		outer.stop(t)
		inner.stop(t)
	}
}
