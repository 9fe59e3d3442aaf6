//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// lampConf is Apache with PHP and WordPress at two addresses; the first has the lines of the README.
const lampConf = `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/apache.pid
ErrorLog /dev/stderr
ServerName localhost
%[2]s
Listen %[3]s
Listen %[4]s
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule setenvif_module /usr/lib/apache2/modules/mod_setenvif.so
LoadModule remoteip_module /usr/lib/apache2/modules/mod_remoteip.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule php_module %[5]s
TypesConfig /etc/mime.types
DirectoryIndex index.php index.html
DocumentRoot %[1]s/www
<FilesMatch "\.php$">
  SetHandler application/x-httpd-php
</FilesMatch>
php_admin_value display_errors stderr
<VirtualHost %[3]s>
%[6]s
</VirtualHost>
<VirtualHost %[4]s>
</VirtualHost>
`

// wordpressConf keeps WordPress from asking anybody but its database.
const wordpressConf = `<?php
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', 'secret');
define('DB_HOST', '%s');
define('DB_CHARSET', 'utf8mb4');
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('WP_DEFAULT_THEME', 'plain');
$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
`

// lamp is a machine as Debian makes it: Apache, MariaDB, PHP and WordPress.
type lamp struct {
	docroot          string
	knowing, unaware string // the addresses of the Apache that has the lines of the README, and of the one that has not
}

func startLAMP(t *testing.T) lamp {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // the servers have users of their own
	}
	l := lamp{docroot: filepath.Join(dir, "www"), knowing: freePort(t), unaware: freePort(t)}
	database := startMariaDB(t, dir)
	must(t, exec.Command("cp", "-rL", "/usr/share/wordpress", l.docroot))
	l.write(t, "wp-config.php", fmt.Sprintf(wordpressConf, database))
	l.write(t, "who.php", `<?php echo "{$_SERVER['REMOTE_ADDR']} {$_SERVER['HTTPS']}";`)
	l.write(t, "wp-content/themes/plain/style.css", "/*\nTheme Name: Plain\n*/")
	l.write(t, "wp-content/themes/plain/index.php", "<!doctype html><title><?php bloginfo('name') ?></title><?php wp_head(); while (have_posts()) { the_post(); the_content(); } wp_footer();")
	l.write(t, "wp-content/uploads/empty", "")
	user := ""
	if os.Getuid() == 0 {
		user = "User www-data\nGroup www-data"
		must(t, exec.Command("chown", "-R", "www-data:www-data", l.docroot))
	}
	modules, err := filepath.Glob("/usr/lib/apache2/modules/libphp*.so")
	if err != nil || len(modules) == 0 {
		t.Fatal("Apache's PHP is missing: install the package libapache2-mod-php")
	}
	conf := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, lampConf, dir, user, l.knowing, l.unaware, modules[0], readmeLines(t, "apache")), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "apache2", "apache2"), "-D", "FOREGROUND", "-f", conf))
	for _, address := range []string{l.knowing, l.unaware} {
		awaitDial(t, address)
	}
	return l
}

