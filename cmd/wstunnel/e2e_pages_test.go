//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// phpRequest is what echo.php reports.
type phpRequest struct {
	Method, URI, Host string
	Get, Post         phpMap
	Cookies           phpMap
	Forwarded         struct{ For, Host, Proto string }
}

// phpMap is a PHP array with string keys; json_encode writes an empty one as a list.
type phpMap map[string]string

func (m *phpMap) UnmarshalJSON(text []byte) error {
	if string(text) == "[]" {
		return nil
	}
	return json.Unmarshal(text, (*map[string]string)(m))
}

// overEachProtocol runs a test over HTTP/1.1, over HTTPS with HTTP/2, and over HTTPS with HTTP/1.1.
func overEachProtocol(t *testing.T, test func(t *testing.T, c *http.Client, base string)) {
	t.Helper()
	f := startFront(t, settings(`{path: /, http: "http://`+startPages(t).address+`"}`))
	for _, p := range []struct {
		name, base string
		version    int
	}{
		{"http", "http://" + f.http, 1},
		{"h2", "https://" + f.https, 2},
		{"https", "https://" + f.https, 1},
	} {
		t.Run(p.name, func(t *testing.T) {
			c := f.secureClient(t)
			c.Transport.(*http.Transport).ForceAttemptHTTP2 = p.version == 2
			resp, err := c.Get(p.base + "/echo.php")
			if err != nil {
				t.Fatal(err)
			}
			if readAll(t, resp); resp.ProtoMajor != p.version {
				t.Fatalf("%s was spoken, want HTTP/%d", resp.Proto, p.version)
			}
			test(t, c, p.base)
		})
	}
}

func TestPHPSeesGetAndPost(t *testing.T) {
	overEachProtocol(t, func(t *testing.T, c *http.Client, base string) {
		resp, err := c.PostForm(base+"/echo.php?a=1&b=%C3%A4%20x", url.Values{"name": {"Zoë & co"}, "text": {strings.Repeat("long ", 20_000)}})
		if err != nil {
			t.Fatal(err)
		}
		got := decode[phpRequest](t, readAll(t, resp))
		u, _ := url.Parse(base)
		switch {
		case got.Method != "POST" || got.URI != "/echo.php?a=1&b=%C3%A4%20x":
			t.Errorf("%s %s", got.Method, got.URI)
		case got.Get["a"] != "1" || got.Get["b"] != "ä x":
			t.Errorf("query %q", got.Get)
		case got.Post["name"] != "Zoë & co" || len(got.Post["text"]) != 100_000:
			t.Errorf("form %.100q", got.Post)
		case got.Host != u.Host || got.Forwarded.Host != u.Host:
			t.Errorf("Host %q, X-Forwarded-Host %q, want %q", got.Host, got.Forwarded.Host, u.Host)
		case got.Forwarded.For != "127.0.0.1" || got.Forwarded.Proto != u.Scheme:
			t.Errorf("forwarded %+v", got.Forwarded)
		}
	})
}

