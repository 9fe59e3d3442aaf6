package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// logged reads a file of a log once it has so many lines.
func logged(t *testing.T, name string, lines int) string {
	t.Helper()
	var text []byte
	await(t, fmt.Sprint(lines, " lines in ", filepath.Base(name)), func() bool {
		text, _ = os.ReadFile(name)
		return strings.Count(string(text), "\n") >= lines
	})
	if n := strings.Count(string(text), "\n"); n != lines {
		t.Errorf("%d lines, want %d:\n%s", n, lines, text)
	}
	return string(text)
}

// TestAccessLogOfTheNearestLevelCounts: a location's before its site's before the global one.
func TestAccessLogOfTheNearestLevelCounts(t *testing.T) {
	b := startHeads(t, answerOrSwitch)
	dir := t.TempDir()
	f := start(t, "access_log: "+dir+"/all.log\n"+`sites:
  - hosts: [example.com]
    access_log: {to: `+dir+`/site.log, format: combined}
    locations:
      - `+both(b.address)+`
      - {path: /quiet, http: "http://`+b.address+`", access_log: off}
      - {path: /own, http: "http://`+b.address+`", access_log: stderr}
      - {path: /dead, http: "http://127.0.0.1:1", access_log: off}
`)
	for _, step := range []struct {
		request string
		status  int
	}{
		{"GET / HTTP/1.1\r\nHost: example.com\r\nReferer: https://other.test/?token=secret\r\nUser-Agent: a \"b\"\r\n\r\n", 200},
		{"GET /?password=secret HTTP/1.0\r\nHost: example.com\r\n\r\n", 200},
		{"GET /quiet HTTP/1.1\r\nHost: example.com\r\n\r\n", 200},
		{"GET /own HTTP/1.1\r\nHost: example.com\r\n\r\n", 200},
		{"GET /dead HTTP/1.1\r\nHost: example.com\r\n\r\n", 502},
		{"GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n", 404},
		{"GET /\r\n\r\n", 400},
	} {
		c := f.dial()
		c.send(step.request)
		c.expect(step.status)
		c.Close()
	}
	c := f.dial()
	c.send(upgrade)
	c.expect(101)
	c.Close()

	const stamp = `127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}(:\d\d){3} [+-]\d{4}\] `
	want := "^" + stamp + `"GET / HTTP/1\.1" 200 \d+ "https://other\.test/" "a \\"b\\""` + "\n" +
		stamp + `"GET / HTTP/1\.0" 200 \d+ "-" "-"` + "\n" +
		stamp + `"GET /ws HTTP/1\.1" 101 - "-" "-"` + "\n$"
	if got := logged(t, dir+"/site.log", 3); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("site.log:\n%s", got)
	}
	var messages []string
	for line := range strings.Lines(logged(t, dir+"/all.log", 2)) {
		var e struct {
			Msg    string
			Status int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Error(err)
		}
		messages = append(messages, fmt.Sprint(e.Msg, e.Status))
	}
	if got := strings.Join(messages, ", "); got != "request404, request refused400" {
		t.Errorf("all.log has %s", got)
	}
	own := f.log.String()
	if strings.Count(own, `"msg":"request"`) != 2 || !strings.Contains(own, `"path":"/own"`) || !strings.Contains(own, `"path":"/dead"`) ||
		strings.Contains(own, "tunnel") {
		t.Errorf("the server's own log has\n%s", own)
	}
}

// TestAccessLogThatCannotBeOpenedRefusesTheConfiguration, and nothing else is lost.
func TestAccessLogThatCannotBeOpenedRefusesTheConfiguration(t *testing.T) {
	f := start(t, oneSite(httpTo(startEcho(t).address)))
	dir := t.TempDir()
	link := filepath.Join(dir, "access.log")
	if err := os.Symlink(link, link); err != nil {
		t.Fatal(err)
	}
	err := f.try(t, plainListener+"access_log: "+link+"\n"+oneSite(httpTo(startEcho(t).address)))
	if err == nil || !strings.Contains(err.Error(), "wstunnel.yaml:2:13: access_log: open "+link) {
		t.Errorf("got %v", err)
	}
	c := f.dial()
	c.send(get)
	c.expect(200)
}

// TestAccessLogsMoveWithAReload, and a file that is named no more is closed.
func TestAccessLogsMoveWithAReload(t *testing.T) {
	site := oneSite(httpTo(startEcho(t).address))
	dir := t.TempDir()
	f := start(t, "access_log: "+dir+"/a.log\n"+site)
	ask := func() {
		c := f.dial()
		c.send(get)
		c.expect(200)
		c.Close()
	}
	ask()
	for _, step := range []struct{ setting, changed string }{
		{dir + "/b.log", "b.log 1"}, {dir + "/a.log", "a.log 2"}, {"off", ""}, {dir + "/b.log", "b.log 2"},
	} {
		f.apply(t, plainListener+"access_log: "+step.setting+"\n"+site)
		ask()
		if name, lines, ok := strings.Cut(step.changed, " "); ok {
			logged(t, filepath.Join(dir, name), int(lines[0]-'0'))
		}
	}
}

// TestAnswerThatBreaksOffIsWarnedOf though its status, which was sent before, tells of nothing; and not where its client leaves.
func TestAnswerThatBreaksOffIsWarnedOf(t *testing.T) {
	for _, log := range []string{"off", "stderr"} {
		t.Run(log, func(t *testing.T) {
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				head, _ := rawHead(bufio.NewReader(conn))
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
				if strings.HasPrefix(head, "GET /patient ") {
					io.Copy(io.Discard, conn)
				}
			})
			f := start(t, "access_log: "+log+"\n"+oneSite(httpTo(b.address)))
			gone := f.dial()
			gone.send(strings.Replace(get, "/ ", "/patient ", 1))
			gone.head()
			gone.Close()
			c := f.dial()
			c.send(get)
			c.rest()
			const cause = `"status":200,"bytes":5,`
			await(t, "the line", func() bool { return strings.Contains(f.log.String(), cause) })
			var warnings []string
			for line := range strings.Lines(f.log.String()) {
				if strings.Contains(line, `"level":"WARN"`) {
					warnings = append(warnings, line)
				}
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], cause) || !strings.Contains(warnings[0], "reading the response body: ") {
				t.Errorf("%d warnings, want one:\n%s", len(warnings), warnings)
			}
		})
	}
}
