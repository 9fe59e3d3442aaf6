//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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

// lamp is a machine as Debian makes it: Apache, MariaDB, PHP and WordPress.
type lamp struct {
	wordpress
	knowing, unaware string // the addresses of the Apache that has the lines of the README, and of the one that has not
}

func startLAMP(t *testing.T) lamp {
	t.Helper()
	dir := readableDir(t)
	l := lamp{wordpress: newWordPress(t, dir, startMariaDB(t, dir), "www"), knowing: freePort(t), unaware: freePort(t)}
	l.write(t, "who.php", `<?php echo "{$_SERVER['REMOTE_ADDR']} {$_SERVER['HTTPS']}";`)
	user := ""
	if os.Getuid() == 0 {
		user = "User www-data\nGroup www-data"
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
	b.installWordPress(t, base)
	b.logIn(t, base)
	b.uploadPicture(t, l.wordpress, base)
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
	config, err := os.ReadFile(l.file("wp-config.php"))
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
