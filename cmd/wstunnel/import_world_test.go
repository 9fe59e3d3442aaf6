//go:build linux

package main_test

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is a machine for the configuration of a test: it stands in a directory, its backends record what they see, and its addresses are free
// ones. What is written in a file of testdata is brought into it.
type world struct {
	dir      string
	backends map[string]*recorder // by the address, or the socket, that the file names
	ports    map[string]string    // of listeners, as the file has them, and as they are
	mu       sync.Mutex
	saw      []sighting
}

// sighting is a request as a backend saw it.
type sighting struct {
	backend string // as the file names it
	method  string
	target  string
	host    string
	header  http.Header
	body    string
}

// recorder is a backend.
type recorder struct {
	world   *world
	name    string
	address string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), backends: map[string]*recorder{}, ports: map[string]string{}}
	for d := w.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // workers of Apache and nginx have a user of their own
	}
	return w
}

// backend returns the recorder in place of an address, and starts it.
func (w *world) backend(t *testing.T, name string) *recorder {
	t.Helper()
	if r := w.backends[name]; r != nil {
		return r
	}
	r := &recorder{world: w, name: name}
	network, address := "tcp", "127.0.0.1:0"
	if strings.HasPrefix(name, "/") {
		network, address = "unix", w.dir+name
		os.MkdirAll(filepath.Dir(address), 0o755)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if network == "unix" {
		os.Chmod(address, 0o777)
	}
	r.address = l.Addr().String()
	server := &http.Server{Handler: r}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	w.backends[name] = r
	return r
}

// ServeHTTP answers as the query says: s is the status, l a Location, c a cookie, h a field; {self} is the backend's own URL, {host} the Host that it saw.
func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.world.mu.Lock()
	r.world.saw = append(r.world.saw, sighting{r.name, req.Method, req.RequestURI, req.Host, req.Header.Clone(), string(body)})
	r.world.mu.Unlock()
	if strings.EqualFold(req.Header.Get("Upgrade"), "websocket") && req.Header.Get("Sec-WebSocket-Key") != "" && !req.URL.Query().Has("s") {
		r.upgrade(w, req)
		return
	}
	q := req.URL.Query()
	fill := strings.NewReplacer("{self}", "http://"+r.address, "{host}", req.Host)
	for _, h := range q["h"] {
		name, v, _ := strings.Cut(h, ":")
		w.Header().Add(name, fill.Replace(v))
	}
	if l := q.Get("l"); l != "" {
		w.Header().Set("Location", fill.Replace(l))
	}
	for _, c := range q["c"] {
		w.Header().Add("Set-Cookie", c)
	}
	w.Header().Set("Content-Type", "text/plain")
	status := http.StatusOK
	fmt.Sscan(q.Get("s"), &status)
	w.WriteHeader(status)
	fmt.Fprintf(w, "backend %s: %s %s", r.name, req.Method, req.RequestURI)
}

// upgrade answers a handshake, and says hello.
func (r *recorder) upgrade(w http.ResponseWriter, req *http.Request) {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	protocol := ""
	if p := req.Header.Get("Sec-WebSocket-Protocol"); p != "" {
		protocol = "Sec-WebSocket-Protocol: " + p + "\r\n"
	}
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n\x81\x05hello",
		base64.StdEncoding.EncodeToString(sum[:]), protocol)
	rw.Flush()
	io.Copy(io.Discard, rw)
}

// take returns what backends have seen since it was last asked.
func (w *world) take() []sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.saw
	w.saw = nil
	return seen
}

// fpm runs PHP-FPM where a configuration has its socket.
func (w *world) fpm(t *testing.T, name string) {
	t.Helper()
	if w.backends["php-fpm"] != nil {
		return
	}
	socket := startFPM(t, 1)
	for _, path := range []string{filepath.Dir(filepath.Dir(socket)), filepath.Dir(socket)} {
		os.Chmod(path, 0o755)
	}
	os.Chmod(socket, 0o777)
	w.backends["php-fpm"] = &recorder{name: socket}
	os.MkdirAll(filepath.Dir(w.dir+name), 0o755)
	if err := os.Symlink(socket, w.dir+name); err != nil {
		t.Fatal(err)
	}
}

var (
	backendAddress = regexp.MustCompile(`\b(?:127\.0\.0\.1|localhost|app\.internal):(\d{4,5})\b`)
	directories    = regexp.MustCompile(`(^|[\s"'=:])(/(?:var/www|srv|etc/letsencrypt|etc/ssl/private|run|etc/users)/?[^\s;"'|]*)`)
	certificates   = regexp.MustCompile(`(?m)^\s*(?:ssl_certificate|ssl_certificate_key|SSLCertificateFile|SSLCertificateKeyFile)\s+"?([^\s;"]+)`)
)

