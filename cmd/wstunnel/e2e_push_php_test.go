//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fromReadme returns the configuration and the lines of PHP that the README has under a heading.
func fromReadme(t *testing.T, heading string) (yaml, php string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the README has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	block := func(kind string) string {
		_, after, _ := strings.Cut(section, "```"+kind+"\n")
		lines, _, found := strings.Cut(after, "```\n")
		if !found {
			t.Fatalf("no %s under %q", kind, heading)
		}
		return lines
	}
	return block("yaml"), block("php")
}

// replaced puts others in place of texts, each of which has to be there.
func replaced(t *testing.T, s string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("%q is not in %q", pairs[i], s)
		}
		s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
	}
	return s
}

// Pages of a site that has a look at its sockets, with the control socket in place of CONTROL.
const (
	whoIsThere = `<?php
$w = stream_socket_client('unix://CONTROL');
fwrite($w, "LIST WEBSOCKETS\n");
$there = [];
while (($line = fgets($w)) !== "\n") $there[] = json_decode($line, flags: JSON_THROW_ON_ERROR);
echo json_encode($there);
`
	kickOut = `<?php
$w = stream_socket_client('unix://CONTROL');
fwrite($w, "KICK $_GET[id] 4001 enough said\n");
echo fgets($w);
`
)

// TestReadmeSaysSomethingToABrowser: the configuration and the five lines of the README, run by PHP-FPM as the user that they name; then a page lists who is
// there, and another one kicks one.
func TestReadmeSaysSomethingToABrowser(t *testing.T) {
	site, lines := fromReadme(t, "Saying something to a browser from PHP")
	fpm := startFPM(t, 1)
	admin := withSocket(t, "")
	socket := socketOf(admin)
	if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(testdata(t, "www/page.php"))
	if err != nil {
		t.Fatal(err)
	}
	root := newDocroot(t, map[string]string{
		"page.php": string(page), "say.php": "<?php\n" + replaced(t, lines, "/run/wstunnel/control.sock", socket),
		"who.php": replaced(t, whoIsThere, "CONTROL", socket), "kick.php": replaced(t, kickOut, "CONTROL", socket),
	})
	f := startFront(t, admin+`listen:
  - address: 127.0.0.1:0
  - address: localhost:0
    tls: true
tls: {storage: certs}
`+replaced(t, site, "example.com]", "_]\n    tls: self-signed", "/var/www/html", string(root), "unix:/run/php/php8.2-fpm.sock", "unix:"+fpm,
		"ws://127.0.0.1:9000", "ws://"+startSocketPHP(t, "").address))
	b := startBrowser(t, caFile(f))
	b.open(t, "https://"+f.https+"/page.php")
	got := script[[]string](t, b, `
		[window.anna, window.second, window.berta] = [await connect('/ws?user=anna&groups=lobby'), await connect('/ws?user=anna'), await connect('/ws?user=berta&groups=lobby')];
		for (const socket of [anna, second, berta]) await socket.ask('hello');
		const answer = await (await fetch('/say.php')).text();
		return [answer, await anna.next(), await anna.next(), await second.next(), await berta.next()]`)
	if want := []string{"OK 2\nOK 2\n", `{"mail":3}`, `"The bus leaves"`, `{"mail":3}`, `"The bus leaves"`}; !slices.Equal(got, want) {
		t.Errorf("PHP printed and the browser heard %q, want %q", got, want)
	}
	var there []struct {
		ID, User, Path string
		Groups         []string
	}
	if err := json.Unmarshal([]byte(f.get(t, "/who.php")), &there); err != nil || len(there) != 3 {
		t.Fatalf("%v: %+v", err, there)
	}
	if last := there[2]; last.User != "berta" || fmt.Sprint(last.Groups) != "[lobby]" || last.Path != "/ws" {
		t.Errorf("the last who came is %+v", last)
	}
	if got := f.get(t, "/kick.php?id="+there[2].ID); got != "OK 1\n" {
		t.Errorf("the page that kicks says %q", got)
	}
	if got, want := script[closing](t, b, `return berta.closed`), (closing{4001, "enough said", true}); got != want {
		t.Errorf("who is kicked sees %+v, want %+v", got, want)
	}
	if left := script[string](t, b, `return anna.ask('hello')`); left != "hello" {
		t.Errorf("who was not kicked reads %q", left)
	}
}

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
