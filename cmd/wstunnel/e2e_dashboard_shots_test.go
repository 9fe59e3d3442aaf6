//go:build linux

package main_test

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	main "wstunnel/cmd/wstunnel"
	"wstunnel/internal/history"
	"wstunnel/internal/logs"
)

// TestDashboardIsToBeLookedAt keeps pictures of a dashboard after a busy hour in the directory DEMO_SHOTS, for people to look at.
func TestDashboardIsToBeLookedAt(t *testing.T) {
	if os.Getenv("DEMO_SHOTS") == "" {
		t.Skip("nobody looks: DEMO_SHOTS names no directory")
	}
	token, entry := tokenOf("ops", "list", "send", "kick", "manage")
	address, plain := freePort(t), freePort(t)
	file := filepath.Join(t.TempDir(), "wstunnel.yaml")
	yaml := busySettings(t, address, plain, entry, startTagging(t), startTagging(t))
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	end, err := main.Begin(logs.New(io.Discard, logs.JSON), file, busyHour)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	f := &front{http: plain}
	f.openMany(t, 1240)
	d := openDashboard(t, "http://"+address+"/", "")
	d.scheme("light")
	d.shoot("sign-in")
	d.signIn(token)
	d.await("all are there", `document.getElementById('count').textContent.startsWith('1,2')`)
	stop := f.comeAndGo(t)
	d.await("some come and go", `document.getElementById('events').innerText.includes('closed')`)
	stop()
	script[bool](t, d.browser, `document.querySelectorAll('#columns button')[8].click(); return true`)
	d.await("rates are known", `[...document.querySelectorAll('#rows .c8')].some(c => c.textContent !== '0 B')`)
	show := func(name string) {
		for _, scheme := range []string{"light", "dark"} {
			d.scheme(scheme)
			d.shoot(name + "-" + scheme)
		}
	}
	scroll := func(id string) {
		script[bool](t, d.browser, `document.getElementById('`+id+`').scrollIntoView({block: 'start'}); scrollBy(0, -80); return true`)
	}
	show("overview")
	script[bool](t, d.browser, `document.querySelectorAll('#kinds button')[2].click(); document.getElementById('chart').focus();
		document.getElementById('chart').dispatchEvent(new KeyboardEvent('keydown', {key: 'PageUp', bubbles: true})); return true`)
	show("traffic")
	scroll("tunnels")
	show("tunnels")
	script[bool](t, d.browser, `document.querySelectorAll('#rows .row')[2].click(); return true`)
	d.await("the panel has rates", `document.querySelector('#panel-spark path')?.getAttribute('d').length > 40`)
	show("panel")
	script[bool](t, d.browser, `document.getElementById('kick').click(); return true`)
	show("kick")
	d.press("\x1b")
	d.size(390, 844)
	show("phone-panel")
	d.press("\x1b")
	script[bool](t, d.browser, `scrollTo(0, 0); return true`)
	show("phone")
	scroll("tunnels")
	show("phone-tunnels")
	d.size(820, 1180)
	script[bool](t, d.browser, `scrollTo(0, 0); return true`)
	show("tablet")
}

// busySettings are three sites, whose backends are up but for one.
func busySettings(t *testing.T, address, plain, token string, servers ...string) string {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	defer l.Close()
	down := strings.Replace(l.Addr().String(), "127.0.0.1", "127.0.0.3", 1)
	return `admin: {socket: off, address: "` + address + `", tokens: [` + token + `]}
listen: [{address: "` + plain + `"}, {address: "127.0.0.1:0", tls: true}]
limits: {max_connections_per_client: 20000}
tls: {storage: certs}
upstreams:
  chat:
    servers: ["` + servers[0] + `", "` + servers[1] + `", "` + down + `"]
    health: {interval: 1s}
sites:
  - {hosts: [chat.example.com], tls: ` + agedCertificate(t, "chat.example.com", "83") + `, locations: [{path: /, websocket: "ws://chat"}]}
  - {hosts: [shop.example.org], tls: ` + agedCertificate(t, "shop.example.org", "12") + `, locations: [{path: /, websocket: "ws://` + servers[0] + `"}]}
  - {hosts: [live.scores.example.net], tls: ` + agedCertificate(t, "live.scores.example.net", "4") + `, locations: [{path: /, websocket: "ws://chat"}]}
`
}

// agedCertificate is a certificate that ends in so many days.
func agedCertificate(t *testing.T, host, days string) string {
	t.Helper()
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	must(t, exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert,
		"-days", days, "-subj", "/CN="+host, "-addext", "subjectAltName=DNS:"+host))
	return "{cert: \"" + cert + "\", key: \"" + key + "\"}"
}

// busyHour is one of which there is something to see.
func busyHour(h *history.Hour) {
	random := rand.New(rand.NewPCG(1, 2))
	counts := map[string]history.Counts{}
	for n := range history.Points + 1 {
		for i, host := range manyHosts {
			c := counts[host]
			wave := 1 + 0.35*math.Sin(float64(n)/57+float64(i)) + 0.1*random.Float64()
			if 190 < n && n < 204 {
				wave *= 0.55 + float64(n-190)*0.03
			}
			now := int(float64(400-i*90) * wave)
			opened := uint64(max(0, now-c.Tunnels) + random.IntN(12))
			closed := map[string]uint64{}
			for reason, n := range c.Closed {
				closed[reason] = n
			}
			left := uint64(max(0, int(opened)-(now-c.Tunnels)))
			closed["close frame"] += left * 7 / 10
			closed["end of stream"] += left * 2 / 10
			closed["connection lost"] += left / 9
			if n%40 == 0 {
				closed["ping timeout"]++
				closed["closed by order"] += uint64(n % 3)
			}
			c.Tunnels, c.Opened, c.Closed = now, c.Opened+opened, closed
			c.Requests += opened + uint64(random.IntN(220))
			c.Failed += uint64(random.IntN(30) / 28)
			c.ToBackend.Messages += uint64(float64(now) * wave * 1.2)
			c.ToBackend.Bytes += uint64(float64(now) * wave * 180)
			c.ToClient.Messages += uint64(float64(now) * wave * 3.1)
			c.ToClient.Bytes += uint64(float64(now) * wave * wave * 900)
			counts[host] = c
		}
		h.Note(time.Now().Add(time.Duration(n-history.Points)*history.Step), counts)
	}
}
