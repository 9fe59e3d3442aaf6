//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What differs from run to run in the output of a probe.
var (
	probeTimes = regexp.MustCompile(`\d+\.\d ms`)
	probePorts = regexp.MustCompile(`(127\.0\.0\.1:|localhost:|port )\d+`)
	probeDates = regexp.MustCompile(`from [0-9: -]+ to [0-9: -]+\([^)]+ left\)`)
	probeSuite = regexp.MustCompile(`TLS_\w+`)
	probeNames = regexp.MustCompile(`(wstunnel local CA) \([^)]*\)|(nginx|Apache|PHP|Python|websockets)/[\d.]+( \(Debian\))?`)
	probeSpace = regexp.MustCompile(` {2,}`)
	probeFiles = regexp.MustCompile(`/tmp/\S*/`)
)

// maskProbe leaves out of a probe's output what differs from run to run.
func maskProbe(text string) string {
	text = probeTimes.ReplaceAllString(text, "TIME")
	text = probePorts.ReplaceAllString(text, "${1}PORT")
	text = probeDates.ReplaceAllString(text, "from DATE to DATE (TIME left)")
	text = probeSuite.ReplaceAllString(text, "CIPHER")
	text = probeNames.ReplaceAllString(text, "${1}${2}")
	text = probeFiles.ReplaceAllString(text, "")
	return probeSpace.ReplaceAllString(text, "  ")
}

// checkProbe runs the probe, and compares its output with testdata/probe/NAME.txt. To add a case, run the tests once with UPDATE_GOLDEN=1.
func checkProbe(t *testing.T, name string, code int, args ...string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		cmd := wstunnel(t, append([]string{"probe"}, args...)...)
		out, _ := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("exit code %d, want %d", got, code)
		}
		golden := filepath.Join("testdata", "probe", name+".txt")
		got := maskProbe(string(out))
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

