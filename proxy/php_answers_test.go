//go:build linux

package proxy_test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answers are scripts that answer in the ways of applications.
var answers = map[string]string{
	"index.php":  dump,
	"status.php": `<?php header('HTTP/1.1 404 Nowhere'); header('X-Twice: a'); header('X-Twice: b', false); setcookie('a', 'b'); setcookie('c', 'd'); echo 'gone';`,
	"moved.php":  `<?php header('Location: /there?x=y');`,
	"none.php":   `<?php http_response_code(204); echo 'nothing';`,
	"same.php":   `<?php http_response_code(304); header('ETag: "x"'); echo 'nothing';`,
	"length.php": `<?php header('Content-Length: 5'); echo $_SERVER['REQUEST_METHOD'] === 'GET' ? 'hello' : '';`,
	"events.php": `<?php header('Content-Type: text/event-stream'); while (ob_get_level()) ob_end_flush();
for ($i = 0; $i < 3; $i++) { echo "data: $i\n\n"; flush(); while (!file_exists(__DIR__ . "/go$i")) { usleep(1000); clearstatcache(); } }`,
	"errors.php": `<?php error_log("before\nthe head"); header('X-A: b'); echo str_repeat('x', 10000); flush(); error_log('within'); echo 'end'; trigger_error('at the end', E_USER_WARNING);`,
	"noisy.php":  `<?php for ($i = 0; $i < 3000; $i++) error_log("complaint $i of a script that has a lot to complain of"); echo 'done';`,
	"big.php":    `<?php $p = random_bytes(1 << 20); $all = hash_init('md5'); for ($i = 0; $i < 20; $i++) { echo $p; }`,
	"upload.php": `<?php foreach ($_FILES as $f) echo $f['name'], ' ', $f['error'], ' ', filesize($f['tmp_name']), ' ', md5_file($f['tmp_name']);`,
	"raw.php":    `<?php $in = fopen('php://input', 'r'); $h = hash_init('md5'); $n = 0; while (($p = fread($in, 65536)) != '') { $n += strlen($p); hash_update($h, $p); } echo $_SERVER['CONTENT_LENGTH'], ' ', $n, ' ', hash_final($h);`,
	"orders.php": `<?php foreach (['Redirect', 'Expires', 'Limit-Rate', 'Buffering', 'Charset'] as $n) if ($n != 'Redirect') header("X-Accel-$n: 1"); header('X-Accelerator: mine'); echo 'mine';`,
	"accel.php":  `<?php foreach (json_decode($_GET['say'] ?? '[]') as $h) header($h); header('X-Accel-Redirect: ' . $_GET['to']); header('X-Other: dropped'); echo 'not this';`,
	"send.php":   `<?php header('X-Sendfile: ' . $_GET['to']); header('Content-Type:'); echo 'not this';`,
	"slow.php":   `<?php echo 'late'; while (true) { usleep(10000); if (connection_aborted()) exit; }`,
	"dead.php":   `<?php file_put_contents('%COUNT%', "x", FILE_APPEND); shell_exec('kill -9 ' . getmypid());`,
	"half.php":   `<?php while (ob_get_level()) ob_end_flush(); echo 'half'; flush(); usleep(20000); shell_exec('kill -9 ' . getmypid());`,
	"style.css":  "css", "secret/report.txt": "a report", "secret/tool.php": "<?php secret", "secret/data.sql": "rows",
}

func startAnswers(t *testing.T, workers int, lines ...string) (f *front, root string) {
	t.Helper()
	root = scripts(t, answers)
	fpm := startFPM(t, workers)
	f = start(t, phpSite(fpm, root, append([]string{"locations:", "  - {path: /private, static: " + root + "/secret}"}, lines...)...))
	return f, root
}

