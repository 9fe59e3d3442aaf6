package proxy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/tunnel"
)

func TestSitesAreCounted(t *testing.T) {
	f := start(t, oneSite(socketTo(startEchoSocket(t).address), httpTo("127.0.0.1:1")))
	c, id := f.openTunnel()
	c.send(text("five!"))
	frame(t, c.br)
	f.dial().send(strings.Replace(upgrade, "GET /ws ", "GET /nowhere ", 1))
	await(t, "the handshake that fails, and the answer", func() bool {
		got := f.server.SiteCounts()["example.com"]
		return got.Failed == 1 && got.ToClient.Bytes > 0
	})
	if got := f.server.SiteCounts()["example.com"]; got.Tunnels != 1 || got.Opened != 1 || len(got.Closed) != 0 || got.ToBackend.Messages != 1 || got.Requests != 2 {
		t.Errorf("%+v", got)
	}
	if err := f.server.CloseTunnel(id, 1000, ""); err != nil {
		t.Fatal(err)
	}
	frame(t, c.br)
	c.Close()
	await(t, "the end", func() bool { return f.server.SiteCounts()["example.com"].Tunnels == 0 })
	if got := f.server.SiteCounts()["example.com"].Closed; len(got) != 1 || got[tunnel.CauseOrder] != 1 {
		t.Errorf("%+v", got)
	}
}

func TestEveryGoesByTheClock(t *testing.T) {
	f := start(t, oneSite(httpTo("127.0.0.1:1")))
	ctx, cancel := context.WithCancel(t.Context())
	called, ended := make(chan bool), make(chan bool)
	go func() {
		f.server.Every(ctx, time.Hour, func() { called <- true })
		close(ended)
	}()
	for range 3 {
		for waiting := true; waiting; {
			f.server.Skip(time.Hour) // before it waits, that is nothing
			select {
			case <-called:
				waiting = false
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	cancel()
	<-ended
}
