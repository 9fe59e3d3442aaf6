//go:build linux

package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestTunnelsAreFoundDuringAnUpgrade: whoever asks meanwhile finds each of them, whether it stays in the oldest process, is on its way, or has come over.
func TestTunnelsAreFoundDuringAnUpgrade(t *testing.T) {
	u := startUpgradable(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	yaml := u.yaml(t)
	const plain = 200
	open := []socket{u.dialSocket(t, "wss", "/ws?user=anna&groups=lobby")}
	for range plain {
		open = append(open, u.dialSocket(t, "ws", "/ws?user=berta"))
	}
	all := controlOf(t, yaml).awaitTunnels(plain + 1).Tunnels
	u.upgrade(t)
	over := make(chan struct{})
	var askers sync.WaitGroup
	for i := range 3 {
		askers.Go(func() {
			client := controlOf(t, yaml).client
			missed := false
			for n := i; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				target, list := "/v1/tunnels/"+all[n%len(all)].ID, i == 2
				if i == 0 {
					target = "/v1/tunnels/" + all[0].ID
				} else if list {
					target = "/v1/tunnels"
				}
				resp, err := client.Get("http://wstunnel" + target)
				if err != nil {
					continue // its process leaves the socket to the next one
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				var l listed
				switch {
				case resp.StatusCode == http.StatusOK && (!list || json.Unmarshal(text, &l) == nil && len(l.Tunnels) == plain+1):
					missed = false
				case !missed && (list || resp.StatusCode == http.StatusServiceUnavailable): // it was one on its way out that was asked
					missed = true
				default:
					t.Errorf("%s: %d %.100s; %d tunnels are listed of %d", target, resp.StatusCode, strings.TrimSpace(string(text)), len(l.Tunnels), plain+1)
				}
			}
		})
	}
	u.upgrade(t)
	u.upgrade(t)
	close(over)
	askers.Wait()
	for _, s := range open {
		s.Close()
	}
	u.stopLast(t)
}
