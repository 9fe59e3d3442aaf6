//go:build linux

package main_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
)

// browser is a tab of a running Chromium.
type browser struct{ context.Context }

// startBrowser runs a headless Chromium that takes certificates signed by the CA of a file, and no other ones that
// the system does not trust.
func startBrowser(t *testing.T, caFile string) browser {
	t.Helper()
	return startBrowserWith(t, chromedp.Env("TMPDIR="+t.TempDir()), chromedp.Flag("ignore-certificate-errors-spki-list", keyHash(t, caFile)))
}

// startBrowserWith runs a headless Chromium with further options.
func startBrowserWith(t *testing.T, more ...chromedp.ExecAllocatorOption) browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(installed(t, "chromium", "chromium")), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatal(err)
	}
	return browser{ctx}
}

// keyHash is how Chromium names a public key.
func keyHash(t *testing.T, certFile string) string {
	t.Helper()
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %s", certFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (b browser) open(t *testing.T, url string) {
	t.Helper()
	if err := b.tryOpen(url); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

func (b browser) tryOpen(url string) error {
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	return chromedp.Do(ctx, chromedp.Navigate(url))
}

// script runs the body of an async function in the page and returns what it returns.
func script[T any](t *testing.T, b browser, body string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T]("(async () => {"+body+"})()", chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// protocolOf is a function of JavaScript that returns the protocol by which a URL was fetched. The browser notes that a moment behind the answer.
const protocolOf = `async url => {
	for (;;) {
		const [entry] = performance.getEntriesByName(url);
		if (entry) return entry.nextHopProtocol;
		await new Promise(resolve => setTimeout(resolve, 10));
	}
}`

// closing is a CloseEvent.
type closing struct {
	Code     int
	Reason   string
	WasClean bool
}

func TestBrowserTalksToAServerWrittenInPHP(t *testing.T) {
	php := startSocketPHP(t, "")
	f := startFront(t, settings(
		`{path: /ws, websocket: "ws://`+php.address+`"}`,
		`{path: /relay, mode: relay, max_message: 4MiB, websocket: "ws://`+php.address+`"}`,
		`{path: /, http: "http://`+startPages(t).address+`"}`))
	b := startBrowser(t, caFile(f))
	for _, test := range []struct{ name, origin, path string }{
		{"ws", "http://" + f.http, "/ws"},
		{"wss", "https://" + f.https, "/ws"},
		{"relayed ws", "http://" + f.http, "/relay"},
		{"relayed wss", "https://" + f.https, "/relay"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.open(t, test.origin+"/page.php")
			since := php.out.len()
			t.Run("messages", func(t *testing.T) { checkMessages(t, b, test.path) })
			t.Run("handshake", func(t *testing.T) { checkHandshake(t, b, test.origin, test.path) })
			php.out.awaitMatches(t, since, `^close 1005 `, 2) // which are not for what comes next
			t.Run("closing", func(t *testing.T) { checkClosing(t, b, php, test.path, strings.HasPrefix(test.origin, "https:")) })
		})
	}
	t.Run("SIGTERM", func(t *testing.T) { checkGoodbye(t, b, f, php) })
}

// checkMessages requires text, binary and long messages to come back as they were sent. They go in two parts: the browser's driver is sent all of them too, and takes
// longer over them than the browser.
func checkMessages(t *testing.T, b browser, path string) {
	t.Helper()
	script[bool](t, b, `
		const socket = window.socket = await connect('`+path+`'), same = window.same = {};
		const text = 'grüße, 世界 \u{1F600} ', long = Array.from({length: 1 << 16}, (_, i) => text + i).join();
		same.text = await socket.ask(text) === text;
		same.empty = await socket.ask('') === '';
		same.long = await socket.ask(long) === long;
		return true`)
	got := script[map[string]bool](t, b, `
		for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
			const bytes = Uint8Array.from({length: size}, (_, i) => (i * 7 + (i >> 8)) & 255);
			const back = new Uint8Array(await socket.ask(bytes));
			same['binary ' + size] = back.length === size && back.every((value, i) => value === bytes[i]);
		}
		same.fragments = await socket.ask('/fragments') === 'one two three';
		same.ping = await socket.ask('/ping hello') === 'pong hello';
		socket.send('first'), socket.send('second'), socket.send('third');
		same.order = [await socket.next(), await socket.next(), await socket.next()].join() === 'first,second,third';
		socket.close();
		await socket.closed;
		return same;`)
	for what, same := range got {
		if !same {
			t.Errorf("%s: came back otherwise", what)
		}
	}
	if len(got) != 13 {
		t.Errorf("%d checks were made: %v", len(got), got)
	}
}

// checkHandshake requires each side to see what the other said in the handshake.
func checkHandshake(t *testing.T, b browser, origin, path string) {
	t.Helper()
	type result struct {
		Protocol, Extensions, Cookies string
		Request                       string
	}
	got := script[result](t, b, `
		const socket = await connect('`+path+`/room?id=7', ['other', 'chat.v1', 'chat.v2']);
		const request = await socket.ask('/request');
		socket.close();
		await socket.closed;
		return {protocol: socket.protocol, extensions: socket.extensions, cookies: document.cookie, request};`)
	if got.Protocol != "chat.v2" {
		t.Errorf("subprotocol %q, want the backend's choice", got.Protocol)
	}
	if compressed := strings.Contains(got.Extensions, "permessage-deflate"); compressed != (path == "/relay") {
		t.Errorf("extensions %q: the relay offers compression, the tunnel leaves it to the backend", got.Extensions)
	}
	if !strings.Contains(got.Cookies, "socket=seen") {
		t.Errorf("cookies %q, want the one that came with the 101", got.Cookies)
	}
	request := decode[handshake](t, got.Request)
	scheme, host, _ := strings.Cut(origin, "://")
	for name, want := range map[string]string{
		"Host": host, "Origin": origin, "X-Forwarded-Host": host, "X-Forwarded-Proto": scheme, "X-Forwarded-For": "127.0.0.1",
	} {
		if request.Headers[name] != want {
			t.Errorf("the backend got %s %q, want %q", name, request.Headers[name], want)
		}
	}
	if request.Path != path+"/room?id=7" || !strings.Contains(request.Headers["Cookie"], "session=abc") {
		t.Errorf("the backend got the path %q and the cookies %q", request.Path, request.Headers["Cookie"])
	}
}

// checkClosing requires each side to learn how the other one ended the connection.
func checkClosing(t *testing.T, b browser, php backend, path string, overHTTP2 bool) {
	t.Helper()
	for say, want := range map[string]closing{
		"/close 4001 enough said": {4001, "enough said", true},
		"/close 1000":             {1000, "", true},
		"/close 1013 later":       {1013, "later", true},
		"/close":                  {1005, "", true},
		"/drop":                   {1006, "", false},
	} {
		since := php.out.len()
		got := script[closing](t, b, `const socket = await connect('`+path+`'); socket.send('`+say+`'); return socket.closed`)
		if got != want {
			t.Errorf("after %q the page got %+v, want %+v", say, got, want)
		}
		if !want.WasClean {
			continue
		}
		// The page's answer reaches the backend after the page was told; the next line would be taken for it otherwise.
		if line, want := php.awaitLine(t, since, `^close (.*)|^gone.*`), fmt.Sprintf("%d %s", want.Code, want.Reason); line != want {
			t.Errorf("after %q the backend got the answer %q, want %q", say, line, want)
		}
	}
	for call, want := range map[string]string{
		"close(4002, 'good bye')": "4002 good bye",
		"close(1000)":             "1000 ",
		"close()":                 "1005 ",
	} {
		since := php.out.len()
		got := script[closing](t, b, `const socket = await connect('`+path+`'); socket.`+call+`; return socket.closed`)
		if !got.WasClean || !strings.HasPrefix(want, fmt.Sprint(got.Code)) {
			t.Errorf("after %s the page got %+v", call, got)
		}
		if line := php.awaitLine(t, since, `^close (.*)|^gone.*`); line != want {
			t.Errorf("after %s the backend got %q, want %q", call, line, want)
		}
	}
	since := php.out.len()
	script[bool](t, b, `await connect('`+path+`'); window.leaving = true; location.reload(); return true`)
	// Over HTTP/2 Chromium resets the stream without a Close frame.
	if line := php.awaitLine(t, since, `^close (.*)|^gone.*`); line != "1001 " && !(overHTTP2 && line == "") {
		t.Errorf("when the page was left, the backend got %q, want 1001", line)
	}
	b.await(t, `!window.leaving && document.readyState === 'complete'`)
	if refused := script[string](t, b, `
		try { await connect('`+path+`/refuse'); return 'opened' } catch { return 'refused' }`); refused != "refused" {
		t.Errorf("a handshake that the backend refused: %s", refused)
	}
}

// checkGoodbye requires a page to hear of the server's end.
func checkGoodbye(t *testing.T, b browser, f *front, php backend) {
	t.Helper()
	b.open(t, "https://"+f.https+"/page.php")
	script[bool](t, b, `window.ends = Promise.all((await Promise.all([connect('/ws'), connect('/relay')])).map(s => s.closed)); return true`)
	since := php.out.len()
	f.signal(t, syscall.SIGTERM)
	for _, got := range script[[]closing](t, b, `return window.ends`) {
		if got.Code != goingAway || !got.WasClean {
			t.Errorf("the page got %+v, want a clean 1001", got)
		}
	}
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, line := range php.out.awaitMatches(t, since, `^close|^gone`, 2) {
		if !strings.HasPrefix(line, "close 1001 ") {
			t.Errorf("the backend got %q, want 1001", line)
		}
	}
}