func TestPHPAnswers(t *testing.T) {
	f, _ := startAnswers(t, 2)
	a := f.get(t, "/status.php")
	if a.StatusCode != 404 || a.body != "gone" || fmt.Sprint(a.Header["X-Twice"]) != "[a b]" || len(a.Header["Set-Cookie"]) != 2 || a.Header.Get("Status") != "" {
		t.Errorf("%s %v %q", a.Status, a.Header, a.body)
	}
	if a = f.get(t, "/moved.php"); a.StatusCode != 302 || a.Header.Get("Location") != "/there?x=y" {
		t.Errorf("%s %v", a.Status, a.Header)
	}
	for _, target := range []string{"/none.php", "/same.php"} {
		c := dial(t, f.plain)
		c.send("GET "+target+" HTTP/1.1\r\n"+host+"\r\n", "GET /style.css HTTP/1.1\r\n"+host+"\r\n")
		if a := c.answer("GET"); a.StatusCode != 204 && a.StatusCode != 304 || a.body != "" {
			t.Errorf("%s: %s %q", target, a.Status, a.body)
		}
		if a := c.answer("GET"); a.body != "css" {
			t.Errorf("behind %s: %s %q", target, a.Status, a.body)
		}
	}
	if a = f.get(t, "/length.php"); a.ContentLength != 5 || a.body != "hello" {
		t.Errorf("%v %q", a.Header, a.body)
	}
	c := dial(t, f.plain)
	c.send("HEAD /length.php HTTP/1.1\r\n"+host+"\r\n", "HEAD /big.php HTTP/1.1\r\n"+host+"\r\n", "GET /style.css HTTP/1.1\r\n"+host+"\r\n")
	if a := c.answer("HEAD"); a.StatusCode != 200 || a.ContentLength != 5 {
		t.Errorf("HEAD: %s %v", a.Status, a.Header)
	}
	if a := c.answer("HEAD"); a.StatusCode != 200 {
		t.Errorf("HEAD: %s %v", a.Status, a.Header)
	}
	if a := c.answer("GET"); a.body != "css" {
		t.Errorf("behind two HEADs: %s %q", a.Status, a.body)
	}
	if a := f.get(t, "/big.php"); len(a.body) != 20<<20 || a.err != nil {
		t.Errorf("%d bytes, %v", len(a.body), a.err)
	}
	if a := f.get(t, "/orders.php"); a.body != "mine" || a.Header.Get("X-Accelerator") != "mine" {
		t.Errorf("%v", a.Header)
	} else {
		for name := range a.Header {
			if strings.HasPrefix(name, "X-Accel-") {
				t.Errorf("%s goes on", name)
			}
		}
	}
}