// port returns a free port in place of one that a file listens on.
func (w *world) port(t *testing.T, number string) string {
	if w.ports[number] == "" {
		w.ports[number] = freePort(t)
	}
	return w.ports[number]
}

// adapt brings the text of a configuration into the world.
func (w *world) adapt(t *testing.T, text string) string {
	t.Helper()
	text = regexp.MustCompile(`(?m)^\s*listen\s+\[::\]:[^;]*;`).ReplaceAllString(text, "")
	text = directories.ReplaceAllStringFunc(text, func(s string) string {
		m := directories.FindStringSubmatch(s)
		switch {
		case strings.HasPrefix(m[2], "/run/php/"):
			w.fpm(t, m[2])
		case strings.HasSuffix(m[2], ".sock"):
			w.backend(t, m[2])
		}
		return m[1] + w.dir + m[2]
	})
	text = backendAddress.ReplaceAllStringFunc(text, func(s string) string {
		address := w.backend(t, backendAddress.FindStringSubmatch(s)[1]).address
		if strings.HasPrefix(s, "localhost") {
			return strings.Replace(address, "127.0.0.1", "localhost", 1)
		}
		return address
	})
	for _, m := range certificates.FindAllStringSubmatch(text, -1) {
		w.certificate(t, m[1])
	}
	return text
}

// listeners are where a configuration says what is listened on.
var listeners = []*regexp.Regexp{
	regexp.MustCompile(`(\blisten\s+)(80|443)\b`), regexp.MustCompile(`(?m)(^\s*Listen\s+)(80|443)\b`), regexp.MustCompile(`(<VirtualHost )(?:\*|_default_):(80|443)`),
}

// listening has a configuration listen on free ports.
func (w *world) listening(t *testing.T, text string) string {
	for _, re := range listeners {
		text = re.ReplaceAllStringFunc(text, func(s string) string {
			m := re.FindStringSubmatch(s)
			return m[1] + w.port(t, m[2])
		})
	}
	return text
}

// certificate puts one where a configuration names it.
func (w *world) certificate(t *testing.T, name string) {
	t.Helper()
	if w.backends["certificate"] == nil {
		cert, key := certificate(t)
		w.backends["certificate"] = &recorder{name: cert, address: key}
	}
	from := w.backends["certificate"].name
	if strings.Contains(filepath.Base(name), "key") {
		from = w.backends["certificate"].address
	}
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, name, string(data))
}

// write writes a file of the world, by its absolute name in it or out of it.
func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if !strings.HasPrefix(name, w.dir) {
		name = w.dir + name
	}
	os.MkdirAll(filepath.Dir(name), 0o755)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// nginxOf runs nginx with a configuration, which has the servers only.
func (w *world) nginxOf(t *testing.T, conf string) {
	t.Helper()
	main := filepath.Join(w.dir, "etc/nginx/main.conf")
	w.write(t, main, "daemon off;\npid "+w.dir+"/nginx.pid;\nerror_log stderr error;\nevents { worker_connections 256; }\nhttp {\n"+
		fmt.Sprintf(nginxPlaces, w.dir)+"access_log off;\ninclude /etc/nginx/mime.types;\ninclude "+conf+";\n}\n")
	start(t, exec.Command(installed(t, "nginx", "nginx"), "-c", main, "-p", w.dir, "-e", "stderr"))
	w.await(t)
}

// apacheModules are those that the configurations need.
var apacheModules = []string{
	"mpm_event", "authz_core", "authz_host", "authz_user", "authn_core", "authn_file", "auth_basic", "access_compat", "alias", "autoindex", "deflate", "dir", "env", "expires", "filter",
	"headers", "macro", "mime", "proxy", "proxy_http", "proxy_wstunnel", "proxy_fcgi", "proxy_balancer", "slotmem_shm", "lbmethod_byrequests", "rewrite", "setenvif", "socache_shmcb",
	"ssl",
}

