//go:build linux

package proxy_test

import (
	"net"
	"strings"
	"testing"

	"wstunnel/internal/head"
	"wstunnel/proxy"
)

// TestExplanationOfAScriptIsWhatPHPGets compares the parameters, and what is answered without a script.
func TestExplanationOfAScriptIsWhatPHPGets(t *testing.T) {
	fpm := startFPM(t, 1)
	root := scripts(t, map[string]string{"index.php": dump, "a.php": dump, "dir/index.php": dump, "up/evil.php": dump, "style.css": "a{}", "backup.sql": "x"})
	yaml := plainListener + phpSite(fpm, root, "params: {APP_ENV: prod}", "deny_scripts_in: [/up]", "headers: {request: {set: {X-Site: $host}}}")
	f := startWith(t, yaml)
	_, port, _ := net.SplitHostPort(f.plain)
	for target, want := range map[string]struct {
		status   int
		decision string
	}{
		"/a.php?x=y":      {200, "the script " + root + "/a.php, run by unix:" + fpm.socket},
		"/a.php/info":     {200, "the script " + root + "/a.php, run by unix:" + fpm.socket},
		"/some/where?b=c": {200, "the script " + root + "/index.php, run by unix:" + fpm.socket},
		"/dir/":           {200, "the script " + root + "/dir/index.php, run by unix:" + fpm.socket},
		"/dir?a=b":        {301, "redirected with 301 to /dir/?a=b: a directory's name ends in a slash"},
		"/style.css":      {200, "a file below " + root},
		"/up/evil.php":    {403, "refused with 403: no script is run here"},
		"/backup.sql":     {404, "refused with 404: no such file"},
	} {
		fields := linesOf("Host: example.com", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "X-Own: c")
		got := f.get(t, target, "Cookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nX-Own: c\r\n")
		e := explain(t, yaml, proxy.Question{URL: "http://127.0.0.1:" + port + target, Fields: append(head.Fields(nil), fields...)})
		if got.StatusCode != want.status || e.Decision != want.decision || e.Status != want.status && e.Status != 0 {
			t.Errorf("%s: explained as %d %s, answered with %s", target, e.Status, e.Decision, got.Status)
		}
		isScript := strings.HasPrefix(e.Decision, "the script")
		if isScript != (len(e.Head) > 0) {
			t.Errorf("%s: %d parameters", target, len(e.Head))
		}
		if !isScript {
			continue
		}
		params, explained := paramsOf(got.body), map[string]string{}
		for _, line := range e.Head {
			name, value, _ := strings.Cut(line.Text, ": ")
			if explained[name] = value; line.Reason == "" {
				t.Errorf("%s: no reason for %s", target, name)
			}
		}
		for name, value := range explained {
			if name != "REMOTE_PORT" && name != "SERVER_ADDR" && params[name] != value {
				t.Errorf("%s: explained %s as %q, and PHP got %q", target, name, value, params[name])
			}
		}
		for name := range params {
			if _, there := explained[name]; !there && (strings.HasPrefix(name, "HTTP_") || name == "APP_ENV" || name == "PATH_INFO") {
				t.Errorf("%s: %s is not explained", target, name)
			}
		}
		if len(e.Dropped) != 1 || e.Dropped[0].Text != "X-Forwarded-For: 1.2.3.4" || e.Dropped[0].Reason == "" {
			t.Errorf("%s: dropped %q", target, e.Dropped)
		}
	}
}
