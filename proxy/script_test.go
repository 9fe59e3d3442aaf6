//go:build linux

package proxy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// says is a script that says its name, as the application has it, and PATH_INFO.
const says = `<?php echo basename(__FILE__), ' ', $_SERVER['SCRIPT_NAME'], '|', $_SERVER['PATH_INFO'] ?? '-', '|', $_SERVER['REQUEST_URI'];`

// startScripts serves a directory in the three-line form, and below /blog and /tools as it comes.
func startScripts(t *testing.T) (*front, string) {
	t.Helper()
	fpm := startFPM(t, 2)
	root := scripts(t, map[string]string{
		"index.php": says, "a.php": says, "dir/index.php": says, "dir/b.php": says, "html/index.html": "<p>html", "empty/a.txt": "text", "v1.php/api.php": says,
		"upload.jpg": "<?php echo 'run';", "wp-content/uploads/evil.php": "<?php echo 'secret';", "wp-content/uploads/picture.txt": "picture", "wp-content/uploads/index.php": says,
		"wp-content/uploads/sub/index.php": says, "style.css": "css", "wp-config.php.bak": "secret", ".env": "secret", ".git/config": "secret", "dump.sql": "secret",
		"lib/a.inc": "secret", "x.phtml": "<?php secret", "a.php~": "secret", ".hidden/x.php": says, ".well-known/x.php": says, "A.PHP": "<?php secret", "x.php7": "secret",
		"ümlaut.php": says, "a b.php": says, "../outside.php": says, "big.php.txt": "secret", "tools/t.php": says, "tools/index.php": says, "dir.d/a.txt": "a",
	})
	for name, to := range map[string]string{
		"out.php": "../outside.php", "link.php": "a.php", "sneaky": "wp-content/uploads", "evil.php": "wp-content/uploads/evil.php", "dangling.php": "none",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	php := "unix:" + fpm.socket
	return start(t, phpSite(fpm, root, "deny_scripts_in: [/wp-content/uploads]", "locations:",
		"  - {path: /blog, static: "+root+", php: "+`"`+php+`", deny_scripts_in: [/blog/wp-content/uploads/]}`,
		"  - {path: /tools, php: "+`"`+php+`", front_controller: off}`,
		"  - {path: /sources, static: "+root+`, php: "`+php+`", serve_sources: true, deny_scripts_in: [/sources/wp-content/uploads]}`,
		"  - {path: /app, static: "+root+`, php: "`+php+`", front_controller: dir/b.php, index: [index.html, a.php]}`,
	)), root
}

func TestPHPPaths(t *testing.T) {
	f, _ := startScripts(t)
	front := func(target string) string { return "index.php /index.php|-|" + target }
	tests := []struct {
		target string
		status int
		body   string // for a redirect its Location
	}{
		{"/", 200, front("/")},
		{"/?a=b", 200, front("/?a=b")},
		{"/index.php", 200, front("/index.php")},
		{"/a.php", 200, "a.php /a.php|-|/a.php"},
		{"/a.php?x=.php/", 200, "a.php /a.php|-|/a.php?x=.php/"},
		{"/a.php/", 200, "a.php /a.php|/|/a.php/"},
		{"/a.php/x/y.php/z", 200, "a.php /a.php|/x/y.php/z|/a.php/x/y.php/z"},
		{"/a.php/x%20y", 200, "a.php /a.php|/x y|/a.php/x%20y"},
		{"/%61.php", 200, "a.php /a.php|-|/%61.php"},
		{"/x/../a.php", 200, "a.php /a.php|-|/x/../a.php"},
		{"//a.php", 200, "a.php /a.php|-|//a.php"},
		{"/link.php", 200, "a.php /link.php|-|/link.php"},
		{"/dir/", 200, "index.php /dir/index.php|-|/dir/"},
		{"/dir", 301, "/dir/"},
		{"/dir?a=b", 301, "/dir/?a=b"},
		{"/html/", 200, "<p>html"},
		{"/html", 301, "/html/"},
		{"/empty", 200, front("/empty")},
		{"/empty/", 200, front("/empty/")},
		{"/v1.php", 200, front("/v1.php")},
		{"/v1.php/api.php/x", 200, "api.php /v1.php/api.php|/x|/v1.php/api.php/x"},
		{"/style.css", 200, "css"},
		{"/style.css/", 200, front("/style.css/")},
		{"/%C3%BCmlaut.php", 200, "ümlaut.php /ümlaut.php|-|/%C3%BCmlaut.php"},
		{"/a%20b.php/c", 200, "a b.php /a b.php|/c|/a%20b.php/c"},
		{"/2024/05/a-post/", 200, front("/2024/05/a-post/")},
		{"/" + strings.Repeat("x", 300), 200, front("/" + strings.Repeat("x", 300))},
		{"/none.php", 200, front("/none.php")},
		{"/none.php/x", 200, front("/none.php/x")},
		{"/dangling.php", 200, front("/dangling.php")},
		// what would be run as another file, or with PATH_INFO folded from Unicode
		{"/upload.jpg", 200, "<?php echo 'run';"},
		{"/upload.jpg/x.php", 200, front("/upload.jpg/x.php")},
		{"/upload.jpg/.php", 200, front("/upload.jpg/.php")},
		{"/a.%EF%BD%90hp", 200, front("/a.%EF%BD%90hp")},
		{"/a.ph%E1%B5%96/x", 200, front("/a.ph%E1%B5%96/x")},
		{"/a.php%20", 200, front("/a.php%20")},
		{"/a.php.", 200, front("/a.php.")},
		{"/a.php%00.jpg", 400, ""},
		{"/a.php/%0a", 400, ""},
		{"/a.php%0d", 400, ""},
		{"/x%7fy", 400, ""},
		{"/../outside.php", 400, ""},
		{"/out.php", 404, ""},
		// source stays here
		{"/A.PHP", 404, ""},
		{"/x.phtml", 404, ""},
		{"/x.php7", 404, ""},
		{"/a.php~", 404, ""},
		{"/lib/a.inc", 404, ""},
		{"/dump.sql", 404, ""},
		{"/big.php.txt", 404, ""},
		{"/wp-config.php.bak", 404, ""},
		{"/.env", 200, front("/.env")},
		{"/.git/config", 200, front("/.git/config")},
		{"/.hidden/x.php", 200, front("/.hidden/x.php")},
		{"/.well-known/x.php", 200, "x.php /.well-known/x.php|-|/.well-known/x.php"},
		// uploads
		{"/wp-content/uploads/evil.php", 403, ""},
		{"/wp-content/uploads/none.php", 403, ""},
		{"/wp-content/uploads/evil.php/x.jpg", 403, ""},
		{"/wp-content//uploads/./evil.php", 403, ""},
		{"/wp-content/%75ploads/evil.php", 403, ""},
		{"/wp-content/uploads/picture.txt", 200, "picture"},
		{"/wp-content/uploads/", 200, front("/wp-content/uploads/")},
		{"/wp-content/uploads/sub/", 200, front("/wp-content/uploads/sub/")},
		{"/sneaky/evil.php", 403, ""},
		{"/sneaky/", 403, ""},
		{"/evil.php", 403, ""},
		// below a prefix that is cut off
		{"/blog", 301, "/blog/"},
		{"/blog/", 200, "index.php /blog/index.php|-|/blog/"},
		{"/blog/a.php/x", 200, "a.php /blog/a.php|/x|/blog/a.php/x"},
		{"/blog/2024/", 200, "index.php /blog/index.php|-|/blog/2024/"},
		{"/blog/style.css", 200, "css"},
		{"/blog/dir", 301, "/blog/dir/"},
		{"/blog/wp-content/uploads/evil.php", 403, ""},
		{"/blog/sneaky/evil.php", 403, ""},
		// below the whole path, of the site's directory
		{"/tools/t.php", 200, "t.php /tools/t.php|-|/tools/t.php"},
		{"/tools/", 200, "index.php /tools/index.php|-|/tools/"},
		{"/tools/none", 404, ""},
		{"/tools/none.php", 404, ""},
		{"/tools/t.php/x", 200, "t.php /tools/t.php|/x|/tools/t.php/x"},
		// sources that are served are not those of scripts
		{"/sources/dump.sql", 200, "secret"},
		{"/sources/.env", 200, "secret"},
		{"/sources/.hidden/x.php", 200, "x.php /sources/.hidden/x.php|-|/sources/.hidden/x.php"},
		{"/sources/wp-content/uploads/evil.php", 403, ""},
		{"/app/", 200, "a.php /app/a.php|-|/app/"},
		{"/app/none", 200, "b.php /app/dir/b.php|-|/app/none"},
	}
	for _, tt := range tests {
		a := f.get(t, tt.target)
		got := a.body
		if a.StatusCode == http.StatusMovedPermanently {
			got = a.Header.Get("Location")
		}
		if a.StatusCode != tt.status || tt.body != "" && got != tt.body || strings.Contains(got, "secret") && tt.body != "secret" {
			t.Errorf("%s: %s %q, want %d %q", tt.target, a.Status, got, tt.status, tt.body)
		}
	}
}

func TestPHPMethods(t *testing.T) {
	f, _ := startScripts(t)
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"POST", "/a.php", 200},
		{"PUT", "/a.php", 200},
		{"PROPFIND", "/a.php", 200},
		{"OPTIONS", "/none", 200},
		{"DELETE", "/a.php", 200},
		{"POST", "/style.css", 405},
		{"TRACE", "/a.php", 405},
	} {
		c := dial(t, f.plain)
		c.send(tt.method + " " + tt.target + " HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
		if a := c.answer(tt.method); a.StatusCode != tt.status {
			t.Errorf("%s %s: %s %q", tt.method, tt.target, a.Status, a.body)
		}
	}
}
