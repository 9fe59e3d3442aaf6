//go:build linux

package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/gorilla/websocket"
)

// tokenOf is a token of the tests, and how the configuration has it.
func tokenOf(name string, verbs ...string) (token, entry string) {
	token = name + "-token"
	sum := sha256.Sum256([]byte(token))
	return token, "{name: " + name + ", hash: \"sha256:" + hex.EncodeToString(sum[:]) + "\", verbs: [" + strings.Join(verbs, ", ") + "]}"
}

// withDashboard is a configuration with a control socket, and with a dashboard for some tokens.
func withDashboard(t *testing.T, address string, tokens []string, yaml string) string {
	t.Helper()
	return strings.Replace(withSocket(t, yaml), "}\n", ", address: \""+address+"\", tokens: ["+strings.Join(tokens, ", ")+"]}\n", 1)
}

// dashboardOf returns where the dashboard is.
func (f *front) dashboardOf(t *testing.T) string {
	t.Helper()
	return "http://" + f.awaitLog(t, 0, "control is served")["address"].(string) + "/"
}

// collecting has a page keep what goes wrong in it.
const collecting = `window.wrong = [];
addEventListener('error', e => wrong.push('error: ' + (e.message || e.target.src || e.target.href)), true);
addEventListener('unhandledrejection', e => wrong.push('rejection: ' + e.reason));
document.addEventListener('securitypolicyviolation', e => wrong.push('policy: ' + e.violatedDirective + ' ' + e.blockedURI));
console.error = console.warn = (...said) => wrong.push('console: ' + said.join(' '));`

// dashboard is a dashboard in a browser.
type dashboard struct {
	browser
	t *testing.T
}

// openDashboard opens one in a new browser, with a token unless that is empty.
func openDashboard(t *testing.T, address, token string) dashboard {
	t.Helper()
	d := dashboard{startBrowserWith(t, chromedp.Env("TMPDIR="+t.TempDir()), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")), t}
	d.size(1440, 1000)
	d.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: collecting})
		return chromedp.Void{}, err
	})
	d.open(t, address)
	if token != "" {
		d.signIn(token)
		d.await("the page is live", `!document.getElementById('board').hidden && document.getElementById('live').textContent === 'live'`)
	}
	t.Cleanup(func() {
		if wrong := script[[]string](t, d.browser, `return wrong`); len(wrong) > 0 {
			t.Errorf("in the page: %q", wrong)
		}
	})
	return d
}

func (d dashboard) do(a chromedp.Action[chromedp.Void]) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.browser, patience)
	defer cancel()
	if err := chromedp.Do(ctx, a); err != nil {
		d.t.Fatal(err)
	}
}

func (d dashboard) size(width, height int64) {
	d.t.Helper()
	d.do(chromedp.EmulateViewport(width, height))
}

// scheme makes the system light or dark.
func (d dashboard) scheme(name string) {
	d.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return chromedp.Void{}, err
	})
}

// press presses keys, one after the other.
func (d dashboard) press(keys string) { d.t.Helper(); d.do(chromedp.KeyEvent(keys)) }

// pressShortcut presses a key that the page takes for itself, so that no character comes of it.
func (d dashboard) pressShortcut(key string) {
	d.t.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		d.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			_, err := cdp.Call(ctx, target, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key})
			return chromedp.Void{}, err
		})
	}
}

// await waits until an expression of the page's is true.
func (d dashboard) await(what, expression string) {
	d.t.Helper()
	if said := script[string](d.t, d.browser, `
		const end = performance.now() + `+fmt.Sprint(patience.Milliseconds()/2)+`;
		while (!(`+expression+`)) {
			if (performance.now() > end) return document.body.innerText.slice(0, 2000);
			await new Promise(done => setTimeout(done, 15));
		}
		return ''`); said != "" {
		d.t.Fatalf("not so: %s. The page says\n%s", what, said)
	}
}

