package proxy_test

import (
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// TestTargetThatLeadsBackIsAnswered508 has a loop that no configuration shows: the port is known only when it is open.
func TestTargetThatLeadsBackIsAnswered508(t *testing.T) {
	f := start(t, oneSite(httpTo("127.0.0.1:1")))
	between := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: f.plain}))
	defer between.Close()
	for name, address := range map[string]string{"straight": f.plain, "by way of another proxy": between.Listener.Addr().String()} {
		f.apply(t, plainListener+oneSite(httpTo(address), socketTo(address)))
		for _, request := range []string{get, upgrade} {
			since := len(f.log.String())
			c := f.dial()
			c.send(request)
			if a := c.expect(508); a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %v may be kept by a cache", name, a.Header)
			}
			await(t, "both lines of the log", func() bool { return strings.Count(f.log.String()[since:], `"status":508`) == 2 })
			if log := f.log.String()[since:]; strings.Count(log, "a target leads here") != 1 {
				t.Errorf("%s: the log says\n%s", name, log)
			}
			target := map[string]string{get: "http://" + address, upgrade: "ws://" + address}[request]
			if h := f.hints(t, "the target leads back to this server"); len(h) == 0 || h[len(h)-1].Target != target || h[len(h)-1].Site != "example.com" {
				t.Errorf("%s: hints %q, want one of %s", name, h, target)
			}
		}
	}
}

// TestNobodyElseIsTakenForALoop: other proxies that a request came through, other processes of this one, and what a client makes up.
func TestNobodyElseIsTakenForALoop(t *testing.T) {
	b := startHeads(t, always(ok))
	behind := start(t, oneSite(httpTo(b.address)))
	f := start(t, oneSite(httpTo(behind.plain)))
	c := f.dial()
	c.send(strings.Replace(get, "\r\n\r\n", "\r\nConnection: CDN-Loop\r\nCDN-Loop: wstunnel\r\nCDN-Loop: other; x=wstunnel-, wstunnel-0\r\n\r\n", 1))
	c.expect(200)
	loop := field(b.seen()[0], "CDN-Loop")
	if len(loop) != 1 || !strings.HasPrefix(loop[0], "wstunnel, other; x=wstunnel-, wstunnel-0, wstunnel-") || strings.Count(loop[0], ",") != 4 {
		t.Errorf("the backend got CDN-Loop %q", loop)
	}
}
