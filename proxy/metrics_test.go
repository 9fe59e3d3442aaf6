package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	ctls "crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wstunnel/internal/metrics"
	"wstunnel/internal/ws"
)

// samples are what a server tells, by name and labels as they are written.
type samples map[string]float64

// samples gathers them, and has them checked by Prometheus' own parser.
func (f *front) samples() samples {
	f.t.Helper()
	var w metrics.Writer
	f.server.Collect(&w)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(bytes.NewReader(w.Text())); err != nil {
		f.t.Fatalf("%v in\n%s", err, w.Text())
	}
	all := samples{}
	for line := range strings.Lines(string(w.Text())) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if _, twice := all[line[:i]]; twice || err != nil {
			f.t.Fatalf("the sample %s is there twice, or no number", line)
		}
		all[line[:i]] = value
	}
	return all
}

// wantSamples waits until the server tells some samples, each "NAME VALUE".
func (f *front) wantSamples(wanted ...string) {
	f.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		got, wrong := f.samples(), ""
		for _, line := range wanted {
			i := strings.LastIndexByte(line, ' ')
			want, _ := strconv.ParseFloat(line[i+1:], 64)
			value, there := got[line[:i]]
			if value != want || !there && want > 0 {
				wrong += fmt.Sprintf("%s: is %v\n", line, value)
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(end) {
			f.t.Fatal(wrong)
		}
	}
}

func TestRequestsAreCountedBySiteAndClass(t *testing.T) {
	b := startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			status := strings.TrimPrefix(strings.Fields(head)[1], "/")
			fmt.Fprintf(conn, "HTTP/1.1 %s X\r\nContent-Length: 0\r\n\r\n", status)
		}
	})
	f := start(t, oneSite(httpTo(b.address), `{path: /down, http: "http://`+closedPort(t)+`"}`, "{path: /ws, respond: 404}"))
	c := f.dial()
	for _, path := range []string{"200", "204", "302", "404", "403", "500", "down"} {
		c.send("GET /" + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n")
		c.answer("GET")
	}
	c.send("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	c.expect(404)
	f.dial().send("GET / HTTP/9.1\r\n\r\n")
	f.wantSamples(
		`wstunnel_requests_total{site="example.com",class="2xx"} 2`, `wstunnel_requests_total{site="example.com",class="3xx"} 1`,
		`wstunnel_requests_total{site="example.com",class="4xx"} 2`, `wstunnel_requests_total{site="example.com",class="5xx"} 2`,
		`wstunnel_requests_total{site="example.com",class="101"} 0`, `wstunnel_requests_total{site="example.com",class="gone"} 0`,
		`wstunnel_requests_total{site="(unknown)",class="4xx"} 1`, `wstunnel_requests_total{site="(unknown)",class="5xx"} 1`,
		`wstunnel_request_duration_seconds_count{site="example.com",class="2xx"} 2`,
		`wstunnel_request_duration_seconds_bucket{site="example.com",class="2xx",le="+Inf"} 2`,
		`wstunnel_client_connections_total 2`,
	)
	for name := range f.samples() {
		if strings.Contains(name, "evil") {
			t.Errorf("a client has chosen %s", name)
		}
	}
}

// TestClientThatDoesNotWaitIsCountedAsGone, and as nothing that the backend did.
func TestClientThatDoesNotWaitIsCountedAsGone(t *testing.T) {
	asked := make(chan bool, 1)
	b := startBackend(t, func(b *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		asked <- true
		io.Copy(io.Discard, conn)
	})
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	<-asked
	c.Close()
	f.wantSamples(`wstunnel_requests_total{site="example.com",class="gone"} 1`, `wstunnel_requests_total{site="example.com",class="5xx"} 0`)
}

// TestTunnelsAreCounted while they are open too, and each byte once.
func TestTunnelsAreCounted(t *testing.T) {
	echo := startEchoSocket(t)
	f := start(t, oneSite(socketTo(echo.address), `{path: /relay, mode: relay, websocket: "ws://`+echo.address+`"}`))
	c, _ := f.openTunnel()
	relayed := f.dial()
	relayed.send(strings.Replace(upgrade, "/ws", "/relay", 1))
	relayed.expectSwitch()
	for range 3 {
		c.expectEcho("hello")
		relayed.expectEcho("world!")
	}
	live := []string{
		`wstunnel_tunnels_opened_total{site="example.com"} 2`,
		`wstunnel_tunnel_bytes_total{site="example.com",direction="to_backend"} 69`, `wstunnel_tunnel_bytes_total{site="example.com",direction="to_client"} 45`,
		`wstunnel_tunnel_messages_total{site="example.com",direction="to_backend"} 6`, `wstunnel_tunnel_messages_total{site="example.com",direction="to_client"} 6`,
		`wstunnel_requests_total{site="example.com",class="101"} 2`,
	}
	f.wantSamples(append(live, `wstunnel_tunnels_open{site="example.com"} 2`)...)
	f.wantSamples(live...)
	relayed.expectEcho("once more")
	c.send(string(ws.AppendClose(nil, 4321, "", &[4]byte{1, 2, 3, 4})))
	c.Close()
	relayed.Close()
	f.wantSamples(
		`wstunnel_tunnels_open{site="example.com"} 0`, `wstunnel_tunnels_opened_total{site="example.com"} 2`,
		`wstunnel_tunnels_closed_total{site="example.com",reason="close frame",by="client",code="4xxx"} 1`,
		`wstunnel_tunnels_closed_total{site="example.com",reason="end of stream",by="client",code="1006"} 1`,
		`wstunnel_tunnel_messages_total{site="example.com",direction="to_backend"} 7`,
		`wstunnel_tunnel_messages_total{site="example.com",direction="to_client"} 7`,
	)
}

// TestCountersNeverFall while tunnels come, speak and go, and several ask.
func TestCountersNeverFall(t *testing.T) {
	f := start(t, oneSite(socketTo(startEchoSocket(t).address)))
	done := make(chan bool)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			last := samples{}
			for {
				now := f.samples()
				for name, value := range last {
					if (strings.Contains(name, "_total") || strings.Contains(name, "_count")) && now[name] < value {
						t.Errorf("%s fell from %v to %v", name, value, now[name])
					}
				}
				last = now
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	const tunnels, messages = 30, 5
	for range tunnels {
		c := f.dial()
		c.send(upgrade)
		c.expectSwitch()
		for range messages {
			c.expectEcho("x")
		}
		c.Close()
	}
	f.wantSamples(`wstunnel_tunnels_open{site="example.com"} 0`)
	close(done)
	all.Wait()
	f.wantSamples(fmt.Sprintf(`wstunnel_tunnel_messages_total{site="example.com",direction="to_client"} %d`, tunnels*messages),
		fmt.Sprintf(`wstunnel_tunnel_bytes_total{site="example.com",direction="to_client"} %d`, tunnels*messages*3))
}

func TestHandshakesThatFailAreCountedByCause(t *testing.T) {
	for _, c := range []struct{ cause, location, request, backend string }{
		{"not served", `{path: /ws, respond: 404}`, upgrade, ""},
		{"not served", `{path: /other, respond: 404}`, upgrade, ""},
		{"denied", `{path: /ws, websocket: "ws://BACKEND", deny: [all]}`, upgrade, switching},
		{"bad request", `{path: /ws, mode: relay, websocket: "ws://BACKEND"}`, strings.Replace(upgrade, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12", 1), switching},
		{"backend failed", `{path: /ws, websocket: "ws://BACKEND"}`, upgrade, strings.Replace(switching, "s3pP", "xxxx", 1)},
		{"backend failed", `{path: /ws, websocket: "ws://DOWN"}`, upgrade, ""},
		{"refused by backend", `{path: /ws, websocket: "ws://BACKEND"}`, upgrade, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"},
		{"backend timeout", `{path: /ws, websocket: "ws://BACKEND", timeouts: {handshake: 50ms}}`, upgrade, "silence"},
	} {
		b := startBackend(t, func(b *backend, conn net.Conn) {
			if _, err := rawHead(bufio.NewReader(conn)); err == nil && c.backend != "silence" {
				io.WriteString(conn, c.backend)
			}
			io.Copy(io.Discard, conn)
		})
		f := start(t, oneSite(strings.NewReplacer("BACKEND", b.address, "DOWN", closedPort(t)).Replace(c.location)))
		client := f.dial()
		client.send(c.request)
		client.answer("GET")
		f.wantSamples(`wstunnel_handshake_failures_total{site="example.com",cause="`+c.cause+`"} 1`, `wstunnel_tunnels_opened_total{site="example.com"} 0`)
	}
}

// TestReloadsKeepWhatWasCounted of sites that stay, and forget the others when their last tunnel has ended.
func TestReloadsKeepWhatWasCounted(t *testing.T) {
	f := start(t, oneSite(socketTo(startEchoSocket(t).address)))
	other := plainListener + strings.Replace(oneSite("{path: /, respond: 200}"), "example.com", "other.example", 1)
	c, _ := f.openTunnel()
	f.apply(t, plainListener+oneSite("{path: /, respond: 200}"))
	const opened = `wstunnel_tunnels_opened_total{site="example.com"}`
	f.wantSamples(opened + " 1")
	f.apply(t, other)
	c.expectEcho("hello")
	f.wantSamples(opened+" 1", `wstunnel_tunnel_messages_total{site="example.com",direction="to_client"} 1`)
	c.Close()
	f.wantSamples(`wstunnel_tunnels_open{site="example.com"} 0`)
	f.apply(t, other)
	if _, there := f.samples()[opened]; there {
		t.Error("a site without tunnels that is gone is still told of")
	}
}

func TestHandshakesOfTLSThatFailAreCounted(t *testing.T) {
	f := startTLS(t, secureSite("{path: /, respond: 200}"))
	c := dial(t, f.secure)
	c.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	c.rest()
	conn := dial(t, f.secure)
	if err := ctls.Client(conn, &ctls.Config{ServerName: "example.com"}).Handshake(); err == nil {
		t.Fatal("the local CA is trusted")
	}
	dial(t, f.secure).send("hello, hello, hello\n")
	silent := dial(t, f.secure)
	silent.send("\x16\x03\x01")
	silent.Close()
	f.wantSamples(
		`wstunnel_tls_handshake_failures_total{cause="plain HTTP"} 1`, `wstunnel_tls_handshake_failures_total{cause="refused by client"} 1`,
		`wstunnel_tls_handshake_failures_total{cause="no TLS"} 1`, `wstunnel_tls_handshake_failures_total{cause="client gone"} 1`,
		`wstunnel_tls_handshakes_waiting 0`,
	)
}

func TestServerIsReadyUntilItStops(t *testing.T) {
	f := start(t, "metrics: 127.0.0.1:9180\n"+oneSite("{path: /, respond: 200}"))
	if err := f.server.Alive(context.Background()); err != nil || !f.server.Ready() {
		t.Errorf("it is ready: %v, alive: %v", f.server.Ready(), err)
	}
	before := f.samples()["wstunnel_loop_lag_seconds_count"]
	f.server.Skip(time.Second)
	await(t, "the lag of the loops", func() bool { return f.samples()["wstunnel_loop_lag_seconds_count"] > before })
	f.stop()
	if f.server.Ready() {
		t.Error("it is ready when it has stopped")
	}
}

// TestServersAreCounted once, whatever the ways are in which targets speak to them.
func TestServersAreCounted(t *testing.T) {
	all := startFleet(t, 2)
	f := start(t, oneSite(fleetBoth, `{path: /tls/, proxy: {url: "https://fleet", tls_verify: false}}`, `{path: /alone, http: "http://`+closedPort(t)+`"}`)+
		all.upstream("balance: round_robin"))
	if got := f.answered(4, "/"); got != "0101" {
		t.Fatalf("answered have %s", got)
	}
	c := f.dial()
	c.send("GET /alone HTTP/1.1\r\nHost: example.com\r\n\r\n")
	c.expect(502)
	of := func(name string, i int) string {
		return name + `{upstream="fleet",server="` + all[i].address + `"}`
	}
	f.wantSamples(of("wstunnel_backend_up", 0)+" 1", of("wstunnel_backend_active", 0)+" 0", of("wstunnel_backend_failures_total", 0)+" 0", of("wstunnel_backend_retries_total", 0)+" 0",
		`wstunnel_upstream_waiting{upstream="fleet",for="server"} 0`, `wstunnel_upstream_waiting{upstream="fleet",for="connection"} 0`,
		`wstunnel_upstream_waiting{upstream="fleet",for="time"} 0`, `wstunnel_upstream_retrying{upstream="fleet"} 0`)
}

// TestEjectionIsCounted, and no request that went elsewhere has failed.
func TestEjectionIsCounted(t *testing.T) {
	all := startFleet(t, 2)
	f := start(t, oneSite(fleetPages)+all.upstream("balance: round_robin, keepalive: off"))
	f.answered(2, "/")
	all[0].listener.Close()
	f.answered(10, "/")
	of := func(name string) string { return name + `{upstream="fleet",server="` + all[0].address + `"}` }
	f.wantSamples(of("wstunnel_backend_up")+" 0", of("wstunnel_backend_failures_total")+" 3", of("wstunnel_backend_ejections_total")+" 1",
		`wstunnel_requests_total{site="example.com",class="2xx"} 12`)
	f.server.Skip(5 * time.Second)
	f.wantSamples(of("wstunnel_backend_up") + " 1")
}
