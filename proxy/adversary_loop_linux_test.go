package proxy_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestNoRuleHoldsALoop: what rules make of the worst that a client can send.
func TestNoRuleHoldsALoop(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "many"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 12_000 {
		if err := os.WriteFile(filepath.Join(root, "many", "file & <"+strconv.Itoa(i)+">.txt"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority, _ := startAuthority(t)
	f := start(t, `
sites:
  - hosts: [example.com]
    rewrite:
      - {path: "^/(a|b|aa)*c(a|b)*d(a|b)*$", to: "/x/$1"}
      - {path: "(a+)+x(a+)+y(a+)+z$", to: "/x/$1"}
    locations:
      - {path: /, respond: {body: "$http_a"}}
      - {path: /cookie, respond: {body: "$cookie_x$http_cookie"}}
      - {path: /when, when: {header: {A: "~ (a+)+b(a+)+c$"}}, respond: 200}
      - {path: /auth, auth_request: "`+authority+`", respond: 200}
      - {path: /many/, root: `+root+`, listing: true}
      - {path: /rules, respond: 200, headers: {response: {remove: [A-*, B-*, C-*], set: {X-A: "$http_a"}, always: true}}}
`)
	end := "Connection: close\r\n\r\n"
	begin := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: example.com\r\n" }
	for name, text := range map[string]string{
		"listing":         begin("/many/") + "Accept-Encoding: gzip\r\n" + end,
		"many fields":     begin("/") + strings.Repeat("A: "+strings.Repeat("a", 40)+"\r\n", 990) + end,
		"rules":           begin("/rules") + strings.Repeat("A: "+strings.Repeat("a", 40)+"\r\n", 990) + end,
		"many cookies":    begin("/cookie") + strings.Repeat("Cookie: "+strings.Repeat("a=b; ", 8)+"\r\n", 990) + end,
		"too long a path": begin("/"+strings.Repeat("a", 60_000)) + end,
		"longest path":    begin("/"+strings.Repeat("a", 4_000/raceFactor)) + end, // the race detector slows regexes down more than all else
		"long header":     begin("/when") + "A: " + strings.Repeat("a", 60_000) + "\r\n" + end,
		"authority asks":  begin("/auth") + strings.Repeat("A: "+strings.Repeat("a", 40)+"\r\n", 990) + end,
		"accept":          begin("/none") + "Accept: " + strings.Repeat("a/b;q=0.5,", 6000) + "\r\n" + end,
	} {
		t.Run(name, func(t *testing.T) {
			f.expectShortHolds(t, text, (*client).rest)
		})
	}
}
