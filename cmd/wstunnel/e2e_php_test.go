//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// tick has an event of WordPress' own cron write a file, when a page is asked for it.
const tick = `<?php
add_action('tick', fn() => touch(WP_CONTENT_DIR . '/ticked'));
if (isset($_GET['tick'])) add_action('init', fn() => wp_schedule_single_event(time(), 'tick'));
`

// site is a WordPress of which a browser goes through all that its owner does.
type site struct {
	wordpress
	url    string       // where the browser finds it, without a slash at the end
	client *http.Client // that takes its certificate
}

// status asks for a path of the site, as nobody who is logged in.
func (s site) status(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := s.client.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, readAll(t, resp)
}

// TestWordPressOnFPM goes through two, at the root of a site and below a path.
func TestWordPressOnFPM(t *testing.T) {
	dir := readableDir(t)
	database := startMariaDB(t, dir)
	root, blog := newWordPress(t, dir, database, "root"), newWordPress(t, dir, database, "blog")
	fpm := startFPM(t, 6)
	f := startFront(t, siteSettings(
		"php: unix:"+fpm,
		"root: "+string(root.docroot),
		"deny_scripts_in: [/wp-content/uploads]",
		"locations:",
		"  - {path: /blog, static: "+string(blog.docroot)+`, php: "unix:`+fpm+`", deny_scripts_in: [/blog/wp-content/uploads]}`))
	b := startBrowser(t, caFile(f))
	c := f.secureClient(t)
	for path, w := range map[string]wordpress{"/": root, "/blog/": blog} {
		t.Run("at "+path, func(t *testing.T) {
			s := site{w, "https://" + f.https + strings.TrimSuffix(path, "/"), c}
			b.installWordPress(t, s.url)
			s.check(t, b)
		})
	}
}

// check goes through one that is installed.
func (s site) check(t *testing.T, b browser) {
	t.Helper()
	s.write(t, "wp-content/mu-plugins/tick.php", tick)
	b.logIn(t, s.url)
	picture := b.uploadPicture(t, s.wordpress, s.url)
	s.makePermalinksPretty(t, b)
	s.checkPost(t, b, picture)
	s.checkAssets(t, b)
	s.checkCron(t)
	s.checkWhatIsRefused(t, picture)
	s.logOut(t, b)
}

// makePermalinksPretty goes by the settings' own form, on which WordPress offers URLs without index.php to servers that can do them.
func (s site) makePermalinksPretty(t *testing.T, b browser) {
	t.Helper()
	b.open(t, s.url+"/wp-admin/options-permalink.php")
	if text := b.text(t); strings.Contains(text, "index.php") {
		t.Errorf("permalinks have index.php: %s", text)
	}
	script[bool](t, b, `document.querySelector('input[name=selection][value="/%postname%/"]').click(); return true`)
	b.submit(t, "#submit", nil)
	if text := b.text(t); !strings.Contains(text, "Permalink structure updated") {
		t.Fatalf("the settings say %s", text)
	}
}

// checkPost writes a post in the block editor, which speaks to the REST API, and opens it by its URL. From the editor WordPress asks itself how it is.
func (s site) checkPost(t *testing.T, b browser, picture string) {
	t.Helper()
	b.open(t, s.url+"/wp-admin/post-new.php")
	b.await(t, `window.wp && wp.data && wp.data.select('core/editor') && wp.data.select('core/editor').getCurrentPostId() && document.querySelector('.editor-post-title')`)
	post := script[string](t, b, `
		const editor = wp.data.dispatch('core/editor');
		editor.editPost({title: 'A fine picture', status: 'publish', content: '<!-- wp:html --><p>Look: <img id="picture" src="`+picture+`"></p><!-- /wp:html -->'});
		await editor.savePost();
		return wp.data.select('core/editor').getCurrentPost().link`)
	if want := s.url + "/a-fine-picture/"; post != want {
		t.Fatalf("the post is at %q, want %q", post, want)
	}
	for _, test := range []string{"loopback-requests", "authorization-header"} {
		health := script[map[string]any](t, b, `return wp.apiFetch({path: '/wp-site-health/v1/tests/`+test+`', headers: {Authorization: 'Basic ' + btoa('user:pwd')}})`)
		if health["status"] != "good" {
			t.Errorf("WordPress says of its health: %v", health)
		}
	}
	b.open(t, post)
	b.checkNothingIsPlain(t, "the post", 3)
	if size := script[[]int](t, b, `const i = document.querySelector('#picture'); await i.decode(); return [i.naturalWidth, i.naturalHeight]`); fmt.Sprint(size) != "[400 300]" {
		t.Errorf("the picture in the post has the size %v", size)
	}
}