// readmeLines returns what README.md tells Apache or PHP to have.
func readmeLines(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```"+language+"\n")
	lines, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("the README has no lines of %s", language)
	}
	return lines
}

func (l lamp) write(t *testing.T, name, text string) {
	t.Helper()
	name = filepath.Join(l.docroot, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// startMariaDB runs a database server with an empty database for WordPress, and returns its address.
func startMariaDB(t *testing.T, dir string) (address string) {
	t.Helper()
	data, socket := filepath.Join(dir, "mysql"), filepath.Join(dir, "mysql.sock")
	var user []string
	if os.Getuid() == 0 {
		user = []string{"--user=mysql"}
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, exec.Command("chown", "mysql", data, dir))
	}
	must(t, exec.Command(installed(t, "mariadb-install-db", "mariadb-server"), append([]string{
		"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db",
	}, user...)...))
	address = freePort(t)
	_, port, _ := net.SplitHostPort(address)
	init := filepath.Join(dir, "init.sql")
	const statements = "CREATE DATABASE wordpress; CREATE USER wordpress@'%' IDENTIFIED BY 'secret'; GRANT ALL ON wordpress.* TO wordpress@'%';"
	if err := os.WriteFile(init, []byte(strings.ReplaceAll(statements, "; ", ";\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(installed(t, "mariadbd", "mariadb-server"), append([]string{
		"--no-defaults", "--datadir=" + data, "--socket=" + socket, "--pid-file=" + data + "/pid", "--bind-address=127.0.0.1", "--port=" + port,
		"--init-file=" + init, "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--performance-schema=OFF",
	}, user...)...))
	awaitDial(t, address)
	return address
}

// must runs a command to its end.
func must(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// awaitDial waits until something listens at an address.
func awaitDial(t *testing.T, address string) {
	t.Helper()
	eventually(t, "a listener at "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// fill writes into the fields of the page's form, and submits it by its button.
func (b browser) submit(t *testing.T, button string, fields map[string]string) {
	t.Helper()
	for selector, value := range fields {
		script[bool](t, b, fmt.Sprintf(`document.querySelector(%q).value = %q; return true`, selector, value))
	}
	script[bool](t, b, fmt.Sprintf(`window.leaving = true; document.querySelector(%q).click(); return true`, button))
	b.await(t, `!window.leaving && document.readyState === 'complete'`)
}

// await waits until an expression is true in the page, which may be another one by then.
func (b browser) await(t *testing.T, condition string) {
	t.Helper()
	eventually(t, condition, func() bool {
		v, err := chromedp.Run(b, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		return err == nil && v
	})
}

// checkNothingIsPlain requires all that the page is made of to have come over https.
func (b browser) checkNothingIsPlain(t *testing.T, page string, least int) {
	t.Helper()
	all := script[[]string](t, b, `
		const named = [...document.querySelectorAll('link[rel=stylesheet], script[src], img[src], form[action]')]
			.map(e => new URL(e.getAttribute('href') || e.getAttribute('src') || e.getAttribute('action'), location).href);
		return [location.href, ...named, ...performance.getEntriesByType('resource').map(e => e.name)].filter(u => !u.startsWith('data:') && !u.startsWith('blob:'))`)
	if len(all) < least {
		t.Errorf("%s: is made of %q only", page, all)
	}
	for _, url := range all {
		if !strings.HasPrefix(url, "https://") {
			t.Errorf("%s: %s is not https", page, url)
		}
	}
}

// TestWordPressOverHTTPS installs it, logs in and uploads a picture, all in a browser; and says why it would not work without the lines of
// the README.
func TestWordPressOverHTTPS(t *testing.T) {
	l := startLAMP(t)
	f := startFront(t, settings(httpToLAMP(l.knowing)))
	base := "https://" + f.https

	c := f.secureClient(t)
	c.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}).DialContext
	resp, err := c.Get(base + "/who.php")
	if err != nil {
		t.Fatal(err)
	}
	if who := readAll(t, resp); who != "127.0.0.5 on" {
		t.Errorf("PHP sees REMOTE_ADDR and HTTPS as %q", who)
	}

	b := startBrowser(t, caFile(f))
	b.open(t, base+"/")
	b.checkNothingIsPlain(t, "the installation", 5)
	b.await(t, `document.querySelector('#weblog_title') && document.readyState === 'complete'`)
	script[bool](t, b, `document.querySelector('input[name=pw_weak]').checked = true; return true`)
	b.submit(t, "#submit", map[string]string{
		"#weblog_title": "A site", "#user_login": "admin", "#pass1": "correct horse battery staple", "#admin_email": "admin@example.com",
	})
	if text := script[string](t, b, `return document.body.innerText`); !strings.Contains(text, "WordPress has been installed") {
		t.Fatalf("the installation says %s", text)
	}

	b.open(t, base+"/wp-login.php")
	b.checkNothingIsPlain(t, "the login", 5)
	b.submit(t, "#wp-submit", map[string]string{"#user_login": "admin", "#user_pass": "correct horse battery staple"})
	if at := script[string](t, b, `return location.href`); at != base+"/wp-admin/" {
		t.Fatalf("after the login the browser is at %s: %s", at, script[string](t, b, `return document.body.innerText`))
	}
	b.checkNothingIsPlain(t, "the dashboard", 20)
	checkUpload(t, b, l, base)
	b.open(t, base+"/")
	b.checkNothingIsPlain(t, "the front page", 2)

	if n := len(f.awaitLogs(t, 0, 0, toItself)); n > 0 {
		t.Errorf("%d hints about a site where all is well", n)
	}
	f.reload(t, strings.Replace(settings(httpToLAMP(l.knowing)), l.knowing, l.unaware, 1), reloaded)
	for _, path := range []string{"/wp-login.php", "/wp-admin/"} {
		if err := b.tryOpen(base + path); err == nil || !strings.Contains(err.Error(), "ERR_TOO_MANY_REDIRECTS") {
			t.Errorf("%s without the lines: %v", path, err)
		}
	}
	if hints := f.awaitLogs(t, 0, 1, toItself); len(hints) != 1 || hints[0].text("location") != "/" {
		t.Errorf("told of it by %v", hints)
	}
	config, err := os.ReadFile(filepath.Join(l.docroot, "wp-config.php"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "wp-config.php", strings.Replace(string(config), "<?php\n", "<?php\n"+readmeLines(t, "php"), 1))
	eventually(t, "PHP's own line taking effect", func() bool { return b.tryOpen(base+"/wp-login.php") == nil })
}

func httpToLAMP(address string) string { return `{path: /, http: "http://` + address + `"}` }

// toItself is what the log says of a backend that does not know of https.
const toItself = "a backend redirects an https request to its own URL, and browsers give up: it takes the request for plain http, since TLS ends at this server; " +
	"write `SetEnvIf X-Forwarded-Proto https HTTPS=on` in Apache's configuration; or in PHP, of WordPress at the top of wp-config.php, " +
	"`if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') $_SERVER['HTTPS'] = 'on';`"

// checkUpload sends a picture by the form of the media library, and requires it to be there.
func checkUpload(t *testing.T, b browser, l lamp, base string) {
	t.Helper()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 40, 30))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "picture.png")
	if err := os.WriteFile(file, picture.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open(t, base+"/wp-admin/media-new.php?browser-uploader")
	if err := chromedp.Do(b, chromedp.SetUploadFiles("#async-upload", []string{file})); err != nil {
		t.Fatal(err)
	}
	b.submit(t, "#html-upload", nil)
	b.checkNothingIsPlain(t, "the media library", 20)
	found, err := filepath.Glob(filepath.Join(l.docroot, "wp-content/uploads/*/*/picture.png"))
	if err != nil || len(found) != 1 {
		t.Fatalf("uploaded: %v %v: %s", found, err, script[string](t, b, `return document.body.innerText`))
	}
	path := strings.TrimPrefix(found[0], l.docroot)
	size := script[[]int](t, b, `const i = new Image(); i.src = '`+path+`'; await i.decode(); return [i.naturalWidth, i.naturalHeight]`)
	if fmt.Sprint(size) != "[40 30]" {
		t.Errorf("the picture has the size %v", size)
	}
}
