package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestNoHeadHoldsALoop sends heads and paths of 64 KB in the shapes that cost most, of upgrades and of pages.
func TestNoHeadHoldsALoop(t *testing.T) {
	const size = 63 << 10
	b := startHeads(t, answerOrSwitch)
	location := func(path, targetPath string) string {
		return fmt.Sprintf(`{path: '%s', websocket: "ws://%s%s", http: "http://%[2]s%[3]s"}`, path, b.address, targetPath)
	}
	locations := []string{location("/ws", ""), location("/", "/x"), `{path: /files, static: "` + t.TempDir() + `"}`}
	for i := range 200 {
		locations = append(locations, location(strings.Repeat("/a", i+1), ""))
	}
	f := start(t, oneSite(locations...))
	regexes := start(t, oneSite(append(locations[:2:2], location(`~ (a|b)*c\.php$`, ""))...))

	numbered := func(format string, n int) string {
		var text strings.Builder
		for i := 0; i < n && text.Len() < size-200; i++ {
			fmt.Fprintf(&text, format, i)
		}
		return text.String()
	}
	fill := func(piece string) string { return strings.Repeat(piece, (size-400)/len(piece)) }
	head := func(path, lines string) string {
		return "GET " + path + " HTTP/1.1\r\n" + host + upgradeLines + lines + "\r\n"
	}
	shapes := map[string]string{
		"names in Connection and fields": head("/ws", "Connection: "+numbered("a%d,", 3000)+"\r\n"+numbered("b%d: \r\n", 4900)),
		"100 names and 1,000 fields":     head("/ws", "Connection: "+numbered("a%d,", 90)+"x\r\n"+numbered("b%d: \r\n", 950)),
		"lines of Connection":            head("/ws", fill("Connection: a\r\n")),
		"commas in Connection":           head("/ws", "Connection: "+fill(",")+"\r\n"),
		"fields of one name":             head("/ws", fill("a:\r\n")),
		"fields of many names":           head("/ws", numbered("a%d: b\r\n", 900)),
		"long names":                     head("/ws", numbered(strings.Repeat("n", 60)+"%d: b\r\n", 900)),
		"one long value":                 head("/ws", "A: "+fill("v")+"\r\n"),
		"one long name":                  head("/ws", fill("n")+": v\r\n"),
		"cookies":                        head("/ws", "Cookie: "+fill("a=b; ")+"\r\n"),
		"X-Forwarded-For":                head("/ws", "X-Forwarded-For: "+fill("1.2.3.4, ")+"\r\n"),
		"extensions":                     head("/ws", "Sec-WebSocket-Extensions: "+fill("a;b=c, ")+"\r\n"),
		"subprotocols":                   head("/ws", "Sec-WebSocket-Protocol: "+fill("a, ")+"\r\n"),
		"Upgrade tokens":                 head("/ws", "Upgrade: "+fill("a, ")+"\r\n"),
		"Transfer-Encoding":              head("/ws", "Transfer-Encoding: "+fill("a, ")+"chunked\r\n"),
		"short segments":                 head(fill("/a"), ""),
		"slashes":                        head(fill("/"), ""),
		"dots":                           head("/a"+fill("/a/.."), ""),
		"single dots":                    head(fill("/."), ""),
		"escapes":                        head("/"+fill("%61"), ""),
		"escaped slashes":                head("/"+fill("%2Fa"), ""),
		"UTF-8":                          head("/"+fill("\u00fc"), ""),
		"query":                          head("/ws?"+fill("a=b&"), ""),
		"absolute target":                head("http://example.com/"+fill("a/"), ""),
		"escaped dots behind a prefix":   head("/ws/"+fill("%2e/"), ""),
		"CDN-Loop":                       head("/ws", "CDN-Loop: "+fill("a, ")+"\r\n"),
		"Range":                          head("/files/a", "Range: bytes="+fill("0-1,")+"\r\n"),
		"If-None-Match":                  head("/files/a", "If-None-Match: "+fill(`"a",`)+"\r\n"),
		"dots in a file's name":          head("/files/"+fill("a."), ""),
	}
	for name, request := range shapes {
		if len(request) > 64<<10 {
			t.Fatalf("%s has %d bytes", name, len(request))
		}
		t.Run(name, func(t *testing.T) { f.expectShortHolds(t, request, (*client).head) })
		t.Run(name+", of a page", func(t *testing.T) {
			f.expectShortHolds(t, strings.Replace(request, upgradeLines, "", 1), (*client).head)
		})
	}
	t.Run("pattern", func(t *testing.T) { regexes.expectShortHolds(t, head("/"+fill("ab"), ""), (*client).head) })
	t.Run("pattern on 4 KB", func(t *testing.T) {
		regexes.expectShortHolds(t, head("/"+strings.Repeat("ab", 2000), ""), (*client).head)
	})
}
