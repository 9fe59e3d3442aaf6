package proxy_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wstunnel/internal/ws"
)

// TestNoGOAWAYWhileAConnectionCarriesTunnels: a stop spreads them out, and only then lets the connection go, in two steps. Pages are served to the end.
func TestNoGOAWAYWhileAConnectionCarriesTunnels(t *testing.T) {
	b := startSwitching(t, echoing)
	f := startTLS(t, "drain: {spread: 4s}\n"+secureSite(both(b.address)))
	c, _ := f.dialH2()
	for _, stream := range []uint32{1, 3} {
		c.connect(stream, connectTo("/ws"))
		for answered := false; !answered; {
			_, answered = c.next().(*http2.MetaHeadersFrame)
		}
	}
	ended := f.beginShutdown()
	seen := map[uint32]bool{}
	awaitClose := func() {
		t.Helper()
		for {
			switch frame := c.next().(type) {
			case *http2.GoAwayFrame:
				t.Fatalf("GOAWAY came while %d tunnels were open", 2-len(seen))
			case *http2.DataFrame:
				if len(frame.Data()) == 0 { // the end of the stream before
					continue
				}
				if payload := frame.Data(); len(payload) < 4 || payload[0] != 0x88 || code(string(payload[2:])) != ws.CloseGoingAway {
					t.Fatalf("stream %d got %x, want a Close with 1001", frame.StreamID, payload)
				}
				seen[frame.StreamID] = true
				c.WriteData(frame.StreamID, true, ws.AppendClose(nil, 1001, "", &[4]byte{1, 2, 3, 4}))
				return
			}
		}
	}
	awaitClose()
	c.request(5, getPath("/")...)
	if got := c.whole(5); !strings.HasPrefix(got, "200") {
		t.Errorf("a page during the drain is answered with %s", got)
	}
	f.server.Skip(2 * time.Second)
	awaitClose()
	if len(seen) != 2 {
		t.Errorf("closed %v, want both streams", seen)
	}
	var last []uint32
	for len(last) < 2 {
		switch frame := c.next().(type) {
		case *http2.GoAwayFrame:
			last = append(last, frame.LastStreamID)
		case *http2.PingFrame:
			c.WritePing(true, frame.Data)
		}
	}
	if last[0] != 1<<31-1 || last[1] != 5 {
		t.Errorf("the GOAWAYs name %v, want 2^31-1 and then 5", last)
	}
	c.conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
