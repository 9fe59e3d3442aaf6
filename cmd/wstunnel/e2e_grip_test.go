//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPushpinsClientsPublish with the library of npm that publishes to Pushpin, as that comes: into the tunnels of its channel, which are those of the group.
func TestPushpinsClientsPublish(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(testdata(t, "grip"))); err != nil {
		t.Fatal(err)
	}
	npm := exec.Command(installed(t, "npm", "npm"), "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = dir
	must(t, npm)
	printed, err := wstunnel(t, "token").Output()
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]string{}
	for line := range strings.Lines(string(printed)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		made[name] = value
	}
	address := freePort(t)
	f := startFront(t, `admin:
  address: `+address+`
  tokens:
    - {name: publisher, hash: "`+made["hash"]+`", verbs: [list, send, kick]}
`+settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	anna := f.dialSocket(t, "wss", "/ws?user=anna&groups=news")
	berta := f.dialSocket(t, "ws", "/ws?user=berta&groups=other")
	other := exec.Command("node", filepath.Join(dir, "publish.js"), "other")
	other.Env = append(os.Environ(), "GRIP_URL=http://"+address+"/?key=nonsense")
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "401") {
		t.Errorf("with another token it prints %s, %v", out, err)
	}
	publish := exec.Command(installed(t, "node", "nodejs"), filepath.Join(dir, "publish.js"), "news")
	publish.Env = append(os.Environ(), "GRIP_URL=http://"+address+"/?key="+made["token"])
	if out, err := publish.CombinedOutput(); err != nil || string(out) != "published\n" {
		t.Fatalf("it prints %s, %v", out, err)
	}
	anna.says(t, "grüße")
	anna.says(t, "\x00\xff")
	anna.awaitClose(4002)
	f.awaitLog(t, 0, "tunnel closed", "close_code", float64(4002))
	eventually(t, "berta is left", func() bool { // one is logged before it is forgotten
		status, text, _ := askWeb(t, "GET", address, "/v1/tunnels", map[string]string{"Authorization": "Bearer " + made["token"]}, "")
		left := decode[listed](t, text)
		return status == 200 && len(left.Tunnels) == 1 && left.Tunnels[0].User == "berta"
	})
	berta.Close()
}
