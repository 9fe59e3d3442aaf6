//go:build linux

package proxy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// TestPHPTryFiles: as nginx's recipes for Laravel and Nextcloud write it.
func TestPHPTryFiles(t *testing.T) {
	fpm := startFPM(t, 1)
	root := scripts(t, map[string]string{
		"index.php": `<?php echo basename(__FILE__), '|', $_SERVER['QUERY_STRING'], '|', $_SERVER['REQUEST_URI'], '|', $_SERVER['PATH_INFO'] ?? '-';`,
		"a.php":     `<?php echo 'a ', $_SERVER['PATH_INFO'] ?? '-';`, "dir/index.php": `<?php echo 'dir';`, "empty/a.txt": "text", "style.css": "css", ".env": "secret", "a.php.bak": "secret",
	})
	php := `php: "unix:` + fpm.socket + `"`
	f := start(t, phpSite(fpm, root, `try_files: [$uri, $uri/, "/index.php?$query_string"]`, "locations:",
		`  - {path: /only, `+php+`, root: `+root+`, try_files: [$uri, =418]}`,
		`  - {path: /circle, `+php+`, root: `+root+`, try_files: [$uri, /circle/none]}`,
		`  - {path: /list, `+php+`, static: `+root+`, front_controller: off, listing: true}`,
		`  - {path: /static, static: `+root+`, index: [index.php], listing: true}`,
	))
	for _, tt := range []struct {
		target string
		status int
		body   string
	}{
		{"/style.css", 200, "css"},
		{"/a.php/x", 200, "a /x"},
		{"/dir/", 200, "dir"},
		{"/dir", 301, ""},
		{"/users/1?x=y", 200, "index.php|x=y|/users/1?x=y|-"},
		{"/empty/", 200, "index.php||/empty/|-"},
		{"/none.php?q", 200, "index.php|q|/none.php?q|-"},
		{"/.env", 200, "index.php||/.env|-"},
		{"/a.php.bak", 200, "index.php||/a.php.bak|-"},
		{"/only/none", 418, ""},
		{"/circle/x", 500, ""},
		{"/list/dir/", 200, "dir"},
		{"/list/none", 404, ""},
	} {
		a := f.get(t, tt.target)
		if a.StatusCode != tt.status || tt.body != "" && a.body != tt.body || strings.Contains(a.body, "secret") {
			t.Errorf("%s: %s %q, want %d %q", tt.target, a.Status, a.body, tt.status, tt.body)
		}
	}
	if a := f.get(t, "/list/empty/"); a.StatusCode != 200 || !strings.Contains(a.body, "a.txt") {
		t.Errorf("a listing: %s %q", a.Status, a.body)
	}
	if a := f.get(t, "/static/dir/"); strings.Contains(a.body, "<?php") {
		t.Errorf("the source of an index: %s %q", a.Status, a.body)
	}
}

// TestPHPUnderTheRulesOfItsLocation: what is said of requests holds for scripts as it does for backends over HTTP.
func TestPHPUnderTheRulesOfItsLocation(t *testing.T) {
	fpm := startFPM(t, 1)
	root := scripts(t, map[string]string{"index.php": dump, "deny/index.php": dump})
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, append([]byte("anna:"), hash...), 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, phpSite(fpm, root,
		`params: {WHO: "$remote_user at $host", URL: "$scheme://$host$request_uri", PRICE: "$$5", LITERAL: plain}`,
		`headers: {request: {set: {X-Set: "$remote_addr", Host: other.example}, remove: [X-Gone]}, response: {set: {X-Frame-Options: DENY}, remove: [X-Powered-By]}}`,
		"max_body: 1KiB", "locations: [{path: /known, root: "+root+`, php: "unix:`+fpm.socket+`", basic_auth: {realm: us, users: `+users+"}}]",
	))
	a := f.get(t, "/x?y", "X-Set: mine\r\n", "X-Gone: here\r\n", "X-Kept: yes\r\n")
	got := paramsOf(a.body)
	for name, want := range map[string]string{
		"WHO": " at example.com", "URL": "http://example.com/x?y", "PRICE": "$5", "LITERAL": "plain", "HTTP_X_SET": "127.0.0.1", "HTTP_X_GONE": "", "HTTP_X_KEPT": "yes",
		"HTTP_HOST": "other.example", "SERVER_NAME": "example.com",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
	if a.Header.Get("X-Frame-Options") != "DENY" || a.Header.Get("X-Powered-By") != "" {
		t.Errorf("%v", a.Header)
	}
	if a := f.get(t, "/known/x"); a.StatusCode != 401 {
		t.Errorf("%s", a.Status)
	}
	a = f.get(t, "/known/x", "Authorization: Basic YW5uYTpzZWNyZXQ=\r\n")
	if got := paramsOf(a.body); got["REMOTE_USER"] != "anna" || got["WHO"] != "anna at example.com" || got["PHP_AUTH_USER"] != "anna" || got["HTTP_AUTHORIZATION"] == "" {
		t.Errorf("%s %v", a.Status, got)
	}
	c := dial(t, f.plain)
	c.send("POST / HTTP/1.1\r\n"+host+"Content-Length: 2000\r\n\r\n", strings.Repeat("x", 2000))
	c.expect(413)
	c = dial(t, f.plain)
	c.send("POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n7d0\r\n", strings.Repeat("x", 2000), "\r\n0\r\n\r\n")
	c.expect(413)
}

// TestPHPScriptsAreUnderTheRulesOfTheirOwnPaths, whatever follows their names, and where they stand for a directory.
func TestPHPScriptsAreUnderTheRulesOfTheirOwnPaths(t *testing.T) {
	const at = `<?php echo basename(__FILE__), ' ', $_SERVER['AT'] ?? '-', ' ', $_SERVER['PATH_INFO'] ?? '-';`
	fpm := startFPM(t, 1)
	root := scripts(t, map[string]string{"index.php": at, "login.php": at, "a.php": at, "uploads/s.php": at, "uploads/index.php": at})
	php := `php: "unix:` + fpm.socket + `"`
	f := start(t, phpSite(fpm, root, "locations:",
		`  - {path: "~ ^/uploads/.*\\.php$", respond: 403}`,
		`  - {path: = /index.php, `+php+`, params: {AT: exact}}`,
		`  - {path: "~ /login\\.php$", `+php+`, params: {AT: login}, deny: all}`,
		`  - {path: /v1/, `+php+`, params: {AT: v1}, rewrite: {path: ^/v1/(.*)$, to: /$1, stay: true}}`,
	))
	for _, tt := range []struct {
		target string
		status int
		body   string
	}{
		{"/uploads/s.php", 403, ""},
		{"/uploads/s.php/x.png", 403, ""},
		{"/uploads/", 403, ""},
		{"/login.php", 403, ""},
		{"/login.php/x", 403, ""},
		{"/", 200, "index.php exact -"},
		{"/index.php/x", 200, "index.php exact /x"},
		{"/none", 200, "index.php - -"},
		{"/a.php/x", 200, "a.php - /x"},
		{"/v1/", 200, "index.php v1 -"},
		{"/v1/index.php/x", 200, "index.php v1 /x"},
		{"/v1/uploads/s.php/x", 200, "s.php v1 /x"},
	} {
		if a := f.get(t, tt.target); a.StatusCode != tt.status || tt.body != "" && a.body != tt.body {
			t.Errorf("%s: %s %q, want %d %q", tt.target, a.Status, a.body, tt.status, tt.body)
		}
	}
}
