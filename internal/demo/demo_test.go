package demo

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"wstunnel/internal/config"
	"wstunnel/internal/leaks"
)

func TestMain(m *testing.M) {
	leaks.Verify(m)
}

// startDemo runs a demo until the end of the test.
func startDemo(t *testing.T) *Demo {
	t.Helper()
	return startDemoBehind(t, 8080, 8443)
}

// startDemoBehind runs a demo whose page is told these ports of its front.
func startDemoBehind(t *testing.T, httpPort, httpsPort int) *Demo {
	t.Helper()
	d, err := Start(Options{HTTPPort: httpPort, HTTPSPort: httpsPort, Storage: "/tmp/ca"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// startFront stands in for the proxy: /ws to the chat, the rest to the site, one origin.
// The addresses are asked for at each request.
func startFront(t *testing.T, site, chat func() string) (plain, secure *httptest.Server) {
	t.Helper()
	forward := func(address func() string) http.Handler {
		return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address()})
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		}}
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", forward(chat))
	mux.Handle("/", forward(site))
	plain, secure = httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // browsers give up connections in the handshake
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	return plain, secure
}

// startBehindFront runs a demo and both of its fronts.
func startBehindFront(t *testing.T) (d *Demo, plain, secure *httptest.Server) {
	t.Helper()
	plain, secure = startFront(t, func() string { return d.SiteAddress }, func() string { return d.ChatAddress })
	port := func(s *httptest.Server) int {
		_, p, _ := net.SplitHostPort(s.Listener.Addr().String())
		n, _ := strconv.Atoi(p)
		return n
	}
	d = startDemoBehind(t, port(plain), port(secure))
	return d, plain, secure
}

func TestStartRefusesImpossibleOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{HTTPPort: 0, HTTPSPort: 1, Storage: "x"}, "http port 0"},
		{Options{HTTPPort: 1, HTTPSPort: 65536, Storage: "x"}, "https port 65536"},
		{Options{HTTPPort: 80, HTTPSPort: 80, Storage: "x"}, "cannot share port 80"},
		{Options{HTTPPort: 80, HTTPSPort: 443}, "no directory"},
	} {
		d, err := Start(c.o)
		if err == nil {
			d.Close()
			t.Errorf("%+v: started", c.o)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

func TestYAMLIsAConfigurationThatSaysWhatIsRunning(t *testing.T) {
	noEnv := func(string) (string, bool) { return "", false }
	for _, storage := range []string{"/var/lib/wstunnel", "/tmp/Ann Bee/ca", "/tmp/a: #b \"c\"", "/tmp/${HOME}", "/tmp/caf\u00e9"} {
		d, err := Start(Options{HTTPPort: 8080, HTTPSPort: 8443, Storage: storage})
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		c, err := config.Parse("demo.yaml", []byte(d.YAML()), noEnv)
		if err != nil {
			t.Fatalf("%v in\n%s", err, d.YAML())
		}
		if c.TLS.Storage != storage {
			t.Errorf("storage %q, want %q", c.TLS.Storage, storage)
		}
		if l := c.Listen; len(l) != 2 || l[0].Address != "127.0.0.1:8080" || l[0].TLS || l[1].Address != "127.0.0.1:8443" || !l[1].TLS {
			t.Errorf("listen: %+v", l)
		}
		site := c.Sites[0]
		if site.Hosts[0] != "_" || site.TLS.Mode != config.TLSSelfSigned || site.RedirectHTTPS || len(site.Locations) != 2 {
			t.Errorf("site: %+v", site)
		}
		if l := site.Locations[0]; l.Match.Path != "/ws" || l.WebSocket.URL != "ws://"+d.ChatAddress || l.HTTP != nil {
			t.Errorf("socket location: %+v", l)
		}
		if l := site.Locations[1]; l.Match.Path != "/" || l.HTTP.URL != "http://"+d.SiteAddress || l.WebSocket != nil {
			t.Errorf("site location: %+v", l)
		}
	}
}

func TestSiteServesItsFilesWithSecurityHeaders(t *testing.T) {
	d := startDemo(t)
	defer http.DefaultClient.CloseIdleConnections()
	for _, c := range []struct {
		method, path, contentType, contains string
		status                              int
	}{
		{"GET", "/", "text/html; charset=utf-8", "<!doctype html>", 200},
		{"GET", "/chat.css", "text/css; charset=utf-8", "--ground", 200},
		{"GET", "/chat.js", "text/javascript; charset=utf-8", "WebSocket", 200},
		{"GET", "/favicon.svg", "image/svg+xml", "<svg", 200},
		{"GET", "/favicon.ico", "image/svg+xml", "<svg", 200},
		{"GET", "/config.json", "application/json", `"httpsPort":8443`, 200},
		{"HEAD", "/", "text/html; charset=utf-8", "", 200},
		{"POST", "/", "text/plain; charset=utf-8", "405", 405},
		{"GET", "/nothing", "text/plain; charset=utf-8", "404", 404},
		{"GET", "/site/index.html", "text/plain; charset=utf-8", "404", 404},
		{"GET", "/ws", "text/plain; charset=utf-8", "404", 404},
	} {
		req, _ := http.NewRequest(c.method, "http://"+d.SiteAddress+c.path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.contentType || !strings.Contains(string(body), c.contains) {
			t.Errorf("%s %s: %d %s %.80q", c.method, c.path, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": contentSecurityPolicy,
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s %s: %s %q", c.method, c.path, name, got)
			}
		}
	}
}

func TestSiteAnswers304ToAKnownTag(t *testing.T) {
	s, err := newSite(pageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	first := httptest.NewRecorder()
	s.ServeHTTP(first, httptest.NewRequest("GET", "/chat.js", nil))
	again := httptest.NewRequest("GET", "/chat.js", nil)
	again.Header.Set("If-None-Match", first.Header().Get("ETag"))
	second := httptest.NewRecorder()
	s.ServeHTTP(second, again)
	if second.Code != 304 || second.Body.Len() != 0 {
		t.Errorf("%d with %d bytes", second.Code, second.Body.Len())
	}
}
