//go:build linux

package main_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/pebble"
)

// gate lets an authority be reached, once it is open; until then its clients wait.
func gate(t *testing.T, address string) (own string, open func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	opened := make(chan struct{})
	pass := func(from net.Conn) {
		defer from.Close()
		select {
		case <-opened:
		case <-t.Context().Done():
			return
		}
		to, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer to.Close()
		go io.Copy(to, from)
		io.Copy(from, to)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go pass(conn)
		}
	}()
	return l.Addr().String(), func() { close(opened) }
}

// plainGet asks the plain listener for a page of a host.
func (f *front) plainGet(t *testing.T, host string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+f.http+"/page.php?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	c := newClient(nil)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp, readAll(t, resp)
}

func TestFirstCertificateIsAwaited(t *testing.T) {
	a := startACME(t, pebble.Options{})
	way, open := gate(t, a.Address)
	a.Directory = "https://" + way + "/dir"
	page := `{path: /, http: "http://` + startPages(t).address + `"}`
	yaml := a.settings(a.plain, a.secure, []string{"a.example"}, page) +
		"  - {hosts: [b.example], tls: auto, redirect_https: when_ready, locations: [" + page + "]}\n" +
		"  - {hosts: ['*.demand.example'], tls: {auto: on-demand, ask: 'http://127.0.0.1:1/'}, redirect_https: true, locations: [" + page + "]}\n"
	f := startFront(t, yaml)
	_, securePort, _ := net.SplitHostPort(a.secure)
	before := time.Now()

	resp, body := f.plainGet(t, "a.example")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "5" || resp.Header.Get("Cache-Control") != "no-store" ||
		!strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, `<meta http-equiv="refresh" content="5">`) {
		t.Errorf("a site whose certificate is on its way: %s %v %s", resp.Status, resp.Header, body)
	}
	if resp, _ := f.plainGet(t, "a.example", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="); resp.StatusCode != 503 {
		t.Errorf("a ws:// handshake there: %s", resp.Status)
	}
	if resp, body := f.plainGet(t, "b.example"); resp.StatusCode != 200 || resp.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("when_ready: %s %s", resp.Status, body)
	}
	// Only a handshake has this one's certificate ordered.
	if resp, _ := f.plainGet(t, "shop.demand.example"); resp.StatusCode != 308 {
		t.Errorf("a host on demand: %s", resp.Status)
	}

	if conn, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: "a.example"}); err == nil {
		conn.Close()
		t.Error("a handshake without a certificate")
	}
	f.awaitLog(t, 0, "handshakes fail: the host has no certificate yet", "host", "a.example")

	b := startTrustingBrowser(t, a.Root(t), "MAP *.example 127.0.0.1")
	_, plainPort, _ := net.SplitHostPort(a.plain)
	b.open(t, "http://a.example:"+plainPort+"/page.php")
	if title := script[string](t, b, `return document.title`); title != "One moment" {
		t.Errorf("the browser shows %q", title)
	}
	open()
	f.awaitLogs(t, 0, 2, "certificate obtained")
	b.await(t, "location.href === 'https://a.example:"+securePort+"/page.php'") // which comes by itself
	for _, host := range []string{"a.example", "b.example"} {
		if resp, _ := f.plainGet(t, host); resp.StatusCode != 308 || resp.Header.Get("Location") != "https://"+host+":"+securePort+"/page.php?a=b" {
			t.Errorf("%s with its certificate: %s %v", host, resp.Status, resp.Header)
		}
	}
	checkFirstOrdersInTheLog(t, f, before)
}

// checkFirstOrdersInTheLog requires that no line has an empty error, a time that has passed where it tells of one to come, or a duration
// in anything but milliseconds.
func checkFirstOrdersInTheLog(t *testing.T, f *front, before time.Time) {
	t.Helper()
	for _, line := range f.out.since(0) {
		var e entry
		if json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		if text, has := e["error"]; has && text == "" {
			t.Errorf("an empty error: %s", line)
		}
		logged, _ := time.Parse(time.RFC3339Nano, e.text("time"))
		for _, key := range []string{"next_try", "renewal"} {
			if at, err := time.Parse(time.RFC3339Nano, e.text(key)); err == nil && at.Before(logged) {
				t.Errorf("%s lies in the past: %s", key, line)
			}
		}
	}
	took, err := strconv.ParseFloat(f.awaitLog(t, 0, "certificate obtained").text("took_ms"), 64)
	if err != nil || took < 1 || took > float64(time.Since(before).Milliseconds())+5000 {
		t.Errorf("took_ms %v, %v", took, err)
	}
}