func TestPHPGetsAnUploadOf20MB(t *testing.T) {
	content := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	sum := sha256.Sum256(content)
	overEachProtocol(t, func(t *testing.T, c *http.Client, base string) {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		form.WriteField("title", "holiday")
		part, err := form.CreateFormFile("file", "photo.raw")
		if err != nil {
			t.Fatal(err)
		}
		part.Write(content)
		form.Close()
		resp, err := c.Post(base+"/upload.php", form.FormDataContentType(), &body)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"name":"photo.raw","size":%d,"error":0,"sha256":"%s","title":"holiday"}`,
			len(content), hex.EncodeToString(sum[:]))
		if got := readAll(t, resp); got != want {
			t.Errorf("PHP got %.300s, want %s", got, want)
		}
	})
}

func TestPHPSessionsLiveInCookies(t *testing.T) {
	overEachProtocol(t, func(t *testing.T, c *http.Client, base string) {
		c.Jar, _ = cookiejar.New(nil)
		for visit := 1; visit <= 3; visit++ {
			resp, err := c.Get(base + "/cookies.php")
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, resp); got != fmt.Sprint(visit) {
				t.Fatalf("visit %s, want %d", got, visit)
			}
			if n := len(resp.Header.Values("Set-Cookie")); visit == 1 && n != 3 {
				t.Errorf("%d Set-Cookie headers, want 3: %q", n, resp.Header)
			}
		}
		resp, err := c.Get(base + "/echo.php")
		if err != nil {
			t.Fatal(err)
		}
		got := decode[phpRequest](t, readAll(t, resp)).Cookies
		if got["theme"] != `dark mode; "quoted"` || got["secret"] != "x" || got["PHPSESSID"] == "" {
			t.Errorf("PHP got the cookies %q", got)
		}
	})
}

func TestPHPRedirectsLeadBackToTheFront(t *testing.T) {
	overEachProtocol(t, func(t *testing.T, c *http.Client, base string) {
		for query, want := range map[string]string{
			"":            "/echo.php?from=redirect",
			"?absolute=1": base + "/echo.php?from=redirect",
		} {
			resp, err := c.Post(base+"/redirect.php"+query, "text/plain", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != want {
				t.Errorf("%s, Location %q, want %q", resp.Status, got, want)
			}
		}
		c.CheckRedirect = nil
		resp, err := c.Get(base + "/redirect.php?absolute=1")
		if err != nil {
			t.Fatal(err)
		}
		if got := decode[phpRequest](t, readAll(t, resp)); got.Method != "GET" || got.Get["from"] != "redirect" {
			t.Errorf("the redirect led to %+v", got)
		}
	})
}

func TestServerSentEventsAreNotKeptBack(t *testing.T) {
	overEachProtocol(t, func(t *testing.T, c *http.Client, base string) {
		next := filepath.Join(t.TempDir(), "next")
		resp, err := c.Get(base + "/events.php?file=" + url.QueryEscape(next))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
			t.Errorf("Content-Type %q", got)
		}
		stream := bufio.NewReader(resp.Body)
		event := func() string {
			id, err := stream.ReadString('\n')
			data, _ := stream.ReadString('\n')
			if blank, blankErr := stream.ReadString('\n'); err != nil || blankErr != nil || blank != "\n" {
				t.Fatalf("event %q %q %q: %v", id, data, blank, err)
			}
			return id + data
		}
		if got := event(); got != "id: 1\ndata: first\n" {
			t.Fatalf("first event %q", got)
		}
		if err := os.WriteFile(next, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := event(); got != "id: 2\ndata: second\n" {
			t.Errorf("second event %q", got)
		}
		if rest, err := io.ReadAll(stream); len(rest) > 0 || err != nil {
			t.Errorf("after the last event: %q, %v", rest, err)
		}
	})
}

func TestDownloadedCAVerifiesTheTLSListener(t *testing.T) {
	f := startFront(t, settings(`{path: /, http: "http://`+startPages(t).address+`"}`))
	roots := f.roots(t)
	for _, host := range []string{"", "shop.example", "deep.sub.shop.example"} {
		c := newClient(roots)
		c.Transport.(*http.Transport).TLSClientConfig.ServerName = host
		resp, err := c.Get("https://" + f.https + "/echo.php")
		if err != nil {
			t.Errorf("host %q: %v", host, err)
			continue
		}
		readAll(t, resp)
		c.CloseIdleConnections()
	}
	resp, err := newClient(nil).Get("https://" + f.https + "/echo.php")
	if err == nil {
		resp.Body.Close()
		t.Error("the certificate is trusted without the CA")
	}
}

func TestPlainHTTPIsSentToHTTPS(t *testing.T) {
	backend := startSocketPHP(t, "")
	yaml := settings(`{path: /ws, websocket: "ws://`+backend.address+`"}`, `{path: /, http: "http://`+startPages(t).address+`"}`)
	f := startFront(t, strings.Replace(yaml, "tls: self-signed", "tls: self-signed\n    redirect_https: true", 1))

	resp, err := newClient(nil).Post("http://"+f.http+"/echo.php?a=%20b", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	want := "https://" + f.https + "/echo.php?a=%20b"
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusPermanentRedirect || got != want {
		t.Errorf("%s, Location %q, want 308 and %q", resp.Status, got, want)
	}

	since := f.out.len()
	conn, resp, err := f.tryDial(t, "ws", "/ws")
	if err == nil {
		conn.Close()
		t.Fatal("ws:// was served")
	}
	if body := readAll(t, resp); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "use wss://") {
		t.Errorf("%s %q, want 403 and a hint", resp.Status, body)
	}
	if e := f.awaitLog(t, since, "request", "status", http.StatusForbidden); !strings.Contains(e.text("error"), "wss://") {
		t.Errorf("the log does not say why: %v", e)
	}
	f.dialSocket(t, "wss", "/ws").echo("secure")
}