func TestPHPEventsComeOneByOne(t *testing.T) {
	f, root := startAnswers(t, 1)
	c := dial(t, f.plain)
	c.send("GET /events.php HTTP/1.1\r\n" + host + "\r\n")
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		p := make([]byte, 9)
		if _, err := io.ReadFull(resp.Body, p); err != nil || string(p) != fmt.Sprintf("data: %d\n\n", i) {
			t.Fatalf("%q, %v", p, err)
		}
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint("go", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

func TestPHPComplaintsStandInTheLog(t *testing.T) {
	f, root := startAnswers(t, 1)
	a := f.get(t, "/errors.php?x")
	if a.StatusCode != 200 || a.Header.Get("X-A") != "b" || len(a.body) != 10003 {
		t.Errorf("%s %v, %d bytes", a.Status, a.Header, len(a.body))
	}
	log := f.log.String()
	for _, want := range []string{`before\nthe head`, "within", "at the end", `"script":"` + root + `/errors.php"`, `"target":"/errors.php?x"`} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
	if a := f.get(t, "/noisy.php"); a.body != "done" {
		t.Errorf("%s %q", a.Status, a.body)
	}
	noise := len(f.log.String()) - len(log)
	if noise > 20<<10 || !strings.Contains(f.log.String(), "php complained of more") {
		t.Errorf("%d bytes of noise in the log", noise)
	}
}

func TestPHPUploads(t *testing.T) {
	f, _ := startAnswers(t, 1)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	want := fmt.Sprintf("%d %d %x", len(body), len(body), md5.Sum(body))
	t.Run("of known length go as they come", func(t *testing.T) {
		c := dial(t, f.plain)
		c.send(fmt.Sprintf("POST /raw.php HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, len(body)))
		c.Write(body)
		if a := c.answer("POST"); a.body != want {
			t.Errorf("%s %q, want %q", a.Status, a.body, want)
		}
	})
	t.Run("of unknown length are taken whole first", func(t *testing.T) {
		c := dial(t, f.plain)
		c.send("POST /raw.php HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n")
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 10007)
			fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		c.send("0\r\nX-T: y\r\n\r\n")
		if a := c.answer("POST"); a.body != want {
			t.Errorf("%s %q, want %q", a.Status, a.body, want)
		}
	})
	t.Run("of unknown length may be empty or short", func(t *testing.T) {
		for _, text := range []string{"", "hello"} {
			c := dial(t, f.plain)
			c.send("POST /raw.php HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n")
			if text != "" {
				fmt.Fprintf(c, "%x\r\n%s\r\n", len(text), text)
			}
			c.send("0\r\n\r\n")
			if a, want := c.answer("POST"), fmt.Sprintf("%d %d %x", len(text), len(text), md5.Sum([]byte(text))); a.body != want {
				t.Errorf("%s %q, want %q", a.Status, a.body, want)
			}
		}
	})
	t.Run("that wait to be asked for are", func(t *testing.T) {
		for _, framing := range []string{"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"} {
			c := dial(t, f.plain)
			c.send("POST /raw.php HTTP/1.1\r\n" + host + framing + "Expect: 100-continue\r\n\r\n")
			if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
				t.Fatalf("%q", head)
			}
			if strings.HasPrefix(framing, "T") {
				c.send("5\r\nhello\r\n0\r\n\r\n")
			} else {
				c.send("hello")
			}
			if a, want := c.answer("POST"), fmt.Sprintf("5 5 %x", md5.Sum([]byte("hello"))); a.body != want {
				t.Errorf("%s %q, want %q", a.Status, a.body, want)
			}
		}
	})
	t.Run("of files", func(t *testing.T) {
		form := "--b\r\nContent-Disposition: form-data; name=f; filename=a.bin\r\nContent-Type: application/octet-stream\r\n\r\n" + string(body) + "\r\n--b--\r\n"
		c := dial(t, f.plain)
		c.send(fmt.Sprintf("POST /upload.php HTTP/1.1\r\n%sContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n", host, len(form)), form)
		if a, want := c.answer("POST"), fmt.Sprintf("a.bin 0 %d %x", len(body), md5.Sum(body)); a.body != want {
			t.Errorf("%s %q, want %q", a.Status, a.body, want)
		}
	})
}

func TestPHPBodyOfUnknownLengthIsBounded(t *testing.T) {
	f, _ := startAnswers(t, 1, "buffer: {request: 64KiB}", "spool_max: 1MiB")
	for _, tt := range []struct{ size, status int }{{1 << 20, 200}, {2 << 20, 413}} {
		c := dial(t, f.plain)
		c.send("POST /raw.php HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n")
		go func() {
			for range tt.size >> 10 {
				if _, err := fmt.Fprintf(c, "400\r\n%s\r\n", strings.Repeat("x", 1024)); err != nil {
					return
				}
			}
			c.send("0\r\n\r\n")
		}()
		if a := c.answer("POST"); a.StatusCode != tt.status {
			t.Errorf("%d bytes: %s %q", tt.size, a.Status, a.body)
		}
	}
}

func TestPHPNamesFilesToBeSent(t *testing.T) {
	f, root := startAnswers(t, 1)
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "secret/out")); err != nil {
		t.Fatal(err)
	}
	ask := func(method, target string, headers ...string) answer {
		c := dial(t, f.plain)
		c.send(method + " " + target + " HTTP/1.1\r\n" + host + strings.Join(headers, "") + "\r\n")
		return c.answer(method)
	}
	say := "say=%5B%22Content-Type:%20text/x-report%22,%22Content-Disposition:%20attachment%22,%22Set-Cookie:%20a=b%22%5D&"
	a := ask("GET", "/accel.php?"+say+"to=/private/report.txt")
	if a.StatusCode != 200 || a.body != "a report" || a.Header.Get("Content-Type") != "text/x-report;charset=UTF-8" || a.Header.Get("Content-Disposition") != "attachment" ||
		a.Header.Get("Set-Cookie") != "a=b" || a.Header.Get("X-Other") != "" || a.Header.Get("X-Accel-Redirect") != "" || a.Header.Get("ETag") == "" {
		t.Errorf("%s %v %q", a.Status, a.Header, a.body)
	}
	tag := a.Header.Get("ETag")
	for _, tt := range []struct {
		method, target, header string
		status                 int
		body                   string
	}{
		{"HEAD", "/accel.php?to=/private/report.txt", "", 200, ""},
		{"POST", "/accel.php?to=/private/report.txt", "Content-Length: 0\r\n", 200, "a report"},
		{"GET", "/accel.php?to=/private/report.txt", "Range: bytes=2-4\r\n", 206, "rep"},
		{"GET", "/accel.php?to=/private/report.txt", "If-None-Match: " + tag + "\r\n", 304, ""},
		{"GET", "/accel.php?to=/private/%2572eport.txt", "", 200, "a report"},
		{"GET", "/accel.php?to=/private/data.sql", "", 200, "rows"}, // the application says who may have it
		{"GET", "/accel.php?to=/style.css", "", 200, "css"},
		{"GET", "/accel.php?to=/private/none", "", 404, ""},
		{"GET", "/accel.php?to=/private/", "", 404, ""},
		{"GET", "/accel.php?to=/private/out", "", 404, ""},
		{"GET", "/accel.php?to=/private/../../etc/passwd", "", 502, ""},
		{"GET", "/accel.php?to=/accel.php", "", 502, ""},
		{"GET", "/accel.php?to=/private/tool.php", "", 502, ""},
		{"GET", "/send.php?to=" + root + "/secret/report.txt", "", 200, "a report"},
		{"GET", "/send.php?to=" + root + "/secret/../../outside", "", 502, ""},
		{"GET", "/send.php?to=/etc/passwd", "", 502, ""},
		{"GET", "/send.php?to=" + root, "", 502, ""},
		{"GET", "/private/report.txt", "", 200, "a report"},
	} {
		a := ask(tt.method, tt.target, tt.header)
		if a.StatusCode != tt.status || tt.body != "" && a.body != tt.body || strings.Contains(a.body, "not this") || strings.Contains(a.body, "root:") {
			t.Errorf("%s %s %s: %s %q", tt.method, tt.target, tt.header, a.Status, a.body)
		}
	}
	if a := ask("GET", "/send.php?to="+root+"/secret/report.txt"); !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("without a type of its own: %v", a.Header)
	}
}

