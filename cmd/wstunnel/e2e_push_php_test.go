//go:build linux

package main_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestGroupReachesTheUsersOfThreeServers: what one says to a server written in PHP reaches those who are connected to the other two as well.
func TestGroupReachesTheUsersOfThreeServers(t *testing.T) {
	site := withSocket(t, settings(`{path: /ws, websocket: "ws://chat"}`, `{path: /, http: "http://`+startPages(t).address+`"}`))
	var servers []string
	for range 3 {
		p := start(t, exec.Command(installed(t, "php", "php-cli"), testdata(t, "ws.php"), "tcp://127.0.0.1:0", "unix://"+socketOf(site)))
		servers = append(servers, p.awaitLine(t, 0, listeningLine))
	}
	f := startFront(t, strings.Replace(site, "sites:", "upstreams: {chat: {servers: ["+strings.Join(servers, ", ")+"]}}\nsites:", 1))
	b := startBrowser(t, caFile(f))
	b.open(t, "https://"+f.https+"/page.php")
	type heard struct{ Answer, Anna, Berta, Carla, Second string }
	got := script[heard](t, b, `
		const [anna, berta, carla] = await Promise.all(['anna', 'berta', 'carla'].map(user => connect('/ws?groups=lobby&user=' + user)));
		const dora = await connect('/ws?user=dora');
		for (const socket of [anna, berta, carla]) await socket.ask('hello');
		anna.send('/say lobby the bus leaves');
		const first = [await anna.next(), await anna.next()].sort();
		const heard = {answer: first[1], anna: first[0], berta: await berta.next(), carla: await carla.next()};
		carla.send('/say lobby at\nten');
		heard.second = await berta.next();
		if (await dora.ask('hello') !== 'hello') heard.second = 'dora heard what was not for her';
		return heard`)
	const bus = `"anna: the bus leaves"`
	if want := (heard{"OK 3", bus, bus, bus, `"carla: at\nten"`}); got != want {
		t.Errorf("heard was %q, want %q", got, want)
	}
	var backends []string
	for _, tunnel := range controlOf(t, site).awaitTunnels(4).Tunnels[:3] {
		backends = append(backends, tunnel.Backend)
	}
	slices.Sort(backends)
	slices.Sort(servers)
	if fmt.Sprint(backends) != fmt.Sprint(servers) {
		t.Errorf("the three are connected to %v, want one of %v each", backends, servers)
	}
}
