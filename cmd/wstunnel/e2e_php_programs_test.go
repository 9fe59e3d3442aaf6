//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"testing"
)

// call is a request to a program in PHP, and what is to come of it.
type call struct {
	method, target string
	status         int
	want           string // what the answer is, or the place that it leads to
}

func (f *front) checkCalls(t *testing.T, calls []call) {
	t.Helper()
	for _, v := range calls {
		req, err := http.NewRequest(v.method, "http://"+f.http+v.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := newClient(nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, resp)
		if at := resp.Header.Get("Location"); at != "" {
			got = at
		}
		if resp.StatusCode != v.status || v.want != "" && got != v.want {
			t.Errorf("%s %s: %s %q, want %d %q", v.method, v.target, resp.Status, got, v.status, v.want)
		}
	}
}

// route is what programs take the path of a request from.
const route = `<?php echo $_SERVER['REQUEST_METHOD'], ' ', basename($_SERVER['SCRIPT_FILENAME']), ' ', $_SERVER['SCRIPT_NAME'], ' ', $_SERVER['PATH_INFO'] ?? '-', ' ', $_SERVER['REQUEST_URI'];`

// TestProgramWithOneFrontController has the layout of Laravel: the directory is public, what users have uploaded is reached by a link out of it.
func TestProgramWithOneFrontController(t *testing.T) {
	app := newDocroot(t, map[string]string{
		"public/index.php": route, "public/robots.txt": "User-agent: *", "public/build/app.js": "app", "public/.env": "secret",
		".env": "APP_KEY=secret", "artisan": "secret", "storage/app/public/photo.txt": "a photo",
	})
	if err := os.Symlink(app.file("storage/app/public"), app.file("public/storage")); err != nil {
		t.Fatal(err)
	}
	f := startFront(t, siteSettings(
		"php: unix:"+startFPM(t, 1),
		"root: "+app.file("public"),
		"locations:",
		"  - {path: /storage, static: "+app.file("storage/app/public")+"}"))
	f.checkCalls(t, []call{
		{"GET", "/", 200, "GET index.php /index.php - /"},
		{"GET", "/users/7/edit?tab=a%20b", 200, "GET index.php /index.php - /users/7/edit?tab=a%20b"},
		{"GET", "/b%C3%BCcher/a%2Fb", 200, "GET index.php /index.php - /b%C3%BCcher/a%2Fb"},
		{"DELETE", "/api/users/7", 200, "DELETE index.php /index.php - /api/users/7"},
		{"GET", "/index.php/users/7", 200, "GET index.php /index.php /users/7 /index.php/users/7"},
		{"GET", "/robots.txt", 200, "User-agent: *"},
		{"GET", "/build/app.js", 200, "app"},
		{"GET", "/build/none.js", 200, "GET index.php /index.php - /build/none.js"},
		{"GET", "/build", 200, "GET index.php /index.php - /build"},
		{"GET", "/storage/photo.txt", 200, "a photo"},
		{"GET", "/storage/none.txt", 404, ""},
		{"GET", "/.env", 200, "GET index.php /index.php - /.env"}, // which says that there is nothing
		{"GET", "/../.env", 400, ""},
		{"GET", "/artisan", 200, "GET index.php /index.php - /artisan"},
	})
}

// TestProgramWithManyScripts has the layout of Nextcloud, and the rules of its manual.
func TestProgramWithManyScripts(t *testing.T) {
	app := newDocroot(t, map[string]string{
		"index.php": route, "remote.php": route, "ocs/v2.php": route, "core/img/logo.svg": "<svg/>", "config/config.php": route, "data/.ocdata": "secret", "data/admin/a.txt": "secret",
		"apps/files/js/app.mjs": "export {}", "apps/files/appinfo/info.xml": "<info/>",
	})
	f := startFront(t, siteSettings(
		"php: unix:"+startFPM(t, 1),
		"root: "+string(app),
		"params: {front_controller_active: \"true\"}",
		"locations:",
		`  - {path: "~ ^/(?:build|tests|config|lib|3rdparty|templates|data)(?:$|/)", respond: 404}`,
		`  - {path: "~ ^/(?:\\.|autotest|occ|issue|indie|db_|console)", respond: 404}`,
		"  - {path: = /.well-known/carddav, redirect: {to: /remote.php/dav/, status: 301}}",
		"  - {path: = /.well-known/caldav, redirect: {to: /remote.php/dav/, status: 301}}",
		"  - {path: ^~ /.well-known/acme-challenge, static: "+app.file("core")+"}",
		"  - {path: ^~ /.well-known, redirect: {to: /index.php$request_uri, status: 301}}"))
	f.checkCalls(t, []call{
		{"GET", "/", 200, "GET index.php /index.php - /"},
		{"GET", "/index.php/apps/files/?dir=/a%20b", 200, "GET index.php /index.php /apps/files/ /index.php/apps/files/?dir=/a%20b"},
		{"GET", "/apps/files/", 200, "GET index.php /index.php - /apps/files/"},
		{"GET", "/apps/files", 200, "GET index.php /index.php - /apps/files"}, // it is a directory
		{"GET", "/apps/files/js/app.mjs", 200, "export {}"},
		{"GET", "/core/img/logo.svg", 200, "<svg/>"},
		{"PROPFIND", "/remote.php/dav/files/admin/", 200, "PROPFIND remote.php /remote.php /dav/files/admin/ /remote.php/dav/files/admin/"},
		{"PUT", "/remote.php/dav/files/admin/a%20b.php.txt", 200, "PUT remote.php /remote.php /dav/files/admin/a b.php.txt /remote.php/dav/files/admin/a%20b.php.txt"},
		{"MKCOL", "/remote.php/dav/files/admin/x.php/y", 200, "MKCOL remote.php /remote.php /dav/files/admin/x.php/y /remote.php/dav/files/admin/x.php/y"},
		{"GET", "/ocs/v2.php/apps/serverinfo/api/v1/info", 200, "GET v2.php /ocs/v2.php /apps/serverinfo/api/v1/info /ocs/v2.php/apps/serverinfo/api/v1/info"},
		{"GET", "/.well-known/carddav", 301, "/remote.php/dav/"},
		{"PROPFIND", "/.well-known/caldav", 301, "/remote.php/dav/"},
		{"GET", "/.well-known/webfinger?resource=acct:a@b", 301, "/index.php/.well-known/webfinger?resource=acct:a@b"},
		{"GET", "/index.php/.well-known/webfinger", 200, "GET index.php /index.php /.well-known/webfinger /index.php/.well-known/webfinger"},
		{"GET", "/config/config.php", 404, ""},
		{"GET", "/data/admin/a.txt", 404, ""},
		{"GET", "/data/.ocdata", 404, ""},
		{"GET", "/occ", 404, ""},
	})
}

// events sends events one at a time, each when the one before was taken. A browser that comes again says which it had.
const events = `<?php
header('Content-Type: text/event-stream');
header('Cache-Control: no-cache');
while (ob_get_level()) ob_end_flush();
$next = ($_SERVER['HTTP_LAST_EVENT_ID'] ?? -1) + 1;
echo "retry: 10\n\n";
for ($i = $next; $i < $next + 3; $i++) {
	echo "id: $i\ndata: event $i\n\n";
	flush();
	while (!file_exists(__DIR__ . "/taken$i")) { usleep(1000); clearstatcache(); }
}`

// TestEventsOfAScriptReachABrowserOneByOne over HTTP/2, from a site that compresses the rest.
func TestEventsOfAScriptReachABrowserOneByOne(t *testing.T) {
	app := newDocroot(t, map[string]string{
		"index.php": `<!doctype html><title>Events</title>`, "events.php": events, "taken.php": `<?php touch(__DIR__ . '/taken' . (int) $_GET['n']); echo 'noted';`,
	})
	if err := os.Chmod(string(app), 0o777); err != nil { // the workers write there
		t.Fatal(err)
	}
	f := startFront(t, siteSettings("php: unix:"+startFPM(t, 3), "root: "+string(app), "compress: true"))
	b := startBrowser(t, caFile(f))
	b.open(t, "https://"+f.https+"/")
	got := script[[]string](t, b, `
		const source = new EventSource('/events.php'), got = [];
		await new Promise((resolve, reject) => {
			source.onmessage = async event => {
				got.push(event.data);
				if (got.length === 6) return resolve();
				await (await fetch('/taken.php?n=' + event.lastEventId)).text();
			};
			source.onerror = () => source.readyState === EventSource.CLOSED && reject('closed after ' + got);
		});
		source.close();
		return [...got, await (`+protocolOf+`)(location.origin + '/taken.php?n=0')]`)
	if want := "[event 0 event 1 event 2 event 3 event 4 event 5 h2]"; fmt.Sprint(got) != want {
		t.Errorf("the browser got %v, want %v", got, want)
	}
	// The worker that waits for the last one to be taken is left alone by the browser.
	app.write(t, "taken5", "")
}