// probeNginx is an nginx before a WebSocket server: as recipes have it, and as those who forgot have it.
const probeNginx = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 64; }
http {
  access_log off;
` + nginxPlaces + `  server {
    listen %[2]s;
    location /ws {
      proxy_pass http://%[3]s;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }
    location /forgotten { proxy_pass http://%[3]s; }
    location /half { proxy_pass http://%[3]s; proxy_http_version 1.1; }
    location /page { return 200 "<title>Welcome</title>"; }
    location /down { proxy_pass http://127.0.0.1:1; }
    location /old { return 301 https://$host:443$request_uri; }
    location /slash/ { proxy_pass http://%[3]s; }
    location /shut { deny all; }
    location /nothing { return 404; }
  }
  server {
    listen %[4]s ssl;
    ssl_certificate %[5]s;
    ssl_certificate_key %[6]s;
  }
}
`

func TestProbeOfNginx(t *testing.T) {
	backend := startSocketPython(t)
	dir := t.TempDir()
	cert, key := certificate(t)
	plain, secure := freePort(t), freePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, probeNginx, dir, plain, backend.address, secure, cert, key), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "nginx", "nginx"), "-c", conf, "-p", dir, "-e", "stderr"))
	awaitListener(t, plain)
	url := "ws://" + plain
	checkProbe(t, "nginx-open", 0, url+"/ws", "--subprotocol", "chat.v1")
	checkProbe(t, "nginx-without-upgrade", 6, url+"/forgotten")
	checkProbe(t, "nginx-http-1.1-without-upgrade", 6, url+"/half")
	checkProbe(t, "nginx-page", 6, url+"/page")
	checkProbe(t, "nginx-backend-down", 6, url+"/down")
	checkProbe(t, "nginx-redirect", 6, "ws://127.0.0.1/old", "--connect", plain)
	checkProbe(t, "nginx-slash", 6, url+"/slash")
	checkProbe(t, "nginx-denied", 6, url+"/shut")
	checkProbe(t, "nginx-nothing", 6, url+"/nothing")
	checkProbe(t, "nginx-plain-to-tls", 6, "ws://"+secure+"/ws")
	checkProbe(t, "nginx-tls-to-plain", 5, "wss://"+plain+"/ws")
	checkProbe(t, "nginx-self-signed", 5, "wss://"+secure+"/ws")
}

// probeApache is an Apache before a WebSocket server, likewise.
const probeApache = `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/apache.pid
ErrorLog %[1]s/error.log
ServerName site.test
Listen %[2]s
%[3]s
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule proxy_wstunnel_module /usr/lib/apache2/modules/mod_proxy_wstunnel.so
ProxyPass /ws ws://%[4]s/ws
ProxyPass /forgotten http://%[4]s/ws
ProxyPass /down ws://127.0.0.1:1/
RedirectMatch 404 ^/nothing
<Location /shut>
  Require all denied
</Location>
`

func TestProbeOfApache(t *testing.T) {
	backend := startSocketPython(t)
	dir := t.TempDir()
	user := ""
	if os.Getuid() == 0 {
		user = "User www-data\nGroup www-data"
	}
	address := freePort(t)
	conf := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, probeApache, dir, address, user, backend.address), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "apache2", "apache2"), "-D", "FOREGROUND", "-f", conf))
	awaitListener(t, address)
	url := "ws://" + address
	checkProbe(t, "apache-open", 0, url+"/ws")
	checkProbe(t, "apache-without-upgrade", 6, url+"/forgotten")
	checkProbe(t, "apache-backend-down", 6, url+"/down")
	checkProbe(t, "apache-nothing", 6, url+"/nothing")
	checkProbe(t, "apache-denied", 6, url+"/shut")
}

func TestProbeOfOurselves(t *testing.T) {
	backend, pages := startSocketPython(t), startPages(t)
	f := startFront(t, settings(
		`{path: /ws, websocket: "ws://`+backend.address+`"}`,
		`{path: /relay, mode: relay, websocket: "ws://`+backend.address+`"}`,
		`{path: /pages, http: "http://`+pages.address+`"}`,
		`{path: /down, websocket: "ws://127.0.0.1:1"}`))
	f.roots(t) // the CA is there
	_, securePort, _ := net.SplitHostPort(f.https)
	secure := "wss://localhost:" + securePort
	checkProbe(t, "own-open", 0, "ws://"+f.http+"/ws")
	checkProbe(t, "own-open-tls", 0, secure+"/ws", "--ca", caFile(f), "--connect", f.https, "--subprotocol", "chat.v2")
	checkProbe(t, "own-relay", 0, secure+"/relay", "--ca", caFile(f), "--connect", f.https)
	checkProbe(t, "own-local-ca", 5, secure+"/ws", "--connect", f.https)
	checkProbe(t, "own-insecure", 0, secure+"/ws", "--connect", f.https, "--insecure")
	checkProbe(t, "own-pages", 6, "ws://"+f.http+"/pages/nosuch.html")
	checkProbe(t, "own-down", 6, "ws://"+f.http+"/down")
	checkProbe(t, "own-nothing", 6, "ws://"+f.http+"/nothing")
	checkProbe(t, "own-plain-to-tls", 6, "ws://localhost:"+securePort+"/ws", "--connect", f.https)
	checkProbe(t, "own-mixed-content", 9, "ws://chat.example/ws", "--connect", f.http, "--origin", "https://chat.example")

	var report struct {
		Outcome string
		Steps   []struct {
			Step         string
			OK           bool
			Milliseconds float64 `json:"duration_ms"`
			Certificates []struct{ Names []string }
			Answer       struct {
				Status int
				Fields []struct{ Name, Value string }
			}
		}
	}
	out, err := wstunnel(t, "probe", secure+"/ws", "--json", "--ca", caFile(f), "--connect", f.https).Output()
	if err != nil || json.Unmarshal(out, &report) != nil || report.Outcome != "open" || len(report.Steps) != 5 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, name := range []string{"TCP", "TLS", "HTTP", "PING", "CLOSE"} {
		if s := report.Steps[i]; s.Step != name || !s.OK || s.Milliseconds <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if names := report.Steps[1].Certificates[0].Names; len(names) != 1 || names[0] != "localhost" || report.Steps[2].Answer.Status != 101 {
		t.Errorf("%s", out)
	}
}

func TestProbeOfBackends(t *testing.T) {
	py, php := startSocketPython(t), startSocketPHP(t, "")
	checkProbe(t, "python", 0, "ws://"+py.address+"/ws")
	checkProbe(t, "php", 0, "ws://"+php.address+"/ws")
	checkProbe(t, "php-tls", 5, "wss://"+php.address+"/ws", "--timeout", "300ms")
	checkProbe(t, "php-refuses", 6, "ws://"+php.address+"/refuse")
	checkProbe(t, "fpm", 7, "ws://chat.example/ws", "--connect", "unix:"+startFPM(t, 1))

	address := freePort(t)
	cert, key := certificate(t)
	start(t, exec.Command(installed(t, "openssl", "openssl"), "s_server", "-accept", address, "-cert", cert, "-key", key, "-www"))
	awaitListener(t, address)
	checkProbe(t, "openssl-plain-to-tls", 7, "ws://"+address+"/ws")
	checkProbe(t, "openssl-page", 6, "wss://"+address+"/ws", "--ca", cert)
	checkProbe(t, "openssl-wrong-name", 5, "wss://chat.example/ws", "--ca", cert, "--connect", address)
}

func TestProbeOfWhatIsNotThere(t *testing.T) {
	checkProbe(t, "no-name", 3, "wss://nosuch.invalid/ws", "--timeout", "30s") // a name server is asked again when a question is lost
	checkProbe(t, "no-listener", 4, "ws://127.0.0.1:1/ws")
	for args, mistake := range map[string]string{
		"":                                    `wstunnel probe takes one URL, but got []`,
		"example.com/ws":                      `"example.com/ws" is no URL: write wss://example.com/ws`,
		"ws://a/ --header X":                  `--header: "X" is no header: write 'Name: value'`,
		"ws://a/ --connect a":                 `--connect: "a" is no address: write host:port, or unix:/path`,
		"ws://a/ --ca nosuch.pem":             `--ca: open nosuch.pem: no such file or directory`,
		"ws://a/ --ca testdata/e2e/server.py": `--ca: testdata/e2e/server.py has no PEM block CERTIFICATE`,
		"ws://a/ --timeout 0s":                `--timeout: 0s is no time to wait`,
	} {
		cmd := wstunnel(t, append([]string{"probe"}, strings.Fields(args)...)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 || strings.TrimSpace(string(out)) != mistake {
			t.Errorf("%s: %d, %s", args, code, out)
		}
	}
}
