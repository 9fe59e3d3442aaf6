//go:build linux

package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// described asks, and requires a status and an answer as docs/openapi.yaml has it.
func (c *control) described(d *description, status int, method, target, kind, body string) string {
	c.t.Helper()
	r, err := http.NewRequest(method, "http://wstunnel"+target, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Accept", "application/json")
	resp, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status {
		c.t.Errorf("%s %s with %.60q: %d %.200s, want %d", method, target, body, resp.StatusCode, text, status)
	}
	if err := d.check(method, target, resp.StatusCode, resp.Header.Get("Content-Type"), string(text)); err != nil {
		c.t.Error(err)
	}
	return string(text)
}

// TestAnswersAreAsDescribed of a server with a tunnel, certificates, and servers that are up and down.
func TestAnswersAreAsDescribed(t *testing.T) {
	yaml := withSocket(t, settings(
		`{path: /ws, websocket: "ws://`+startTagging(t)+`", headers: {request: {set: {X-Key: the-secret}}}}`,
		`{path: /pool, websocket: "ws://pool"}`)) + "upstreams: {pool: {servers: [\"127.0.0.1:1\", {address: \"127.0.0.1:2\", down: true}]}}\n"
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "wss", "/ws?user=anna&groups=lobby")
	berta := f.dialSocket(t, "ws", "/ws?user=berta&groups=lobby,staff")
	c, d := controlOf(t, yaml), describedAPI(t)
	all := c.awaitTunnels(2)
	id, second := all.Tunnels[0].ID, all.Tunnels[1].ID
	const plain, inJSON = "text/plain", "application/json"
	for _, r := range []struct {
		status                     int
		method, target, kind, body string
	}{
		{200, "GET", "/v1/tunnels", "", ""},
		{200, "GET", "/v1/tunnels?limit=1", "", ""},
		{400, "GET", "/v1/tunnels?limit=x", "", ""},
		{200, "GET", "/v1/tunnels/" + id, "", ""},
		{404, "GET", "/v1/tunnels/0-00000000", "", ""},
		{200, "PUT", "/v1/tunnels/" + id + "/groups/x", "", ""},
		{422, "PUT", "/v1/tunnels/" + id + "/groups/a%2Cb", "", ""},
		{200, "DELETE", "/v1/tunnels/" + id + "/groups/x", "", ""},
		{404, "DELETE", "/v1/tunnels/0-00000000/groups/x", "", ""},
		{200, "POST", "/v1/tunnels/" + id + "/messages", plain, "1"},
		{413, "POST", "/v1/tunnels/" + id + "/messages", plain, strings.Repeat("x", 256<<10+1)},
		{200, "POST", "/v1/users/anna/messages", inJSON, `{"json":[2],"wait":"written"}`},
		{422, "POST", "/v1/users/anna/messages", plain, "\xff"},
		{200, "POST", "/v1/groups/lobby/messages?site=_", plain, "3"},
		{400, "POST", "/v1/groups/lobby/messages", inJSON, "{}"},
		{200, "POST", "/v1/push", inJSON, `{"to":{"users":["anna"],"groups":["lobby"]},"text":"4"}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{}}`},
		{200, "POST", "/publish/", inJSON, `{"items":[{"channel":"lobby","id":"1","formats":{"ws-message":{"content":"5"},"http-stream":{"content":"5\n"}}}]}`},
		{400, "POST", "/publish/", inJSON, `{}`},
		{413, "POST", "/publish/", inJSON, `{"items":[{"channel":"x","formats":{"ws-message":{"content":"` + strings.Repeat("x", 256<<10+1) + `"}}}]}`},
		{422, "POST", "/publish/", inJSON, `{"items":[{"channel":"staff","formats":{"ws-message":{"action":"close","code":1006}}}]}`},
		{200, "GET", "/v1/status", "", ""},
		{200, "GET", "/v1/overview", "", ""},
		{400, "GET", "/v1/events?user=anna", "", ""},
		{200, "GET", "/v1/upstreams", "", ""},
		{200, "GET", "/v1/certificates", "", ""},
		{200, "POST", "/v1/reload", "", ""},
		{200, "POST", "/v1/upgrade", "", ""},
		{400, "POST", "/v1/drain", inJSON, "{"},
		{422, "POST", "/v1/drain", inJSON, `{"site":"nowhere.example"}`},
		{200, "POST", "/v1/drain", inJSON, `{"upstream":"pool","server":"127.0.0.1:1"}`},
		{200, "POST", "/v1/drain", inJSON, `{"upstream":"pool","server":"127.0.0.1:1","end":true}`},
		{200, "POST", "/publish/", inJSON, `{"items":[{"channel":"staff","formats":{"ws-message":{"action":"close","code":4002,"reason":"bye"}}}]}`},
		{400, "DELETE", "/v1/tunnels/" + id + "?kode=4001", "", ""},
		{422, "DELETE", "/v1/tunnels/" + id + "?code=1006", "", ""},
		{200, "DELETE", "/v1/tunnels/" + id + "?code=4001&reason=out", "", ""},
	} {
		c.described(d, r.status, r.method, r.target, r.kind, r.body)
	}
	for _, want := range []string{"1", "[2]", "3", "4", "5"} {
		anna.says(t, want)
	}
	for _, want := range []string{"3", "4", "5"} {
		berta.says(t, want)
	}
	for code, s := range map[int]socket{4001: anna, 4002: berta} {
		s.awaitClose(code)
	}
	f.awaitLogs(t, 0, 2, "tunnel closed")
	c.awaitTunnels(0) // they are logged before they are forgotten
	c.described(d, 410, "DELETE", "/v1/tunnels/"+id, "", "")
	c.described(d, 410, "POST", "/v1/tunnels/"+second+"/messages", plain, "x")
	if text := c.described(d, 200, "GET", "/v1/upstreams", "", ""); !strings.Contains(text, `"name":"pool","sites":["_"]`) || !strings.Contains(text, `"address":"127.0.0.1:2","state":"off"`) {
		t.Error(text)
	}
	if text := c.described(d, 200, "GET", "/v1/config", "", ""); strings.Contains(text, "the-secret") || !strings.Contains(text, "X-Key: (removed)") {
		t.Error(text)
	}
	f.write(t, "[")
	c.described(d, 422, "POST", "/v1/reload", "", "")
	c.described(d, 200, "GET", "/v1/status", "", "")
}

