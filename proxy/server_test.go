package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// listening is a configuration with the listener that all tests have, and others.
func listening(addresses ...string) string {
	listeners := []string{`{address: "127.0.0.1:0"}`}
	for _, a := range addresses {
		listeners = append(listeners, fmt.Sprintf("{address: %q}", a))
	}
	return "listen: [" + strings.Join(listeners, ", ") + "]\n" + oneSite(socketTo("127.0.0.1:1"))
}

// TestFailedReloadLeavesNothingBehind: the corrected configuration finds all addresses free.
func TestFailedReloadLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	wanted := closedPort(t)
	f := start(t, oneSite(socketTo("127.0.0.1:1")))
	for range 20 {
		if err := f.try(t, listening(wanted, taken.Addr().String())); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Fatalf("an address that is taken: %v", err)
		}
		f.apply(t, listening(wanted))
		f.apply(t, listening())
	}
}

func TestLimitBeyondTheDescriptorsIsWarnedOf(t *testing.T) {
	f := start(t, "limits: {max_connections: 100000000}\n"+oneSite(socketTo("127.0.0.1:1")))
	if log := f.log.String(); !strings.Contains(log, "raise LimitNOFILE") || !strings.Contains(log, `"max_connections":100000000`) ||
		!strings.Contains(log, `"files_needed":200000`) {
		t.Error("the log does not say that the limit can't be kept")
	}
}
