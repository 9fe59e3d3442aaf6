package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// action is a step in the browser that yields nothing.
type action = chromedp.Action[chromedp.Void]

// startBrowser opens a fresh headless Chromium; one must be installed.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("no Chromium on this machine: install the package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 800))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatal(err)
	}
	return ctx
}

// complaints collects what the browser's console says from now on: errors, CSP violations, 404s.
func complaints(t *testing.T, ctx context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	err := chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *log.EventEntryAdded:
			all = append(all, e.Entry.Text+" "+e.Entry.URL)
		case *runtime.EventExceptionThrown:
			all = append(all, e.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// run does browser actions and fails the test where one does not succeed in time.
func run(t *testing.T, ctx context.Context, what string, actions ...action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// until waits for a JavaScript condition.
func until(condition string) action {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		for {
			ok, err := chromedp.Evaluate[bool]("Boolean("+condition+")")(ctx, target)
			if ok || err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("waiting for %s: %w", condition, ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
}

// screen sets the size of the viewport; scale is pixels per CSS pixel.
func screen(width, height int64, scale float64, mobile bool) action {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: height, DeviceScaleFactor: scale, Mobile: mobile,
		})
		return err
	})
}

// theme makes the browser prefer light or dark.
func theme(value string) action {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
		})
		return err
	})
}

// script runs JavaScript for its effect.
func script(text string) action {
	return chromedp.Evaluate[chromedp.Void](text)
}

func TestPageChatsReconnectsAndLosesNothing(t *testing.T) {
	ctx := startBrowser(t)
	d := startDemo(t)
	chat, _ := startChat(t, defaultLimits())
	address, mu := chat.address, sync.Mutex{}
	front, _ := startFront(t, func() string { return d.SiteAddress }, func() string {
		mu.Lock()
		defer mu.Unlock()
		return address
	})
	socket := "ws" + strings.TrimPrefix(front.URL, "http") + "/ws"
	bob, _ := enter(t, socket, "Bob", "")
	said := complaints(t, ctx)

	run(t, ctx, "connects", chromedp.Navigate(front.URL), until(`document.body.dataset.state === 'open'`),
		until(`document.getElementById('rtt').textContent !== '–'`),
		until(`document.getElementById('people').textContent.includes('Bob')`))
	run(t, ctx, "first Tab reaches the skip link, Enter the message box", chromedp.KeyEvent(kb.Tab), until(`document.activeElement.className === 'skip'`),
		chromedp.KeyEvent(kb.Enter), until(`document.activeElement.id === 'text'`))
	run(t, ctx, "Enter sends, Shift+Enter breaks the line", chromedp.KeyEvent("<img src=x onerror=alert(1)>"),
		chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(8)), chromedp.KeyEvent("two"), chromedp.KeyEvent(kb.Enter),
		until(`document.querySelector('.own .text')?.textContent === '<img src=x onerror=alert(1)>\ntwo'`),
		until(`document.getElementById('text').value === ''`))
	bob.say(request{Type: "chat", Text: "hello page"})
	run(t, ctx, "shows others' messages", until(`[...document.querySelectorAll('.line:not(.own) .text')].some(e => e.textContent === 'hello page')`))
	if all := said(); len(all) != 0 {
		t.Errorf("the browser complains: %q", all)
	}

	mu.Lock()
	address = d.ChatAddress // a fresh backend
	mu.Unlock()
	run(t, ctx, "types a draft", chromedp.KeyEvent("kept"))
	chat.mu.Lock()
	for cl := range chat.clients {
		cl.kick(1012, "restart")
	}
	chat.mu.Unlock()
	run(t, ctx, "shows the loss", until(`document.getElementById('fact-close').textContent.startsWith('1012')`))
	run(t, ctx, "comes back, keeps log and draft", until(`document.body.dataset.state === 'open' && document.getElementById('fact-reconnects').textContent === '1'`),
		until(`document.getElementById('text').value === 'kept'`), until(`document.querySelectorAll('.line .text').length === 2`),
		until(`document.getElementById('banner').hidden`),
		chromedp.KeyEvent(kb.Enter), until(`[...document.querySelectorAll('.own .text')].pop().textContent === 'kept'`))
}