// TestPublishAnswersAsPushpinDoes over the socket and, with a token, over TCP, to clients that know bearers, and to those that do not.
func TestPublishAnswersAsPushpinDoes(t *testing.T) {
	const token, hash = "a-token-for-pushpins-clients", "sha256:5b6a6c3d8f0c0b4b6a1b1f5d0c0f7d5cbb6e7f1d3c2b1a090807060504030201"
	address := freePort(t)
	yaml := twoSites(t, `, address: "`+address+`", tokens: [{name: grip, sites: [a.example], verbs: [send], hash: "`+hashOf(token)+`"}, {name: other, hash: "`+hash+`"}]`, "")
	f := startFront(t, yaml)
	a := f.openAt(t, "a.example", "/?groups=news")
	b := f.openAt(t, "b.example", "/?groups=news")
	controlOf(t, yaml).awaitTunnels(2)
	bearer := map[string]string{"Authorization": "Bearer " + token, "Accept": "*/*"}
	const item = `{"items":[{"channel":"news","formats":{"ws-message":{"content":"hello"}}}]}`
	for _, target := range []string{"/publish/", "/publish"} {
		if status, text, header := askWeb(t, "POST", address, target, bearer, item); status != 200 || text != "Published\n" || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("%d %q %v", status, text, header)
		}
		a.says(t, "hello")
	}
	r, err := http.NewRequest("POST", "http://"+address+"/publish/", strings.NewReader(item))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("grip", token)
	if resp, err := newClient(nil).Do(r); err != nil || resp.StatusCode != 200 {
		t.Errorf("with Basic: %v, %v", resp, err)
	}
	a.says(t, "hello")
	if status, _, _ := askWeb(t, "POST", address, "/publish/", nil, item); status != 401 {
		t.Errorf("without a token: %d", status)
	}
	if status, text, _ := askWeb(t, "POST", address, "/publish/", bearer, strings.Replace(item, `"content":"hello"`, `"action":"close"`, 1)); status != 403 || !strings.Contains(text, "may not kick") {
		t.Errorf("a close: %d %s", status, text)
	}
	if status, _, header := askWeb(t, "GET", address, "/publish/", bearer, ""); status != 405 || header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", status, header)
	}
	dialLines(t, yaml).says("SEND GROUP news for both", "OK 2")
	b.says(t, "for both")
	f.awaitLog(t, 0, "ordered from outside", "who", "token grip", "order", "publish", "n", 1, "to", "news")
}

// TestCertsAsksTheRunningServer of its file, and no other.
func TestCertsAsksTheRunningServer(t *testing.T) {
	certFile, keyFile := certificate(t)
	yaml := withSocket(t, strings.Replace(settings(`{path: /, respond: 200}`), "tls: self-signed", "tls: {cert: "+certFile+", key: "+keyFile+"}", 1))
	f := startFront(t, yaml)
	f.expectOrder(t, 0, []string{"as the running server says", "by its files"}, "certs")
	f.expectOrder(t, 0, []string{"as the running server says", "by its files"}, "certs", "--socket", socketOf(yaml))
	f.expectOrder(t, 0, []string{"read from", "by its files"}, "certs", "--offline")
	f.write(t, yaml+"mistake: 1\n") // what runs is another matter
	f.expectOrder(t, 0, []string{"as the running server says", "by its files"}, "certs")
	f.write(t, yaml)
	copied := filepath.Join(t.TempDir(), "copy.yaml")
	if err := os.WriteFile(copied, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := wstunnel(t, "certs", copied).CombinedOutput(); err != nil || !strings.Contains(string(out), "read from") {
		t.Errorf("of a file that no server runs: %s, %v", out, err)
	}
	f.stop(t)
	f.expectOrder(t, 0, []string{"read from", "by its files"}, "certs")
	f.expectOrder(t, 1, []string{"no server listens on"}, "certs", "--socket", socketOf(yaml))
}
