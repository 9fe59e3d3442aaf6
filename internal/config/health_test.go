package config

import (
	"reflect"
	"testing"
	"time"
)

// TestHealth of upstreams, as it is written and as targets have it.
func TestHealth(t *testing.T) {
	usual := Check{Interval: 10 * time.Second, Timeout: 3 * time.Second, Rise: 2, Fall: 3}
	with := func(change func(*Check)) *Check {
		c := usual
		change(&c)
		return &c
	}
	for _, c := range []struct {
		text string
		want Health
	}{
		{"", Health{SlowStart: 30 * time.Second}},
		{"slow_start: off, on_down: close, health: {}", Health{CloseOnDown: true, Check: &usual}},
		{"slow_start: 2m, on_down: keep", Health{SlowStart: 2 * time.Minute}},
		{"slow_start: off, health: {}", Health{Check: &usual}},
		{"slow_start: off, health: {kind: tcp, interval: 1s, timeout: 500ms, rise: 1, fall: 5}", Health{Check: &Check{
			Interval: time.Second, Timeout: 500 * time.Millisecond, Rise: 1, Fall: 5,
		}}},
		{"slow_start: off, health: {kind: websocket}", Health{Check: with(func(c *Check) { c.Kind, c.Path = CheckWebSocket, "/" })}},
		{"slow_start: off, health: {kind: websocket, path: '/ws?v=1', host: 'Bücher.example:8443'}", Health{Check: with(func(c *Check) {
			c.Kind, c.Path, c.Host = CheckWebSocket, "/ws?v=1", "xn--bcher-kva.example:8443"
		})}},
		{"slow_start: off, health: {kind: http, host: '[::1]'}", Health{Check: with(func(c *Check) {
			c.Kind, c.Path, c.Host, c.Expect = CheckHTTP, "/", "[::1]", []StatusSpan{{200, 399}}
		})}},
		{"slow_start: off, health: {kind: http, expect: 204}", Health{Check: with(func(c *Check) {
			c.Kind, c.Path, c.Expect = CheckHTTP, "/", []StatusSpan{{204, 204}}
		})}},
		{"slow_start: off, health: {kind: http, expect: [200-299, 401]}", Health{Check: with(func(c *Check) {
			c.Kind, c.Path, c.Expect = CheckHTTP, "/", []StatusSpan{{200, 299}, {401, 401}}
		})}},
	} {
		cfg := mustParse(t, "f.yaml", siteWith("proxy: chat")+"upstreams:\n  chat: {servers: ['127.0.0.1:9000'], "+c.text+"}\n")
		if got := cfg.Upstreams[0].Health; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q is %+v %+v, want %+v %+v", c.text, got, got.Check, c.want, c.want.Check)
		}
		for _, target := range []*Target{cfg.Sites[0].Locations[0].HTTP, cfg.Sites[0].Locations[0].WebSocket} {
			if !reflect.DeepEqual(target.Health, c.want) {
				t.Errorf("a target with %q has %+v", c.text, target.Health)
			}
		}
	}
}
