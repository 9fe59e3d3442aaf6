//go:build linux

package main_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestReloadKeepsLiveTunnels(t *testing.T) {
	php, pages := startSocketPHP(t, ""), startPages(t)
	tunnel := `{path: /ws, websocket: "ws://` + php.address + `"}`
	relay := `{path: /relay, mode: relay, max_message: 4MiB, websocket: "ws://` + php.address + `"}`
	page := `{path: /, http: "http://` + pages.address + `"}`
	f := startFront(t, settings(tunnel, relay, page))
	sockets := map[string]socket{
		"plain": f.dialSocket(t, "ws", "/ws"), "secure": f.dialSocket(t, "wss", "/ws"), "relayed": f.dialSocket(t, "wss", "/relay"),
	}
	for _, step := range []struct{ name, yaml, outcome string }{
		{"nothing changed", settings(tunnel, relay, page), reloaded},
		{"their routes are gone", settings(page), reloaded},
		{"a syntax error", "sites: [\n", refused},
		{"an empty file", "", refused},
		{"other timeouts", "timeouts: {request_head: 3s, tunnel_idle: 30m}\n" + settings(tunnel), reloaded},
		{"their listeners are gone", strings.Replace(strings.Replace(settings(page), "localhost:0", "127.0.0.3:0", 1), "127.0.0.1:0", "127.0.0.2:0", 1), reloaded},
		{"their site is gone", strings.Replace(settings(tunnel), "hosts: [_]", "hosts: [other.example]", 1), reloaded},
		{"no TLS any more", "listen: [{address: '127.0.0.1:0'}]\nsites: [{hosts: [_], locations: [" + page + "]}]\n", reloaded},
	} {
		f.reload(t, step.yaml, step.outcome)
		for name, s := range sockets {
			text := name + " socket after a reload: " + step.name
			s.echo(text)
			s.echo(strings.Repeat(text, 20_000))
		}
	}
}

func TestReloadAppliesTheNewFile(t *testing.T) {
	first, second := startSocketPHP(t, ""), startSocketPython(t)
	f := startFront(t, settings(`{path: /ws, websocket: "ws://`+first.address+`"}`))
	before := f.dialSocket(t, "ws", "/ws")
	before.echo("it is counted")
	e := f.reload(t, settings(
		`{path: /ws, websocket: "ws://`+second.address+`"}`,
		`{path: /, http: "http://`+startPages(t).address+`"}`), reloaded)
	if e.text("tunnels") != "1" || e.text("file") != f.config {
		t.Errorf("the log says %v", e)
	}
	f.get(t, "/echo.php")
	f.dialSocket(t, "ws", "/ws").echo("new backend")
	f.awaitLog(t, 0, "tunnel opened", "backend", second.address)
	before.echo("old backend")
}

func TestReloadOfAWrongFileKeepsTheOldOneAndSaysWhy(t *testing.T) {
	php := startSocketPHP(t, "")
	good := settings(`{path: /ws, websocket: "ws://`+php.address+`"}`, `{path: /, http: "http://`+startPages(t).address+`"}`)
	f := startFront(t, good)
	live := f.dialSocket(t, "wss", "/ws")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, wrong := range []struct {
		name, yaml string
		says       []string
	}{
		{"unknown key", strings.Replace(good, "websocket:", "websockt:", 1), []string{f.config + ":12:", "websockt", "websocket"}},
		{"two mistakes", strings.NewReplacer("5s", "5 parsecs", "self-signed", "sometimes").Replace(good), []string{f.config + ":7:", "5 parsecs", f.config + ":10:", "sometimes"}},
		{"no YAML", "listen: [", []string{f.config + ":"}},
		{"port in use", strings.Replace(good, "127.0.0.1:0", taken.Addr().String(), 1), []string{taken.Addr().String(), "address already in use"}},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			since := f.out.len()
			f.reload(t, wrong.yaml, refused)
			f.checkStillOld(t, since, wrong.says)
			live.echo(wrong.name)
		})
	}
	t.Run("no file", func(t *testing.T) {
		if err := os.Remove(f.config); err != nil {
			t.Fatal(err)
		}
		since := f.out.len()
		f.hangUp(t)
		f.awaitLog(t, since, refused)
		f.checkStillOld(t, since, []string{f.config, "no such file"})
		live.echo("no file")
	})
	f.reload(t, good, reloaded)
}

// checkStillOld requires that the old configuration answers and that what was logged since names the mistakes.
func (f *front) checkStillOld(t *testing.T, since int, says []string) {
	t.Helper()
	printed := strings.Join(f.out.since(since), "\n")
	for _, want := range says {
		if !strings.Contains(printed, want) {
			t.Errorf("the log does not name %q:\n%s", want, printed)
		}
	}
	f.get(t, "/echo.php")
	f.dialSocket(t, "ws", "/ws").echo("as before")
}

func TestReloadLosesNoRequest(t *testing.T) {
	tunnel, page := `{path: /ws, websocket: "ws://`+freePort(t)+`"}`, `{path: /, http: "http://`+startPages(t).address+`"}`
	f := startFront(t, settings(page))
	c := f.secureClient(t)
	c.Transport.(*http.Transport).DisableKeepAlives = true // each request comes on a connection of its own
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			resp, err := c.Get([]string{"http://" + f.http, "https://" + f.https}[i%2] + "/echo.php")
			if err != nil {
				t.Error(err)
				continue
			}
			resp.Body.Close()
		}
	}()
	for reloads := 0; ; reloads++ {
		select {
		case <-done:
			if reloads == 0 {
				t.Error("no reload came between the requests")
			}
			return
		default:
			f.reload(t, []string{settings(tunnel, page), settings(page)}[reloads%2], reloaded)
		}
	}
}

func TestReloadKeepsConnectionsThatHaveNotSpokenYet(t *testing.T) {
	page := `{path: /, http: "http://` + startPages(t).address + `"}`
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			f := startFront(t, settings(page))
			conn, err := net.Dial("tcp", map[string]string{"http": f.http, "https": f.https}[scheme])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := newClient(f.roots(t)) // its download comes after that connection was accepted
			f.reload(t, "timeouts: {request_head: 9s, keepalive: 61s}\n"+settings(page), reloaded)
			c.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
			resp, err := c.Get(scheme + "://127.0.0.1/echo.php")
			if err != nil {
				t.Fatalf("a connection from before the reload got no answer: %v", err)
			}
			readAll(t, resp)
			c.CloseIdleConnections()
		})
	}
}