func (d dashboard) text(id string) string {
	d.t.Helper()
	return script[string](d.t, d.browser, `return document.getElementById('`+id+`').innerText`)
}

func (d dashboard) signIn(token string) {
	d.t.Helper()
	d.await("a token is asked for", `!document.getElementById('login').hidden && document.activeElement.id === 'token'`)
	d.press(token + kb.Enter)
}

// shoot keeps a picture of what is seen, where somebody wants to look at it.
func (d dashboard) shoot(name string) {
	dir := os.Getenv("DEMO_SHOTS")
	if dir == "" {
		return
	}
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.browser, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func TestDashboardShowsWhatHappens(t *testing.T) {
	token, entry := tokenOf("ops", "list", "send", "kick", "manage")
	const hostile = `<img src=x onerror=alert(1)>`
	f := startFront(t, withDashboard(t, "127.0.0.1:0", []string{entry}, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`)))
	anna := f.dialSocket(t, "ws", "/ws?user=anna&groups=lobby,staff")
	d := openDashboard(t, f.dashboardOf(t), token)
	d.await("anna is there", `document.querySelector('#rows .row')?.innerText.includes('anna')`)
	f.dialSocket(t, "wss", "/ws/%3Cb%3Epath%3Cb%3E?user="+url.QueryEscape(strings.ReplaceAll(hostile, " ", "/"))+"&groups=%3Cb%3Ebold%3C/b%3E&"+url.QueryEscape(hostile))
	d.await("another one comes", `document.querySelectorAll('#rows .row:not([hidden])').length === 2`)
	d.await("it is counted", `document.getElementById('now-tunnels').textContent === '2'`)
	if found := script[int](t, d.browser, `return document.querySelectorAll('#rows img, #rows b, #events img').length`); found > 0 {
		t.Errorf("what a client says has become %d elements", found)
	}
	if said := d.text("rows"); !strings.Contains(said, "<img/src=x/onerror=alert(1)>") || !strings.Contains(said, "<b>bold</b>") {
		t.Errorf("the rows say %q", said)
	}
	d.pressShortcut("/")
	d.press("anna")
	d.await("the filter is in force", `document.querySelectorAll('#rows .row:not([hidden])').length === 1`)
	d.press(kb.Tab) // over the columns' heads
	d.await("a head has the keyboard", `document.activeElement.closest('#columns')`)
	for range 20 {
		if script[bool](t, d.browser, `return Boolean(document.activeElement.closest('#rows'))`) {
			break
		}
		d.press(kb.Tab)
	}
	d.press(kb.Enter)
	d.await("the panel is open", `!document.getElementById('panel').hidden && document.getElementById('facts').innerText.includes('lobby')`)
	if got := script[string](t, d.browser, `return decodeURIComponent(location.hash)`); !strings.HasPrefix(got, "#tunnel/") {
		t.Errorf("the fragment is %q", got)
	}
	checkPanel(t, d, anna)
	d.press("\x1b")
	d.await("Escape closes the panel", `document.getElementById('panel').hidden && location.hash === ''`)
	f.expectOrder(t, 0, []string{"reloaded"}, "reload")
	d.await("the reload is told", `document.getElementById('events').innerText.includes('the configuration was reloaded')`)
	checkPhone(t, d)
}

// checkPanel says something to anna from her panel, and kicks her, by the keyboard alone.
func checkPanel(t *testing.T, d dashboard, anna socket) {
	t.Helper()
	reach := func(id string) {
		t.Helper()
		for range 30 {
			if script[string](t, d.browser, `return document.activeElement.id`) == id {
				return
			}
			d.press(kb.Tab)
		}
		t.Fatalf("the keyboard does not lead to %s", id)
	}
	reach("text")
	d.press("hello from the page")
	reach("send")
	d.press(kb.Enter)
	anna.says(t, "hello from the page")
	d.await("that it is sent is said", `document.getElementById('said').textContent.startsWith('Sent')`)
	d.await("and stands in its life", `document.getElementById('life').innerText.includes('you said: hello from the page')`)
	reach("kick")
	d.press(kb.Enter)
	d.await("it is to be confirmed", `document.getElementById('confirm').open`)
	d.press("\x1b")
	d.await("Escape takes that back, and the panel stays", `!document.getElementById('confirm').open && !document.getElementById('panel').hidden`)
	reach("kick")
	d.press(kb.Enter)
	d.await("it is to be confirmed", `document.getElementById('confirm').open && document.activeElement.id === 'confirm-yes'`)
	script[bool](t, d.browser, `document.getElementById('code').value = '4001'; return true`)
	d.press(kb.Enter)
	anna.awaitClose(4001)
	d.await("its end is told", `document.getElementById('panel-ended').innerText.includes('closed by order by the proxy, 4001')`)
	d.await("nothing more can be said", `document.getElementById('send').disabled && document.getElementById('kick').disabled`)
}

// checkPhone requires that nothing is wider than a phone.
func checkPhone(t *testing.T, d dashboard) {
	t.Helper()
	d.size(390, 844)
	d.await("nothing is to be scrolled sideways", `innerWidth === 390 && document.documentElement.scrollWidth <= 390`)
	script[bool](t, d.browser, `document.getElementById('filter').value = ''; document.getElementById('filter').dispatchEvent(new Event('input')); return true`)
	d.await("a row is there", `document.querySelector('#rows .row:not([hidden])')`)
	script[bool](t, d.browser, `document.querySelector('#rows .row:not([hidden])').click(); return true`)
	d.await("the panel is as wide as the phone", `document.getElementById('panel').getBoundingClientRect().width === 390 && document.getElementById('panel').scrollWidth <= 390`)
}

func TestDashboardSaysWhatIsWrong(t *testing.T) {
	full, entry := tokenOf("ops", "list", "send", "kick")
	reader, second := tokenOf("reader", "list")
	blind, third := tokenOf("blind", "send")
	address := freePort(t)
	yaml := withDashboard(t, address, []string{entry, second, third}, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	f.dialSocket(t, "ws", "/ws?user=anna")
	d := openDashboard(t, f.dashboardOf(t), "")
	d.signIn("tökén")
	d.await("what cannot be a token is told", `document.getElementById('login-error').textContent.includes('does not know this token')`)
	d.signIn("no such token")
	d.await("a wrong token is told", `document.getElementById('login-error').textContent.includes('does not know this token')`)
	d.signIn(blind)
	d.await("a token without list is told", `document.getElementById('login-error').textContent.includes('may not')`)
	d.signIn(reader)
	d.await("the page is live", `!document.getElementById('board').hidden && document.getElementById('live').textContent === 'live'`)
	d.await("anna is there", `document.querySelector('#rows .row')?.innerText.includes('anna')`)
	script[bool](t, d.browser, `document.querySelector('#rows .row').click(); return true`)
	d.await("what the token may not is told", `document.getElementById('said').textContent.includes('has not the verb send') && document.getElementById('kick').disabled`)
	f.write(t, strings.Replace(yaml, ", "+second, "", 1))
	f.expectOrder(t, 0, []string{"reloaded"}, "reload")
	d.await("a token that is taken back is told", `document.getElementById('login-error').textContent.includes('does not know this token')`)
	d.signIn(full)
	d.await("the page is live", `!document.getElementById('board').hidden && document.getElementById('live').textContent === 'live'`)
	if kept := script[string](t, d.browser, `return JSON.stringify([Object.keys(sessionStorage), localStorage.length, document.cookie])`); kept != `[["wstunnel.token"],0,""]` {
		t.Errorf("the page keeps %s", kept)
	}
	f.signal(t, syscall.SIGTERM)
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	d.await("that the server is away is told", `document.getElementById('live').textContent.startsWith('server is away') && !document.getElementById('notice').hidden`)
	startFront(t, yaml)
	d.await("it is there again", `document.getElementById('live').textContent === 'live' && document.getElementById('notice').hidden`)
	d.await("no tunnel is left", `document.getElementById('none').textContent === 'No tunnel is open.'`)
}

// TestDashboardIsOnlyThreeFiles: they are public, and nothing else is.
func TestDashboardIsOnlyThreeFiles(t *testing.T) {
	_, entry := tokenOf("ops", "list")
	f := startFront(t, withDashboard(t, "127.0.0.1:0", []string{entry}, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`)))
	address := f.dashboardOf(t)
	for path, want := range map[string]int{
		"": 200, "dashboard.css": 200, "dashboard.js": 200, "dashboard.html": 404, "index.html": 404, "v1/overview": 401, "v1/events": 401, "v1/tunnels": 401,
	} {
		resp, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("/%s: %d, want %d", path, resp.StatusCode, want)
		}
		if policy := resp.Header.Get("Content-Security-Policy"); want == 200 && (!strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe")) {
			t.Errorf("/%s has the policy %q", path, policy)
		}
	}
}

