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

// TestAddressInUseIsBlamedOnWhoeverHasIt: on another address of the same port there may be another process.
func TestAddressInUseIsBlamedOnWhoeverHasIt(t *testing.T) {
	f := start(t, oneSite(socketTo("127.0.0.1:1")))
	_, port, _ := net.SplitHostPort(f.plain)
	other, err := net.Listen("tcp", "127.0.0.7:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	const blame = "by this server itself"
	for address, own := range map[string]bool{"127.0.0.7:" + port: false, f.plain: true, ":" + port: true, "0.0.0.0:" + port: true} {
		if err := f.try(t, listening(address)); err == nil || !strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), blame) != own {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := f.try(t, listening("192.0.2.77:"+port)); err == nil || strings.Contains(err.Error(), blame) {
		t.Errorf("an address that this machine has not: %v", err)
	}
}

func TestLimitBeyondTheDescriptorsIsWarnedOf(t *testing.T) {
	f := start(t, "limits: {max_connections: 100000000}\n"+oneSite(socketTo("127.0.0.1:1")))
	if log := f.log.String(); !strings.Contains(log, "raise LimitNOFILE") || !strings.Contains(log, `"max_connections":100000000`) ||
		!strings.Contains(log, `"files_needed":20000`) {
		t.Error("the log does not say that the limit can't be kept")
	}
}