func TestPageFitsAPhoneAndShowsThePadlock(t *testing.T) {
	ctx := startBrowser(t)
	_, _, front := startBehindFront(t)
	run(t, ctx, "connects", screen(360, 740, 1, true), chromedp.Navigate(front.URL),
		until(`document.body.dataset.state === 'open'`), until(`document.getElementById('scheme').innerText.startsWith('wss://')`),
		until(`document.getElementById('explain').textContent.startsWith('This page came over https from wstunnel; the socket is wss://127.0.0.1:')`))
	run(t, ctx, "sends a long word", chromedp.SendKeys(chromedp.CSS("#text"), strings.Repeat("W", 300)+kb.Enter), until(`document.querySelector('.own .text')`))
	const sideways = `document.documentElement.scrollWidth > innerWidth || document.getElementById('log').scrollWidth > innerWidth || document.getElementById('panel').scrollWidth > innerWidth`
	for _, open := range []bool{false, true} {
		if open {
			run(t, ctx, "opens the details", chromedp.Click(chromedp.CSS("#panel-toggle")), chromedp.WaitVisible(chromedp.CSS("#people")))
		}
		if wide, err := chromedp.Run(ctx, chromedp.Evaluate[bool](sideways)); wide || err != nil {
			t.Errorf("the page scrolls sideways (details open: %v): %v", open, err)
		}
	}
	run(t, ctx, "Escape closes the details", chromedp.KeyEvent(kb.Escape), until(`document.activeElement.id === 'panel-toggle'`), chromedp.WaitVisible(chromedp.CSS("#text")))
}

// TestPageScreenshots writes pictures of the page into the directory named by DEMO_SHOTS, for people to look at.
func TestPageScreenshots(t *testing.T) {
	dir := os.Getenv("DEMO_SHOTS")
	if dir == "" {
		t.Skip("DEMO_SHOTS is not set")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx := startBrowser(t)
	d, front, secure := startBehindFront(t)
	socket := "ws" + strings.TrimPrefix(front.URL, "http") + "/ws"
	run(t, ctx, "connects", chromedp.Navigate(front.URL), until(`document.body.dataset.state === 'open'`), shot(dir, "empty"))
	talk(t, ctx, socket)
	for _, name := range []string{"light", "dark"} {
		run(t, ctx, name, theme(name), screen(1280, 800, 1, false), chromedp.Sleep(time.Second), shot(dir, "wide-"+name),
			screen(360, 740, 2, true), chromedp.Sleep(500*time.Millisecond), shot(dir, "phone-"+name),
			chromedp.Click(chromedp.CSS("#panel-toggle")), shot(dir, "phone-panel-"+name),
			script(`document.getElementById('panel').scrollTop = 1e6`), shot(dir, "phone-panel-end-"+name), chromedp.Click(chromedp.CSS("#panel-toggle")))
	}
	run(t, ctx, "scrolls up", screen(900, 600, 1, false), script(`document.getElementById('log').scrollTop = 0`),
		chromedp.Sleep(300*time.Millisecond), shot(dir, "scrolled-up"))
	run(t, ctx, "secure", screen(1280, 800, 1, false), chromedp.Navigate(secure.URL), until(`document.body.dataset.state === 'open'`), chromedp.Sleep(time.Second), shot(dir, "wide-secure"))
	run(t, ctx, "focus", chromedp.Focus(chromedp.CSS("#text")), chromedp.SendKeys(chromedp.CSS("#text"), "A draft that stays"))
	d.chat.close()
	run(t, ctx, "lost", until(`document.body.dataset.state === 'waiting'`), screen(360, 740, 2, true),
		chromedp.Sleep(2500*time.Millisecond), shot(dir, "phone-lost"), screen(1280, 800, 1, false), chromedp.Sleep(300*time.Millisecond), shot(dir, "wide-lost"))
}

// talk has several people say things, the page among them.
func talk(t *testing.T, ctx context.Context, socket string) {
	t.Helper()
	ann, _ := enter(t, socket, "Ada Lovelace", "1")
	bob, _ := enter(t, socket, "Grace", "2")
	cem, _ := enter(t, socket, "Çem Öztürk", "3")
	speak := func(p peer, text string) {
		p.say(request{Type: "chat", Text: text})
		time.Sleep(60 * time.Millisecond)
	}
	own := func(text string) {
		run(t, ctx, "says", chromedp.SendKeys(chromedp.CSS("#text"), text+kb.Enter), chromedp.Sleep(100*time.Millisecond))
	}
	speak(ann, "Is the padlock there for you too? Mine says wss.")
	speak(bob, "It is. The old front end answered 502 on /ws and nobody knew why.")
	speak(bob, "Fifteen lines of YAML later …")
	own("Same port, same name, one certificate. I like it.")
	speak(cem, "Let me try a very long word: https://chat.example.com/rooms/"+strings.Repeat("pneumonoultramicroscopic", 6))
	cem.say(request{Type: "nick", Nick: "Cem"})
	time.Sleep(60 * time.Millisecond)
	own("And I reloaded the configuration while you were typing.")
	own("Nobody was cut off.")
	speak(ann, "Not even a blink:\n  for (;;) socket.send('still here');")
	time.Sleep(10 * time.Second) // a few round trips for the sparkline
}

// shot writes a picture of the viewport.
func shot(dir, name string) action {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		png, err := chromedp.CaptureScreenshot()(ctx, target)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	})
}