// checkAssets asks for forty things at once, of which thirty are scripts, with six workers.
func (s site) checkAssets(t *testing.T, b browser) {
	t.Helper()
	b.open(t, s.url+"/")
	got := script[map[string]int](t, b, `
		const kinds = ['/wp-admin/load-styles.php?load=common,forms&n=', '/wp-includes/css/dashicons.min.css?n=', '/?n=', '/wp-json/?n='];
		const urls = Array.from({length: 40}, (_, n) => '`+s.url+`' + kinds[n % 4] + n);
		const answers = await Promise.all(urls.map(async url => {
			const answer = await fetch(url, {cache: 'no-store'}), body = await answer.text();
			return [answer.status, await (`+protocolOf+`)(url), body.length > 1000 ? 'whole' : body].join(' ');
		}));
		return answers.reduce((counts, answer) => ({...counts, [answer]: 1 + (counts[answer] || 0)}), {})`)
	if got["200 h2 whole"] != 40 {
		t.Errorf("forty assets: %v", got)
	}
}

// checkCron waits for an event of WordPress' cron, which runs in a request that WordPress sends itself and does not wait for.
func (s site) checkCron(t *testing.T) {
	t.Helper()
	eventually(t, "an event of the cron", func() bool {
		if status, body := s.status(t, "/?tick"); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		_, err := os.Stat(s.file("wp-content/ticked"))
		return err == nil
	})
}

// checkWhatIsRefused asks for what no client is to see.
func (s site) checkWhatIsRefused(t *testing.T, picture string) {
	t.Helper()
	const shell = `<?php echo 'this runs';`
	s.write(t, "wp-content/uploads/shell.php", shell)
	s.write(t, "wp-content/uploads/shell.php.txt", shell)
	s.write(t, "wp-config.php~", shell)
	s.write(t, ".htaccess", shell)
	for path, want := range map[string]int{
		"/wp-content/uploads/shell.php":               http.StatusForbidden,
		"/wp-content/uploads/shell.php/x.png":         http.StatusForbidden,
		"/wp-content/uploads/../uploads/shell.php":    http.StatusForbidden,
		strings.TrimPrefix(picture, s.url) + "/x.php": http.StatusForbidden,
		"/wp-content/uploads/shell.php.txt":           http.StatusNotFound,
		"/wp-config.php~":                             http.StatusNotFound,
		"/.htaccess":                                  http.StatusNotFound,
		"/nowhere/":                                   http.StatusNotFound,
		"/wp-config.php":                              http.StatusOK, // it runs, and says nothing
	} {
		if status, body := s.status(t, path); status != want || strings.Contains(body, "this runs") || strings.Contains(body, "<?php") || strings.Contains(body, "secret") {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
}

// logOut does so by the link on each page.
func (s site) logOut(t *testing.T, b browser) {
	t.Helper()
	b.open(t, s.url+"/")
	b.leaveBy(t, `document.querySelector('#wp-admin-bar-logout a').click()`)
	if text := b.text(t); !strings.Contains(text, "You are now logged out") {
		t.Errorf("after logging out: %s", text)
	}
	b.open(t, s.url+"/wp-admin/")
	if at := script[string](t, b, `return location.href`); !strings.HasPrefix(at, s.url+"/wp-login.php?redirect_to=") {
		t.Errorf("the dashboard is at %s for nobody", at)
	}
}
