package logs

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func sample() *Request {
	return &Request{
		Message: "request", At: time.Date(2026, 11, 21, 9, 5, 7, 123456789, time.FixedZone("", 3600)), Client: netip.MustParseAddr("192.0.2.1"),
		Method: "GET", Host: "example.com", Path: "/a b", Proto: "HTTP/1.1", TLS: true, Status: 200, Bytes: 1234, Duration: 1620 * time.Microsecond,
		Site: "example.com", Location: "/", Backend: "127.0.0.1:8080",
		Target: "/a%20b", Referer: `https://x.test/"q"`, UserAgent: "curl/8",
	}
}

// line is what a log writes of a request.
func line(f Format, r *Request) string {
	var b bytes.Buffer
	New(&b, f).Request(r)
	return b.String()
}

func TestFormats(t *testing.T) {
	refused := &Request{Message: "request refused", At: sample().At, Status: 400, Error: "no \x1b"}
	for _, tt := range []struct {
		format  Format
		request *Request
		want    string
	}{
		{
			JSON, sample(), `{"time":"2026-11-21T09:05:07.123456789+01:00","level":"INFO","msg":"request","client":"192.0.2.1","method":"GET",` +
				`"host":"example.com","path":"/a b","proto":"HTTP/1.1","tls":true,"status":200,"bytes":1234,"duration_ms":1.620,` +
				`"site":"example.com","location":"/","backend":"127.0.0.1:8080"}` + "\n",
		},
		{
			Text, sample(), `time=2026-11-21T09:05:07.123+01:00 level=INFO msg=request client=192.0.2.1 method=GET host=example.com path="/a b" ` +
				"proto=HTTP/1.1 tls=true status=200 bytes=1234 duration_ms=1.620 site=example.com location=/ backend=127.0.0.1:8080\n",
		},
		{
			Combined, sample(), `192.0.2.1 - - [21/Nov/2026:09:05:07 +0100] "GET /a%20b HTTP/1.1" 200 1234 "https://x.test/\"q\"" "curl/8"` + "\n",
		},
		{Combined, refused, `- - - [21/Nov/2026:09:05:07 +0100] "-" 400 - "-" "-"` + "\n"},
		{
			JSON, refused, `{"time":"2026-11-21T09:05:07.123456789+01:00","level":"INFO","msg":"request refused","tls":false,"status":400,` +
				`"bytes":0,"duration_ms":0.000,"error":"no \u001b"}` + "\n",
		},
	} {
		if got := line(tt.format, tt.request); got != tt.want {
			t.Errorf("got  %swant %s", got, tt.want)
		}
	}
}

// TestLevelsFollowTheStatus, as those who are woken by warnings expect.
func TestLevelsFollowTheStatus(t *testing.T) {
	for status, want := range map[int]string{200: `"INFO"`, 499: `"INFO"`, 500: `"WARN"`, 504: `"WARN"`} {
		r := sample()
		if r.Status = status; !strings.Contains(line(JSON, r), `"level":`+want) {
			t.Errorf("%d: %s", status, line(JSON, r))
		}
	}
	for _, status := range []int{501, 505} { // with a coding or a version that nobody has to know
		r := sample()
		if r.Status, r.Backend = status, ""; !strings.Contains(line(JSON, r), `"level":"INFO"`) {
			t.Errorf("%d: %s", status, line(JSON, r))
		}
	}
}

// FuzzLine: whatever a peer sends, a line is one line that tools can read, of bounded length, and slog would have told the same.
func FuzzLine(f *testing.F) {
	f.Add("/\x00\n\"\\ü\u2028", "curl\r\n", "\xff\xfe")
	f.Add(strings.Repeat("é", 2000), "=", "a=b c")
	f.Fuzz(func(t *testing.T, path, agent, host string) {
		r := sample()
		r.Path, r.Target, r.UserAgent, r.Host = path, path, agent, host
		for _, format := range []Format{JSON, Text, Combined} {
			got := line(format, r)
			if strings.Count(got, "\n") != 1 || !utf8.ValidString(got) || len(got) > 30_000 {
				t.Fatalf("%q", got)
			}
		}
		var theirs bytes.Buffer
		slog.New(bounded{slog.NewJSONHandler(&theirs, nil)}).Info("request", "path", path, "host", host)
		var a, b struct{ Path, Host string }
		if err := json.Unmarshal([]byte(line(JSON, r)), &a); err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(theirs.Bytes(), &b)
		if path != "" && host != "" && a != b {
			t.Errorf("%q, slog tells %q", a, b)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	for name, format := range map[string]Format{"json": JSON, "text": Text, "combined": Combined} {
		b.Run(name, func(b *testing.B) {
			log := New(io.Discard, format)
			r := sample()
			b.ReportAllocs()
			for b.Loop() {
				r.At = time.Now()
				log.Request(r)
			}
		})
	}
}
