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

// TestSideThatTakesNothingIsDead two intervals after its ping, though the other side keeps talking to it, or somebody puts frames into its
// stream. It is looked at four times in each interval.
func TestSideThatTakesNothingIsDead(t *testing.T) {
	const step = 5 * time.Second
	r := newRig(t, plainTCP, plainTCP, Options{Ping: time.Minute, CloseTimeout: step}, nil, nil)
	r.stall(t)
	took := time.Duration(0)
	for ; len(r.result) == 0 && took < time.Hour; took += step {
		r.Inject(Client, ws.OpPong, nil)
		clock.Skip(step)
	}
	if res := r.wait(t); res.By != Client || res.Cause != CausePing {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
	if took < 3*time.Minute || took > 3*time.Minute+15*time.Second+2*step {
		t.Errorf("took %s", took)
	}
}