func TestPHPSlowAndDead(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	scriptsOf := map[string]string{}
	for name, text := range answers {
		scriptsOf[name] = strings.Replace(text, "%COUNT%", count, 1)
	}
	os.Chmod(filepath.Dir(count), 0o777)
	root := scripts(t, scriptsOf)
	fpm := startFPM(t, 2)
	f := start(t, phpSite(fpm, root, "locations:", `  - {path: /slow.php, php: "unix:`+fpm.socket+`", timeouts: {response_head: 10s}}`))
	c := dial(t, f.plain)
	c.send("GET /slow.php HTTP/1.1\r\n" + host + "\r\n")
	done := f.hurry()
	c.expect(504)
	done()
	for _, tt := range []struct {
		method string
		runs   int
	}{{"POST", 1}, {"GET", 3}} {
		os.Remove(count)
		c := dial(t, f.plain)
		c.send(tt.method + " /dead.php HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
		if a := c.answer("GET"); a.StatusCode != 502 {
			t.Errorf("%s: %s", tt.method, a.Status)
		}
		if runs, _ := os.ReadFile(count); len(runs) != tt.runs {
			t.Errorf("%s: %d runs, want %d", tt.method, len(runs), tt.runs)
		}
	}
	c = dial(t, f.plain)
	c.send("GET /half.php HTTP/1.1\r\n" + host + "\r\n")
	if a := c.answer("GET"); a.StatusCode != 200 || a.err == nil {
		t.Errorf("half an answer looks whole: %s %q", a.Status, a.body)
	}
	fpm.stop()
	begin := time.Now()
	if a := f.get(t, "/"); a.StatusCode != 502 {
		t.Errorf("nobody there: %s", a.Status)
	}
	if took := time.Since(begin); took < 500*time.Millisecond {
		t.Errorf("nobody was waited for: %v", took)
	}
	begin = time.Now()
	if a := f.get(t, "/"); a.StatusCode != 502 || time.Since(begin) > time.Second {
		t.Errorf("still nobody there: %s after %v", a.Status, time.Since(begin))
	}
}

// TestPHPRestartedUnderLoadFailsNothing: requests that can be repeated are, and those that were not begun wait.
func TestPHPRestartedUnderLoadFailsNothing(t *testing.T) {
	root := scripts(t, map[string]string{"index.php": `<?php usleep(3000); echo 'page';`})
	fpm := startFPM(t, 4)
	f := start(t, phpSite(fpm, root))
	stop, results := make(chan bool), make(chan string)
	const clients = 8
	for range clients {
		go func() {
			bad, n := "", 0
			defer func() { results <- fmt.Sprint(n, " ", bad) }()
			conn, err := net.Dial("tcp", f.plain)
			if err != nil {
				bad = err.Error()
				return
			}
			c := clientOver(t, conn)
			for {
				select {
				case <-stop:
					return
				default:
				}
				io.WriteString(conn, "GET /x HTTP/1.1\r\n"+host+"\r\n")
				resp, err := http.ReadResponse(c.br, nil)
				if err != nil {
					bad = err.Error()
					return
				}
				body, err := io.ReadAll(resp.Body)
				if n++; resp.StatusCode != 200 || string(body) != "page" || err != nil {
					bad += fmt.Sprintf("%s %q %v; ", resp.Status, body, err)
				}
			}
		}()
	}
	for i := range 6 {
		time.Sleep(150 * time.Millisecond)
		if i%2 == 0 {
			fpm.stop()
			fpm.start()
		} else {
			fpm.reload()
		}
	}
	time.Sleep(150 * time.Millisecond)
	close(stop)
	for range clients {
		result := <-results
		if n, bad, _ := strings.Cut(result, " "); bad != "" || len(n) < 2 {
			t.Errorf("after %s answers: %s", n, bad)
		}
	}
}
