//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNewProcessThatHangsIsEnded: one that serves, and then does nothing any more, does not become the main process; the old one goes on with all that it has.
func TestNewProcessThatHangsIsEnded(t *testing.T) {
	const tunnels = 20
	u := startBefore(t, tunnels, "hang")
	began := time.Now()
	printed, code := u.order(t, "upgrade")
	said := regexp.MustCompile(`ended when (\d) tunnels had been handed over: the other process did not answer in time`).FindStringSubmatch(printed)
	if code == 0 || said == nil {
		t.Fatalf("exit code %d, printed %q", code, printed)
	}
	given, _ := strconv.Atoi(said[1])                     // before it hung
	if took := time.Since(began); took > 40*time.Second { // one patience of 10 s or two, and not one for each of 20 tunnels
		t.Errorf("it took %v", took)
	}
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + u.http + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if s := u.status(t); s.PID != u.pids[0] || s.Tunnels != tunnels-given {
		t.Errorf("status: %+v", s)
	}
	u.stopLast(t)
}

// TestStopDuringAnUpgradeStops: the service ends, and the new process does not go on in its place.
func TestStopDuringAnUpgradeStops(t *testing.T) {
	u := startBefore(t, 4, "stop")
	u.order(t, "upgrade")
	eventually(t, "the old process ends", func() bool { return !isAlive(u.pids[0]) })
	eventually(t, "nobody serves", func() bool {
		client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + u.http + "/")
		if err == nil {
			resp.Body.Close()
			return false
		}
		return strings.Contains(err.Error(), syscall.ECONNREFUSED.Error())
	})
	u.awaitLogs(t, 0, 4, "tunnel closed", "close_code", goingAway, "cause", "drain") // in whichever process
	if strings.Contains(u.out.String(), "did not answer in time") {
		t.Error("one process waited for the other in vain")
	}
}

// startBefore starts a front with tunnels, which an upgrade leads to a process that successor.py keeps between it and the real one: that does what it is told
// behind the first tunnel.
func startBefore(t *testing.T, tunnels int, does string) *upgradable {
	t.Helper()
	address, conns := socketBackend(t)
	u := startUpgradable(t, "listen: [{address: '127.0.0.1:0'}]\nsites: [{hosts: [_], locations: [{path: /ws, websocket: 'ws://"+address+"'}]}]\n")
	for range tunnels {
		go u.dialSocket(t, "ws", "/ws").ReadMessage() // answers its Close frame
		<-conns
	}
	real := u.binary + ".real"
	u.install(t)
	if err := os.Rename(u.binary, real); err != nil {
		t.Fatal(err)
	}
	between := python(t, "successor.py")
	u.installScript(t, fmt.Sprintf("#!/bin/sh\nexec %s %s 1 %s \"$@\"\n", strings.Join(between.Args, " "), does, real))
	return u
}
