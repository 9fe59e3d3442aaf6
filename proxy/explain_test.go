package proxy_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/proxy"
)

// linesOf are header lines.
func linesOf(lines ...string) (fields head.Fields) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		fields = append(fields, head.Field{Name: name, Value: value, ID: head.IDOf(name)})
	}
	return fields
}

func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("wstunnel.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	return cfg
}

func explain(t *testing.T, yaml string, q proxy.Question) *proxy.Explanation {
	t.Helper()
	if !q.From.IsValid() {
		q.From = netip.MustParseAddr("127.0.0.1")
	}
	e, err := proxy.Explain(parse(t, yaml), q)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var processes = regexp.MustCompile(`wstunnel-[A-Za-z0-9]+`)

// tunnelKeys are what backends know tunnels by.
var tunnelKeys = regexp.MustCompile(`X-Wstunnel-Id: \d+-[0-9a-f]{8}`)

// TestExplanationIsWhatTheServerDoes asks the server itself, and compares what its backend saw, or the client got, with what was explained.
func TestExplanationIsWhatTheServerDoes(t *testing.T) {
	b := startHeads(t, answerOrSwitch)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.html"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	yaml := plainListener + `trusted_proxies: [10.0.0.0/8]
sites:
  - hosts: [example.com]
    headers: {request: {set: {X-Site: "$host$uri"}}}
    rewrite: {path: "^/before/(.*)$", to: "/app/$1"}
    locations:
      - {path: /app, http: "http://` + b.address + `/backend", host: backend, forwarded: true}
      - {path: "~ ^/re/(?P<id>[0-9]+)$", http: "http://` + b.address + `/item/$id?"}
      - {path: /keep, proxy: "http://` + b.address + `", headers: {request: {remove: [Cookie, "x-secret*"], add: {X-A: [b, "$arg_c"]}}}}
      - {path: /ws, websocket: "ws://` + b.address + `/socket", allowed_origins: [self, absent]}
      - {path: /relay, mode: relay, websocket: "ws://` + b.address + `"}
      - {path: /old, redirect: {to: "https://new.example$request_uri", status: 301}}
      - {path: /gone, respond: 410}
      - {path: /shut, http: "http://` + b.address + `", deny: [all]}
      - {path: /files, static: ` + dir + `}
      - {path: /both, static: ` + dir + `, http: "http://` + b.address + `"}
      - {path: /spa, root: ` + dir + `, try_files: [$uri, /app/index]}
      - {path: /when, http: "http://` + b.address + `/get", when: {method: GET}}
      - {path: /when, http: "http://` + b.address + `/other"}
      - {path: /circle, rewrite: {path: "^/circle(.*)$", to: "/circle$1"}, http: "http://` + b.address + `"}
`
	f := startWith(t, yaml)
	_, port, _ := net.SplitHostPort(f.plain)
	tests := []struct {
		request string // method and target
		fields  []string
		status  int // 0: the backend's
	}{
		{"GET /app/x?y=z", []string{"Accept: */*", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "X_Odd: 1", "Connection: X-Drop", "X-Drop: 1", "TE: trailers"}, 0},
		{"GET /before/x%2Fy", nil, 0},
		{"GET /re/12?a=b", nil, 0},
		{"POST /keep/?c=d", []string{"Cookie: a=b", "X-Secret-1: a", "X-Kept: b"}, 0},
		{"GET /ws/chat", []string{"Origin: http://example.com"}, 0},
		{"GET /relay", []string{"Sec-WebSocket-Extensions: permessage-deflate"}, 0},
		{"GET /keep/ws", []string{"Sec-WebSocket-Protocol: chat"}, 0},
		{"GET /ws", nil, 426},
		{"GET /old/a", nil, 301},
		{"GET /gone", nil, 410},
		{"GET /shut", nil, 403},
		{"GET /files/a.html", nil, 200},
		{"GET /files/b.html", nil, 404},
		{"POST /files/a.html", nil, 405},
		{"GET /both/b.html", nil, 0},
		{"POST /both/a.html", nil, 0},
		{"GET /spa/x", nil, 0},
		{"GET /when", nil, 0},
		{"PUT /when", nil, 0},
		{"GET /nothing", nil, 404},
		{"TRACE /app", nil, 405},
	}
	for i, tt := range tests {
		t.Run(tt.request, func(t *testing.T) {
			method, target, _ := strings.Cut(tt.request, " ")
			socket := i >= 4 && i <= 6
			scheme, lines := "http", tt.fields
			if socket {
				scheme, lines = "ws", append([]string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Version: 13"}, lines...)
			}
			if method == "POST" || method == "PUT" {
				lines = append(lines, "Content-Length: 0")
			}
			before := len(b.seen())
			c := f.dial()
			c.send(tt.request, " HTTP/1.1\r\nHost: example.com\r\n", strings.Join(append(lines, ""), "\r\n"), "\r\n")
			got := c.head()
			e := explain(t, yaml, proxy.Question{
				URL: scheme + "://127.0.0.1:" + port + target, Method: method, Fields: append(linesOf(tt.fields...), head.Field{Name: "Host", Value: "example.com", ID: head.Host}),
			})
			seen := b.seen()[before:]
			switch {
			case tt.status != 0:
				if e.Status != tt.status && e.Decision != "a file below "+dir || len(seen) > 0 || len(e.Head) > 0 || !strings.HasPrefix(got, "HTTP/1.1 "+itoa(tt.status)) {
					t.Errorf("explained as %d %s, answered with %s", e.Status, e.Decision, got)
				}
			case len(seen) != 1:
				t.Fatalf("the backend saw %q; %s", seen, e.Decision)
			default:
				var texts []string
				for _, line := range e.Head {
					texts = append(texts, line.Text)
					if line.Reason == "" {
						t.Errorf("no reason for %s", line.Text)
					}
				}
				want := processes.ReplaceAllString(strings.TrimSuffix(seen[0], "\r\n\r\n"), "wstunnel-ID")
				want = tunnelKeys.ReplaceAllString(want, "X-Wstunnel-Id: 0-00000000")
				if explained := strings.Join(texts, "\r\n"); explained != want {
					t.Errorf("explained\n%s\nand sent\n%s", explained, want)
				}
			}
		})
	}
}

func itoa(status int) string {
	return string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})
}

// reasons are those of candidates, each with its name, and a star for the one that was chosen.
func reasons(candidates []proxy.Candidate) (texts []string) {
	for _, c := range candidates {
		chosen := ""
		if c.Chosen {
			chosen = "* "
		}
		texts = append(texts, chosen+c.Name+": "+c.Reason)
	}
	return texts
}

func TestExplanationSaysWhyOtherSitesAndLocationsDoNotAnswer(t *testing.T) {
	target := `http: "http://127.0.0.1:1"`
	yaml := plainListener + `sites:
  - hosts: [a.example, www.a.example]
    locations:
      - {path: "= /x", ` + target + `}
      - {path: /x, ` + target + `}
      - {path: "^~ /x/stop", ` + target + `}
      - {path: "~ \\.php$", ` + target + `, when: {method: POST, header: {X-A: b}}}
      - {path: "~ \\.php$", ` + target + `, when: {cookie: {s: true}}}
      - {path: "~ /y\\.", ` + target + `}
      - {path: /, ` + target + `}
  - hosts: ["*.a.example"]
    locations: [{path: /, ` + target + `}]
  - hosts: [_]
    locations: [{path: /, ` + target + `}]
`
	tests := []struct {
		url    string
		fields []string
		sites  []string
		want   []string
	}{
		{
			"http://a.example/x", nil,
			[]string{"* a.example, www.a.example: has the name", "*.a.example: other names", "_: for all names that no other site has"},
			[]string{
				"* = /x: matches", "/x: matches, but = /x is exact", "^~ /x/stop: another path", `~ \.php$: another path`, `~ \.php$: another path`,
				`~ /y\.: another path`, "/: matches, but = /x is exact",
			},
		},
		{
			"http://b.a.example/x/y.php", nil,
			[]string{"a.example, www.a.example: other names", "* *.a.example: *.a.example stands for the name", "_: for all names that no other site has"},
			[]string{"* /: matches"},
		},
		{
			"http://www.a.example/x/y.php", nil,
			[]string{"* a.example, www.a.example: has the name", "*.a.example: *.a.example stands for the name too, but less exactly", "_: for all names that no other site has"},
			[]string{
				"= /x: another path", `/x: matches, but a regex goes before a prefix: ~ /y\.`, "^~ /x/stop: another path", `~ \.php$: when: the method is GET, not POST`,
				`~ \.php$: when: the cookie s is not as it has to be`, `* ~ /y\.: matches`, `/: matches, but a regex goes before a prefix: ~ /y\.`,
			},
		},
		{
			"http://a.example/x/stop/y.php",
			[]string{"Cookie: s=1"},
			[]string{"* a.example, www.a.example: has the name", "*.a.example: other names", "_: for all names that no other site has"},
			[]string{
				"= /x: another path", "/x: matches, but ^~ /x/stop is longer", "* ^~ /x/stop: matches", `~ \.php$: when: the method is GET, not POST`,
				`~ \.php$: matches, but no regex is tried where ^~ /x/stop matches`, `~ /y\.: matches, but no regex is tried where ^~ /x/stop matches`, "/: matches, but ^~ /x/stop is longer",
			},
		},
		{
			"http://a.example/x/y.php",
			[]string{"Cookie: s=1"},
			[]string{"* a.example, www.a.example: has the name", "*.a.example: other names", "_: for all names that no other site has"},
			[]string{
				"= /x: another path", `/x: matches, but a regex goes before a prefix: ~ \.php$`, "^~ /x/stop: another path", `~ \.php$: when: the method is GET, not POST`,
				`* ~ \.php$: matches, and all of when holds`, `~ /y\.: matches, but the regex ~ \.php$ stands before it`, `/: matches, but a regex goes before a prefix: ~ \.php$`,
			},
		},
	}
	for _, tt := range tests {
		e := explain(t, yaml, proxy.Question{URL: tt.url, Fields: linesOf(tt.fields...)})
		if got := reasons(e.Sites); !slices.Equal(got, tt.sites) {
			t.Errorf("%s: sites\n%s", tt.url, strings.Join(got, "\n"))
		}
		if len(e.Looks) != 1 {
			t.Fatalf("%s: %d looks", tt.url, len(e.Looks))
		}
		if got := reasons(e.Looks[0].Candidates); !slices.Equal(got, tt.want) {
			t.Errorf("%s: locations\n%s", tt.url, strings.Join(got, "\n"))
		}
	}
}

func TestQuestionsThatAreNoRequests(t *testing.T) {
	cfg := parse(t, plainListener+oneSite(httpTo("127.0.0.1:1")))
	for url, mistake := range map[string]string{
		"example.com/ws":        `"example.com/ws" is no URL: write https://example.com/ws`,
		"ftp://example.com/":    `"ftp://example.com/" begins with ftp://, where ws, wss, http or https is allowed`,
		"http://example.com/%x": `"http://example.com/%x" is no URL: invalid URL escape "%x"`,
	} {
		if _, err := proxy.Explain(cfg, proxy.Question{URL: url}); err == nil || err.Error() != mistake {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := proxy.Explain(cfg, proxy.Question{URL: "http://example.com/", Fields: linesOf("Host: a b")}); err == nil {
		t.Error("a request that the decoder refuses is explained")
	}
}