// apacheOf runs Apache with a configuration, which has the virtual hosts only.
func (w *world) apacheOf(t *testing.T, conf string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "ServerRoot %s\nDefaultRuntimeDir %[1]s\nPidFile %[1]s/apache.pid\nErrorLog %[1]s/error.log\nServerName localhost\nTypesConfig /etc/mime.types\n", w.dir)
	for _, m := range apacheModules {
		fmt.Fprintf(&b, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	if os.Getuid() == 0 {
		b.WriteString("User www-data\nGroup www-data\n")
	}
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	for number, address := range w.ports {
		if !strings.Contains(string(text), "Listen "+address) {
			b.WriteString("Listen " + address + map[bool]string{true: " https"}[number == "443"] + "\n")
		}
	}
	b.WriteString("Include " + conf + "\n")
	main := filepath.Join(w.dir, "main.conf")
	w.write(t, main, b.String())
	start(t, exec.Command(installed(t, "apache2", "apache2"), "-D", "FOREGROUND", "-f", main))
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(w.dir + "/error.log")
			t.Logf("Apache says:\n%s", log[max(0, len(log)-4000):])
		}
	})
	w.await(t)
}

func (w *world) await(t *testing.T) {
	t.Helper()
	for _, address := range w.ports {
		awaitListener(t, address)
	}
}

// imported is what a configuration is translated to.
func imported(t *testing.T, kind, conf string) string {
	t.Helper()
	cmd := wstunnel(t, "import", kind, conf)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("import: %v\n%s\n%s", err, stderr.String(), out)
	}
	return string(out)
}

// oursOf runs us with a translated configuration, on free ports in place of those that it names; it returns these.
func (w *world) oursOf(t *testing.T, yaml string) (ports map[string]string) {
	t.Helper()
	ports = map[string]string{}
	for number := range w.ports {
		ports[number] = freePort(t)
		yaml = strings.ReplaceAll(yaml, `address: ":`+number+`"`, `address: "`+ports[number]+`"`)
	}
	file := filepath.Join(w.dir, "config.yaml")
	w.write(t, file, "shutdown_timeout: 1s\ntls: {storage: "+w.dir+"/certs}\n"+yaml)
	start(t, wstunnel(t, "run", "--config", file))
	for _, address := range ports {
		awaitListener(t, address)
	}
	return ports
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// asked is a request of a client.
type asked struct {
	method, url string
	header      [][2]string
	body        string
	differs     []string // keys of wanted differences
}

// ask sends a request, as it is written, to one of the addresses by the scheme.
func (q asked) ask(t *testing.T, ports map[string]string) answer {
	t.Helper()
	scheme, rest, _ := strings.Cut(q.url, "://")
	i := strings.IndexAny(rest+"/", "/?")
	host, target := rest[:i], rest[i:]
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	secure := scheme == "https" || scheme == "wss"
	address := ports[map[bool]string{false: "80", true: "443"}[secure]]
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: host})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, target, host)
	if strings.HasPrefix(scheme, "ws") {
		b.WriteString("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://" + host + "\r\n")
	} else {
		b.WriteString("Connection: close\r\n")
	}
	for _, h := range q.header {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if q.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.body))
	}
	b.WriteString("\r\n" + q.body)
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return answer{body: "write: " + err.Error()}
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: q.method})
	if err != nil {
		return answer{body: "no answer"}
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.status == http.StatusSwitchingProtocols {
		frame := make([]byte, 7)
		io.ReadFull(r, frame)
		a.body = string(frame)
		return a
	}
	body, _ := io.ReadAll(resp.Body)
	a.body = string(body)
	return a
}

// questions are what is asked of a configuration, with the files that have to be there.
type questions struct {
	files [][2]string
	asked []asked
}

// readScript reads a file of lines: FILE NAME TEXT, or METHOD URL [| Name: value]... [# difference...].
func readScript(t *testing.T, name string) (s questions) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "FILE "); ok {
			file, content, _ := strings.Cut(rest, " ")
			s.files = append(s.files, [2]string{file, strings.ReplaceAll(content, `\n`, "\n") + "\n"})
			continue
		}
		line, keys, _ := strings.Cut(line, " # ")
		parts := strings.Split(line, " | ")
		q := asked{differs: strings.Fields(keys)}
		q.method, q.url, _ = strings.Cut(parts[0], " ")
		for _, p := range parts[1:] {
			h, v, _ := strings.Cut(p, ": ")
			if h == "Body" {
				q.body = v
				continue
			}
			q.header = append(q.header, [2]string{h, v})
		}
		s.asked = append(s.asked, q)
	}
	if len(s.asked) == 0 || slices.ContainsFunc(s.asked, func(q asked) bool { return q.url == "" }) {
		t.Fatalf("%s asks for nothing", name)
	}
	return s
}