// TestPageSendsByItselfWhatWasWrittenWhileTheBackendWasAway, and names the port of the backend that came back.
func TestPageSendsByItselfWhatWasWrittenWhileTheBackendWasAway(t *testing.T) {
	ctx := startBrowser(t)
	d := startDemo(t)
	chat, _ := startChat(t, defaultLimits())
	address, site, mu := chat.address, d.SiteAddress, sync.Mutex{}
	current := func(p *string) func() string {
		return func() string {
			mu.Lock()
			defer mu.Unlock()
			return *p
		}
	}
	front, _ := startFront(t, current(&site), current(&address))
	run(t, ctx, "connects", chromedp.Navigate(front.URL), until(`document.body.dataset.state === 'open'`),
		until(`document.getElementById('leg-back-name').textContent === 'ws://`+chat.address+`/ws'`))
	mu.Lock()
	address = "127.0.0.1:1"
	mu.Unlock()
	chat.close()
	run(t, ctx, "says what is wrong in a sentence", until(`document.getElementById('banner-title').textContent === 'Connection lost: could not connect.'`),
		until(`!document.getElementById('banner').innerText.includes('(')`))
	run(t, ctx, "takes a message, which waits", chromedp.SendKeys(chromedp.CSS("#text"), "written meanwhile"+kb.Enter),
		until(`document.querySelector('.pending .text')?.textContent === 'written meanwhile'`),
		until(`document.querySelector('.pending .mail')?.textContent === 'Will be sent when the connection is back'`),
		until(`document.getElementById('text').value === ''`))
	run(t, ctx, "keeps it when the tab is loaded anew", chromedp.Reload(), until(`document.querySelector('.pending .text')?.textContent === 'written meanwhile'`))
	again := startDemo(t)
	mu.Lock()
	address, site = again.ChatAddress, again.SiteAddress
	mu.Unlock()
	run(t, ctx, "sends it, without a hand", until(`document.querySelector('.own .text')?.textContent === 'written meanwhile'`), until(`!document.querySelector('.pending .text')`))
	run(t, ctx, "names the new port", until(`document.getElementById('leg-back-name').textContent === 'ws://`+again.ChatAddress+`/ws'`),
		until(`document.getElementById('explain').textContent.includes('`+again.ChatAddress+`')`), until(`!document.getElementById('panel').textContent.includes('`+chat.address+`')`))
}

func TestPageTellsPeopleApartShowsThemAllAndMakesLinks(t *testing.T) {
	ctx := startBrowser(t)
	_, front, _ := startBehindFront(t)
	socket := "ws" + strings.TrimPrefix(front.URL, "http") + "/ws"
	run(t, ctx, "connects", screen(1280, 800, 1, false), chromedp.Navigate(front.URL), until(`document.body.dataset.state === 'open'`))
	var people []peer
	for _, name := range []string{"Ada", "Grace", "Edsger", "Barbara", "Donald", "Lynn", "Tony", "Frances"} {
		p, _ := enter(t, socket, name, "")
		people = append(people, p)
	}
	run(t, ctx, "nine people of nine colours", until(`document.querySelectorAll('.people li').length === 9`),
		until(`new Set([...document.querySelectorAll('.people .avatar')].map(e => getComputedStyle(e).backgroundColor)).size === 9`))
	run(t, ctx, "in sight at 800 px", until(`[...document.querySelectorAll('.people li')].every(e => e.getBoundingClientRect().bottom <= document.getElementById('panel').getBoundingClientRect().bottom)`),
		until(`document.getElementById('panel').scrollTop === 0 && innerHeight === 800`))
	people[0].say(request{Type: "chat", Text: "see https://example.com/a_(b)?c=d, (http://two.example/x). Not javascript:alert(1) nor https://"})
	run(t, ctx, "links", until(`document.querySelectorAll('.line .text a').length === 2`))
	got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`[...document.querySelectorAll('.line .text a')].map(e => e.href + ' ' + e.rel).join('\n') + '\n' + document.querySelector('.line .text').textContent`))
	want := "https://example.com/a_(b)?c=d noopener noreferrer nofollow\nhttp://two.example/x noopener noreferrer nofollow\n" +
		"see https://example.com/a_(b)?c=d, (http://two.example/x). Not javascript:alert(1) nor https://"
	if err != nil || got != want {
		t.Errorf("%v: %s", err, got)
	}
}