// TestDashboardStaysQuickWithManyTunnels while some come and go all the time.
func TestDashboardStaysQuickWithManyTunnels(t *testing.T) {
	many := 5000
	if testing.Short() {
		many = 1000
	}
	token, entry := tokenOf("ops", "list", "send", "kick")
	f := startFront(t, withDashboard(t, "127.0.0.1:0", []string{entry}, manySettings(startTagging(t))))
	f.openMany(t, many)
	d := openDashboard(t, f.dashboardOf(t), token)
	d.await("all are there", fmt.Sprintf(`document.getElementById('count').textContent === '%s'`, thousands(many)))
	stop := f.comeAndGo(t)
	defer stop()
	d.await("some come and go", `document.getElementById('events').innerText.includes('closed')`)
	for round := 1; ; round++ { // others may have the machine
		slow := slowness()
		took := d.inputs()
		slow = max(slow, slowness())
		median := took[len(took)/2]
		t.Logf("with %d tunnels an input is drawn after %.0f ms at the median, %.0f ms at most; the machine is %.1f times as slow", many, median, took[len(took)-1], slow)
		if median <= 100*slow {
			break
		}
		if round == 4 {
			t.Fatalf("half of the inputs take more than %.0f ms until they are drawn", median)
		}
	}
	if n := script[int](t, d.browser, `return document.querySelectorAll('#rows .row').length`); n > 100 {
		t.Errorf("%d rows exist", n)
	}
	d.shoot("many-tunnels")
	script[bool](t, d.browser, `document.getElementById('tunnels').scrollIntoView(); scrollBy(0, -90); return true`)
	d.shoot("many-tunnels-table-light")
	d.scheme("dark")
	d.shoot("many-tunnels-table-dark")
}

