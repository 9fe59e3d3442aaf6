//go:build linux && !portable

package tunnel

import (
	"testing"
	"time"
	"unsafe"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

func TestIdleTunnelIsSmall(t *testing.T) {
	size := unsafe.Sizeof(Tunnel{}) + 2*unsafe.Sizeof(reactor.Conn{})
	if size > 544 {
		t.Errorf("a tunnel has %d bytes", size)
	}
}

// TestSideThatTakesNothingIsDead, though the other side keeps talking to it, or somebody puts frames into its stream.
func TestSideThatTakesNothingIsDead(t *testing.T) {
	const interval = 300 * time.Millisecond
	r := newRig(t, plainTCP, plainTCP, Options{Ping: interval, CloseTimeout: time.Millisecond}, nil, nil)
	go flood(r)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(interval / 10):
				r.Inject(Client, ws.OpPong, nil)
			}
		}
	}()
	start := time.Now()
	if res := r.wait(t); res.By != Client || res.Cause != CausePing {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
	if took := time.Since(start); took > 5*interval {
		t.Errorf("took %s", took)
	}
}
