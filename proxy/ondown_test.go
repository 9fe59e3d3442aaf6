package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// TestServerThatGoesDownKeepsItsTunnels, unless its upstream has on_down: close. Then its clients are asked to come back, and those of others notice nothing.
func TestServerThatGoesDownKeepsItsTunnels(t *testing.T) {
	for _, closing := range []bool{false, true} {
		all := startFleet(t, 2)
		settings := "balance: round_robin, health: {interval: 10s, fall: 2}"
		if closing {
			settings += ", on_down: close"
		}
		f := start(t, oneSite(`{path: /ws, websocket: "ws://fleet"}`)+all.upstream(settings))
		checked := func(n float64) func() bool {
			return func() bool {
				for _, s := range all {
					if f.samples()[`wstunnel_backend_checks_total{upstream="fleet",server="`+s.address+`"}`] < n {
						return false
					}
				}
				return true
			}
		}
		await(t, "the first checks", checked(1))
		first, _ := f.openTunnel()
		second, _ := f.openTunnel()
		await(t, "a tunnel to each", func() bool { return all[0].tunnels.Load() == 1 && all[1].tunnels.Load() == 1 })
		clients := map[string]*client{}
		for i, live := range f.server.Tunnels() {
			clients[live.Backend] = []*client{first, second}[i]
		}
		all[0].listener.Close()
		for n := range 2 {
			f.server.Skip(10 * time.Second)
			await(t, "another check", checked(float64(n+2)))
		}
		f.wantSamples(
			`wstunnel_backend_up{upstream="fleet",server="`+all[0].address+`"} 0`, `wstunnel_backend_up{upstream="fleet",server="`+all[1].address+`"} 1`,
			`wstunnel_backend_failed_checks_total{upstream="fleet",server="`+all[0].address+`"} 2`,
			`wstunnel_backend_failed_checks_total{upstream="fleet",server="`+all[1].address+`"} 0`,
			`wstunnel_backend_tunnels{upstream="fleet",server="`+all[1].address+`"} 1`,
		)
		c := clients[all[0].address]
		if closing {
			if op, payload := frame(t, c.br); op != ws.OpClose || payload != "\x03\xf4backend is down" {
				t.Errorf("the client got opcode %d with %q, want a Close with 1012", op, payload)
			}
			c.Close()
			await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 1 })
		} else {
			c.waits(f, time.Minute)
		}
		clients[all[1].address].waits(f, time.Minute)
		if got := strings.Count(f.log.String(), fmt.Sprintf(`"msg":"server is down","upstream":"fleet","server":"%s"`, all[0].address)); got != 1 {
			t.Errorf("the log tells %d times that the server is down", got)
		}
	}
}