// inputs returns how long it takes until inputs are drawn, in milliseconds, the shortest time first.
func (d dashboard) inputs() []float64 {
	d.t.Helper()
	took := script[[]float64](d.t, d.browser, `
		const took = [], frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
		const filter = document.getElementById('filter'), scroll = document.getElementById('scroll');
		for (let i = 0; i < 40; i++) {
			await new Promise(done => setTimeout(done, 60));
			const began = performance.now();
			if (i % 2) { filter.value = 'user:user-' + i % 10; filter.dispatchEvent(new Event('input')); }
			else { filter.value = ''; filter.dispatchEvent(new Event('input')); scroll.scrollTop = i * 1000; }
			await frame();
			took.push(performance.now() - began);
		}
		filter.value = ''; filter.dispatchEvent(new Event('input'));
		return took`)
	slices.Sort(took)
	return took
}

// manySettings are three sites with a backend.
func manySettings(backend string) string {
	yaml := "listen: [{address: \"127.0.0.1:0\"}]\nlimits: {max_connections_per_client: 20000}\nshutdown_timeout: 2s\nsites:\n"
	for _, host := range manyHosts {
		yaml += "  - {hosts: [" + host + "], locations: [{path: /, websocket: \"ws://" + backend + "\"}]}\n"
	}
	return yaml
}

