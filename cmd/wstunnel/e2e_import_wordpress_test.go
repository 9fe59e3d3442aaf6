//go:build linux

package main_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// fpmApacheConf is Apache before PHP-FPM as Debian's files have it, with the host of a WordPress as its manual and hosters tell.
const fpmApacheConf = `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/apache.pid
ErrorLog /dev/stderr
%[2]s
Listen %[3]s
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
LoadModule setenvif_module /usr/lib/apache2/modules/mod_setenvif.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so
TypesConfig /etc/mime.types
ServerName localhost
<FilesMatch "^\.ht">
	Require all denied
</FilesMatch>
<IfModule proxy_fcgi_module>
	<IfModule setenvif_module>
		SetEnvIfNoCase ^Authorization$ "(.+)" HTTP_AUTHORIZATION=$1
	</IfModule>
	<FilesMatch ".+\.ph(ar|p|tml)$">
		SetHandler "proxy:unix:%[4]s|fcgi://localhost"
	</FilesMatch>
	<FilesMatch "^\.ph(ar|p|ps|tml)$">
		Require all denied
	</FilesMatch>
</IfModule>
<VirtualHost %[3]s>
	ServerName 127.0.0.1
	ServerAdmin webmaster@localhost
	DocumentRoot %[5]s
	DirectoryIndex index.php index.html
	SSLEngine on
	SSLCertificateFile %[6]s
	SSLCertificateKeyFile %[7]s
	<Directory %[5]s>
		Options FollowSymLinks
		AllowOverride All
		Require all granted
	</Directory>
	<Directory %[5]s/wp-content/uploads>
		<FilesMatch "\.php$">
			Require all denied
		</FilesMatch>
	</Directory>
</VirtualHost>
`

// TestWordPressMovesFromApache: it is installed and used behind Apache, whose configuration is imported; then the same front end takes Apache's place.
func TestWordPressMovesFromApache(t *testing.T) {
	dir := readableDir(t)
	w := newWordPress(t, dir, startMariaDB(t, dir), "www")
	certFile, keyFile := certificate(t)
	address, user := freePort(t), ""
	if os.Getuid() == 0 {
		user = "User www-data\nGroup www-data"
	}
	conf := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, fpmApacheConf, dir, user, address, startFPM(t, 6), w.docroot, certFile, keyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	apache := start(t, exec.Command(installed(t, "apache2", "apache2"), "-D", "FOREGROUND", "-f", conf))
	awaitDial(t, address)
	b := startBrowser(t, certFile)
	s := site{w, "https://" + address, newClient(poolOf(t, certFile))}
	b.installWordPress(t, s.url)
	b.logIn(t, s.url)
	s.makePermalinksPretty(t, b) // WordPress writes them to .htaccess
	apache.signal(t, syscall.SIGTERM)
	apache.wait(t)

	yaml := imported(t, "apache", conf)
	startFront(t, yaml)
	s.check(t, b)
}

// poolOf has the certificates of a file as roots.
func poolOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s: %v", file, err)
	}
	return pool
}
