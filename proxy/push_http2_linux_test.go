//go:build linux

package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"wstunnel/proxy"
)

// TestMessagesArePushedIntoStreamsOfHTTP2 of either mode, whose clients see nothing of whose they are.
func TestMessagesArePushedIntoStreamsOfHTTP2(t *testing.T) {
	for _, mode := range []string{"tunnel", "relay"} {
		b := startTagging(t, always(annaInTwoGroups))
		f := startTLS(t, secureSite(`{path: /ws, mode: `+mode+`, websocket: "ws://`+b.address+`"}`))
		c, _ := f.dialH2()
		c.connect(1, connectTo("/ws", "x-wstunnel-user", "root", "grip-channel", "all"))
		var head *http2.MetaHeadersFrame
		for head == nil {
			head, _ = c.next().(*http2.MetaHeadersFrame)
		}
		if got := fmt.Sprint(head.Fields); head.PseudoValue("status") != "200" || strings.Contains(got, "wstunnel") || strings.Contains(got, "grip") {
			t.Errorf("%s: answered with %s", mode, got)
		}
		await(t, "the tunnel", func() bool { return len(f.server.Tunnels()) == 1 })
		live := f.server.Tunnels()[0]
		if live.User != "anna" || strings.Contains(b.seen()[0], "root") || !slices.Equal(field(b.seen()[0], "X-Wstunnel-Id"), []string{live.Key}) {
			t.Errorf("%s: %+v", mode, live)
		}
		for _, message := range []string{"one", "two"} {
			if got, err := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"news"}}, textTo(message), true); err != nil || got.Written != 1 {
				t.Errorf("%s: %+v, %v", mode, got, err)
			}
			if got, end := c.received(1, len(serverText(message))); got != serverText(message) || end != "" {
				t.Errorf("%s: got %q, %s", mode, got, end)
			}
		}
	}
}