var manyHosts = []string{"chat.example.com", "shop.example.org", "live.scores.example.net"}

// openMany opens tunnels of users with groups.
func (f *front) openMany(t *testing.T, many int) {
	t.Helper()
	names := []string{"anna", "berta", "cem", "dora", "emil", "fatma", "gregor", "hanna", "user-1", "user-3", "user-5", "user-7", "user-9"}
	rooms := []string{"lobby", "room-7", "support", "news", "staff"}
	work := make(chan int)
	failed := make(chan error, 16)
	for range 16 {
		go func() {
			for i := range work {
				target := fmt.Sprintf("/ws/%s?user=%s&groups=%s", rooms[i%len(rooms)], names[i%len(names)], rooms[i*7%len(rooms)])
				conn, _, err := websocket.DefaultDialer.Dial("ws://"+f.http+target, http.Header{"Host": {manyHosts[min(i%5, 2)]}})
				if err != nil {
					failed <- err
					return
				}
				t.Cleanup(func() { conn.Close() })
				if i%49 == 0 {
					go chatter(conn, time.Duration(50+i%17*40)*time.Millisecond)
				}
			}
			failed <- nil
		}()
	}
	for i := range many {
		select {
		case work <- i:
		case err := <-failed:
			t.Fatal(err)
		}
	}
	close(work)
	for range 16 {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
}

// chatter says something again and again.
func chatter(conn *websocket.Conn, every time.Duration) {
	for tick := time.NewTicker(every); conn.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("hello ", 20))) == nil; <-tick.C {
	}
}

// comeAndGo opens and closes tunnels, a hundred a second or so, until it is stopped.
func (f *front) comeAndGo(t *testing.T) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			conn, _, err := websocket.DefaultDialer.Dial("ws://"+f.http+"/ws/lobby?user=guest-"+fmt.Sprint(i%100), http.Header{"Host": {manyHosts[0]}})
			if err == nil {
				conn.Close()
			}
		}
	}()
	return func() { close(end); <-ended }
}

// thousands is a number as the page writes it.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// TestWatchersFollowAnUpgrade: they are told of it, let go, and find the new process, with the tunnels that it has taken over.
func TestWatchersFollowAnUpgrade(t *testing.T) {
	token, entry := tokenOf("ops", "list")
	u := startUpgradable(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	was, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	yaml, address := string(was), freePort(t)
	u.write(t, strings.Replace(yaml, "}\n", ", address: \""+address+"\", tokens: ["+entry+"]}\n", 1))
	u.expectOrder(t, 0, []string{"reloaded"}, "reload")
	u.dialSocket(t, "ws", "/ws?user=anna")
	controlOf(t, yaml).awaitTunnels(1)
	l := dialLines(t, yaml)
	l.says("WATCH", "OK 1")
	d := openDashboard(t, "http://"+address+"/", token)
	d.await("anna is there", `document.querySelector('#rows .row')?.innerText.includes('anna')`)
	u.upgrade(t)
	l.is("moved")
	l.is("upgrade")
	if rest, err := l.rest(); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
	d.await("the page is told", `document.getElementById('events').innerText.includes('another process has taken over')`)
	d.await("and is live again", `document.getElementById('live').textContent === 'live' && document.getElementById('config').innerText.includes('`+fmt.Sprint(u.pids[len(u.pids)-1])+`')`)
	d.await("with anna", `document.querySelector('#rows .row:not([hidden])')?.innerText.includes('anna')`)
	u.stopLast(t)
}
