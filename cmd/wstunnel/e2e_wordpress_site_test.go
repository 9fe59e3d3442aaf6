//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// wordpressConf keeps WordPress from asking anybody but its database and itself, and its cron from waiting a minute for one that another server has cut off.
const wordpressConf = `<?php
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', 'secret');
define('DB_HOST', '%s');
define('DB_CHARSET', 'utf8mb4');
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('WP_CRON_LOCK_TIMEOUT', 1);
define('WP_DEFAULT_THEME', 'plain');
$table_prefix = '%s_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
`

// plainTheme shows posts whole.
const plainTheme = `<!doctype html><meta name="viewport" content="width=device-width"><title><?php bloginfo('name') ?></title><?php wp_head();
while (have_posts()) { the_post(); the_content(); } wp_footer();`

// wordpress is Debian's WordPress as a site's owner has it: all its files in one directory, which is the web server's.
type wordpress struct{ docroot }

// newWordPress makes one that is yet to be installed, below a directory. Its tables in the database have a prefix, by which the directory is named too.
func newWordPress(t *testing.T, dir, database, prefix string) wordpress {
	t.Helper()
	w := wordpress{docroot(filepath.Join(dir, prefix))}
	must(t, exec.Command("cp", "-rL", "/usr/share/wordpress", string(w.docroot)))
	w.write(t, "wp-config.php", fmt.Sprintf(wordpressConf, database, prefix))
	w.write(t, "wp-content/themes/plain/style.css", "/*\nTheme Name: Plain\n*/")
	w.write(t, "wp-content/themes/plain/index.php", plainTheme)
	w.write(t, "wp-content/uploads/empty", "")
	if os.Getuid() == 0 {
		must(t, exec.Command("chown", "-R", "www-data:www-data", string(w.docroot)))
	}
	return w
}

// installWordPress goes through the installation at a URL, in the browser.
func (b browser) installWordPress(t *testing.T, base string) {
	t.Helper()
	b.open(t, base+"/")
	b.checkNothingIsPlain(t, "the installation", 5)
	b.await(t, `document.querySelector('#weblog_title') && document.readyState === 'complete'`)
	script[bool](t, b, `document.querySelector('input[name=pw_weak]').checked = true; return true`)
	b.submit(t, "#submit", map[string]string{
		"#weblog_title": "A site", "#user_login": "admin", "#pass1": "correct horse battery staple", "#admin_email": "admin@example.com",
	})
	if text := b.text(t); !strings.Contains(text, "WordPress has been installed") {
		t.Fatalf("the installation says %s", text)
	}
}

// logIn logs in to the dashboard of a WordPress at a URL.
func (b browser) logIn(t *testing.T, base string) {
	t.Helper()
	b.open(t, base+"/wp-login.php")
	b.checkNothingIsPlain(t, "the login", 5)
	b.submit(t, "#wp-submit", map[string]string{"#user_login": "admin", "#user_pass": "correct horse battery staple"})
	if at := script[string](t, b, `return location.href`); at != base+"/wp-admin/" {
		t.Fatalf("after the login the browser is at %s: %s", at, b.text(t))
	}
	b.checkNothingIsPlain(t, "the dashboard", 20)
}

// uploadPicture sends a picture by the form of the media library of a WordPress at a URL, requires it to be seen, and returns its URL.
func (b browser) uploadPicture(t *testing.T, w wordpress, base string) (url string) {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, 400, 300))
	for i := range 400 * 300 {
		picture.Set(i%400, i/400, color.RGBA{uint8(i % 400 * 255 / 400), uint8(i / 400 * 255 / 300), 128, 255})
	}
	var text bytes.Buffer
	if err := png.Encode(&text, picture); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "picture.png")
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open(t, base+"/wp-admin/media-new.php?browser-uploader")
	if err := chromedp.Do(b, chromedp.SetUploadFiles("#async-upload", []string{file})); err != nil {
		t.Fatal(err)
	}
	b.submit(t, "#html-upload", nil)
	b.checkNothingIsPlain(t, "the media library", 20)
	found, err := filepath.Glob(w.file("wp-content/uploads/*/*/picture.png"))
	if err != nil || len(found) != 1 {
		t.Fatalf("uploaded: %v %v: %s", found, err, b.text(t))
	}
	url = base + strings.TrimPrefix(found[0], string(w.docroot))
	for of, want := range map[string]string{url: "[400 300]", strings.TrimSuffix(url, ".png") + "-150x150.png": "[150 150]"} {
		size := script[[]int](t, b, `const i = new Image(); i.src = '`+of+`'; await i.decode(); return [i.naturalWidth, i.naturalHeight]`)
		if fmt.Sprint(size) != want {
			t.Errorf("%s has the size %v, want %s", of, size, want)
		}
	}
	return url
}

// submit writes into the fields of the page's form, and submits it by its button.
func (b browser) submit(t *testing.T, button string, fields map[string]string) {
	t.Helper()
	for selector, value := range fields {
		script[bool](t, b, fmt.Sprintf(`document.querySelector(%q).value = %q; return true`, selector, value))
	}
	b.leaveBy(t, fmt.Sprintf(`document.querySelector(%q).click()`, button))
}

// leaveBy does what leads to another page, and waits for that.
func (b browser) leaveBy(t *testing.T, action string) {
	t.Helper()
	script[bool](t, b, "window.leaving = true; "+action+"; return true")
	b.await(t, `!window.leaving && document.readyState === 'complete'`)
}

// text is what the page shows.
func (b browser) text(t *testing.T) string {
	t.Helper()
	return script[string](t, b, `return document.body.innerText`)
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
